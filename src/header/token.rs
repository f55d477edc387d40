// SPDX-License-Identifier: Apache-2.0
//! The tokens a header may carry (rule C13). Any other type is refused: a token's type is a name libcryptsetup would look
//! a plugin up by, and an unlisted token another way in.

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::config::{Profile, Role, VolumeName};
use crate::error::{Error, Result};
use crate::header::fields::{Field, Fields};
use crate::header::form::Form;
use crate::header::role;
use crate::header::stamp::{BootNonce, Stamp};
use crate::header::violation::violation;
use crate::key::pcr::PcrPublicKey;
use crate::pcr::{Bank, Pcr, PcrSet};
use crate::sealed;
use crate::sealed::signature::SIGNED_PCR;
use crate::sealed::values::SealedValues;

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

// Where values of a PCR are to be signed: the key in PEM, and which PCR (systemd, src/shared/tpm2-util.c,
// `tpm2_make_luks2_json`).
const SIGNED_BY: &str = "tpm2_pubkey";
const SIGNED_PCRS: &str = "tpm2_pubkey_pcrs";
/// The key of ours in a token of systemd's, which passes over it: what the PCRs held, see [`SealedValues`].
const SEALED_VALUES: &str = "nightlatch-pcr-values";
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

/// A secret sealed to a TPM, as `systemd-cryptenroll` writes it: one blob, to values of PCRs or to these and signed ones.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tpm2Token {
    /// The keyslot the secret opens: as passphrase goes the standard base64 of the unsealed bytes.
    pub keyslot: u8,
    /// The body of the `TPM2B_PRIVATE`, without its length.
    pub private: Vec<u8>,
    /// The body of the `TPM2B_PUBLIC`, without its length.
    pub public: Vec<u8>,
    /// The PCRs the token says it is sealed to. Compare them with the configuration: the token may not choose.
    pub pcrs: Vec<Pcr>,
    /// The bank the token says their values are from. Compare it too.
    pub bank: Bank,
    /// The digest of the policy, equal to the one inside `public`.
    pub policy_hash: [u8; 32],
    /// The key that has to have signed what PCR 11 holds, where there is one.
    pub key: Option<PcrPublicKey>,
    /// What these PCRs held when it was sealed. Only we write it.
    pub values: Option<SealedValues>,
    /// The storage root key as a serialised `ESYS_TR`.
    pub srk: Option<Vec<u8>>,
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

impl Tpm2Token {
    /// The token as libcryptsetup takes it and `systemd-cryptsetup` reads it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let blob = sealed::join(&self.private, &self.public);
        let mut token = json!({
            "type": TPM2_TOKEN,
            "keyslots": [self.keyslot.to_string()],
            "tpm2-blob": Base64::encode_string(&blob),
            "tpm2-pcrs": self.pcrs,
            "tpm2-pcr-bank": self.bank.as_str(),
            // Of no effect beside tpm2_srk; systemd 254 writes it, older ones need it.
            "tpm2-primary-alg": "ecc",
            "tpm2-policy-hash": hex::encode(self.policy_hash),
            "tpm2-pin": false,
        });
        if let (Some(key), Some(token)) = (&self.key, token.as_object_mut()) {
            let pem = Base64::encode_string(key.pem().as_bytes());
            token.insert(SIGNED_PCRS.into(), json!([SIGNED_PCR]));
            token.insert(SIGNED_BY.into(), pem.into());
        }
        if let (Some(values), Some(token)) = (&self.values, token.as_object_mut()) {
            let values = Base64::encode_string(values.bytes());
            token.insert(SEALED_VALUES.into(), values.into());
        }
        if let (Some(srk), Some(token)) = (&self.srk, token.as_object_mut()) {
            token.insert("tpm2_srk".into(), Base64::encode_string(srk).into());
        }
        token
    }

    fn parse(fields: &mut Fields<'_, '_>) -> Result<Self> {
        let keyslot = one_keyslot(fields)?;
        without_more_factors(fields)?;
        let policy_hash = fields.take("tpm2-policy-hash")?.hex_array()?;
        let field = fields.take("tpm2-blob")?;
        let (private, public) = sealed::split(&field.base64()?, &policy_hash)
            .map_err(|expected| wrong(&field, expected))?;
        let srk = fields.take_if_there("tpm2_srk");
        let key = fields.take_if_there(SIGNED_BY);
        let key = key.map(|field| signed_by(&field, fields)).transpose()?;
        let pcrs = pcrs(&fields.take("tpm2-pcrs")?)?;
        let bank = bank(&fields.take("tpm2-pcr-bank")?)?;
        let values = fields.take_if_there(SEALED_VALUES);
        let values = values.map(|field| sealed_values(&field, &pcrs, bank));
        Ok(Self {
            key,
            keyslot,
            private,
            public,
            values: values.transpose()?,
            pcrs,
            bank,
            policy_hash,
            srk: srk.map(|field| serialised_srk(&field)).transpose()?,
        })
    }
}

