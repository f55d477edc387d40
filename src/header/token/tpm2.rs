// SPDX-License-Identifier: Apache-2.0
//! The token of a secret that is sealed to a TPM, in systemd's format.

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};

use super::{TPM2_TOKEN, one_keyslot, wrong};
use crate::error::Result;
use crate::header::fields::{Field, Fields};
use crate::key::pcr::PcrPublicKey;
use crate::pcr::{Bank, Pcr, PcrSet};
use crate::sealed;
use crate::sealed::signature::SIGNED_PCR;
use crate::sealed::values::SealedValues;

// Where values of a PCR are to be signed: the key in PEM, and which PCR (systemd, src/shared/tpm2-util.c,
// `tpm2_make_luks2_json`).
const SIGNED_BY: &str = "tpm2_pubkey";
const SIGNED_PCRS: &str = "tpm2_pubkey_pcrs";
/// The key of ours in a token of systemd's, which passes over it: what the PCRs held, see [`SealedValues`].
const SEALED_VALUES: &str = "nightlatch-pcr-values";

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

    pub(super) fn parse(fields: &mut Fields<'_, '_>) -> Result<Self> {
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
