// SPDX-License-Identifier: Apache-2.0
//! What a node and a key service say to each other: the protocol of Trustee's key broker service, version 0.4.0, and an
//! extension that servers without it ignore. A node that is configured for the extension does not go on without it.
//!
//! 1. `POST /kbs/v0/auth` with [`AuthRequest`]: the server answers with a nonce ([`Challenge`]) and a session cookie. A
//!    node sends the public areas of its endorsement key and attestation key along ([`Introduction`]); a server that knows
//!    the extension answers with a credential that only the TPM with both keys can open ([`Credential`]).
//! 2. `POST /kbs/v0/attest` with [`AttestRequest`]: a quote qualified with [`RuntimeData::digest`]. Where the server knows
//!    the extension, `additional_evidence` is an [`Additional`] in JSON: what the credential held, the event logs and the
//!    volumes the node is about to open. The quote covers it, since the digest does.
//! 3. `GET /kbs/v0/resource/REPOSITORY/TYPE/TAG`: a key, encrypted to the node's ephemeral key ([`Jwe`]).
//!
//! Binary values are standard base64 in the extension. Source of the rest: confidential-containers/trustee, kbs/docs and
//! kbs/src; confidential-containers/guest-components, attestation-agent/kbs_protocol.
//!
//! **Never:** a connection, a TPM or a decision: these are messages and their limits.

pub mod admin;
mod bounded;
mod failure;
pub mod jwe;
pub mod recovery;
mod report;

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha384};

pub use self::failure::{LastFailure, SENTENCE_LEN_MAX};
pub use self::report::{Acceptance, VolumeReport};
use crate::config::Role;
use crate::error::{Doing, Error, Result};
use crate::key::BootNonce;

/// The version of the protocol. Servers compare it for equality.
pub const VERSION: &str = "0.4.0";

/// The name of a plain TPM among the protocol's kinds of trusted environments.
pub const TEE: &str = "tpm";

/// The version of the extension.
pub const EXTENSION: u32 = 1;

/// The cookie that names a session.
pub const COOKIE: &str = "kbs-session-id";

/// Below the server's address.
pub const AUTH_PATH: &str = "/kbs/v0/auth";
/// Below the server's address.
pub const ATTEST_PATH: &str = "/kbs/v0/attest";
/// Below the server's address; `REPOSITORY/TYPE/TAG` follows.
pub const RESOURCE_PATH: &str = "/kbs/v0/resource";
/// Below the server's address; a volume's UUID follows. Part of the extension: a [`Remembered`] is answered, and
/// a [`VolumeReport`] told.
pub const RECORD_PATH: &str = "/kbs/v0/nightlatch/volume";

/// The repository of all that nodes ask for.
pub const REPOSITORY: &str = "nightlatch";
/// The type of a volume's secret; the tag is its UUID in lower case. 32 raw bytes.
pub const VOLUME_TYPE: &str = "volume-key";
/// The type of what the clusterID is derived from; the tag is [`CLUSTER_TAG`]. 64 raw bytes: measurement secret, then salt.
pub const MEASUREMENT_TYPE: &str = "measurement";
/// The only tag of [`MEASUREMENT_TYPE`].
pub const CLUSTER_TAG: &str = "cluster";

/// The body of `/auth`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AuthRequest {
    /// [`VERSION`].
    pub version: String,
    /// [`TEE`].
    pub tee: String,
    /// What further.
    #[serde(rename = "extra-params")]
    pub extra_params: AuthParams,
}

/// What a node adds to `/auth`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct AuthParams {
    /// Hash algorithms of the quote, by name; servers for TPMs ignore it.
    #[serde(rename = "supported-hash-algorithms", default)]
    pub hash_algorithms: Vec<String>,
    /// The extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nightlatch: Option<Introduction>,
}

