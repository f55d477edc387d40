// SPDX-License-Identifier: Apache-2.0
//! What each level of the anchor notices, and what it does not: every attack at every level, with whole boots of the real
//! program on real btrfs, and a TPM of the case's own. The verdicts are those of `tests/fixtures/rollback.md`, which stands in
//! `units/doc/security.md`.

use nightlatch::error::Exit;
use nightlatch::tpm::{Handles, Tpm};
use nightlatch::volume::{self, FirstSecret, Found, How, ProvisionHooks};

use crate::boots::MAPPING;
use crate::disk::{self, Saved, close, run};
use crate::node::{Node, Off, Verdict, policy};
use crate::tpm_private::Private;

const TABLE: &str = include_str!("../fixtures/rollback.md");
const LEVELS: [&str; 4] = ["off", "identity", "epoch", "checkpoint"];
const HEADER_LEN: usize = 16 << 20;
const COPY_LEN: usize = 16 << 10;
/// Superblock and first mirror of btrfs, in blocks of 4 KiB.
const SUPERBLOCKS: [u64; 2] = [16, 16 << 10];

fn dd(from: &str, to: &str, skip: u64, seek: u64) {
    let arguments = [
        &format!("if={from}"),
        &format!("of={to}"),
        &format!("skip={skip}"),
        &format!("seek={seek}"),
    ];
    let fixed = ["bs=4k", "count=1", "conv=notrunc,fsync"];
    std::fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
    run(
        "dd",
        &[arguments.map(String::as_str).as_slice(), &fixed].concat(),
        b"",
    );
}

/// Where the configuration has the anchor by default.
const ANCHOR: Handles = Handles {
    record: 0x0180_4e10,
    counter: 0x0180_4e11,
};

/// The disk of a boot that is cut off when its headers are written, and the TPM as it is then. What the boot still did is
/// taken back: the TPM's memory but for the count that says that headers are being written.
fn cut_off(node: &mut Node) -> Saved {
    let before = node.off();
    node.boot(|_| ()).unwrap();
    let cut = node.disk.save();
    node.put_back(&before);
    if matches!(node.level, "epoch" | "checkpoint") {
        let mut tpm = node.tpm.open();
        if tpm.count_anchor(ANCHOR).unwrap().is_multiple_of(2) {
            tpm.raise_anchor(ANCHOR).unwrap();
        }
    }
    cut
}

/// A node with four boots behind it.
struct Story {
    node: Node,
    /// After boots one to three.
    after: [Off; 3],
    /// The disk in the middle of boot four.
    middle: Saved,
    now: Off,
    superblock: Vec<u8>,
    /// The disk that is to be attached after the attack, where it is another one than before.
    newest: Option<Saved>,
}

impl Story {
    fn new(level: &'static str) -> Self {
        let mut node = Node::new(level);
        let after = ["one", "two", "three"].map(|name| node.next(name));
        let mut middle = None;
        node.boot(|node| {
            middle = Some(node.disk.save());
            node.work("four");
            dd(MAPPING, "/tmp/superblock", SUPERBLOCKS[0], 0);
            node.work("five");
        })
        .unwrap();
        let superblock = std::fs::read("/tmp/superblock").unwrap();
        let now = node.off();
        Self {
            node,
            after,
            middle: middle.unwrap(),
            now,
            superblock,
            newest: None,
        }
    }

