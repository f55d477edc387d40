// SPDX-License-Identifier: Apache-2.0
//! The log on the disk: Linux, drivers/md/dm-log-writes.c.

const LOG_MAGIC: u64 = 0x6a_7366_7773_6872;
pub(crate) const FLUSH: u64 = 1;
pub(crate) const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
pub(crate) const MARK: u64 = 1 << 3;
/// The fixed part of an entry; a mark's text follows it.
const ENTRY_LEN: usize = 32;

/// One entry of the log.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Entry<'a> {
    /// In bytes.
    pub(crate) at: u64,
    pub(crate) flags: u64,
    pub(crate) data: &'a [u8],
    pub(crate) mark: &'a str,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The entries, each in a sector of its own, in front of its data.
pub(crate) fn entries(log: &[u8]) -> Vec<Entry<'_>> {
    assert_eq!(word(log, 0), LOG_MAGIC, "this is not a log");
    let sector_len = usize::try_from(word(log, 24) & 0xffff_ffff).unwrap();
    let mut next = sector_len;
    (0..word(log, 16))
        .map(|_| {
            let head = &log[next..next + sector_len];
            let [sector, sectors, flags, mark_len] = [0, 8, 16, 24].map(|at| word(head, at));
            let [sectors, mark_len] = [sectors, mark_len].map(|n| usize::try_from(n).unwrap());
            let start = next + sector_len;
            let is_stored = flags & (DISCARD | MARK) == 0;
            next = start + if is_stored { sectors * sector_len } else { 0 };
            assert_eq!(flags & DISCARD, 0, "nothing here discards");
            Entry {
                at: sector * sector_len as u64,
                flags,
                data: &log[start..next],
                mark: std::str::from_utf8(&head[ENTRY_LEN..ENTRY_LEN + mark_len]).unwrap(),
            }
        })
        .collect()
}
