// SPDX-License-Identifier: Apache-2.0
//! A keyslot opened with a passphrase, in memory and without libcryptsetup: the LUKS2 On-Disk Format Specification 1.1, section
//! 3.2, and that of LUKS1, section 2.4. For keyslots of PBKDF2 alone, whose cost the template bounds; a boot opens its own through
//! libcryptsetup.

use aes::Aes256;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit as _};
use hmac::{Hmac, Mac as _};
use sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroizing;

use super::layout::{AF_STRIPES, ENCRYPTION_KEY_LEN, VOLUME_KEY_LEN};
use super::metadata::{Keyslot, KeyslotKdf};
use super::recovery::place;
use super::{Candidate, Header};
use crate::error::{Error, Result};
use crate::key::Secret;

/// Sectors of a keyslot's area, each of which is encrypted by itself, numbered from 0.
const SECTOR_LEN: usize = 512;
const BLOCK_LEN: usize = 16;
/// What a tweak is reduced by when it overflows: x¹²⁸ = x⁷ + x² + x + 1 (IEEE 1619, section 5.2).
const REDUCTION: u128 = 0x87;

#[expect(clippy::cast_possible_truncation, reason = "constants of 96 and 4000")]
const KEY_LEN: usize = VOLUME_KEY_LEN as usize;
#[expect(clippy::cast_possible_truncation, reason = "constants of 96 and 4000")]
const STRIPES: usize = AF_STRIPES as usize;

impl Candidate {
    /// Whether `passphrase` opens this keyslot of a header of our own profile, and the volume key it gives makes the header's MAC.
    pub fn opens(&self, keyslot: u8, passphrase: &[u8]) -> Result<bool> {
        let header = Header::parse(&self.copies)?;
        let slot = header.metadata.keyslots.get(&keyslot);
        let slot =
            slot.ok_or_else(|| Error::refused(format_args!("it has no keyslot {keyslot}")))?;
        let key = volume_key(slot, self.material_in(&place(keyslot)), passphrase)?;
        Ok(self.checked.nightlatch.is_some() && self.authenticate(&key).is_ok())
    }
}

/// What comes out of a keyslot: the volume key, if the passphrase is the keyslot's.
fn volume_key(slot: &Keyslot, material: &[u8], passphrase: &[u8]) -> Result<Secret> {
    let KeyslotKdf::Pbkdf2 {
        hash,
        iterations,
        salt,
    } = &slot.kdf
    else {
        return Err(Error::refused("its key derivation is not PBKDF2"));
    };
    if hash != "sha512" {
        return Err(Error::refused("its key derivation is not that of SHA-512"));
    }
    let area_key = pbkdf2(passphrase, salt, *iterations)?;
    let mut stripes = Zeroizing::new(material.to_vec());
    stripes.truncate(KEY_LEN.saturating_mul(STRIPES).next_multiple_of(SECTOR_LEN));
    decrypt(&mut stripes, &area_key)?;
    Ok(match slot.af_hash.as_str() {
        "sha512" => merge::<Sha512>(&stripes),
        _ => merge::<Sha256>(&stripes),
    })
}

/// PBKDF2 with HMAC-SHA512 and one block of output, as long as the key of an area (RFC 8018, section 5.2).
fn pbkdf2(passphrase: &[u8], salt: &[u8], iterations: u64) -> Result<Zeroizing<[u8; 64]>> {
    const { assert!(ENCRYPTION_KEY_LEN == 64) };
    let mac = Hmac::<Sha512>::new_from_slice(passphrase)
        .map_err(|error| Error::failure(format_args!("HMAC: {error}")))?;
    let once = |message: &[&[u8]]| -> Zeroizing<[u8; 64]> {
        let mut mac = mac.clone();
        for part in message {
            mac.update(part);
        }
        Zeroizing::new(mac.finalize().into_bytes().into())
    };
    let mut last = once(&[salt, &1_u32.to_be_bytes()]);
    let mut all = last.clone();
    for _ in 1..iterations {
        last = once(&[&last[..]]);
        xor(&mut all[..], &last[..]);
    }
    Ok(all)
}

