// SPDX-License-Identifier: Apache-2.0
//! Signatures as `ssh-keygen -Y sign` makes them, by a file, an agent or a security key (OpenSSH, `PROTOCOL.sshsig`).
//!
//! **Never:** a namespace, or a key, that the signature itself is asked for: both are given by whoever verifies.

use base64ct::{Base64, Encoding as _};
use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::{Digest as _, Sha256, Sha512};

use super::wire::{Wire, string};
use super::{ED25519 as KIND, Key, OpensshKey, SECURITY_KEY};
use crate::error::{Doing, Error, Result};

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// What is signed begins with it, and so does what travels.
const MAGIC: &[u8; 6] = b"SSHSIG";
const VERSION: u32 = 1;
/// The longest text, in bytes: the longest of these keys' have some 600.
const TEXT_LEN_MAX: usize = 4096;
/// Whoever has the security key has touched it (OpenSSH, `PROTOCOL.u2f`).
const USER_PRESENT: u8 = 0x01;

/// A signature taken apart. Nothing of it is proven.
#[derive(Debug)]
struct Signature<'a> {
    key: &'a [u8],
    namespace: &'a [u8],
    hash: &'a [u8],
    bytes: &'a [u8],
}

/// Which of `allowed` has signed `message` for `namespace`; refused where none has.
pub fn verify<'a>(
    text: &str,
    namespace: &str,
    message: &[u8],
    allowed: &'a [OpensshKey],
) -> Result<&'a OpensshKey> {
    verify_now(text, namespace, message, allowed).doing("verifying a signature of OpenSSH")
}

fn verify_now<'a>(
    text: &str,
    namespace: &str,
    message: &[u8],
    allowed: &'a [OpensshKey],
) -> Result<&'a OpensshKey> {
    let malformed = || Error::refused("it is malformed, or of a version that is not known");
    let blob = unarmored(text).ok_or_else(malformed)?;
    let signature = Signature::parse(&blob).ok_or_else(malformed)?;
    if signature.namespace != namespace.as_bytes() {
        return Err(Error::refused(format_args!(
            "it was made for another namespace than {namespace}"
        )));
    }
    let known = allowed.iter().find(|key| key.blob == signature.key);
    let known = known.ok_or_else(|| Error::refused("it is by a key that is not listed"))?;
    let hashed = hashed(signature.hash, message)
        .ok_or_else(|| Error::refused("expected one over sha256 or sha512"))?;
    let signed = [
        &MAGIC[..],
        &string(signature.namespace),
        // Reserved.
        &string(&[]),
        &string(signature.hash),
        &string(&hashed),
    ]
    .concat();
    known.key.verify(&signed, signature.bytes)?;
    Ok(known)
}

/// What is between the two lines, in lines that may be of any length.
fn unarmored(text: &str) -> Option<Vec<u8>> {
    if text.len() > TEXT_LEN_MAX {
        return None;
    }
    let body = text.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let lines: String = body.lines().map(str::trim_end).collect();
    Base64::decode_vec(&lines).ok()
}

impl<'a> Signature<'a> {
    fn parse(blob: &'a [u8]) -> Option<Self> {
        let mut wire = Wire::new(blob);
        let is_known = wire.array()? == *MAGIC && u32::from_be_bytes(wire.array()?) == VERSION;
        if !is_known {
            return None;
        }
        let (key, namespace, reserved) = (wire.string()?, wire.string()?, wire.string()?);
        let (hash, bytes) = (wire.string()?, wire.string()?);
        wire.finish()?;
        reserved.is_empty().then_some(Self {
            key,
            namespace,
            hash,
            bytes,
        })
    }
}

fn hashed(hash: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    match hash {
        b"sha256" => Some(Sha256::digest(message).to_vec()),
        b"sha512" => Some(Sha512::digest(message).to_vec()),
        _ => None,
    }
}

