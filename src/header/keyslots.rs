// SPDX-License-Identifier: Apache-2.0
//! The part of the template that is about keyslots (rule C11).

use std::ops::RangeInclusive;

use super::layout::{
    AF_STRIPES, ENCRYPTION, ENCRYPTION_KEY_LEN, HASHES, KEYSLOT_AREA_LEN, MIN_ITERATIONS,
    VOLUME_KEY_LEN,
};
use super::metadata::{Keyslot, KeyslotKdf};
use super::slot_pair::SlotPair;
use super::violation::{equal, one_of, unexpected, violation, within};
use super::{AREA_LEN, Header, KEYSLOTS_OFFSET, constellation};
use crate::config::Profile;
use crate::error::Result;

/// Compares the keyslots with the template of `profile`.
pub(super) fn check(header: &Header, profile: Profile) -> Result<()> {
    let slots = &header.metadata.keyslots;
    let ids: Vec<u8> = slots.keys().copied().collect();
    let (allowed, expected) = match profile {
        Profile::Nightlatch1 => header.allowed_ids(),
        Profile::Luks2Strict => ((1..=8).contains(&ids.len()), "1 to 8 keyslots"),
        Profile::Constellation => (ids == [0], "[0]"),
    };
    if !allowed {
        return Err(unexpected("C11", "keyslots", expected, ids));
    }
    for (id, slot) in slots {
        check_slot(*id, slot)?;
        match (profile, *id) {
            (Profile::Nightlatch1, 0 | 2) => check_kdf(*id, slot, &OUR_COST)?,
            (Profile::Nightlatch1, _) => check_kdf(*id, slot, &TPM_COST)?,
            (Profile::Luks2Strict, _) => check_kdf(*id, slot, &STRICT_COST)?,
            (Profile::Constellation, _) => constellation::check_keyslot(slot)?,
        }
    }
    check_areas(header, profile)
}

/// Rule C11: no two keyslots share a byte, and in our profile no byte is left over to hide something in.
fn check_areas(header: &Header, profile: Profile) -> Result<()> {
    let mut areas: Vec<(u64, u8)> = header
        .metadata
        .keyslots
        .iter()
        .map(|(id, slot)| (slot.area_offset, *id))
        .collect();
    areas.sort_unstable();
    let next = areas.iter().skip(1);
    let overlap = areas
        .iter()
        .zip(next)
        .find(|(this, next)| this.0.saturating_add(KEYSLOT_AREA_LEN) > next.0);
    if let Some((this, next)) = overlap {
        return Err(violation(
            "C11",
            format_args!("keyslots.{}.area.offset", next.1),
            format_args!(
                "expected an area of its own, found it inside that of keyslot {}",
                this.1
            ),
        ));
    }
    match profile {
        Profile::Nightlatch1 => check_places(header),
        Profile::Luks2Strict | Profile::Constellation => Ok(()),
    }
}

/// Each keyslot of ours is in its place, and outside of the places that keyslots of ours have there is nothing. In those that
/// are not used there may be something: see [`Header::idle`].
fn check_places(header: &Header) -> Result<()> {
    for (id, slot) in &header.metadata.keyslots {
        let path = format!("keyslots.{id}.area.offset");
        equal("C11", path, slot.area_offset, SlotPair::offset_of(*id))?;
    }
    match header.stray {
        Some(at) => Err(violation(
            "C11",
            "keyslots area",
            format_args!("expected zeros outside the keyslots, found something at byte {at}"),
        )),
        None => Ok(()),
    }
}

