// SPDX-License-Identifier: Apache-2.0
//! The power goes at every instant that a disk can remember: at each flush and each forced write of a node's first boot, of
//! the renewal of its header, and of its work, with what the TPM had kept by then.
//!
//! dm-log-writes keeps what was written in the order in which it became durable (kernel documentation,
//! device-mapper/log-writes), and nothing that was not: a replay up to a flush is the worst disk a crash can leave there.
//! Each state the TPM takes is marked in the same log before the program hears of it.

use std::collections::BTreeMap;

use nightlatch::config::Config;
use nightlatch::header;
use nightlatch::volume::{self, Found, How};

use crate::boots::{self, checkpoint, content, leave_file};
use crate::disk::{self, Disk, close, run, try_run};
use crate::tpm_private::Private;
use crate::tpm_watched::Watched;

const LOGGED: &str = "logged";
const DISK_MIB: u64 = 136;
/// All that is written, and the same again for what nobody thought of.
const LOG_MIB: u64 = 512;

// The log on the disk: Linux, drivers/md/dm-log-writes.c.
const LOG_MAGIC: u64 = 0x6a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;
/// The fixed part of an entry; a mark's text follows it.
const ENTRY_LEN: usize = 32;

/// What the marks divide the log into.
const PROVISIONING: &str = "provisioning";
const WORK: &str = "work";
const RENEWING: &str = "renewing";
const MORE_WORK: &str = "more-work";

/// One word: the target takes no more.
fn mark(text: &str) {
    run("dmsetup", &["message", LOGGED, "0", "mark", text], b"");
}

/// What happened to the disk, and the states of the TPM that the marks name.
struct Story {
    log: Vec<u8>,
    states: Vec<Vec<u8>>,
}

/// Two boots, both at level checkpoint: one makes the volume, one renews its header, each leaves a file.
fn record() -> Story {
    let (disk, log) = (Disk::in_memory(DISK_MIB), Disk::in_memory(LOG_MIB));
    let sectors = DISK_MIB << 11;
    let table = format!("0 {sectors} log-writes {} {}", disk.as_str(), log.as_str());
    run("dmsetup", &["create", LOGGED], table.as_bytes());
    let over = Unmap;
    let logged = Disk::at(&format!("/dev/mapper/{LOGGED}"));
    let mut tpm = Watched::start(|number| mark(&format!("tpm:{number}")));
    let config = config(&logged, tpm.port());
    for (now, then, file) in [(PROVISIONING, WORK, "one"), (RENEWING, MORE_WORK, "two")] {
        mark(&format!("phase:{now}"));
        tpm.reset();
        let opened = boots::boot(&config, || {
            mark(&format!("phase:{then}"));
            leave_file(file);
            mark(&format!("durable:{file}"));
            checkpoint();
        });
        assert_eq!(opened.unwrap().how == How::Formatted, now == PROVISIONING);
    }
    drop((logged, over));
    Story {
        log: log.backing(),
        states: tpm.into_states(),
    }
}

/// Takes the mapping away, after the volume on it.
struct Unmap;

impl Drop for Unmap {
    fn drop(&mut self) {
        close();
        let removed = try_run("dmsetup", &["remove", "--retry", LOGGED], b"");
        assert!(removed.status.success() || std::thread::panicking());
    }
}

fn config(disk: &Disk, port: u16) -> Config {
    let more = ["anchor = \"checkpoint\""];
    let volume = disk::lines(disk, &more);
    Config::parse(&format!("[tpm]\ntcti = \"swtpm:port={port}\"\n{volume}")).unwrap()
}

/// One entry of the log.
#[derive(Debug, Eq, PartialEq)]
struct Entry<'a> {
    /// In bytes.
    at: u64,
    flags: u64,
    data: &'a [u8],
    mark: &'a str,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The entries, each in a sector of its own, in front of its data.
fn entries(log: &[u8]) -> Vec<Entry<'_>> {
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

/// What must be true of the boot after a crash.
#[derive(Clone, Default)]
struct Owed {
    /// The state of the TPM, which is new at first.
    state: Option<usize>,
    is_ready: bool,
    files: Vec<String>,
}

/// An instant at which the power may go.
struct Point<'a> {
    /// So many entries of the log are durable.
    entries: usize,
    phase: &'a str,
    owed: Owed,
    /// How often the header area was written to.
    area: usize,
}

