// SPDX-License-Identifier: Apache-2.0
//! The sizes and algorithms that every profile shares: rules, keyslots and their places all rest on these.

/// Encryption of segments and of keyslot areas.
pub(super) const ENCRYPTION: &str = "aes-xts-plain64";
/// Bytes of the key of [`ENCRYPTION`] (AES-256-XTS) and of [`INTEGRITY`], which make the volume key together.
pub(super) const ENCRYPTION_KEY_LEN: u64 = 64;
pub(super) const INTEGRITY_KEY_LEN: u64 = 32;
pub(super) const VOLUME_KEY_LEN: u64 = ENCRYPTION_KEY_LEN + INTEGRITY_KEY_LEN;
pub(super) const INTEGRITY: &str = "hmac(sha256)";
pub(super) const SECTOR_LEN: u64 = 4096;
/// Iterations for a passphrase that is uniform: the least libcryptsetup takes.
pub(super) const MIN_ITERATIONS: u64 = 1000;
/// Hashes of digests and splitters. libcryptsetup takes the one set for PBKDF2 for these too, sha256 where none is.
pub(super) const HASHES: &[&str] = &["sha256", "sha512"];

/// Stripes of the anti-forensic splitter (LUKS1 specification, section 5.5).
pub(super) const AF_STRIPES: u64 = 4000;
/// Bytes of a keyslot's area: volume key times stripes, rounded up to 4 KiB (`get_area_size` in libcryptsetup).
pub(super) const KEYSLOT_AREA_LEN: u64 = (VOLUME_KEY_LEN * AF_STRIPES).next_multiple_of(4096);