/// Which TPM a node says it has.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Introduction {
    /// [`EXTENSION`].
    pub version: u32,
    /// The endorsement key's `TPMT_PUBLIC`.
    pub ek_public: Bytes,
    /// Its certificate, X.509 in DER, where the TPM has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ek_certificate: Option<Bytes>,
    /// The attestation key's `TPMT_PUBLIC`.
    pub ak_public: Bytes,
}

/// The answer of `/auth`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Challenge {
    /// 32 bytes in base64, to be sent back as the same text.
    pub nonce: String,
    /// An empty string where there is nothing, an object otherwise.
    #[serde(rename = "extra-params", default)]
    pub extra_params: Value,
}

impl Challenge {
    /// What the extension says; none where the server does not know it.
    pub fn credential(&self) -> Result<Option<Credential>> {
        match self.extra_params.get("nightlatch") {
            Some(value) => serde_json::from_value(value.clone())
                .map(Some)
                .map_err(Error::failure)
                .doing("extra-params.nightlatch"),
            None => Ok(None),
        }
    }
}

/// A secret that `TPM2_ActivateCredential` gives out where both keys are in one TPM (TPM 2.0 part 1, section 24).
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Credential {
    /// [`EXTENSION`].
    pub version: u32,
    /// The body of the `TPM2B_ID_OBJECT`, without its length.
    pub blob: Bytes,
    /// The body of the `TPM2B_ENCRYPTED_SECRET`, without its length.
    pub secret: Bytes,
}

/// The body of `/attest`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AttestRequest {
    /// Not used here, and not kept where it is received.
    #[serde(default, deserialize_with = "bounded::ignored")]
    pub init_data: Option<Value>,
    /// What the quote is qualified with.
    pub runtime_data: RuntimeData,
    /// What the TPM says.
    pub tee_evidence: TeeEvidence,
}

/// What the quote is qualified with, but for the additional evidence.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RuntimeData {
    /// The text of [`Challenge::nonce`].
    pub nonce: String,
    /// The key that what the server gives is encrypted to.
    pub tee_pubkey: EphemeralKey,
}

impl RuntimeData {
    /// SHA-384 of the canonical JSON (RFC 8785) of nonce, key and additional evidence. A TPM's quote is qualified with
    /// its first 32 bytes ([`RuntimeData::qualifying`]).
    pub fn digest(&self, additional_evidence: &str) -> Result<[u8; 48]> {
        let value = serde_json::json!({
            "additional-evidence": additional_evidence,
            "nonce": self.nonce,
            "tee-pubkey": self.tee_pubkey,
        });
        let canonical = serde_json_canonicalizer::to_vec(&value)
            .map_err(Error::failure)
            .doing("writing canonical JSON")?;
        Ok(Sha384::digest(canonical).into())
    }

    /// What a TPM's quote is qualified with: the first 32 bytes of [`RuntimeData::digest`].
    pub fn qualifying(&self, additional_evidence: &str) -> Result<[u8; 32]> {
        let digest = self.digest(additional_evidence)?;
        let mut qualifying = [0; 32];
        qualifying.copy_from_slice(digest.split_at(32).0);
        Ok(qualifying)
    }
}

/// A P-256 public key as a JSON web key, used once. Coordinates are base64url without padding.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct EphemeralKey {
    /// `EC`.
    pub kty: String,
    /// `P-256`.
    pub crv: String,
    /// `ECDH-ES+A256KW`.
    pub alg: String,
    /// The first coordinate.
    pub x: String,
    /// The second one.
    pub y: String,
}

/// What the TPM says.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TeeEvidence {
    /// The quote.
    pub primary_evidence: TpmEvidence,
    /// An [`Additional`] in JSON, or nothing. Exactly these bytes are hashed.
    #[serde(default)]
    pub additional_evidence: String,
}

/// A quote over all PCRs of the bank sha256.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TpmEvidence {
    /// The quote.
    pub tpm_quote: TpmQuote,
    /// The attestation key as `SubjectPublicKeyInfo` in DER.
    pub ak_public: Bytes,
}