/// The key, which has signed values of one PCR alone.
fn signed_by(field: &Field<'_, '_>, fields: &mut Fields<'_, '_>) -> Result<PcrPublicKey> {
    let signed = fields.take(SIGNED_PCRS)?;
    if pcrs(&signed)? != [SIGNED_PCR] {
        return Err(signed.expected(format_args!("PCR {SIGNED_PCR} alone")));
    }
    PcrPublicKey::from_pem(&field.base64()?).map_err(|why| wrong(field, &why.to_string()))
}

fn sealed_values(field: &Field<'_, '_>, pcrs: &[Pcr], bank: Bank) -> Result<SealedValues> {
    let values = SealedValues::new(field.base64()?);
    if values.fit(PcrSet::of(pcrs), bank) {
        return Ok(values);
    }
    Err(field.expected("one value for each of tpm2-pcrs"))
}

/// Refuses what would make unsealing depend on more than PCRs: a PIN, pcrlock.
fn without_more_factors(fields: &mut Fields<'_, '_>) -> Result<()> {
    for flag in ["tpm2-pin", "tpm2_pcrlock"] {
        if let Some(field) = fields.take_if_there(flag)
            && field.boolean()?
        {
            return Err(field.expected("false"));
        }
    }
    let algorithm = fields.take_if_there("tpm2-primary-alg");
    match algorithm {
        Some(field) if !matches!(field.text()?, "ecc" | "rsa") => {
            Err(field.expected("\"ecc\" or \"rsa\""))
        }
        _ => Ok(()),
    }
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

fn pcrs(field: &Field<'_, '_>) -> Result<Vec<Pcr>> {
    let mut pcrs: Vec<Pcr> = Vec::new();
    for item in field.array()? {
        let pcr = u8::try_from(item.number()?).ok().map(Pcr::try_from);
        match pcr {
            // Ascending, so each set has one spelling and none is named twice.
            Some(Ok(pcr)) if pcrs.last().is_none_or(|last| *last < pcr) => pcrs.push(pcr),
            _ => return Err(item.expected("PCRs from 0 to 15 in ascending order")),
        }
    }
    if pcrs.is_empty() {
        return Err(field.expected("at least one PCR, or any boot could unseal"));
    }
    Ok(pcrs)
}

fn bank(field: &Field<'_, '_>) -> Result<Bank> {
    match field.text()? {
        "sha256" => Ok(Bank::Sha256),
        "sha384" => Ok(Bank::Sha384),
        _ => Err(field.expected("\"sha256\" or \"sha384\"")),
    }
}

fn serialised_srk(field: &Field<'_, '_>) -> Result<Vec<u8>> {
    let bytes = field.base64()?;
    sealed::check_serialized_srk(&bytes).map_err(|expected| wrong(field, expected))?;
    Ok(bytes)
}

fn wrong(field: &Field<'_, '_>, what: &str) -> Error {
    violation(field.rule, &field.path, what)
}
