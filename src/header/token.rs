// SPDX-License-Identifier: Apache-2.0
//! The tokens a header may carry (rule C13). Any other type is refused: a token's type is a name libcryptsetup would look
//! a plugin up by, and an unlisted token another way in.

mod tpm2;

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub use self::tpm2::Tpm2Token;
use crate::config::{Profile, Role, VolumeName};
use crate::error::{Error, Result};
use crate::header::fields::{Field, Fields};
use crate::header::form::Form;
use crate::header::role;
use crate::header::stamp::{BootNonce, Stamp};
use crate::header::violation::violation;

/// Type of the token this program writes.
pub const NIGHTLATCH_TOKEN: &str = "nightlatch";
/// Type of the token for a secret sealed to a TPM.
pub const TPM2_TOKEN: &str = "systemd-tpm2";
/// Type of the token for a recovery key.
pub const RECOVERY_TOKEN: &str = "systemd-recovery";

/// Type of the token on a state disk of Constellation.
pub const CONSTELLATION_TOKEN: &str = "constellation-state-disk";

/// A token of a type this program knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Token {
    Nightlatch(NightlatchToken),
    Tpm2(Tpm2Token),
    Recovery { keyslot: u8 },
    Constellation { initialized: bool },
}

/// What this program keeps in a header of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NightlatchToken {
    /// The form of the profile that the header has.
    pub form: Form,
    /// What the volume is for.
    pub role: Role,
    /// The volume's name. Two disks of one role do not pass for each other unless somebody edits the header.
    pub volume: VolumeName,
    /// The salt of the clusterID. It is not secret.
    pub salt: [u8; 32],
    /// The epoch: how far the node's counter in the TPM had come in the boot that last wrote the header, and how far ahead a
    /// readmission has put it.
    pub epoch: u64,
    /// The nonce of that boot. Headers of before have none.
    pub nonce: Option<BootNonce>,
    /// What the volume key is recognised by.
    pub key_id: [u8; 32],
    /// What the TPM said when the volume was made.
    pub evidence: Option<Evidence>,
    /// Whether the node made the volume's secret itself.
    pub own_secret: bool,
    /// The MAC over the header; zeros until it is known.
    pub mac: [u8; 32],
}

/// A quote of the TPM over the creation of a volume, as the TPM gave it. Nothing here is verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Evidence {
    /// The epoch of the header when the volume was made; the header's own moves on.
    pub epoch: u64,
    /// The `TPMT_PUBLIC` of the attestation key.
    pub ak: Vec<u8>,
    /// The `TPMS_ATTEST`.
    pub quote: Vec<u8>,
    /// The `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
}

/// The key of a fact that is there where it is true.
const OWN_SECRET: &str = "own-secret";
/// The key of a nonce, which is there where there is one.
const NONCE: &str = "nonce";

/// Longest part of an evidence in bytes: RSA keys of 4096 bits and quotes over every PCR need less.
const MAX_EVIDENCE_LEN: usize = 1024;

impl Evidence {
    /// What a quote is qualified with: SHA-256(profile name, UUID text, id of the volume key, epoch in 8 bytes big-endian).
    #[must_use]
    pub fn qualifying(profile: Profile, uuid: &str, key_id: &[u8; 32], epoch: u64) -> [u8; 32] {
        Sha256::new()
            .chain_update(profile.as_str())
            .chain_update(uuid)
            .chain_update(key_id)
            .chain_update(epoch.to_be_bytes())
            .finalize()
            .into()
    }

    fn parse(field: Field<'_, '_>) -> Result<Self> {
        let mut fields = field.fields()?;
        let evidence = Self {
            epoch: fields.take("creation-epoch")?.decimal()?,
            ak: part(&fields.take("ak")?)?,
            quote: part(&fields.take("quote")?)?,
            signature: part(&fields.take("signature")?)?,
        };
        fields.finish()?;
        Ok(evidence)
    }
}

fn part(field: &Field<'_, '_>) -> Result<Vec<u8>> {
    let bytes = field.base64()?;
    if (1..=MAX_EVIDENCE_LEN).contains(&bytes.len()) {
        return Ok(bytes);
    }
    let expected = format!(
        "expected 1 to {MAX_EVIDENCE_LEN} bytes, found {}",
        bytes.len()
    );
    Err(wrong(field, &expected))
}

