// SPDX-License-Identifier: Apache-2.0
//! Secrets, the keys derived from them, and the [`nonce`] of a boot, which is drawn like them and is none.
//!
//! Derivations are byte-compatible with Constellation: HKDF-SHA256 (RFC 5869) with the info string `key-` + id, 32 bytes.
//!
//! **Never:** a secret printed or cloned: its bytes have one door, [`Secret::expose`].

mod brought;
pub(crate) mod ecdh;
pub(crate) mod master;
pub(crate) mod modhex;
mod nonce;
pub mod openssh;
pub mod pcr;
pub mod recovery;

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

pub use brought::Brought;
pub use nonce::{BootNonce, NONCE_LEN};

use crate::error::{Doing, Error, Result};

/// Length in bytes of a volume secret, a measurement secret, a salt and a clusterID.
pub const KEY_LEN: usize = 32;

/// What every HKDF info string starts with.
const INFO_PREFIX: &str = "key-";

/// The id the measurement secret is derived under.
pub const MEASUREMENT_SECRET_ID: &str = "measurementSecret";

/// The id the clusterID is derived under.
pub const CLUSTER_ID: &str = "clusterID";

/// Key bytes: wiped on drop, never printed, never copied.
///
/// The boot program locks its memory as it starts, so there the bytes do not reach a swap device either.
pub struct Secret(Zeroizing<Box<[u8]>>);

impl Secret {
    /// Takes over `bytes`. The vector is shrunk, so no second copy stays behind in spare capacity when it was exact.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes.into_boxed_slice()))
    }

    /// 32 bytes from the kernel's generator, which blocks until it is seeded.
    pub fn random() -> Result<Self> {
        let mut bytes = vec![0; KEY_LEN];
        fill_random(&mut bytes)?;
        Ok(Self::new(bytes))
    }

    /// Derives the 32-byte key for `id`: HKDF-SHA256(secret, salt, `key-` + id).
    pub fn derive(&self, salt: &[u8], id: &str) -> Result<Self> {
        let mut okm = vec![0; KEY_LEN];
        Hkdf::<Sha256>::new(Some(salt), self.expose())
            .expand_multi_info(&[INFO_PREFIX.as_bytes(), id.as_bytes()], &mut okm)
            .map_err(|error| Error::failure(format_args!("HKDF: {error}")))
            .doing(format_args!("deriving the key for {id}"))?;
        Ok(Self::new(okm))
    }

    /// A 32-byte key for one purpose: HKDF-SHA256(secret, no salt, `info`), which names purpose and version.
    pub fn expand(&self, info: &str) -> Result<Self> {
        let mut okm = vec![0; KEY_LEN];
        Hkdf::<Sha256>::new(None, self.expose())
            .expand(info.as_bytes(), &mut okm)
            .map_err(|error| Error::failure(format_args!("HKDF: {error}")))
            .doing(format_args!("deriving {info}"))?;
        Ok(Self::new(okm))
    }

    /// The only way to the bytes. Review starts with `grep expose`.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Fills `bytes` from the kernel's generator (getrandom(2)), which blocks until it is seeded.
pub fn fill_random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes)
        .map_err(|error| Error::failure(format_args!("getrandom: {error}")))
        .doing("drawing random bytes")
}

/// HKDF info of the key for the header's MAC and of the volume key's identifier. Not Constellation's `key-` names: nothing
/// a key service derives for an id can be one of these.
const HEADER_MAC_INFO: &str = "nightlatch header MAC 1";
const VOLUME_KEY_ID_INFO: &str = "nightlatch volume key id 1";

/// The key of the header's MAC: HKDF-SHA256(volume key, salt = UUID text, info), 32 bytes.
pub fn header_mac_key(volume_key: &Secret, uuid: &str) -> Result<Secret> {
    let mut key = vec![0; KEY_LEN];
    from_volume_key(volume_key, uuid, HEADER_MAC_INFO, &mut key)?;
    Ok(Secret::new(key))
}

/// What a volume key is recognised by, derived in the same way. It is public: the key does not follow from it.
pub fn volume_key_id(volume_key: &Secret, uuid: &str) -> Result<[u8; KEY_LEN]> {
    let mut id = [0; KEY_LEN];
    from_volume_key(volume_key, uuid, VOLUME_KEY_ID_INFO, &mut id)?;
    Ok(id)
}

fn from_volume_key(volume_key: &Secret, uuid: &str, info: &str, okm: &mut [u8]) -> Result<()> {
    Hkdf::<Sha256>::new(Some(uuid.as_bytes()), volume_key.expose())
        .expand(info.as_bytes(), okm)
        .map_err(|error| Error::failure(format_args!("HKDF: {error}")))
        .doing(format_args!("deriving {info}"))
}