/// AES-256 in XTS mode, the tweak being the number of the sector in 64 bits, little-endian (IEEE 1619, section 5.4).
fn decrypt(bytes: &mut [u8], key: &[u8; 64]) -> Result<()> {
    let wrong = |_| Error::failure("AES: a key of another length");
    let (first, second) = key.split_at(key.len() / 2);
    let data = Aes256::new_from_slice(first).map_err(wrong)?;
    let tweaks = Aes256::new_from_slice(second).map_err(wrong)?;
    for (number, sector) in (0_u128..).zip(bytes.chunks_exact_mut(SECTOR_LEN)) {
        let mut first = number.to_le_bytes().into();
        tweaks.encrypt_block(&mut first);
        let mut tweak = u128::from_le_bytes(first.into());
        for block in sector.chunks_exact_mut(BLOCK_LEN) {
            let mask = tweak.to_le_bytes();
            xor(block, &mask);
            let mut whole = [0; BLOCK_LEN];
            whole.copy_from_slice(block);
            let mut whole = whole.into();
            data.decrypt_block(&mut whole);
            block.copy_from_slice(&whole);
            xor(block, &mask);
            let is_over = tweak >> 127 == 1;
            tweak = (tweak << 1) ^ if is_over { REDUCTION } else { 0 };
        }
    }
    Ok(())
}

/// The anti-forensic splitter, backwards.
fn merge<D: Digest>(stripes: &[u8]) -> Secret {
    let mut all = Zeroizing::new(vec![0; KEY_LEN]);
    let mut stripes = stripes.chunks_exact(KEY_LEN).take(STRIPES).peekable();
    while let Some(stripe) = stripes.next() {
        xor(&mut all, stripe);
        // The last one is not diffused.
        if stripes.peek().is_some() {
            diffuse::<D>(&mut all);
        }
    }
    Secret::new(std::mem::take(&mut *all))
}

/// Each piece as long as a hash is replaced by its hash, its number in front.
fn diffuse<D: Digest>(bytes: &mut [u8]) {
    let len = <D as Digest>::output_size();
    for (number, piece) in (0_u32..).zip(bytes.chunks_mut(len)) {
        let hash = D::new()
            .chain_update(number.to_be_bytes())
            .chain_update(&*piece)
            .finalize();
        for (to, from) in piece.iter_mut().zip(hash) {
            *to = from;
        }
    }
}

fn xor(to: &mut [u8], with: &[u8]) {
    for (to, with) in to.iter_mut().zip(with) {
        *to ^= with;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// IEEE 1619, appendix B, vector 10: AES-256, data unit 0xff, of which the first blocks are compared.
    #[test]
    fn a_sector_is_decrypted_as_the_standard_has_it() {
        let key = hex::decode(concat!(
            "2718281828459045235360287471352662497757247093699959574966967627",
            "3141592653589793238462643383279502884197169399375105820974944592",
        ));
        let key: [u8; 64] = key.unwrap().try_into().unwrap();
        let cipher =
            hex::decode("1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b");
        let mut bytes = vec![0; 256 * SECTOR_LEN];
        let last = 255 * SECTOR_LEN;
        bytes[last..last + 32].copy_from_slice(&cipher.unwrap());
        decrypt(&mut bytes, &key).unwrap();
        assert_eq!(bytes[last..last + 32], (0..32).collect::<Vec<u8>>());
    }

    /// Expected value: Python's `hashlib.pbkdf2_hmac`.
    #[test]
    fn a_passphrase_is_stretched_as_the_standard_has_it() {
        let key = pbkdf2(b"passphrase", &[7; 32], 1000).unwrap();
        assert_eq!(
            hex::encode(&key[..]),
            "fc80f131acf2c6124fcfac8729c60df4d10775f50e7ac8f99366499a2697cf67a98c8cf2c1766af116d76e26cf7c88e0a4f4bb697c80552af2dce82c09e30bf1"
        );
    }
}
