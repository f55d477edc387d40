// SPDX-License-Identifier: Apache-2.0
//! The bytes of a sealed secret, which come back from a disk the host writes to, and the template they must match.

use crate::error::{Error, Result};

/// `TPM_ALG_KEYEDHASH`, `TPM_ALG_SHA256`, `TPM_ALG_NULL` (TPM 2.0 part 2, section 6.3).
const ALG_KEYEDHASH: u16 = 0x0008;
const ALG_SHA256: u16 = 0x000b;
const ALG_NULL: u16 = 0x0010;

/// fixedTPM, fixedParent, noDA and nothing else (TPM 2.0 part 2, section 8.3): bound to this TPM and this parent, opened by
/// policy only because userWithAuth is clear.
const ATTRIBUTES: u32 = 0x0000_0412;

/// Length of a SHA-256 digest, and of the unique field of a SHA-256 object.
const DIGEST_LEN: u16 = 32;

/// `IESYSC_KEY_RSRC`: the kind of resource tpm2-tss writes before a key (tpm2-tss, src/tss2-esys/esys_types.h).
const ESYS_KEY_RESOURCE: u32 = 1;

/// What sealing yields and unsealing takes; it is kept as a `systemd-tpm2` token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sealed {
    /// The body of the `TPM2B_PRIVATE`.
    pub private: Vec<u8>,
    /// The body of the `TPM2B_PUBLIC`, a `TPMT_PUBLIC`.
    pub public: Vec<u8>,
    /// The policy it was sealed under.
    pub policy_hash: [u8; 32],
    /// The storage root key it was sealed with, as `Esys_TR_Serialize` of tpm2-tss writes it.
    pub srk: Option<Vec<u8>>,
}

impl Sealed {
    /// Refuses anything but the one kind of object [`Tpm::seal`](super::Tpm::seal) makes.
    ///
    /// An object outside the template could have been made elsewhere and imported, or be opened without the policy.
    pub(super) fn check(&self) -> Result<()> {
        let mut rest = self.public.as_slice();
        let fields = [
            (ALG_KEYEDHASH.to_be_bytes().to_vec(), "not a data object"),
            (ALG_SHA256.to_be_bytes().to_vec(), "not named by SHA-256"),
            (
                ATTRIBUTES.to_be_bytes().to_vec(),
                "its attributes are not fixedTPM, fixedParent and noDA alone",
            ),
            (
                sized(&self.policy_hash),
                "bound to another policy than its token says",
            ),
            (ALG_NULL.to_be_bytes().to_vec(), "it has a scheme"),
            (
                DIGEST_LEN.to_be_bytes().to_vec(),
                "its unique field is not 32 bytes",
            ),
        ];
        for (expected, broken) in fields {
            rest = rest
                .strip_prefix(expected.as_slice())
                .ok_or_else(|| refused(broken))?;
        }
        if rest.len() != usize::from(DIGEST_LEN) {
            return Err(refused("its unique field is not 32 bytes"));
        }
        Ok(())
    }
}

/// What a serialized key starts with and is known by: handle ‖ `TPM2B_NAME`. The name is a digest of all the rest.
pub(super) fn identity(handle: u32, name: &[u8]) -> Vec<u8> {
    [&handle.to_be_bytes()[..], &sized(name)].concat()
}

/// A key as `Esys_TR_Serialize` writes it: its identity ‖ kind ‖ `TPM2B_PUBLIC`, big-endian.
pub(super) fn serialized(identity: &[u8], public: &[u8]) -> Vec<u8> {
    let mut bytes = identity.to_vec();
    bytes.extend(ESYS_KEY_RESOURCE.to_be_bytes());
    bytes.extend(sized(public));
    bytes
}

/// A `TPM2B`: the length in two bytes, then the bytes. Nothing marshalled here reaches the limit.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&len.to_be_bytes()[..], bytes].concat()
}

fn refused(broken: &str) -> Error {
    Error::refused(format_args!("the sealed object is not ours: {broken}"))
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
            srk: None,
        }
    }

    #[test]
    fn only_the_template_is_accepted() {
        sealed().check().unwrap();
        let cases = [
            (1, 0x01, "not a data object"),
            (3, 0x0c, "not named by SHA-256"),
            // without fixedTPM, without fixedParent, with userWithAuth, with encryptedDuplication
            (
                7,
                0x10,
                "its attributes are not fixedTPM, fixedParent and noDA alone",
            ),
            (
                7,
                0x02,
                "its attributes are not fixedTPM, fixedParent and noDA alone",
            ),
            (
                7,
                0x52,
                "its attributes are not fixedTPM, fixedParent and noDA alone",
            ),
            (
                6,
                0x0c,
                "its attributes are not fixedTPM, fixedParent and noDA alone",
            ),
            (20, 0xab, "bound to another policy than its token says"),
            (43, 0x05, "it has a scheme"),
            (45, 0x1f, "its unique field is not 32 bytes"),
        ];
        for (place, byte, broken) in cases {
            let mut sealed = sealed();
            sealed.public[place] = byte;
            let error = sealed.check().unwrap_err();
            assert_eq!(error.exit(), Exit::Refused);
            assert_eq!(
                error.to_string(),
                format!("the sealed object is not ours: {broken}")
            );
        }
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
        assert_eq!(
            hex::encode(serialized(
                &identity(0x8100_0001, &[0, 0x0b, 0xcc]),
                &[0, 0x23]
            )),
            "810000010003000bcc0000000100020023"
        );
    }
}
