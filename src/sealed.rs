// SPDX-License-Identifier: Apache-2.0
//! The bytes of a sealed secret, which come back from a disk the host writes to, and the template they must match; and of
//! the [`signature`] of an image that it may be sealed to.
//!
//! Pure functions. The header's rule C13 and [`Tpm::unseal`](crate::tpm::Tpm::unseal) both ask here, so they cannot disagree.
//!
//! **Never:** a TPM: these are its bytes, and what they must be.

pub mod floor;
pub mod signature;
pub mod values;

use crate::error::{Error, Result};
use crate::key::pcr::PcrPublicKey;
use crate::sealed::values::SealedValues;

/// Where the storage root key lives (TCG TPM v2.0 Provisioning Guidance, section 7.5.1, table 2).
pub(crate) const SRK_HANDLE: u32 = 0x8100_0001;

/// `TPM_ALG_KEYEDHASH`, `TPM_ALG_SHA256`, `TPM_ALG_NULL` (TPM 2.0 part 2, section 6.3).
const ALG_KEYEDHASH: u16 = 0x0008;
const ALG_SHA256: u16 = 0x000b;
const ALG_NULL: u16 = 0x0010;

/// fixedTPM and fixedParent (TPM 2.0 part 2, section 8.3): bound to this TPM and this parent. userWithAuth is clear, so only
/// the policy opens it. Older versions of systemd set these two alone.
const FIXED: u32 = 0x0000_0012;
/// The same with noDA, which newer versions of systemd and we add: a lock-out is no reason not to unseal.
const FIXED_NO_DA: u32 = 0x0000_0412;

/// Length of a SHA-256 digest, and of the unique field of a SHA-256 object.
const DIGEST_LEN: usize = 32;

/// `IESYSC_KEY_RSRC`: the kind of resource tpm2-tss writes before a key (tpm2-tss, src/tss2-esys/esys_types.h).
const ESYS_KEY_RESOURCE: u32 = 1;

/// What was expected of bytes, as a sentence.
type Expected = &'static str;

/// What sealing yields and unsealing takes; it is kept as a `systemd-tpm2` token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sealed {
    /// The body of the `TPM2B_PRIVATE`.
    pub private: Vec<u8>,
    /// The body of the `TPM2B_PUBLIC`, a `TPMT_PUBLIC`.
    pub public: Vec<u8>,
    /// The policy it was sealed under.
    pub policy_hash: [u8; 32],
    /// The key that has to have signed what PCR 11 holds, where it is sealed to one.
    pub key: Option<PcrPublicKey>,
    /// What the PCRs held that it is sealed to by value, where that was kept.
    pub values: Option<SealedValues>,
    /// The storage root key it was sealed with, as `Esys_TR_Serialize` of tpm2-tss writes it.
    pub srk: Option<Vec<u8>>,
}

impl Sealed {
    /// Refuses anything but the one kind of object [`Tpm::seal`](crate::tpm::Tpm::seal) and systemd make.
    pub(crate) fn check(&self) -> Result<()> {
        check_public(&self.public, &self.policy_hash).map_err(Error::refused)
    }
}

/// Takes `TPM2B_PRIVATE ‖ TPM2B_PUBLIC` apart and checks the object.
///
/// Nothing may follow: a third part is the seed of an import, and a blob to import can be made by anyone who knows the
/// public part of the storage root key.
pub(crate) fn split(
    blob: &[u8],
    policy_hash: &[u8; 32],
) -> std::result::Result<(Vec<u8>, Vec<u8>), Expected> {
    let parts = tpm2b(blob).and_then(|(private, rest)| Some((private, tpm2b(rest)?)));
    let Some((private, (public, rest))) = parts else {
        return Err("expected a TPM2B_PRIVATE and a TPM2B_PUBLIC, found less");
    };
    if !rest.is_empty() {
        return Err("expected nothing after the TPM2B_PUBLIC, found an import seed");
    }
    if private.is_empty() {
        return Err("expected a private part, found an empty one");
    }
    check_public(public, policy_hash)?;
    Ok((private.into(), public.into()))
}

/// `TPM2B_PRIVATE ‖ TPM2B_PUBLIC` of these bodies.
pub(crate) fn join(private: &[u8], public: &[u8]) -> Vec<u8> {
    [sized(private), sized(public)].concat()
}

/// Checks a `TPMT_PUBLIC` (TPM 2.0 part 2, section 12.2.4).
///
/// An object outside the template could have been made elsewhere and imported, or be opened without the policy.
fn check_public(public: &[u8], policy_hash: &[u8; 32]) -> std::result::Result<(), Expected> {
    let rest = public
        .strip_prefix(&ALG_KEYEDHASH.to_be_bytes())
        .ok_or("expected a sealed object with type KEYEDHASH, found another")?
        .strip_prefix(&ALG_SHA256.to_be_bytes())
        .ok_or("expected a sealed object with name algorithm SHA256, found another")?;
    let rest = [FIXED, FIXED_NO_DA]
        .iter()
        .find_map(|attributes| rest.strip_prefix(&attributes.to_be_bytes()))
        .ok_or("expected a sealed object with attributes fixedTPM and fixedParent and without userWithAuth, found another")?
        .strip_prefix(sized(policy_hash).as_slice())
        .ok_or("expected a sealed object with the policy in tpm2-policy-hash, found another")?
        .strip_prefix(&ALG_NULL.to_be_bytes())
        .ok_or("expected a sealed object with scheme NULL, found another")?;
    match tpm2b(rest) {
        Some((unique, [])) if unique.len() == DIGEST_LEN => Ok(()),
        _ => Err(
            "expected a sealed object with a unique field of 32 bytes at its end, found another",
        ),
    }
}