/// The clusterID of a node that stands alone.
///
/// The volume's secret takes the master secret's place: measurementSecret = HKDF(volume secret, salt,
/// `key-measurementSecret`), clusterID = HKDF(measurementSecret, salt, `key-clusterID`). It identifies and is not secret.
pub fn stand_alone_cluster_id(volume_secret: &Secret, salt: &[u8; KEY_LEN]) -> Result<Vec<u8>> {
    let measurement_secret = volume_secret.derive(salt, MEASUREMENT_SECRET_ID)?;
    cluster_id(&measurement_secret, salt)
}

/// The clusterID: what the nodes of a cluster are known by. For a measurement secret it is HKDF(measurementSecret, measurement salt, `key-clusterID`).
pub fn cluster_id(measurement_secret: &Secret, salt: &[u8; KEY_LEN]) -> Result<Vec<u8>> {
    Ok(measurement_secret
        .derive(salt, CLUSTER_ID)?
        .expose()
        .to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcr::Bank;

    fn range(from: u8, to: u8) -> Vec<u8> {
        (from..=to).collect()
    }

    /// `facts`: the test vectors Constellation publishes in internal/crypto/testvector.
    #[test]
    fn derivations_equal_the_published_vectors() {
        let cases: [(Vec<u8>, Vec<u8>, &str, &str); 4] = [
            (
                vec![0; 32],
                vec![0; 32],
                "00000000-0000-0000-0000-000000000000",
                "2b5c829f691bfd4232f8aac464bccc07e605c7c8e82cbca09837e86d0b6d0665",
            ),
            (
                vec![0xff; 32],
                vec![0xff; 32],
                "ffffffff-ffff-ffff-ffff-ffffffffffff",
                "1484aa39d3415e906e07940ff215d8b1eee705d3027dba93306af4abff4f70be",
            ),
            (
                range(0x00, 0x1f),
                range(0x20, 0x3f),
                CLUSTER_ID,
                "128c164378fe8767f998fbdfe4b4d6463ec5ae1b664ea5999bc27417607ae9b6",
            ),
            (
                range(0x40, 0x5f),
                range(0x60, 0x7f),
                MEASUREMENT_SECRET_ID,
                "4790578891f3fe6cc22cb661ecdc1b7e33121b1287546a52ba33a9136719c213",
            ),
        ];
        for (secret, salt, id, expected) in cases {
            let key = Secret::new(secret).derive(&salt, id).unwrap();
            assert_eq!(hex::encode(key.expose()), expected, "{id}");
        }
    }

    /// RFC 5869, appendix A.1, through the same crate calls `derive` makes.
    #[test]
    fn hkdf_equals_rfc_5869() {
        let mut okm = [0; 42];
        Hkdf::<Sha256>::new(Some(&range(0x00, 0x0c)), &[0x0b; 22])
            .expand(&range(0xf0, 0xf9), &mut okm)
            .unwrap();
        assert_eq!(
            hex::encode(okm),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
        );
    }

    #[test]
    fn an_upper_case_id_gives_another_key() {
        let secret = Secret::new(vec![0xff; 32]);
        let id = "ffffffff-ffff-ffff-ffff-ffffffffffff";
        let lower = secret.derive(&[0xff; 32], id).unwrap();
        let upper = secret.derive(&[0xff; 32], &id.to_uppercase()).unwrap();
        assert_ne!(lower.expose(), upper.expose());
    }

    #[test]
    fn the_cluster_id_and_its_pcr_follow_from_secret_and_salt() {
        let salt: [u8; 32] = range(0x20, 0x3f).try_into().unwrap();
        let id = cluster_id(&Secret::new(range(0x00, 0x1f)), &salt).unwrap();
        assert_eq!(
            hex::encode(&id),
            "128c164378fe8767f998fbdfe4b4d6463ec5ae1b664ea5999bc27417607ae9b6"
        );
        let pcr = Bank::Sha256.extended(&[0; 32], &Bank::Sha256.hash(&id));
        assert_eq!(
            pcr,
            Bank::Sha256.hash(&[&[0; 32][..], &Bank::Sha256.hash(&id)].concat())
        );
    }

    /// Expected values: Python's `hmac`, written out as RFC 5869 has it.
    #[test]
    fn what_is_derived_from_the_volume_key_equals_the_vectors() {
        let (key, uuid) = (
            Secret::new(range(0, 95)),
            "a6c7535f-0a9f-4c23-9524-fed431126906",
        );
        assert_eq!(
            hex::encode(header_mac_key(&key, uuid).unwrap().expose()),
            "8ee057961bafb8396dcd470120c7d8d094a8fcbadaa3d3473429bf9dc179f0cf"
        );
        assert_eq!(
            hex::encode(volume_key_id(&key, uuid).unwrap()),
            "10c283b4f37d0a47d2c7e3130c66b0fa952e07092f1e1828268d394690db45c7"
        );
    }

    #[test]
    fn a_secret_does_not_print_its_bytes() {
        assert_eq!(
            format!("{:?}", Secret::new(b"hunter2".to_vec())),
            "Secret(..)"
        );
    }
}