    /// The verdict on the boot after an attack that starts from the present state.
    fn after(&mut self, attack: &str) -> Verdict {
        self.node.put_back(&self.now);
        self.newest = None;
        match attack {
            "nothing" => {}
            "puts the whole disk back to before the last boot" => {
                self.node.disk.load(&self.after[2].disk);
            }
            "puts the whole disk back to two boots ago" => self.node.disk.load(&self.after[1].disk),
            "cuts a boot off, and puts what it left back after the next one" => {
                let cut = cut_off(&mut self.node);
                self.newest = Some(self.node.next("six").disk);
                self.node.disk.load(&cut);
            }
            "puts the header back, both copies" => {
                self.node
                    .disk
                    .write(0, &self.after[2].disk.read(0, HEADER_LEN));
            }
            "puts one copy of the header back" => {
                self.node
                    .disk
                    .write(0, &self.after[2].disk.read(0, COPY_LEN));
            }
            "puts all but the header back" => {
                let header = self.now.disk.read(0, HEADER_LEN);
                self.node.disk.load(&self.after[2].disk);
                self.node.disk.write(0, &header);
            }
            "puts the superblock of the file system back" => {
                std::fs::write("/tmp/superblock", &self.superblock).unwrap();
                self.node.with_mapping(|| {
                    for at in SUPERBLOCKS {
                        dd("/tmp/superblock", MAPPING, 0, at);
                    }
                });
                // Nothing but the disk was changed.
                self.node.tpm.restore(&self.now.tpm);
            }
            "puts single sectors back without their tags" => self.put_sectors_back(),
            "puts the disk back to earlier in the last boot" => self.node.disk.load(&self.middle),
            "gives a blank disk" => self.node.blank(),
            "gives a volume that another system sealed to this TPM" => self.substitute(),
            "gives the disk of another node" => {
                let mut other = Node::new(self.node.level);
                let theirs = other.next("theirs");
                self.node.disk.load(&theirs.disk);
                drop(other);
            }
            "moves the disk to a machine with another TPM" => {
                let other = Private::used();
                self.node.tpm.restore(&other.state());
            }
            "removes the anchor from the TPM" => {
                self.node.tpm.reset();
                if self.node.level != "off" {
                    self.node
                        .tpm
                        .tool("tpm2_nvundefine", &["-C", "o", "0x1804e10"]);
                }
            }
            "puts disk and TPM back together" => {
                self.node.put_back(&self.after[2]);
            }
            other => panic!("no such attack: {other}"),
        }
        self.node.verdict()
    }

    /// A kibibyte of every sector that changed since the first boot, so that no tag fits; not dm-integrity's own sectors at
    /// the beginning.
    fn put_sectors_back(&self) {
        let (from, len) = (24 << 20, 64 << 20);
        let (old, now) = (
            self.after[0].disk.read(from, len),
            self.now.disk.read(from, len),
        );
        let pairs = old.chunks(4096).zip(now.chunks(4096)).enumerate();
        for (index, (old, _)) in pairs.filter(|(_, (old, now))| old != now) {
            self.node
                .disk
                .write(from + index as u64 * 4096, &old[..1024]);
        }
    }

    /// A system of the host's choice runs on this TPM and makes a volume for it, sealed to the boot chain it knows.
    fn substitute(&mut self) {
        self.node.blank();
        self.node.tpm.reset();
        let config = self.node.config();
        let volume = disk::volume(&config);
        let mut tpm: Tpm = self.node.tpm.open();
        let Found::New(new) = volume::examine(volume).unwrap() else {
            panic!("expected a blank disk");
        };
        let seal = |secret: &_| tpm.seal(secret, policy(&config));
        let keyed = new
            .prepare(
                volume,
                policy(&config),
                FirstSecret::generated().unwrap(),
                seal,
                ProvisionHooks::none(5),
            )
            .unwrap();
        volume::open(volume, keyed, None).unwrap();
        close();
    }
}

/// The rows of the table: the attack and the verdict of each level.
fn rows() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    TABLE.lines().skip(2).map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let attack = cells.next().unwrap();
        (attack, cells.collect())
    })
}