/// What a serialized key starts with and is known by: handle ‖ `TPM2B_NAME`. The name is a digest of all the rest.
pub(crate) fn identity(handle: u32, name: &[u8]) -> Vec<u8> {
    [&handle.to_be_bytes()[..], &sized(name)].concat()
}

/// A key as `Esys_TR_Serialize` writes it: its identity ‖ kind ‖ `TPM2B_PUBLIC`, big-endian.
pub(crate) fn serialized(identity: &[u8], public: &[u8]) -> Vec<u8> {
    let mut bytes = identity.to_vec();
    bytes.extend(ESYS_KEY_RESOURCE.to_be_bytes());
    bytes.extend(sized(public));
    bytes
}

/// Checks that bytes are a serialized key, the one at the storage root key's handle, and nothing else.
pub(crate) fn check_serialized_srk(bytes: &[u8]) -> std::result::Result<(), Expected> {
    let rest = bytes
        .strip_prefix(&SRK_HANDLE.to_be_bytes())
        .ok_or("expected the key at handle 0x81000001, found another")?;
    let public = tpm2b(rest)
        .and_then(|(_name, rest)| rest.strip_prefix(&ESYS_KEY_RESOURCE.to_be_bytes()))
        .and_then(tpm2b);
    match public {
        Some((_, [])) => Ok(()),
        _ => Err("expected a serialised key object, found something else"),
    }
}

/// Takes a `TPM2B` off the front: a big-endian 16-bit length and that many bytes (TPM 2.0 part 2, section 10.4).
fn tpm2b(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))
}

/// A `TPM2B`. Nothing marshalled here reaches the limit; what did would parse as another blob.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&len.to_be_bytes()[..], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    fn sealed() -> Sealed {
        let mut public = hex::decode("0008000b000004120020").unwrap();
        public.extend([0xaa; 32]);
        public.extend([0x00, 0x10, 0x00, 0x20]);
        public.extend([0xbb; 32]);
        Sealed {
            private: Vec::new(),
            public,
            policy_hash: [0xaa; 32],
            key: None,
            values: None,
            srk: None,
        }
    }

    #[test]
    fn only_the_template_is_accepted() {
        sealed().check().unwrap();
        let attributes = "attributes fixedTPM and fixedParent and without userWithAuth";
        let cases = [
            (1, 0x01, "type KEYEDHASH"),
            (3, 0x0c, "name algorithm SHA256"),
            // without fixedTPM, without fixedParent, with userWithAuth, with encryptedDuplication
            (7, 0x10, attributes),
            (7, 0x02, attributes),
            (7, 0x52, attributes),
            (6, 0x0c, attributes),
            (20, 0xab, "the policy in tpm2-policy-hash"),
            (43, 0x05, "scheme NULL"),
            (45, 0x1f, "a unique field of 32 bytes at its end"),
        ];
        for (place, byte, expected) in cases {
            let mut sealed = sealed();
            sealed.public[place] = byte;
            let error = sealed.check().unwrap_err();
            assert_eq!(error.exit(), Exit::Refused);
            assert_eq!(
                error.to_string(),
                format!("expected a sealed object with {expected}, found another")
            );
        }
    }

    #[test]
    fn an_object_of_an_older_systemd_is_accepted_with_the_header_and_by_unsealing() {
        let mut older = sealed();
        // without noDA
        older.public[6] = 0;
        older.check().unwrap();
        let blob = join(&[1], &older.public);
        let parts = split(&blob, &older.policy_hash).unwrap();
        assert_eq!(parts, (vec![1], older.public));
    }

    #[test]
    fn every_truncation_and_every_addition_is_refused() {
        let whole = sealed();
        for len in 0..whole.public.len() {
            let mut sealed = whole.clone();
            sealed.public.truncate(len);
            assert!(sealed.check().is_err(), "{len} bytes");
        }
        let mut longer = whole;
        longer.public.push(0);
        assert!(longer.check().is_err());
    }

    #[test]
    fn a_key_is_serialized_as_tpm2_tss_does() {
        let key = serialized(&identity(SRK_HANDLE, &[0, 0x0b, 0xcc]), &[0, 0x23]);
        assert_eq!(hex::encode(&key), "810000010003000bcc0000000100020023");
        check_serialized_srk(&key).unwrap();
        for len in 0..key.len() {
            assert!(check_serialized_srk(&key[..len]).is_err(), "{len} bytes");
        }
    }
}
