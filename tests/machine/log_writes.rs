// SPDX-License-Identifier: Apache-2.0
//! The power goes at every instant that a disk can remember: at each flush and each forced write of a node's first boot, of
//! the renewal of its header, of the change of its secret to the key service's, and of its work, with what the TPM had kept
//! by then.
//!
//! dm-log-writes keeps what was written in the order in which it became durable (kernel documentation,
//! device-mapper/log-writes), and nothing that was not: a replay up to a flush is the worst disk a crash can leave there.
//! Each state the TPM takes is marked in the same log before the program hears of it.

pub(crate) mod log;

use std::collections::{BTreeMap, BTreeSet};

use nightlatch::config::{Config, Source};
use nightlatch::header;
use nightlatch::status::VolumeStatus;
use nightlatch::volume::{self, Found, How};

use crate::boots::{self, checkpoint, content, leave_file};
use crate::disk::{self, BOOT, Disk, close, run, try_run};
use crate::enrolment::{FIRST, SOURCES, is_zero, keyslots};
use crate::key_service::{ENDORSEMENT_KEY, Mock, service, table};
use crate::tpm_private::Private;
use crate::tpm_watched::Watched;
use log::{Entry, FLUSH, FUA, MARK, entries};

const LOGGED: &str = "logged";
pub(crate) const DISK_MIB: u64 = 136;
/// All that is written, and the same again for what nobody thought of.
const LOG_MIB: u64 = 512;

/// What the marks divide the log into.
const PROVISIONING: &str = "provisioning";
const WORK: &str = "work";
const RENEWING: &str = "renewing";
const MORE_WORK: &str = "more-work";
const ENROLLING: &str = "enrolling";
const ENROLLED: &str = "enrolled";

/// One word: the target takes no more.
pub(crate) fn mark(text: &str) {
    run("dmsetup", &["message", LOGGED, "0", "mark", text], b"");
}

/// What happened to the disk, and the states of the TPM that the marks name.
struct Story {
    log: Vec<u8>,
    states: Vec<Vec<u8>>,
}

/// Three boots, all at level checkpoint: one makes the volume, one renews its header, one gives it the key service's key.
/// The first two leave a file each.
fn record() -> Story {
    let logged = Logged::start();
    let mut tpm = Watched::start(|number| mark(&format!("tpm:{number}")));
    let port = tpm.port();
    let alone = alone(&logged.disk, port);
    let mut boot = |config: &Config, now: &str, then: &str, file: Option<&str>| {
        mark(&format!("phase:{now}"));
        if now == ENROLLING {
            tpm.tool("tpm2_createek", &ENDORSEMENT_KEY);
        }
        tpm.reset();
        let opened = boots::boot(config, || {
            mark(&format!("phase:{then}"));
            if let Some(file) = file {
                leave_file(file);
                mark(&format!("durable:{file}"));
                checkpoint();
            }
        });
        opened.unwrap()
    };
    let first = boot(&alone, PROVISIONING, WORK, Some("one"));
    assert_eq!(first.how, How::Formatted);
    let second = boot(&alone, RENEWING, MORE_WORK, Some("two"));
    assert_eq!((second.how, second.enrolled), (How::Unlocked, false));
    let service = service();
    let config = with(&service, &logged.disk, port);
    let third = boot(&config, ENROLLING, ENROLLED, None);
    assert_eq!((third.source, third.enrolled), (Source::Tpm, true));
    Story {
        log: logged.into_log(),
        states: tpm.into_states(),
    }
}

/// A disk of [`DISK_MIB`] whose writes are kept in their order.
pub(crate) struct Logged {
    pub(crate) disk: Disk,
    over: Unmap,
    log: Disk,
    _below: Disk,
}

impl Logged {
    pub(crate) fn start() -> Self {
        let (below, log) = (Disk::in_memory(DISK_MIB), Disk::in_memory(LOG_MIB));
        let sectors = DISK_MIB << 11;
        let table = format!("0 {sectors} log-writes {} {}", below.as_str(), log.as_str());
        run("dmsetup", &["create", LOGGED], table.as_bytes());
        Self {
            disk: Disk::at(&format!("/dev/mapper/{LOGGED}")),
            over: Unmap,
            log,
            _below: below,
        }
    }

