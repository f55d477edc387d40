// SPDX-License-Identifier: Apache-2.0
//! Requests: what an operator asked the next boot to do to a volume's keyslots. They stand in an NV index of their own from when
//! they are made until the boot that has fulfilled them.
//!
//! A key that waits there becomes a way into the volume, so nobody but who could change the anchor's record may leave one: the
//! index's authorisation value and the key of the HMAC over its content follow from the record's own authorisation value, which
//! root of the running node and the boots that the record admits can know, and nobody else. What another program leaves in the
//! place has another value or no such HMAC.
//!
//! 496 bytes, of which whatever is not listed is zero:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `nlreqsts` |
//! | 8 | 1 | version: 1, or 2 where a request of the kinds 3 and 4 is among them, which older programs do not know |
//! | 16 + 56 · n | 56 | request n of 8, one behind the other |
//! | 464 | 32 | HMAC-SHA256 over what stands before |
//!
//! | at | bytes | what a request holds |
//! |---|---|---|
//! | 0 | 1 | what is asked for: 0 nothing, 1 a keyslot for a recovery key, 2 a keyslot to be emptied, 3 another secret, 4 the secret
//!   sealed anew |
//! | 1 | 1 | the keyslot to be emptied |
//! | 8 | 16 | the volume's UUID |
//! | 24 | 32 | the recovery key |

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::header::RECOVERY_KEYSLOTS;
use crate::key::Secret;
use crate::key::recovery::RecoveryKey;

/// Length of the index in bytes.
pub const REQUESTS_LEN: usize = CONTENT_LEN + MAC_LEN;
/// What stands in front of the HMAC.
pub const CONTENT_LEN: usize = HEAD_LEN + REQUESTS_MAX * ENTRY_LEN;

/// How many requests there may be at once.
const REQUESTS_MAX: usize = 8;
const MAGIC: &[u8; 8] = b"nlreqsts";
const VERSION: u8 = 1;
/// Of an index that asks for a rotation.
const VERSION_ROTATION: u8 = 2;
const HEAD_LEN: usize = 16;
const ENTRY_LEN: usize = 56;
const MAC_LEN: usize = 32;

// HKDF info of what follows from the record's authorisation value.
const AUTH_INFO: &str = "nightlatch requests index 1";
const MAC_INFO: &str = "nightlatch requests MAC 1";

/// What is to be done by the next boot, in the order in which it was asked for.
#[derive(Debug, Default)]
pub struct Requests(Vec<Request>);

/// What is to be done to one volume.
#[derive(Debug)]
pub struct Request {
    /// The volume.
    pub uuid: Uuid,
    /// What is asked for.
    pub wish: Wish,
}

/// What can be asked for.
#[derive(Debug)]
pub enum Wish {
    /// A keyslot for this key.
    Add(RecoveryKey),
    /// This keyslot emptied.
    Remove(u8),
    /// The volume's secret changed, or its seal.
    Rotate(Rotation),
}

/// What of a volume's secret is made anew.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rotation {
    /// The secret itself, which the node draws, and with it the seal.
    Secret,
    /// The seal: the same secret, sealed to the TPM as it is in that boot.
    Seal,
}

impl Rotation {
    /// The word the record of a boot uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Seal => "seal",
        }
    }
}

/// What opens the index, and what vouches for its content.
#[derive(Debug)]
pub struct RequestKeys {
    /// The index's authorisation value.
    pub auth: Secret,
    mac: Secret,
}

impl RequestKeys {
    /// Those that follow from the record's authorisation value.
    pub fn of(record_auth: &Secret) -> Result<Self> {
        Ok(Self {
            auth: record_auth.expand(AUTH_INFO)?,
            mac: record_auth.expand(MAC_INFO)?,
        })
    }

    fn mac(&self, content: &[u8]) -> Result<Hmac<Sha256>> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(self.mac.expose())
            .map_err(|error| Error::failure(format_args!("HMAC: {error}")))?;
        mac.update(content);
        Ok(mac)
    }
}

impl Requests {
    /// Reads an index.
    pub fn parse(bytes: &[u8], keys: &RequestKeys) -> Result<Self> {
        let (content, mac) = bytes
            .split_at_checked(CONTENT_LEN)
            .ok_or_else(|| wrong("it has another length"))?;
        if keys.mac(content)?.verify_slice(mac).is_err() {
            return Err(wrong("it was not written by this node"));
        }
        Self::of_content(content)
    }

