// SPDX-License-Identifier: Apache-2.0
//! Public areas, `TPMT_PUBLIC` (TPM 2.0 part 2, section 12.2.4).

use rsa::BoxedUint;

use super::PublicKey;
use crate::evidence::bytes::Bytes;
use crate::evidence::registers::algorithm;
use crate::evidence::{Check, Refusal};
use crate::pcr::Bank;

/// Attributes of objects (`TPMA_OBJECT`, part 2, section 8.3).
pub(super) mod attribute {
    pub(crate) const FIXED_TPM: u32 = 1 << 1;
    pub(crate) const FIXED_PARENT: u32 = 1 << 4;
    pub(crate) const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    pub(crate) const RESTRICTED: u32 = 1 << 16;
    pub(crate) const DECRYPT: u32 = 1 << 17;
    pub(crate) const SIGN: u32 = 1 << 18;
}

// Algorithms (`TPM_ALG_ID`, part 2, section 6.3).
const RSA: u16 = 0x0001;
const NULL: u16 = 0x0010;
pub(super) const RSASSA: u16 = 0x0014;
pub(super) const ECDSA: u16 = 0x0018;
const ECC: u16 = 0x0023;
/// `TPM_ECC_NIST_P256` (part 2, section 6.4).
const NIST_P256: u16 = 0x0003;

/// The exponent a public area writes as zero (part 2, section 12.2.3.5).
const EXPONENT: u32 = 65537;
/// The only RSA size, in bits.
const RSA_BITS: u16 = 2048;
/// Bytes of an RSA modulus.
pub(super) const MODULUS_LEN: usize = 256;
/// Bytes of a coordinate on P-256.
pub(super) const COORDINATE_LEN: usize = 32;

/// How a key signs, with the hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scheme {
    Null,
    Rsassa(u16),
    Ecdsa(u16),
}

