// SPDX-License-Identifier: Apache-2.0
//! What a device that is neither blank nor ours holds, by the marks other programs leave, so that the refusal can say it.
//! Nothing is decided by these: what is not listed is refused just the same.

/// Name, offset in bytes and mark. Offsets and marks as in util-linux, libblkid/src/superblocks.
const MARKS: [(&str, usize, &[u8]); 28] = [
    ("an ext2, ext3 or ext4 file system", 0x438, b"\x53\xef"),
    ("an XFS file system", 0, b"XFSB"),
    ("a btrfs file system", 0x1_0040, b"_BHRfS_M"),
    ("an F2FS file system", 0x400, b"\x10\x20\xf5\xf2"),
    ("an EROFS file system", 0x400, b"\xe2\xe1\xf5\xe0"),
    ("a squashfs file system", 0, b"hsqs"),
    (
        "a bcachefs or bcache device",
        0x1018,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca",
    ),
    ("an ISO 9660 file system", 0x8001, b"CD001"),
    ("a BitLocker volume", 3, b"-FVE-FS-"),
    ("an NTFS file system", 3, b"NTFS    "),
    ("an exFAT file system", 3, b"EXFAT   "),
    ("a FAT file system", 0x52, b"FAT32   "),
    ("a FAT file system", 0x36, b"FAT16   "),
    ("a FAT file system", 0x36, b"FAT12   "),
    ("swap space", 4096 - 10, b"SWAPSPACE2"),
    ("swap space", 4096 - 10, b"SWAP-SPACE"),
    ("an LVM physical volume", 0x200, b"LABELONE"),
    ("an LVM physical volume", 0, b"LABELONE"),
    ("an LVM physical volume", 0x400, b"LABELONE"),
    ("a ZFS pool member", 0x2_0000, b"\x0c\xb1\xba\0\0\0\0\0"),
    ("an MD RAID member", 0x1000, b"\xfc\x4e\x2b\xa9"),
    ("an MD RAID member", 0, b"\xfc\x4e\x2b\xa9"),
    ("a dm-verity hash tree", 0, b"verity\0\0"),
    ("a stand-alone dm-integrity device", 0, b"integrt\0"),
    ("a dm-vdo volume", 0, b"dmvdo001"),
    ("a GUID partition table", 0x200, b"EFI PART"),
    ("a GUID partition table", 0x1000, b"EFI PART"),
    ("an MBR partition table", 0x1fe, b"\x55\xaa"),
];

/// The name of what is in the area, if it is known.
pub(super) fn name(area: &[u8]) -> Option<&'static str> {
    let mark = |(_, offset, mark): &&(&str, usize, &[u8])| {
        area.get(*offset..)
            .is_some_and(|rest| rest.starts_with(mark))
    };
    MARKS.iter().find(mark).map(|(name, _, _)| *name)
}