impl Point<'_> {
    /// Whether a boot that starts a first boot again, which reads the header area and nothing else, can tell them apart.
    fn starts_like(&self, other: &Self) -> bool {
        let same = |point: &Self| (point.area, point.owed.state);
        self.phase == PROVISIONING && other.phase == PROVISIONING && same(self) == same(other)
    }
}

/// Every flush, every forced write and every change of the TPM's state. Where neither disk nor TPM is another than at the
/// last point, nor more is owed, it is the same point.
fn points<'a>(entries: &[Entry<'a>]) -> Vec<Point<'a>> {
    let (mut owed, mut phase, mut area, mut is_new) = (Owed::default(), "", 0, false);
    let mut points = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        match entry.mark.split_once(':') {
            Some(("phase", now)) => {
                phase = now;
                owed.is_ready |= now == WORK;
            }
            Some(("durable", file)) => {
                owed.files.push(file.into());
                is_new = true;
            }
            Some(("tpm", state)) => {
                owed.state = Some(state.parse().unwrap());
                is_new = true;
            }
            _ => {}
        }
        is_new |= !entry.data.is_empty();
        area += usize::from(entry.at < header::DATA_OFFSET && !entry.data.is_empty());
        if is_new && entry.flags & (FLUSH | FUA | MARK) != 0 {
            is_new = false;
            points.push(Point {
                entries: index + 1,
                phase,
                owed: owed.clone(),
                area,
            });
        }
    }
    points
}

/// Boots what a crash left, and looks.
fn survive(disk: &Disk, tpm: &mut Private, owed: &Owed) -> How {
    let config = config(disk, tpm.port());
    let opened = boots::boot(&config, || {
        for file in &owed.files {
            let path = format!("/mnt/{file}");
            assert!(std::fs::read_to_string(path).unwrap() == content(file));
        }
    });
    let how = opened
        .unwrap_or_else(|error| panic!("refused: {error}"))
        .how;
    assert!(how == How::Unlocked || !owed.is_ready, "formatted again");
    how
}

#[test]
fn a_crash_at_every_flush_of_two_boots_leads_to_the_same_end() {
    let Story { log, states } = record();
    let entries = entries(&log);
    let points = points(&entries);
    for phase in [PROVISIONING, WORK, RENEWING, MORE_WORK] {
        let count = points.iter().filter(|point| point.phase == phase).count();
        println!("{phase}: {count} points of time");
        assert!(count > 0);
    }
    println!("{} states of the TPM", states.len());
    assert!(points.len() > 20);

    // What the crashes leave, and a copy of it for a boot.
    let (left, disk) = (Disk::in_memory(DISK_MIB), Disk::in_memory(DISK_MIB));
    let mut tpm = Private::start();
    let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let mut written = 0;
    for (index, point) in points.iter().enumerate() {
        for entry in &entries[written..point.entries] {
            left.write_behind(entry.at, entry.data);
        }
        written = point.entries;
        left.forget_reads();
        // Of those that a first boot starts again from, and that it cannot tell apart, the last one is booted.
        let next = points.get(index + 1);
        if next.is_some_and(|next| next.starts_like(point)) {
            let config = config(&left, tpm.port());
            if let Ok(Found::New(_)) = volume::examine(disk::volume(&config)) {
                *counts
                    .entry((point.phase, "will be formatted"))
                    .or_default() += 1;
                continue;
            }
        }
        disk.load_from(&left);
        match point.owed.state {
            Some(state) => tpm.restore(&states[state]),
            None => tpm = Private::start(),
        }
        println!("{} of {} entries, {}", written, entries.len(), point.phase);
        let how = survive(&disk, &mut tpm, &point.owed);
        *counts.entry((point.phase, how.word())).or_default() += 1;
    }
    println!("what the next boot made of them: {counts:?}");
    assert_eq!(counts.values().sum::<u32>() as usize, points.len());
    assert!(counts.contains_key(&(PROVISIONING, "formatted")));
    assert!(counts.contains_key(&(PROVISIONING, "unlocked")));

    // The control: a disk that lost writes which were durable, beside the last state of the TPM, is one that is refused.
    let lost = entries
        .iter()
        .position(|entry| entry.mark == "phase:renewing");
    let short = Disk::in_memory(DISK_MIB);
    for entry in &entries[..lost.unwrap()] {
        short.write_behind(entry.at, entry.data);
    }
    short.forget_reads();
    tpm.restore(states.last().unwrap());
    let error = boots::boot(&config(&short, tpm.port()), || {}).unwrap_err();
    assert!(error.to_string().contains("rule G26"), "{error}");
}
