// SPDX-License-Identifier: Apache-2.0
//! What an operator and a node that waits for recovery say to each other, over TLS 1.3 with a key of the node's that lives as
//! long as it waits. A message is a length of four bytes, big-endian, and JSON.
//!
//! 1. The operator sends [`Hello`]: a nonce.
//! 2. The node answers with [`Presentation`]: its keys, a quote qualified with [`qualifying`], the logs, what it waits for,
//!    and a nonce of its own.
//! 3. The operator sends a [`Credential`](super::Credential) for these keys, and the node proves in [`Opened`] that its TPM has
//!    both: a quote alone can come from a program of whoever runs the machine.
//! 4. The operator sends [`Push`]: a [`Message`] that names node and nonce, signed as OpenSSH signs files.
//! 5. The node tries what it was given, and says in [`Verdicts`] what came of it. A connection has one push.
//!
//! A field that one side does not know is an error of the other's version: nothing that was said is passed over.
//!
//! **Never:** a master secret: what travels is a volume's own.

mod wire;

use base64ct::{Base64, Encoding as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

pub use self::wire::{PREFIX_LEN, frame, len_of, nonce, parse, receive, send};
use super::{Bytes, TpmQuote};
use crate::config::Role;
use crate::error::{Error, Result};
use crate::key::Secret;

/// The version of all of it.
pub const VERSION: u32 = 1;
/// What operators sign for (OpenSSH, `PROTOCOL.sshsig`).
pub const NAMESPACE: &str = "nightlatch-recover";
/// The length of both nonces in bytes.
pub const NONCE_LEN: usize = 32;
/// The longest message to a node, in bytes: a push for as many volumes as a node has, and its signature.
pub const TO_NODE_LEN_MAX: usize = 32 * 1024;
/// The longest message to an operator, in bytes: two logs of 512 KiB in base64, and the rest.
pub const TO_OPERATOR_LEN_MAX: usize = 2 * 1024 * 1024;
/// How many volumes one message may be about.
pub const VOLUMES_MAX: usize = 16;
/// What the digest of a quote begins with.
const DOMAIN: &[u8] = b"nightlatch recover 1\0";

/// What the operator begins with.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hello {
    /// [`VERSION`].
    pub version: u32,
    /// Drawn by the operator.
    pub nonce: Bytes,
}

/// What the node says of itself. Nothing of it is proven by that.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Presentation {
    /// [`VERSION`].
    pub version: u32,
    /// Drawn by the node for this connection: what is signed for it counts nowhere else.
    pub nonce: Bytes,
    /// The endorsement key's `TPMT_PUBLIC`.
    pub ek_public: Bytes,
    /// Its certificate, X.509 in DER, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ek_certificate: Option<Bytes>,
    /// The attestation key's `TPMT_PUBLIC`.
    pub ak_public: Bytes,
    /// A quote over all PCRs of the bank sha256.
    pub quote: TpmQuote,
    /// The firmware's event log, as the kernel shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware_log: Option<Bytes>,
    /// systemd's log of user-space measurements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userspace_log: Option<Bytes>,
    /// What it waits for.
    pub volumes: Vec<WaitingVolume>,
}

/// A volume that no source gave the key of, or that was refused by what a word can end.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WaitingVolume {
    /// Its name in the configuration.
    pub name: String,
    /// The UUID of its header.
    pub uuid: String,
    /// What it is for.
    pub role: Role,
    /// The id of its volume key, hexadecimal digits, as the header says. Headers of other profiles do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// The epoch of its header, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// What would let it open.
    pub needs: Vec<Need>,
    /// Why it waits.
    pub why: String,
}

/// What a volume waits for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Its secret.
    Key,
    /// [`Word::Readmit`].
    Readmit,
    /// [`Word::Rollback`].
    Rollback,
}

/// An operator's word, for one boot.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// The TPM's record is gone, or this is another TPM: the volume is this node's all the same. Nothing tells its age.
    Readmit,
    /// An older state of the volume is gone on with.
    Rollback,
}

impl Word {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Readmit => "readmit",
            Self::Rollback => "rollback",
        }
    }
}

impl Need {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Readmit => Word::Readmit.as_str(),
            Self::Rollback => Word::Rollback.as_str(),
        }
    }
}