    /// Reads what stands in front of the HMAC, for who has verified that.
    pub fn of_content(content: &[u8]) -> Result<Self> {
        if content.len() != CONTENT_LEN {
            return Err(wrong("it has another length"));
        }
        if !content.starts_with(MAGIC) {
            return Err(wrong("it is not one of nightlatch"));
        }
        if !matches!(content.get(8), Some(&(VERSION | VERSION_ROTATION))) {
            return Err(wrong("it was written by another version of nightlatch"));
        }
        let entries = content.get(HEAD_LEN..).unwrap_or_default();
        let used = entries
            .chunks(ENTRY_LEN)
            .filter(|entry| entry.first() != Some(&0));
        let all: Option<Vec<Request>> = used.map(Request::parse).collect();
        let all = Self(all.ok_or_else(|| wrong("a request is damaged"))?);
        // Each list has one spelling.
        if all.content().as_slice() == content {
            Ok(all)
        } else {
            Err(wrong("a request is damaged"))
        }
    }

    /// The bytes for the TPM.
    pub fn encode(&self, keys: &RequestKeys) -> Result<Zeroizing<Vec<u8>>> {
        let mut bytes = self.content();
        let mac = keys.mac(&bytes)?.finalize().into_bytes();
        bytes.extend(mac);
        Ok(bytes)
    }

    /// What stands in front of the HMAC.
    #[must_use]
    pub fn content(&self) -> Zeroizing<Vec<u8>> {
        // Reserved at once, so that no shorter copy stays behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(REQUESTS_LEN));
        bytes.extend(MAGIC);
        bytes.push(self.version());
        bytes.resize(HEAD_LEN, 0);
        for request in &self.0 {
            let (kind, keyslot, key) = match &request.wish {
                Wish::Add(key) => (1, 0, key.bytes()),
                Wish::Remove(keyslot) => (2, *keyslot, &[0; 32][..]),
                Wish::Rotate(Rotation::Secret) => (3, 0, &[0; 32][..]),
                Wish::Rotate(Rotation::Seal) => (4, 0, &[0; 32][..]),
            };
            bytes.extend([kind, keyslot, 0, 0, 0, 0, 0, 0]);
            bytes.extend(request.uuid.as_bytes());
            bytes.extend(key);
        }
        bytes.resize(CONTENT_LEN, 0);
        bytes
    }

    /// The lowest that has all of it, so that an older program says what it does not know instead of "damaged".
    fn version(&self) -> u8 {
        let mut wishes = self.0.iter().map(|request| &request.wish);
        if wishes.any(|wish| matches!(wish, Wish::Rotate(_))) {
            VERSION_ROTATION
        } else {
            VERSION
        }
    }

    /// Asks for one thing more.
    pub fn push(&mut self, request: Request) -> Result<()> {
        if self.0.len() >= REQUESTS_MAX {
            return Err(Error::refused(format_args!(
                "{REQUESTS_MAX} requests are waiting, and there is no room for more: reboot, then ask again"
            )));
        }
        self.0.push(request);
        Ok(())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Request> {
        self.0.iter()
    }

    /// Those for one volume.
    pub fn of(&self, uuid: Uuid) -> impl Iterator<Item = &Wish> {
        let its = self.0.iter().filter(move |request| request.uuid == uuid);
        its.map(|request| &request.wish)
    }

    /// Takes out those that are not to be kept; whether there were any.
    pub fn retain(&mut self, keep: impl FnMut(&Request) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(keep);
        self.0.len() < before
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Request {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let key = bytes.get(24..ENTRY_LEN)?;
        Some(Self {
            uuid: Uuid::from_slice(bytes.get(8..24)?).ok()?,
            wish: match (bytes.first()?, *bytes.get(1)?) {
                (1, _) => Wish::Add(RecoveryKey::from_bytes(key)?),
                (2, keyslot) if RECOVERY_KEYSLOTS.contains(&keyslot) => Wish::Remove(keyslot),
                (3, _) => Wish::Rotate(Rotation::Secret),
                (4, _) => Wish::Rotate(Rotation::Seal),
                _ => return None,
            },
        })
    }
}

fn wrong(what: &str) -> Error {
    Error::refused(format_args!("the index of requests: {what}"))
}

#[cfg(test)]
mod tests;