impl Key {
    fn verify(&self, signed: &[u8], signature: &[u8]) -> Result<()> {
        let malformed = || Error::refused("the key's part of it is malformed");
        let mut wire = Wire::new(signature);
        let (kind, bytes) = wire.string().zip(wire.string()).ok_or_else(malformed)?;
        let (point, signed) = match self {
            Self::Ed25519(point) if kind == KIND.as_bytes() => (point, signed.to_vec()),
            Self::SecurityKey { point, application } if kind == SECURITY_KEY.as_bytes() => {
                let [flags] = wire.array().ok_or_else(malformed)?;
                let counter: [u8; 4] = wire.array().ok_or_else(malformed)?;
                if flags & USER_PRESENT == 0 {
                    return Err(Error::refused("nobody touched the security key"));
                }
                let [application, signed] =
                    [&application[..], signed].map(|bytes| Sha256::digest(bytes).to_vec());
                let signed = [&application[..], &[flags], &counter, &signed].concat();
                (point, signed)
            }
            Self::Ed25519(_) | Self::SecurityKey { .. } => return Err(malformed()),
        };
        wire.finish().ok_or_else(malformed)?;
        UnparsedPublicKey::new(&ED25519, point)
            .verify(&signed, bytes)
            .map_err(|ring::error::Unspecified| Error::refused("the key did not sign this"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{OPERATOR, TOUCHED};
    use super::*;

    const MESSAGE: &[u8] = b"a message\n";
    const NAMESPACE: &str = "nightlatch-recover";
    const SIGNED: &str = include_str!("../../../tests/fixtures/openssh/signed.sig");

    fn keys() -> Vec<OpensshKey> {
        let lines = [TOUCHED, OPERATOR].map(|line| OpensshKey::parse(line.trim()).unwrap());
        lines.to_vec()
    }

    fn refusal(text: &str, message: &[u8]) -> String {
        verify(text, NAMESPACE, message, &keys())
            .unwrap_err()
            .to_string()
    }

    /// `ssh-keygen -Y sign -n nightlatch-recover` of OpenSSH 9.2 made the first two, and takes the third with `-Y verify`.
    #[test]
    fn what_openssh_signs_is_taken_for_the_key_that_did() {
        let of_security_key = include_str!("../../../tests/fixtures/openssh/touched.sig");
        let sha256 = include_str!("../../../tests/fixtures/openssh/signed-sha256.sig");
        for (text, by) in [
            (SIGNED, OPERATOR),
            (sha256, OPERATOR),
            (of_security_key, TOUCHED),
        ] {
            let keys = keys();
            let known = verify(text, NAMESPACE, MESSAGE, &keys).unwrap();
            assert_eq!(known.to_string(), by.trim());
        }
    }

    #[test]
    fn another_message_namespace_or_key_is_refused() {
        let of_file = include_str!("../../../tests/fixtures/openssh/other-namespace.sig");
        let untouched = include_str!("../../../tests/fixtures/openssh/untouched.sig");
        for (text, message, why) in [
            (SIGNED, &b"another message"[..], "the key did not sign this"),
            (
                of_file,
                MESSAGE,
                "another namespace than nightlatch-recover",
            ),
            (untouched, MESSAGE, "nobody touched the security key"),
        ] {
            let said = refusal(text, message);
            assert!(said.ends_with(why), "{said}");
        }
        let error = verify(SIGNED, NAMESPACE, MESSAGE, &keys()[..1]).unwrap_err();
        assert!(
            error.to_string().ends_with("a key that is not listed"),
            "{error}"
        );
    }

    #[test]
    fn no_cut_and_no_flipped_bit_is_taken() {
        let body = SIGNED.trim().strip_prefix(BEGIN).unwrap();
        let body: String = body.strip_suffix(END).unwrap().lines().collect();
        let blob = Base64::decode_vec(&body).unwrap();
        let armored = |blob: &[u8]| format!("{BEGIN}\n{}\n{END}\n", Base64::encode_string(blob));
        verify(&armored(&blob), NAMESPACE, MESSAGE, &keys()).unwrap();
        for len in 0..blob.len() {
            refusal(&armored(&blob[..len]), MESSAGE);
        }
        for at in 0..blob.len() {
            let mut other = blob.clone();
            other[at] ^= 1;
            refusal(&armored(&other), MESSAGE);
        }
        refusal(&armored(&[&blob[..], &[0]].concat()), MESSAGE);
        refusal(&body, MESSAGE);
    }
}