/// What the credential held.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Opened {
    /// 32 bytes.
    pub credential: Bytes,
}

/// What the operator gives.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Push {
    /// A [`Message`] in JSON. Exactly these bytes are signed.
    pub message: SignedText,
    /// As `ssh-keygen -Y sign` writes it, for [`NAMESPACE`].
    pub signature: String,
}

/// A text with keys in it, wiped when it is dropped.
#[derive(Debug)]
pub struct SignedText(pub Secret);

impl SignedText {
    /// The bytes that are signed.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.expose()
    }
}

impl Serialize for SignedText {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let text = std::str::from_utf8(self.bytes()).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(text)
    }
}

impl<'de> Deserialize<'de> for SignedText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text.into_bytes())))
    }
}

/// What the operator has signed.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Message {
    /// [`VERSION`].
    pub version: u32,
    /// The SHA-256 of [`Presentation::ek_public`], hexadecimal digits.
    pub node: String,
    /// [`Presentation::nonce`].
    pub nonce: Bytes,
    /// When it was said, in seconds since 1970 by the operator's clock.
    pub said_s: u64,
    /// Keys and words, of each volume once.
    pub volumes: Vec<PushedVolume>,
}

/// What is said of a volume.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PushedVolume {
    /// [`WaitingVolume::uuid`].
    pub uuid: String,
    /// Its secret, the service's or its own; none where a word alone is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PushedKey>,
    /// Words, which are for the header that the next two name and for no other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<Word>,
    /// [`WaitingVolume::key_id`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// [`WaitingVolume::epoch`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}

/// A secret that travels, standard base64 in JSON.
#[derive(Debug)]
pub struct PushedKey(pub Secret);

impl Serialize for PushedKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(Base64::encode_string(self.0.expose())))
    }
}

impl<'de> Deserialize<'de> for PushedKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Bytes::deserialize(deserializer).map(|bytes| Self(Secret::new(bytes.0)))
    }
}

/// What came of a push.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Verdicts {
    /// Why nothing was tried, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What came of each volume that was pushed.
    pub volumes: Vec<Verdict>,
    /// Whether the node has all that it waited for, so that its boot goes on.
    pub goes_on: bool,
}

/// What came of a volume.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Verdict {
    /// The volume.
    pub uuid: String,
    /// Why it does not open; none where what was given is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
}

/// What the quote is qualified with: it is of a machine that was asked now, and ends where this TLS connection does.
#[must_use]
pub fn qualifying(
    operators_nonce: &[u8; NONCE_LEN],
    tls_key: &[u8; 32],
    nodes_nonce: &[u8; NONCE_LEN],
) -> [u8; 32] {
    Sha256::new()
        .chain_update(DOMAIN)
        .chain_update(operators_nonce)
        .chain_update(tls_key)
        .chain_update(nodes_nonce)
        .finalize()
        .into()
}

/// What a node is called in a message.
#[must_use]
pub fn node_id(ek_public: &[u8]) -> String {
    hex::encode(Sha256::digest(ek_public))
}

impl Message {
    /// Takes a signed message apart, and sees whether it is for this node and this connection.
    pub fn parse(text: &[u8], node: &str, nodes_nonce: &[u8; NONCE_LEN]) -> Result<Self> {
        let message: Self = parse(text, "a push")?;
        let nonce = nonce(message.version, &message.nonce)?;
        if message.node != node {
            return Err(Error::refused(format_args!(
                "the message is for node {}, and this is {node}",
                message.node
            )));
        }
        if nonce != *nodes_nonce {
            return Err(Error::refused(
                "the message was signed for another connection or another boot: what was said once counts once",
            ));
        }
        if message.volumes.is_empty() || message.volumes.len() > VOLUMES_MAX {
            return Err(Error::refused(format_args!(
                "expected 1 to {VOLUMES_MAX} volumes, found {}",
                message.volumes.len()
            )));
        }
        for (index, volume) in message.volumes.iter().enumerate() {
            let mut before = message.volumes.iter().take(index);
            if before.any(|other| other.uuid == volume.uuid) {
                return Err(Error::refused(format_args!(
                    "volume {} is there twice",
                    volume.uuid
                )));
            }
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests;
