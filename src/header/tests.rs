// SPDX-License-Identifier: Apache-2.0
//! What a device may hold: rules A2 and F23.

mod binary;
mod constellation;
mod copies;
mod cuts;
mod hostile;
mod keyslots;
mod pairs;
mod recovery;
mod rotation;
mod rules;
mod tokens;

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::fixture::{Fixture, UUID, put};
use super::*;
use crate::error::Exit;

/// A device in memory. From `broken_at` on it cannot be read.
struct Disk {
    bytes: Vec<u8>,
    broken_at: Option<u64>,
}

impl FileExt for Disk {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = offset + buffer.len() as u64;
        if self.broken_at.is_some_and(|at| end > at) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let rest = self
            .bytes
            .get(usize::try_from(offset).unwrap()..)
            .unwrap_or_default();
        // Short on purpose: reads may be.
        let len = rest.len().min(buffer.len()).min(700_000);
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        panic!("nothing here writes")
    }
}

const DISK_LEN: u64 = 64 << 20;

fn disk() -> Disk {
    Disk {
        bytes: vec![0; 64 << 20],
        broken_at: None,
    }
}

fn classify(disk: &Disk) -> Result<Content> {
    let (area, probe) = Area::read(disk, disk.bytes.len() as u64)?;
    area.classify(probe)
}

fn refusal<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.exit(), Exit::Refused, "{error}");
    error.to_string()
}

#[test]
fn a_blank_device_is_blank_and_one_byte_anywhere_we_look_makes_it_foreign() {
    let mut disk = disk();
    assert!(matches!(classify(&disk).unwrap(), Content::Blank));
    let in_area = [0, 16 << 10, (16 << 20) - 1].map(|at| (at, "data of no known kind".to_owned()));
    let outside = [16 << 20, (24 << 20) - 1, 60 << 20, (64 << 20) - 1].map(|at: usize| {
        let found = format!("zeros in the header area, but something at byte {at}");
        (at, found)
    });
    for (at, found) in in_area.into_iter().chain(outside) {
        disk.bytes[at] = 1;
        assert_eq!(
            refusal(classify(&disk)),
            format!(
                "rule F23: expected a blank device or a LUKS2 volume, found {found}; \
                 if nobody needs it, blank the device with \"blkdiscard --zeroout\" and start again"
            )
        );
        disk.bytes[at] = 0;
    }
    // Nobody looks between the probe regions.
    disk.bytes[24 << 20] = 1;
    assert!(matches!(classify(&disk).unwrap(), Content::Blank));
}

#[test]
fn a_device_that_cannot_be_read_is_never_blank() {
    let mut disk = disk();
    for (at, found) in [
        (0, "rule A2: reading the device at byte 0: "),
        (15 << 20, "rule A2: reading the device at byte 15728640: "),
        (20 << 20, "rule A2: reading the device at byte 20971520: "),
        (
            (64 << 20) - 1,
            "rule A2: reading the device at byte 66060288: ",
        ),
    ] {
        disk.broken_at = Some(at);
        let error = refusal(classify(&disk));
        assert!(error.starts_with(found), "{error}");
        assert!(
            error.ends_with("Input/output error (os error 5)"),
            "{error}"
        );
    }
}

#[test]
fn a_device_that_ends_early_or_is_too_small_is_refused() {
    let disk = disk();
    assert!(Area::read(&disk, DISK_LEN).is_ok());
    assert_eq!(
        refusal(Area::read(&disk, DISK_LEN + (1 << 20))),
        "rule A2: device: it ends at byte 67108864, before its stated length"
    );
    assert_eq!(
        refusal(Area::read(&disk, DISK_LEN - 1)),
        "rule A2: device: expected at least 67108864 bytes, found 67108863"
    );
    assert_eq!(
        refusal(Area::from_vec(vec![0; 4096])),
        "rule A2: header area: expected 16777216 bytes, found 4096"
    );
}

#[test]
fn other_contents_are_refused_by_name() {
    let marks: [(usize, &[u8], &str); 6] = [
        (0x438, b"\x53\xef", "an ext2, ext3 or ext4 file system"),
        (0, b"XFSB", "an XFS file system"),
        (0x10040, b"_BHRfS_M", "a btrfs file system"),
        (0x200, b"EFI PART", "a GUID partition table"),
        (0x1fe, b"\x55\xaa", "an MBR partition table"),
        (0x218, b"LVM2 001", "data of no known kind"),
    ];
    for (at, mark, name) in marks {
        let mut disk = disk();
        put(&mut disk.bytes, at, mark);
        let error = refusal(classify(&disk));
        assert!(error.contains(&format!("found {name};")), "{error}");
    }
}

/// An area with a marker for the fixtures' volume.
fn marked(mut bytes: Vec<u8>) -> Area {
    let marker = Marker {
        uuid: UUID.into(),
        role: Role::Root,
    };
    put(&mut bytes, MARKER_OFFSET, &marker.encode());
    Area::from_vec(bytes).unwrap()
}

#[test]
fn a_marker_means_interrupted_beside_what_provisioning_had_written_by_then() {
    let whole = Fixture::ours().build();
    let only = |ranges: &[Range<usize>]| {
        let mut bytes = vec![0; AREA_LEN];
        for range in ranges {
            put(&mut bytes, range.start, &whole[range.clone()]);
        }
        bytes
    };
    let (first, second) = (0..4096, 16384..20480);
    let explained = [
        only(&[]),
        only(std::slice::from_ref(&first)),
        only(std::slice::from_ref(&second)),
        only(&[first.clone(), second.clone()]),
        only(&[first.clone(), second.clone(), 40960..45056]),
        whole.clone(),
    ];
    for (at, bytes) in explained.into_iter().enumerate() {
        let content = marked(bytes).classify(Probe::Skipped);
        assert!(
            matches!(content, Ok(Content::Interrupted(_))),
            "{at}: {content:?}"
        );
    }
}