    /// All that was written.
    pub(crate) fn into_log(self) -> Vec<u8> {
        let Self {
            disk, over, log, ..
        } = self;
        drop((disk, over));
        log.backing()
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

const LEVEL: &str = "anchor = \"checkpoint\"";

/// A node that has its TPM and nobody else.
fn alone(disk: &Disk, port: u16) -> Config {
    let volume = disk::lines(disk, &[LEVEL]);
    Config::parse(&format!(
        "{BOOT}[tpm]\ntcti = \"swtpm:port={port}\"\n{volume}"
    ))
    .unwrap()
}

/// The same with a key service.
fn with(service: &Mock, disk: &Disk, port: u16) -> Config {
    let volume = disk::lines(disk, &[LEVEL, SOURCES]);
    let service = table(service);
    Config::parse(&format!(
        "{BOOT}[tpm]\ntcti = \"swtpm:port={port}\"\n{service}{volume}"
    ))
    .unwrap()
}

/// What must be true of the boot after a crash.
#[derive(Clone, Default)]
struct Owed {
    /// The state of the TPM, which is new at first.
    state: Option<usize>,
    is_ready: bool,
    is_enrolled: bool,
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
                owed.is_enrolled |= now == ENROLLED;
                is_new |= owed.is_enrolled;
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
fn survive(config: &Config, owed: &Owed) -> VolumeStatus {
    let opened = boots::boot(config, || {
        for file in &owed.files {
            let path = format!("/mnt/{file}");
            assert!(std::fs::read_to_string(path).unwrap() == content(file));
        }
    });
    let volume = opened.unwrap_or_else(|error| panic!("refused: {error}"));
    let how = volume.how;
    assert!(how == How::Unlocked || !owed.is_ready, "formatted again");
    volume
}

/// The boot after the one that survived, with the key service: the volume has its key, or is given it now, and nothing is
/// left of another.
fn enroll(disk: &Disk, tpm: &mut Private, owed: &Owed) -> &'static str {
    tpm.reset();
    // It does not know yet what later instants had it told.
    let service = service();
    let volume = survive(&with(&service, disk, tpm.port()), owed);
    assert_eq!(keyslots(disk), [2, 3]);
    assert!(is_zero(disk, FIRST));
    match (volume.source, volume.enrolled) {
        (Source::Service, false) => "enrolled",
        (Source::Tpm, true) if !owed.is_enrolled => "enrolled again",
        other => panic!("neither the service's nor made so: {other:?}"),
    }
}

/// How often each phase came to which end.
type Counts<'a> = BTreeMap<(&'a str, &'static str), u32>;

const PHASES: [&str; 6] = [PROVISIONING, WORK, RENEWING, MORE_WORK, ENROLLING, ENROLLED];

/// The power goes at the points of `chosen`: what the next boot made of it, and the one after that, with the key service.
fn crash<'a>(
    story: &Story,
    entries: &[Entry<'_>],
    points: &[Point<'a>],
    chosen: &BTreeSet<usize>,
) -> (Counts<'a>, Counts<'a>) {
    // What the crashes leave, and a copy of it for a boot.
    let (left, disk) = (Disk::in_memory(DISK_MIB), Disk::in_memory(DISK_MIB));
    let mut tpm = Private::start();
    let (mut counts, mut enrolments) = (Counts::new(), Counts::new());
    let mut written = 0;
    for (index, point) in points.iter().enumerate() {
        for entry in &entries[written..point.entries] {
            left.write_behind(entry.at, entry.data);
        }
        written = point.entries;
        if !chosen.contains(&index) {
            continue;
        }
        left.forget_reads();
        // Of those that a first boot starts again from, and that it cannot tell apart, the last one is booted.
        let next = points.get(index + 1);
        let has_next = chosen.contains(&(index + 1));
        if has_next && next.is_some_and(|next| next.starts_like(point)) {
            let config = alone(&left, tpm.port());
            if let Ok(Found::New(_)) = volume::examine(disk::volume(&config)) {
                *counts
                    .entry((point.phase, "will be formatted"))
                    .or_default() += 1;
                continue;
            }
        }
        disk.load_from(&left);
        match point.owed.state {
            Some(state) => tpm.restore(&story.states[state]),
            None => tpm = Private::start(),
        }
        println!("{} of {} entries, {}", written, entries.len(), point.phase);
        let how = survive(&alone(&disk, tpm.port()), &point.owed).how;
        *counts.entry((point.phase, how.as_str())).or_default() += 1;
        if [ENROLLING, ENROLLED].contains(&point.phase) {
            let came_of_it = enroll(&disk, &mut tpm, &point.owed);
            *enrolments.entry((point.phase, came_of_it)).or_default() += 1;
        }
    }
    println!("what the next boot made of them: {counts:?}");
    println!("and the one after it, with the key service: {enrolments:?}");
    assert_eq!(counts.values().sum::<u32>() as usize, chosen.len());
    (counts, enrolments)
}

/// The control of all crashes: a disk that lost writes which were durable, beside the last state of the TPM, is refused.
fn lose_what_was_durable(story: &Story, entries: &[Entry<'_>]) {
    let lost = entries
        .iter()
        .position(|entry| entry.mark == "phase:renewing");
    let short = Disk::in_memory(DISK_MIB);
    for entry in &entries[..lost.unwrap()] {
        short.write_behind(entry.at, entry.data);
    }
    short.forget_reads();
    let mut tpm = Private::start();
    tpm.restore(story.states.last().unwrap());
    let error = boots::boot(&alone(&short, tpm.port()), || {}).unwrap_err();
    assert!(error.to_string().contains("rule G26"), "{error}");
}

#[test]
fn a_crash_in_the_middle_of_each_phase_leads_to_the_same_end() {
    let story = record();
    let entries = entries(&story.log);
    let points = points(&entries);
    let middle = |phase| {
        let those = |index: &usize| points[*index].phase == phase;
        let those: Vec<usize> = (0..points.len()).filter(those).collect();
        those[those.len() / 2]
    };
    let chosen = BTreeSet::from(PHASES.map(middle));
    let (_, enrolments) = crash(&story, &entries, &points, &chosen);
    assert_eq!(enrolments.values().sum::<u32>(), 2, "{enrolments:?}");
    lose_what_was_durable(&story, &entries);
}

#[test]
fn a_crash_at_every_flush_of_three_boots_leads_to_the_same_end() {
    let story = record();
    let entries = entries(&story.log);
    let points = points(&entries);
    for phase in PHASES {
        let count = points.iter().filter(|point| point.phase == phase).count();
        println!("{phase}: {count} points of time");
        assert!(count > 0);
    }
    println!("{} states of the TPM", story.states.len());
    assert!(points.len() > 20);
    let chosen = (0..points.len()).collect();
    let (counts, enrolments) = crash(&story, &entries, &points, &chosen);
    assert!(counts.contains_key(&(PROVISIONING, "formatted")));
    assert!(counts.contains_key(&(PROVISIONING, "unlocked")));
    assert!(enrolments.contains_key(&(ENROLLING, "enrolled again")));
    assert!(enrolments.contains_key(&(ENROLLING, "enrolled")));
    lose_what_was_durable(&story, &entries);
}