/// What the key itself is.
#[derive(Clone, Debug)]
pub(super) enum Material<'a> {
    /// The modulus.
    Rsa(&'a [u8]),
    /// Both coordinates.
    Ecc([&'a [u8]; 2]),
}

/// A public area, taken apart. Its name algorithm is SHA-256.
#[derive(Debug)]
pub(super) struct Area<'a> {
    pub(super) attributes: u32,
    /// The cipher a storage key protects with; none for a key that signs.
    pub(super) symmetric: Option<u16>,
    pub(super) scheme: Scheme,
    pub(super) material: Material<'a>,
    what: &'static str,
}

/// Whether all of `wanted` are set.
pub(super) fn has(attributes: u32, wanted: u32) -> bool {
    attributes & wanted == wanted
}

impl<'a> Area<'a> {
    pub(super) fn parse(bytes: &'a [u8], what: &'static str) -> Result<Self, Refusal> {
        let mut bytes = Bytes::new(bytes, what, Check::Encoding);
        let kind = bytes.be16()?;
        let name_algorithm = bytes.be16()?;
        if name_algorithm != algorithm(Bank::Sha256) {
            return Err(bytes.refusal(format_args!(
                "expected a name with SHA-256, found {name_algorithm:#06x}"
            )));
        }
        let attributes = bytes.be32()?;
        // The policy of whoever made the key: it does not change what the attributes of an attestation key promise.
        bytes.sized()?;
        let symmetric = symmetric(&mut bytes)?;
        let scheme = scheme(&mut bytes)?;
        let material = match kind {
            RSA => rsa_material(&mut bytes)?,
            ECC => ecc_material(&mut bytes)?,
            _ => {
                return Err(bytes.refusal(format_args!(
                    "expected an RSA or ECC key, found {kind:#06x}"
                )));
            }
        };
        bytes.finish()?;
        Ok(Self {
            attributes,
            symmetric,
            scheme,
            material,
            what,
        })
    }

    /// The key, checked to be one: a point on the curve, an odd modulus.
    pub(super) fn key(&self, check: Check) -> Result<PublicKey, Refusal> {
        match &self.material {
            Material::Rsa(modulus) => rsa_key(modulus).map(PublicKey::Rsa),
            Material::Ecc([x, y]) => point(x, y).map(PublicKey::Ecc),
        }
        .ok_or_else(|| {
            let what = self.what;
            Refusal::new(
                check,
                format_args!("{what}: expected RSA with 2048 bits or a point on P-256"),
            )
        })
    }
}

/// A `TPMT_SYM_DEF_OBJECT` (part 2, section 11.1.7).
fn symmetric(bytes: &mut Bytes<'_>) -> Result<Option<u16>, Refusal> {
    match bytes.be16()? {
        NULL => Ok(None),
        algorithm => {
            // Its bits and its mode.
            bytes.be16()?;
            bytes.be16()?;
            Ok(Some(algorithm))
        }
    }
}

/// A `TPMT_RSA_SCHEME` or `TPMT_ECC_SCHEME` (part 2, sections 11.2.4.2 and 11.2.5.6).
fn scheme(bytes: &mut Bytes<'_>) -> Result<Scheme, Refusal> {
    match bytes.be16()? {
        NULL => Ok(Scheme::Null),
        RSASSA => bytes.be16().map(Scheme::Rsassa),
        ECDSA => bytes.be16().map(Scheme::Ecdsa),
        other => Err(Refusal::new(
            Check::AkScheme,
            format_args!("expected RSASSA, ECDSA or no scheme, found {other:#06x}"),
        )),
    }
}

fn rsa_material<'a>(bytes: &mut Bytes<'a>) -> Result<Material<'a>, Refusal> {
    let bits = bytes.be16()?;
    let exponent = bytes.be32()?;
    if bits != RSA_BITS || !matches!(exponent, 0 | EXPONENT) {
        return Err(bytes.refusal(format_args!(
            "expected RSA with {RSA_BITS} bits and exponent {EXPONENT}, found {bits} and {exponent}"
        )));
    }
    bytes.sized().map(Material::Rsa)
}

fn ecc_material<'a>(bytes: &mut Bytes<'a>) -> Result<Material<'a>, Refusal> {
    let curve = bytes.be16()?;
    if curve != NIST_P256 {
        return Err(bytes.refusal(format_args!(
            "expected NIST P-256, found curve {curve:#06x}"
        )));
    }
    let kdf = bytes.be16()?;
    if kdf != NULL {
        return Err(bytes.refusal(format_args!("expected no KDF, found {kdf:#06x}")));
    }
    Ok(Material::Ecc([bytes.sized()?, bytes.sized()?]))
}

fn rsa_key(modulus: &[u8]) -> Option<rsa::PublicKey> {
    // All 2048 bits: the highest one is set.
    if modulus.len() != MODULUS_LEN || modulus.first()? & 0x80 == 0 {
        return None;
    }
    let n = BoxedUint::from_be_slice(modulus, u32::from(RSA_BITS)).ok()?;
    let e = BoxedUint::from_be_slice(&EXPONENT.to_be_bytes(), u32::BITS).ok()?;
    rsa::PublicKey::new(n, e).ok()
}

fn point(x: &[u8], y: &[u8]) -> Option<p256::PublicKey> {
    // Uncompressed (SEC 1, section 2.3.3).
    let sec1 = [&[4][..], &padded(x)?, &padded(y)?].concat();
    p256::PublicKey::from_sec1_bytes(&sec1).ok()
}

/// A number of at most 32 bytes in exactly 32: TPMs may leave leading zeros out.
pub(super) fn padded(number: &[u8]) -> Option<[u8; COORDINATE_LEN]> {
    let mut array = [0; COORDINATE_LEN];
    let start = COORDINATE_LEN.checked_sub(number.len())?;
    array.get_mut(start..)?.copy_from_slice(number);
    Some(array)
}