/// The parts of a quote.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TpmQuote {
    /// The `TPMT_SIGNATURE`.
    pub signature: Bytes,
    /// The `TPMS_ATTEST`.
    pub message: Bytes,
    /// The values of all [`PCR_COUNT`](crate::pcr::PCR_COUNT) PCRs, hexadecimal digits.
    #[serde(deserialize_with = "bounded::pcrs")]
    pub pcrs: Vec<String>,
}

/// What else a node says to a server that knows the extension. The quote covers it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Additional {
    /// The extension.
    pub nightlatch: Claims,
}

/// What a node claims, with what proves some of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Claims {
    /// [`EXTENSION`].
    pub version: u32,
    /// What the credential held.
    pub credential: Bytes,
    /// The firmware's event log, as the kernel shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware_log: Option<Bytes>,
    /// systemd's log of user-space measurements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userspace_log: Option<Bytes>,
    /// The volumes it is about to open. It gets the keys of no others.
    pub volumes: Vec<VolumeClaim>,
    /// What a boot before this one failed by, where its TPM has kept that. Nodes of before do not say, and services of before pass
    /// over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
}

/// A volume a node is about to open or to make.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct VolumeClaim {
    /// Its LUKS UUID, lower case.
    pub uuid: String,
    /// What it is for.
    pub role: Role,
    /// The epoch of its header; none where there is no header yet, or one without epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}

/// The answer of `/attest`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Admission {
    /// A bearer token; the session's cookie does as well.
    pub token: String,
}

/// What a service remembers of a volume: a second anchor, which survives the loss of the TPM.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct VolumeRecord {
    /// The id of its volume key, hexadecimal digits; none until a node has reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// The highest epoch that was reported.
    #[serde(default)]
    pub epoch: u64,
    /// The nonce of the header of that epoch, which tells it from those of boots that were cut off at the same epoch. None
    /// where the header has none, or the node was of a version that does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<BootNonce>,
}

/// How many epochs of a volume there are for each second in which a service may answer for an operator's word: two for each
/// boot. Times until the year 2242 fit into 63 bits.
pub const EPOCHS_OF_AN_ANSWER: u64 = 1 << 30;

/// What a service answers when it is asked for a volume's record.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Remembered {
    /// The record.
    #[serde(flatten)]
    pub record: VolumeRecord,
    /// An operator said that this volume's node has lost its TPM, so the record may stand in for what that remembered. The
    /// value is when the service answers so, seconds since 1970: later than in any answer before about this volume, so that
    /// what one answer led to is told from what the next one does. Left out where nobody said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readmitted_s: Option<u64>,
    /// Beside `readmitted_s`: what the answers up to this one led to counts no more, unless it is in the record: another boot
    /// was reported since. Left out where there is none, and by services of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub void_s: Option<u64>,
    /// An operator said that an older state of the volume is gone on with, of this epoch and no other; the record is made to fit it.
    /// Left out where nobody said it, and by services of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<u64>,
}

/// A JSON web encryption in the flattened form. All parts are base64url without padding.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Jwe {
    /// The protected header, authenticated as this very text.
    pub protected: String,
    /// The content key, wrapped.
    pub encrypted_key: String,
    /// 12 bytes.
    pub iv: String,
    /// The content.
    pub ciphertext: String,
    /// 16 bytes.
    pub tag: String,
}

/// An error's body.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Problem {
    /// [`PROBLEM_PREFIX`] and a word.
    #[serde(rename = "type")]
    pub kind: String,
    /// For people.
    pub detail: String,
}

/// What every [`Problem::kind`] begins with.
pub const PROBLEM_PREFIX: &str = "https://github.com/confidential-containers/kbs/errors/";

/// Bytes that are standard base64 with padding in JSON.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&Base64::encode_string(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Base64::decode_vec(&text)
            .map(Self)
            .map_err(<D::Error as serde::de::Error>::custom)
    }
}

#[cfg(test)]
mod tests;