/// Everything about a keyslot but its KDF.
fn check_slot(id: u8, slot: &Keyslot) -> Result<()> {
    let path = |key: &str| format!("keyslots.{id}.{key}");
    // Exactly: the digest proves only as many bytes as this says, so a 1-byte key would open with almost any passphrase.
    equal("C11", path("key_size"), slot.key_size, VOLUME_KEY_LEN)?;
    equal(
        "C11",
        path("area.encryption"),
        slot.area_encryption.as_str(),
        ENCRYPTION,
    )?;
    equal(
        "C11",
        path("area.key_size"),
        slot.area_key_size,
        ENCRYPTION_KEY_LEN,
    )?;
    equal("C11", path("area.size"), slot.area_size, KEYSLOT_AREA_LEN)?;
    let last = (AREA_LEN as u64).saturating_sub(KEYSLOT_AREA_LEN);
    within(
        "C11",
        path("area.offset"),
        slot.area_offset,
        &(KEYSLOTS_OFFSET as u64..=last),
    )?;
    if !slot.area_offset.is_multiple_of(4096) {
        let aligned = "a multiple of 4096";
        return Err(unexpected(
            "C11",
            path("area.offset"),
            aligned,
            slot.area_offset,
        ));
    }
    equal("C11", path("af.stripes"), slot.af_stripes, AF_STRIPES)?;
    one_of("C11", path("af.hash"), slot.af_hash.as_str(), HASHES)?;
    match slot.priority {
        Some(priority) => equal("C11", path("priority"), priority, 1),
        None => Ok(()),
    }
}

/// Bounds of what stretching a passphrase may cost: not less than it needs, not so much that the host can stop us.
struct Cost {
    /// Kinds of Argon2, passes, memory in KiB, lanes.
    argon2: Option<Argon2Cost>,
    pbkdf2_hashes: &'static [&'static str],
    pbkdf2_iterations: RangeInclusive<u64>,
}

struct Argon2Cost {
    kinds: &'static [&'static str],
    time: RangeInclusive<u64>,
    memory_kib: RangeInclusive<u64>,
    cpus: RangeInclusive<u64>,
}

/// What provisioning asks for. libcryptsetup cuts the lanes to the CPUs that are online.
const OUR_COST: Cost = Cost {
    argon2: Some(Argon2Cost {
        kinds: &["argon2id"],
        time: 4..=4,
        memory_kib: 65_536..=65_536,
        cpus: 1..=4,
    }),
    ..TPM_COST
};

/// What `systemd-cryptenroll` sets for a secret of 256 random bits, be it sealed to a TPM or a recovery key (systemd 254,
/// src/shared/cryptsetup-util.c, `cryptsetup_set_minimal_pbkdf`).
const TPM_COST: Cost = Cost {
    argon2: None,
    pbkdf2_hashes: &["sha512"],
    pbkdf2_iterations: MIN_ITERATIONS..=MIN_ITERATIONS,
};

/// Whatever `cryptsetup luksFormat` chooses after its benchmark, up to 1 GiB. It makes no Argon2 of less than 4 passes.
const STRICT_COST: Cost = Cost {
    argon2: Some(Argon2Cost {
        kinds: &["argon2id", "argon2i"],
        time: 4..=100,
        memory_kib: 32..=1_048_576,
        cpus: 1..=8,
    }),
    pbkdf2_hashes: HASHES,
    pbkdf2_iterations: MIN_ITERATIONS..=10_000_000,
};

fn check_kdf(id: u8, slot: &Keyslot, cost: &Cost) -> Result<()> {
    let path = |key: &str| format!("keyslots.{id}.{key}");
    match (&slot.kdf, &cost.argon2) {
        (
            KeyslotKdf::Argon2 {
                kind,
                time,
                memory_kib,
                cpus,
            },
            Some(cost),
        ) => {
            one_of("C11", path("kdf.type"), kind, cost.kinds)?;
            within("C11", path("kdf.time"), *time, &cost.time)?;
            within("C11", path("kdf.memory"), *memory_kib, &cost.memory_kib)?;
            within("C11", path("kdf.cpus"), *cpus, &cost.cpus)
        }
        (KeyslotKdf::Argon2 { kind, .. }, None) => {
            one_of("C11", path("kdf.type"), kind, &["pbkdf2"])
        }
        (
            KeyslotKdf::Pbkdf2 {
                hash, iterations, ..
            },
            _,
        ) => {
            one_of("C11", path("kdf.hash"), hash, cost.pbkdf2_hashes)?;
            within(
                "C11",
                path("kdf.iterations"),
                *iterations,
                &cost.pbkdf2_iterations,
            )
        }
    }
}
