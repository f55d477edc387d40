// SPDX-License-Identifier: Apache-2.0
//! LUKS2 metadata as typed values (LUKS2 On-Disk Format Specification 1.1, section 3). Says what is there and refuses
//! what this program has no use for; whether the values are good is the template's question.

use std::collections::{BTreeMap, BTreeSet};

use super::fields::{Field, Fields};
use super::json;
use super::token::Token;
use crate::error::Result;

/// The JSON of a header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Metadata {
    pub(super) keyslots: BTreeMap<u8, Keyslot>,
    pub(super) tokens: BTreeMap<u8, Token>,
    pub(super) segments: BTreeMap<u8, Segment>,
    pub(super) digests: BTreeMap<u8, Digest>,
    pub(super) json_size: u64,
    pub(super) keyslots_size: u64,
}

/// Where a copy of the volume key is and how a passphrase opens it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Keyslot {
    pub(super) key_size: u64,
    pub(super) area_offset: u64,
    pub(super) area_size: u64,
    pub(super) area_encryption: String,
    pub(super) area_key_size: u64,
    pub(super) af_stripes: u64,
    pub(super) af_hash: String,
    pub(super) kdf: KeyslotKdf,
    pub(super) priority: Option<u64>,
}

/// How a passphrase is stretched. The salt was checked to be 32 bytes, and is kept where this program stretches one itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum KeyslotKdf {
    Argon2 {
        kind: String,
        time: u64,
        memory_kib: u64,
        cpus: u64,
    },
    Pbkdf2 {
        hash: String,
        iterations: u64,
        salt: [u8; 32],
    },
}

/// A part of the device and how it is encrypted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) size: String,
    pub(super) iv_tweak: u64,
    pub(super) encryption: String,
    pub(super) sector_size: u64,
    pub(super) integrity: Option<Integrity>,
}

/// How a segment is authenticated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Integrity {
    pub(super) algorithm: String,
    pub(super) journal_encryption: String,
    pub(super) journal_mac: String,
    pub(super) key_size: Option<u64>,
}

/// What a volume key is recognised by. Salt and digest were checked to be 32 bytes and as long as the hash makes them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Digest {
    pub(super) keyslots: BTreeSet<u8>,
    pub(super) segments: BTreeSet<u8>,
    pub(super) hash: String,
    pub(super) iterations: u64,
}

impl Metadata {
    /// Parses a JSON area.
    pub(super) fn parse(area: &[u8]) -> Result<Self> {
        let node = json::parse(area)?;
        let mut top = Field::root("C8", &node).fields()?;
        let mut config = top.take("config")?.under("C9").fields()?;
        let metadata = Self {
            keyslots: each(top.take("keyslots")?.under("C11"), Keyslot::parse)?,
            tokens: each(top.take("tokens")?.under("C13"), Token::parse)?,
            segments: each(top.take("segments")?.under("C10"), Segment::parse)?,
            digests: each(top.take("digests")?.under("C12"), Digest::parse)?,
            json_size: config.take("json_size")?.decimal()?,
            keyslots_size: config.take("keyslots_size")?.decimal()?,
        };
        config.finish()?;
        top.finish()?;
        Ok(metadata)
    }
}

/// Parses each entry of an object whose keys are ids.
fn each<T>(
    field: Field<'_, '_>,
    parse: fn(&mut Fields<'_, '_>) -> Result<T>,
) -> Result<BTreeMap<u8, T>> {
    let entry = |(id, field): (u8, Field<'_, '_>)| {
        let mut fields = field.fields()?;
        let value = parse(&mut fields)?;
        fields.finish()?;
        Ok((id, value))
    };
    field.map()?.into_iter().map(entry).collect()
}

impl Keyslot {
    fn parse(fields: &mut Fields<'_, '_>) -> Result<Self> {
        // Never "reencrypt": CVE-2021-4122.
        fields.take("type")?.literal("luks2")?;
        let mut area = fields.take("area")?.fields()?;
        area.take("type")?.literal("raw")?;
        let mut af = fields.take("af")?.fields()?;
        af.take("type")?.literal("luks1")?;
        let keyslot = Self {
            key_size: fields.take("key_size")?.number()?,
            area_offset: area.take("offset")?.decimal()?,
            area_size: area.take("size")?.decimal()?,
            area_encryption: area.take("encryption")?.text()?.into(),
            area_key_size: area.take("key_size")?.number()?,
            af_stripes: af.take("stripes")?.number()?,
            af_hash: af.take("hash")?.text()?.into(),
            kdf: KeyslotKdf::parse(fields.take("kdf")?.fields()?)?,
            priority: fields
                .take_if_there("priority")
                .map(|priority| priority.number())
                .transpose()?,
        };
        area.finish()?;
        af.finish()?;
        Ok(keyslot)
    }
}

impl KeyslotKdf {
    fn parse(mut fields: Fields<'_, '_>) -> Result<Self> {
        let kind = fields.take("type")?;
        let salt = fields.take("salt")?.base64_array::<32>()?;
        let kdf = match kind.text()? {
            name @ ("argon2i" | "argon2id") => Self::Argon2 {
                kind: name.into(),
                time: fields.take("time")?.number()?,
                memory_kib: fields.take("memory")?.number()?,
                cpus: fields.take("cpus")?.number()?,
            },
            "pbkdf2" => Self::Pbkdf2 {
                hash: fields.take("hash")?.text()?.into(),
                iterations: fields.take("iterations")?.number()?,
                salt,
            },
            _ => {
                return Err(kind.expected("one of \"argon2id\", \"argon2i\", \"pbkdf2\""));
            }
        };
        fields.finish()?;
        Ok(kdf)
    }
}

impl Segment {
    fn parse(fields: &mut Fields<'_, '_>) -> Result<Self> {
        // Never "linear", which libcryptsetup maps in the clear, nor "hw-opal", which trusts the disk.
        fields.take("type")?.literal("crypt")?;
        let integrity = fields.take_if_there("integrity");
        Ok(Self {
            offset: fields.take("offset")?.decimal()?,
            size: fields.take("size")?.text()?.into(),
            iv_tweak: fields.take("iv_tweak")?.decimal()?,
            encryption: fields.take("encryption")?.text()?.into(),
            sector_size: fields.take("sector_size")?.number()?,
            integrity: integrity.map(Integrity::parse).transpose()?,
        })
    }
}

impl Integrity {
    fn parse(field: Field<'_, '_>) -> Result<Self> {
        let mut fields = field.fields()?;
        let integrity = Self {
            algorithm: fields.take("type")?.text()?.into(),
            journal_encryption: fields.take("journal_encryption")?.text()?.into(),
            journal_mac: fields.take("journal_integrity")?.text()?.into(),
            key_size: fields
                .take_if_there("key_size")
                .map(|size| size.number())
                .transpose()?,
        };
        fields.finish()?;
        Ok(integrity)
    }
}

impl Digest {
    fn parse(fields: &mut Fields<'_, '_>) -> Result<Self> {
        fields.take("type")?.literal("pbkdf2")?;
        fields.take("salt")?.base64_array::<32>()?;
        let hash = fields.take("hash")?.text()?;
        let digest = fields.take("digest")?;
        match hash {
            "sha512" => digest.base64_array::<64>().map(|_| ())?,
            _ => digest.base64_array::<32>().map(|_| ())?,
        }
        Ok(Self {
            keyslots: fields.take("keyslots")?.ids()?,
            segments: fields.take("segments")?.ids()?,
            hash: hash.into(),
            iterations: fields.take("iterations")?.number()?,
        })
    }
}
