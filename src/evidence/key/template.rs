// SPDX-License-Identifier: Apache-2.0
//! Templates L-1 and L-2 of the TCG EK Credential Profile for TPM 2.0 (version 2.5, section B.3): what the public area of an
//! endorsement key is, but for the key.

use p256::elliptic_curve::sec1::ToSec1Point as _;
use rsa::traits::PublicKeyParts as _;

use super::PublicKey;
use super::public::MODULUS_LEN;

/// fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
pub(super) const ATTRIBUTES: u32 = 0x0003_00b2;

/// `PolicyA` with SHA-256: whoever may use the endorsement hierarchy (section B.6.2).
const POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

/// AES with 128 bits in CFB mode, and no scheme.
const PROTECTS: [u8; 8] = [0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10];

/// The public area as far as its field `unique`.
pub(super) fn start(key: &PublicKey) -> Vec<u8> {
    let (kind, parameters): (u16, &[u8]) = match key {
        // 2048 bits, and the default exponent.
        PublicKey::Rsa(_) => (0x0001, &[0x08, 0x00, 0, 0, 0, 0]),
        // NIST P-256, and no KDF.
        PublicKey::Ecc(_) => (0x0023, &[0x00, 0x03, 0x00, 0x10]),
    };
    [
        &kind.to_be_bytes()[..],
        // The name is made with SHA-256.
        &[0x00, 0x0b],
        &ATTRIBUTES.to_be_bytes(),
        &[0x00, 0x20],
        &POLICY,
        &PROTECTS,
        parameters,
    ]
    .concat()
}

/// The field `unique`, each number in its full length.
pub(super) fn unique(key: &PublicKey) -> Option<Vec<u8>> {
    match key {
        PublicKey::Rsa(key) => {
            let modulus = key.n_bytes();
            (modulus.len() == MODULUS_LEN).then(|| [&[0x01, 0x00][..], &modulus].concat())
        }
        PublicKey::Ecc(key) => {
            let point = key.to_sec1_point(false);
            let (x, y) = (point.x()?, point.y()?);
            Some([&[0x00, 0x20][..], x, &[0x00, 0x20], y].concat())
        }
    }
}