impl Token {
    pub(super) fn parse(fields: &mut Fields<'_, '_>) -> Result<Self> {
        let kind = fields.take("type")?;
        match kind.text()? {
            NIGHTLATCH_TOKEN => NightlatchToken::parse(fields).map(Self::Nightlatch),
            TPM2_TOKEN => Tpm2Token::parse(fields).map(Self::Tpm2),
            RECOVERY_TOKEN => one_keyslot(fields).map(|keyslot| Self::Recovery { keyslot }),
            CONSTELLATION_TOKEN => {
                no_keyslots(fields)?;
                let initialized = fields.take("diskIsInitialized")?.boolean()?;
                Ok(Self::Constellation { initialized })
            }
            _ => Err(kind.expected(format_args!(
                "one of {NIGHTLATCH_TOKEN:?}, {TPM2_TOKEN:?}, {RECOVERY_TOKEN:?}, {CONSTELLATION_TOKEN:?}"
            ))),
        }
    }
}

impl NightlatchToken {
    /// Which boot wrote the header.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp {
            epoch: self.epoch,
            nonce: self.nonce,
        }
    }

    /// The token as libcryptsetup takes it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut token = json!({
            "type": NIGHTLATCH_TOKEN,
            "keyslots": [],
            "profile": self.form.as_str(),
            "role": self.role.as_str(),
            "volume": self.volume.as_str(),
            "measurement-salt": Base64::encode_string(&self.salt),
            "epoch": self.epoch.to_string(),
            "volume-key-id": Base64::encode_string(&self.key_id),
            "mac": Base64::encode_string(&self.mac),
        });
        if let (Some(evidence), Some(token)) = (&self.evidence, token.as_object_mut()) {
            let evidence = json!({
                "creation-epoch": evidence.epoch.to_string(),
                "ak": Base64::encode_string(&evidence.ak),
                "quote": Base64::encode_string(&evidence.quote),
                "signature": Base64::encode_string(&evidence.signature),
            });
            token.insert("evidence".into(), evidence);
        }
        if let (Some(nonce), Some(token)) = (self.nonce, token.as_object_mut()) {
            token.insert(NONCE.into(), hex::encode(nonce.bytes()).into());
        }
        if let (true, Some(token)) = (self.own_secret, token.as_object_mut()) {
            token.insert(OWN_SECRET.into(), true.into());
        }
        token
    }

    fn parse(fields: &mut Fields<'_, '_>) -> Result<Self> {
        no_keyslots(fields)?;
        Ok(Self {
            form: the_form(&fields.take("profile")?)?,
            role: the_role(&fields.take("role")?)?,
            volume: the_name(&fields.take("volume")?)?,
            salt: fields.take("measurement-salt")?.base64_array()?,
            epoch: fields.take("epoch")?.decimal()?,
            nonce: fields
                .take_if_there(NONCE)
                .as_ref()
                .map(nonce)
                .transpose()?,
            key_id: fields.take("volume-key-id")?.base64_array()?,
            evidence: fields
                .take_if_there("evidence")
                .map(Evidence::parse)
                .transpose()?,
            own_secret: match fields.take_if_there(OWN_SECRET) {
                // There or not: "false" would be a second spelling of that.
                Some(field) if !field.boolean()? => return Err(field.expected("true")),
                found => found.is_some(),
            },
            mac: fields.take("mac")?.base64_array()?,
        })
    }
}

fn nonce(field: &Field<'_, '_>) -> Result<BootNonce> {
    BootNonce::from_bytes(field.hex_array()?).ok_or_else(|| field.expected("none, or not zero"))
}

fn the_form(field: &Field<'_, '_>) -> Result<Form> {
    Form::of(field.text()?).ok_or_else(|| {
        let [first, second] = [Form::First, Form::Second].map(Form::as_str);
        field.expected(format_args!("{first:?} or {second:?}"))
    })
}

fn the_name(field: &Field<'_, '_>) -> Result<VolumeName> {
    VolumeName::try_from(field.text()?.to_owned()).map_err(|why| field.expected(why))
}

fn the_role(field: &Field<'_, '_>) -> Result<Role> {
    role(field.text()?).ok_or_else(|| field.expected("\"state\" or \"root\""))
}

fn no_keyslots(fields: &mut Fields<'_, '_>) -> Result<()> {
    let keyslots = fields.take("keyslots")?;
    if keyslots.ids()?.is_empty() {
        return Ok(());
    }
    Err(keyslots.expected("no keyslots"))
}

fn one_keyslot(fields: &mut Fields<'_, '_>) -> Result<u8> {
    let keyslots = fields.take("keyslots")?;
    let ids = keyslots.ids()?;
    match ids.first() {
        Some(id) if ids.len() == 1 => Ok(*id),
        _ => Err(keyslots.expected("exactly one keyslot")),
    }
}

fn wrong(field: &Field<'_, '_>, what: &str) -> Error {
    violation(field.rule, &field.path, what)
}
