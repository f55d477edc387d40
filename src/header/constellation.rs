// SPDX-License-Identifier: Apache-2.0
//! What profile `constellation` asks of a header beyond what every profile does: the state disks of Constellation 2.x, as
//! its disk-mapper formats them and its bootstrapper leaves them after the node has joined.
//!
//! Most of such a header is constant, because the same few calls of libcryptsetup make it on every node. The cost of the
//! keyslot's KDF is not: it is benchmarked on the node, first to 2 s with at most 64 MiB, and when the node joins, with
//! libcryptsetup's defaults, to up to half of the memory or 1 GiB. So there it is bounded instead.

use std::ops::RangeInclusive;

use super::layout::KEYSLOT_AREA_LEN;
use super::metadata::{Digest, Keyslot, KeyslotKdf};
use super::token::Token;
use super::violation::{equal, unexpected, violation, within};
use super::{Header, KEYSLOTS_OFFSET};
use crate::error::Result;

/// The only hash: libcryptsetup's default, for the splitter and for the digest.
const HASH: &str = "sha256";
/// Where the keyslot can be: the first area, and the one behind it, for a library that writes a changed keyslot before it
/// gives up the old one. cryptsetup 2.6.1 changes it in place.
const AREA_OFFSETS: [u64; 2] = [
    KEYSLOTS_OFFSET as u64,
    KEYSLOTS_OFFSET as u64 + KEYSLOT_AREA_LEN,
];
/// Lanes: `DEFAULT_LUKS2_PARALLEL_THREADS` of libcryptsetup, and what disk-mapper asks for, cut to the CPUs online.
const CPUS: RangeInclusive<u64> = 1..=4;
/// Memory in KiB: from `CRYPT_PBKDF_MIN_MEMORY` to `DEFAULT_LUKS2_MEMORY_KB` of libcryptsetup. It is taken before anything
/// is known of the header's origin, so a host that could ask for more could have us killed for it.
const MEMORY_KIB: RangeInclusive<u64> = 32..=1_048_576;
/// Passes: from libcryptsetup's minimum (`CRYPT_PBKDF_MIN_ITERATIONS`) to what [`MAX_WORK_KIB`] leaves at 64 MiB.
const PASSES: RangeInclusive<u64> = 4..=256;
/// Memory times passes. A benchmark to 2 s gave 43 × 64 MiB and 4 × 501 MiB on two CPUs, so below 3 GiB; this is room for
/// machines five times as fast, and an end to what the host can make a slow one compute.
const MAX_WORK_KIB: u64 = 16 << 20;

/// Rule C11, but for what all profiles share. The secret is 256 random bits: there is no need for a least cost.
pub(super) fn check_keyslot(slot: &Keyslot) -> Result<()> {
    let path = |key: &str| format!("keyslots.0.{key}");
    if !AREA_OFFSETS.contains(&slot.area_offset) {
        let expected = AREA_OFFSETS.map(|offset| offset.to_string()).join(" or ");
        return Err(unexpected(
            "C11",
            path("area.offset"),
            expected,
            slot.area_offset,
        ));
    }
    equal("C11", path("af.hash"), slot.af_hash.as_str(), HASH)?;
    equal("C11", path("priority"), slot.priority, None)?;
    let (kind, time, memory_kib, cpus) = match &slot.kdf {
        KeyslotKdf::Argon2 {
            kind,
            time,
            memory_kib,
            cpus,
        } => (kind.as_str(), *time, *memory_kib, *cpus),
        KeyslotKdf::Pbkdf2 { .. } => ("pbkdf2", 0, 0, 0),
    };
    equal("C11", path("kdf.type"), kind, "argon2id")?;
    within("C11", path("kdf.time"), time, &PASSES)?;
    within("C11", path("kdf.memory"), memory_kib, &MEMORY_KIB)?;
    within("C11", path("kdf.cpus"), cpus, &CPUS)?;
    let work = time.saturating_mul(memory_kib);
    within(
        "C11",
        path("kdf: time times memory"),
        work,
        &(0..=MAX_WORK_KIB),
    )
}

/// Rules B7, C12 and C13, but for what all profiles share. Returns what the token says about the node having joined.
pub(super) fn check(header: &Header) -> Result<bool> {
    equal("B7", "label", header.label.as_str(), "")?;
    equal("B7", "subsystem", header.subsystem.as_str(), "")?;
    for Digest { hash, .. } in header.metadata.digests.values() {
        equal("C12", "digests.0.hash", hash.as_str(), HASH)?;
    }
    let tokens = &header.metadata.tokens;
    let ids: Vec<u8> = tokens.keys().copied().collect();
    equal("C13", "tokens", ids, vec![0])?;
    match tokens.get(&0) {
        Some(Token::Constellation { initialized }) => Ok(*initialized),
        _ => Err(violation(
            "C13",
            "tokens.0",
            "expected the token \"constellation-state-disk\", found another",
        )),
    }
}