#[test]
fn every_attack_meets_the_verdict_of_its_level() {
    let mut wrong = Vec::new();
    for (column, level) in LEVELS.into_iter().enumerate() {
        let mut story = Story::new(level);
        for (attack, verdicts) in rows() {
            let verdict = story.after(attack).to_string();
            println!("{level}: {attack}: {verdict}");
            if verdict != verdicts[column] {
                wrong.push(format!(
                    "{level}: {attack}: {verdict}, expected {}",
                    verdicts[column]
                ));
            }
            // A disk that is refused costs the node nothing: with the right one it comes up.
            if verdict == "refused" && !touches_tpm(attack) {
                let newest = story.newest.as_ref().unwrap_or(&story.now.disk);
                story.node.disk.load(newest);
                let again = story.node.verdict();
                assert_eq!(again, Verdict::Opened, "{level}: after {attack}");
            }
        }
    }
    assert!(rows().count() >= 15);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The epoch in the header of the disk that is attached, and what the TPM counts.
fn epoch_and_count(node: &Node) -> (Option<u64>, u64) {
    let config = node.config();
    let volume = disk::volume(&config);
    let claim = volume::examine(volume).unwrap().claim(volume).unwrap();
    let mut tpm = node.tpm.open();
    (claim.epoch, tpm.count_anchor(ANCHOR).unwrap())
}

/// A header with nothing but a count passes here, and a host that cuts one boot for each that it lets through keeps its copy
/// at the newest count for ever.
#[test]
fn the_disk_of_a_boot_that_was_cut_off_is_refused_at_the_newest_count() {
    let mut node = Node::new("epoch");
    node.next("one");
    let cut = [cut_off(&mut node), cut_off(&mut node)];
    let newest = node.next("two").disk;
    for cut in cut {
        node.disk.load(&cut);
        node.tpm.reset();
        let (epoch, count) = epoch_and_count(&node);
        assert_eq!(epoch, Some(count));
        let before = node.disk.contents();
        let error = node.boot(|_| ()).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused);
        let said = error.to_string();
        assert!(
            said.contains("and not of the boot that it counted"),
            "{said}"
        );
        assert!(node.disk.contents() == before);
    }
    node.disk.load(&newest);
    assert_eq!(node.verdict(), Verdict::Opened);
    // The one that was cut off last is as good as the newest until a boot has written all its headers.
    let cut = cut_off(&mut node);
    node.disk.load(&cut);
    assert_eq!(node.verdict(), Verdict::Opened);
}

/// Attacks after which it takes more than the right disk.
fn touches_tpm(attack: &str) -> bool {
    attack.contains("TPM")
}

/// The running system's last word before it is shut down.
fn accept(what: &'static str) -> impl FnOnce(&Node) {
    move |node| {
        node.work("file");
        let words = ["anchor", "accept", "--yes", what, "case"];
        run("/payload/bin/nightlatchctl", &words, b"");
    }
}

/// A boot that goes on with what was accepted, and says so where a verifier and an operator look.
fn boot_accepting(node: &mut Node, what: &str, how: How) {
    let log = || std::fs::read_to_string("/run/log/systemd/tpm2-measure.log").unwrap();
    let before = log().len();
    let volume = node.boot(|_| ()).unwrap();
    assert_eq!((volume.how, volume.accepted.as_deref()), (how, Some(what)));
    let log = log().split_off(before);
    let event = format!("nightlatch:accept:{what}:case");
    assert!(log.contains(&event), "{log}");
}

/// What the operator allows holds for one boot, for one volume, and is measured.
#[test]
fn what_the_operator_accepts_is_accepted_once() {
    for level in ["epoch", "checkpoint"] {
        let mut node = Node::new(level);
        let first = node.next("one");
        node.boot(accept("rollback")).unwrap();
        node.disk.load(&first.disk);
        boot_accepting(&mut node, "rollback", How::Unlocked);
        let current = node.disk.save();
        node.disk.load(&first.disk);
        assert_eq!(node.verdict(), Verdict::Refused);

        node.disk.load(&current);
        node.boot(accept("new")).unwrap();
        let before = node.disk.save();
        node.blank();
        boot_accepting(&mut node, "new", How::Formatted);
        // From here on the old volume is the stranger.
        node.disk.load(&before);
        assert_eq!(node.verdict(), Verdict::Refused);
    }
}

/// Without a word from the operator the same two are refused, and the disks stay as they are.
#[test]
fn what_the_operator_did_not_accept_is_refused_and_unchanged() {
    let mut node = Node::new("epoch");
    let first = node.next("one");
    node.next("two");
    node.disk.load(&first.disk);
    let before = node.disk.contents();
    assert_eq!(node.verdict(), Verdict::Refused);
    assert!(node.disk.contents() == before);
    node.blank();
    assert_eq!(node.verdict(), Verdict::Refused);
    assert!(disk::is_blank(&node.disk.contents()));
}