#[test]
fn a_marker_left_over_on_a_disk_in_other_use_does_not_let_it_be_formatted() {
    let mut ext4 = vec![0; AREA_LEN];
    put(&mut ext4, 1080, &[0x53, 0xef]);
    let mut gpt = vec![0; AREA_LEN];
    put(&mut gpt, 510, &[0x55, 0xaa]);
    put(&mut gpt, 512, b"EFI PART");
    let mut btrfs = vec![0; AREA_LEN];
    put(&mut btrfs, 65536 + 64, b"_BHRfS_M");
    let mut other_volume = Fixture::ours().build();
    other_volume[168] ^= 1;
    other_volume[16384 + 168] ^= 1;
    let mut metadata_first = Fixture::ours().build();
    metadata_first[..4096].fill(0);
    let mut beyond = Fixture::ours().build();
    beyond[8 << 20] = 1;
    for bytes in [
        ext4,
        gpt,
        btrfs,
        other_volume,
        metadata_first,
        beyond,
        vec![0xff; AREA_LEN],
    ] {
        assert_eq!(
            refusal(marked(bytes).classify(Probe::Skipped)),
            "rule F23: expected a blank device or a LUKS2 volume, found a provisioning marker beside data that \
             provisioning does not write; if nobody needs it, blank the device with \"blkdiscard --zeroout\" and start again"
        );
    }
}

#[test]
fn a_damaged_marker_is_refused() {
    let mut bytes = marked(vec![0; AREA_LEN]).bytes().to_vec();
    bytes[MARKER_OFFSET + 100] = 1;
    assert_eq!(
        refusal(Area::from_vec(bytes).unwrap().classify(Probe::Skipped)),
        "rule F23: provisioning marker: checksum: expected what this program writes, found something else"
    );
}

#[test]
fn clearing_the_unused_bytes_leaves_the_keyslots_and_satisfies_the_template() {
    let mut bytes = Fixture::ours().build();
    // What libcryptsetup leaves: random bytes all over the keyslots area.
    bytes[900_000..].fill(7);
    let mut area = Area::from_vec(bytes).unwrap();
    let header = area.header().unwrap();
    assert_eq!(
        refusal(header.check(Profile::Nightlatch1, &Expect::default())),
        "rule C11: keyslots area: expected zeros outside the keyslots, found something at byte 2342912"
    );
    area.clear_unused(&header);
    assert_eq!(area.bytes(), Fixture::ours().build());
    let header = area.header().unwrap();
    assert!(
        header
            .check(Profile::Nightlatch1, &Expect::default())
            .is_ok()
    );
}

#[test]
fn an_area_is_read_to_its_last_byte_though_zeros_at_its_end_are_not_kept() {
    let mut disk = disk();
    let (area, probe) = Area::read(&disk, DISK_LEN).unwrap();
    assert_eq!((area.bytes().len(), probe), (KEYSLOTS_OFFSET, Probe::Zero));
    disk.bytes[..AREA_LEN].copy_from_slice(&Fixture::ours().build());
    let (area, _) = Area::read(&disk, DISK_LEN).unwrap();
    // Two keyslots, the second from 417,792 on with 384,000 bytes of key material.
    assert_eq!(area.bytes().len(), 802_816);
    assert_eq!(area.bytes(), &disk.bytes[..802_816]);
    assert!(checked(&area).is_ok());
    // A byte anywhere behind the places of keyslots is seen, whether it begins or ends a block or a read.
    for at in [
        2_342_912,
        2_346_999,
        (3 << 20) - 1,
        3 << 20,
        (9 << 20) + 7,
        MARKER_OFFSET - 1,
        AREA_LEN - 1,
    ] {
        disk.bytes[at] = 1;
        let (area, _) = Area::read(&disk, DISK_LEN).unwrap();
        assert_eq!(
            area.bytes(),
            &disk.bytes[..(at / MARKER_LEN + 1) * MARKER_LEN]
        );
        assert_eq!(
            refusal(checked(&area)),
            format!(
                "rule C11: keyslots area: expected zeros outside the keyslots, found something at byte {at}"
            )
        );
        disk.bytes[at] = 0;
    }
    // The first byte behind the area is none of it.
    disk.bytes[AREA_LEN] = 1;
    assert!(checked(&Area::read(&disk, DISK_LEN).unwrap().0).is_ok());
}

/// A keyslot's area may end with zeros.
#[test]
fn a_keyslot_is_given_on_whole_though_zeros_at_its_end_are_not_kept() {
    let mut bytes = Fixture::ours().build();
    bytes[700_000..].fill(0);
    let area = Area::from_vec(bytes.clone()).unwrap();
    assert!(area.bytes().len() < 704_512);
    let candidates = checked(&area).unwrap();
    // The second keyslot's area is 385,024 bytes from 417,792 on.
    assert_eq!(contiguous(&candidates[0]), &bytes[..802_816]);
    let again = candidates[0].area().unwrap();
    assert_eq!(again.bytes(), area.bytes());
    assert_eq!(area.before_marker(), bytes[..MARKER_OFFSET]);
    assert!(Area::starting_with(bytes).is_ok());
    assert!(Area::starting_with(vec![0; AREA_LEN + 1]).is_err());
}

/// The header area up to the end of the last keyslot.
fn contiguous(header: &Candidate) -> Vec<u8> {
    header.parts().concat()
}

fn checked(area: &Area) -> Result<Vec<Candidate>> {
    let copies = area.copies()?;
    copies.check(area, Profile::Nightlatch1, &Expect::default())
}
