// SPDX-License-Identifier: Apache-2.0
//! A disk that answers two reads of the same place differently gains nothing: each place is read once before it is believed,
//! or what the kernel reads again is authenticated or compared with what was meant.

use std::io;
use std::ops::Range;
use std::path::Path;

use nightlatch::config::Config;
use nightlatch::error::{Error, Exit};
use nightlatch::volume::How;
use nix::libc;
use sha2::{Digest, Sha256};

use crate::boots::{self, checkpoint, content, leave_file};
use crate::disk::{self, BOOT, run};
use crate::nbd::{Lie, Lying, TwoFaced};
use crate::tpm_private::Private;

const DISK_MIB: usize = 136;
const DISK_LEN: usize = DISK_MIB << 20;
const MIB: usize = 1 << 20;
const BLOCK_LEN: usize = 4096;
const COPY_LEN: usize = 16 << 10;
const COPIES_LEN: usize = 2 * COPY_LEN;
/// Two keyslots.
const KEYSLOTS_LEN: usize = 2 * 258_048;
const AREA_LEN: usize = 16 * MIB;
const HEAD_LEN: usize = 8 * MIB;
const TAIL_LEN: usize = 4 * MIB;

/// What a boot that counts itself writes, in blocks: the copies of the header.
const RENEWED: Range<usize> = 0..COPIES_LEN / BLOCK_LEN;
/// What dm-integrity writes when it starts: its superblock, and a journal of 8 sections of 33 blocks.
const STARTED: Range<usize> = AREA_LEN / BLOCK_LEN..AREA_LEN / BLOCK_LEN + 1 + 8 * 33;

/// Bytes of the disk, by offset.
type Pieces = Vec<(usize, Vec<u8>)>;

/// What came of a boot that was not refused.
#[derive(Debug)]
struct Opened {
    how: How,
    tables: String,
    file: io::Result<String>,
}

/// A node and the host's means.
struct Node {
    device: TwoFaced,
    tpm: Private,
}

/// A node with its power off.
struct Off {
    disk: Vec<u8>,
    tpm: Vec<u8>,
}

impl Node {
    fn new() -> Self {
        Self {
            device: TwoFaced::start(DISK_MIB),
            tpm: Private::used(),
        }
    }

    /// One boot, with `work` while the volume is mounted.
    fn boot(&mut self, work: impl FnOnce()) -> Result<Opened, Error> {
        self.tpm.reset();
        let more = ["anchor = \"checkpoint\""];
        let volume = disk::lines(&self.device.disk, &more);
        let port = self.tpm.port();
        let config = Config::parse(&format!(
            "{BOOT}[tpm]\ntcti = \"swtpm:port={port}\"\n{volume}"
        ));
        let (mut tables, mut file) = (String::new(), Ok(String::new()));
        let opened = boots::boot(&config.unwrap(), || {
            tables = run("dmsetup", &["table"], b"");
            file = std::fs::read_to_string("/mnt/file");
            work();
        })?;
        let how = opened.how;
        Ok(Opened { how, tables, file })
    }

    fn off(&self) -> Off {
        Off {
            disk: self.device.contents(),
            tpm: self.tpm.state(),
        }
    }

    fn put_back(&mut self, off: &Off) {
        self.device.load(&off.disk);
        self.tpm.restore(&off.tpm);
    }

    /// One boot while the disk lies, and how many blocks it lied about.
    fn boot_beside(&mut self, when: Lying, pieces: &Pieces) -> (Result<Opened, Error>, usize) {
        let pieces = pieces.clone();
        self.device.lie(Lie { when, pieces });
        let result = self.boot(|| {});
        (result, self.device.be_honest())
    }

    /// The blocks of the disk that are not what they were.
    fn changed(&self, off: &Off) -> Vec<usize> {
        let now = self.device.contents();
        let pairs = now.chunks(BLOCK_LEN).zip(off.disk.chunks(BLOCK_LEN));
        let changed = pairs.enumerate().filter(|(_, (now, then))| now != then);
        changed.map(|(block, _)| block).collect()
    }
}

/// The same copy of a header, for no cipher at all and without tags, with a checksum that is right.
fn forged(copy: &[u8]) -> Vec<u8> {
    let (binary, json) = copy.split_at(BLOCK_LEN);
    let text = String::from_utf8(json.to_vec()).unwrap();
    let text = text.trim_end_matches('\0');
    let mut metadata: serde_json::Value = serde_json::from_str(text).unwrap();
    let segment = metadata["segments"]["0"].as_object_mut().unwrap();
    segment.insert("encryption".into(), "cipher_null-ecb".into());
    segment.remove("integrity").unwrap();
    let mut json = metadata.to_string().into_bytes();
    json.resize(COPY_LEN - BLOCK_LEN, 0);
    let mut forged = [binary, &json].concat();
    forged[448..512].fill(0);
    let sum = Sha256::digest(&forged);
    forged[448..480].copy_from_slice(&sum);
    forged
}

/// Every byte another one.
fn flipped(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ 0xff).collect()
}

/// The block of dm-integrity with one byte changed.
fn superblock(disk: &[u8], at: usize, to: u8) -> Pieces {
    let mut block = disk[AREA_LEN..AREA_LEN + BLOCK_LEN].to_vec();
    assert_ne!(block[at], to);
    block[at] = to;
    vec![(AREA_LEN, block)]
}

/// What must come of a lie that is told later; one that is told first is refused, unless this says otherwise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Later {
    /// Nobody reads it a second time, so nobody notices.
    Opened,
    /// The same, and there is another copy, so that it is opened whichever is told when.
    OpenedAlways,
    /// The kernel reads it again. Opened with what is authenticated, or not at all, whatever was told when.
    Either,
    /// The same, and what is told first is refused.
    EitherAfterRefusal,
}

/// What came of a boot beside a lie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Came {
    Opened,
    /// And no byte of the disk is another one.
    Refused,
    /// By us or by the kernel, after it was mapped.
    NotOpened,
}

/// A boot of a volume while the host lies about it: it is opened with the tables and the data it always had, or not at all.
/// Also how many blocks were lied about.
fn attack(
    node: &mut Node,
    off: &Off,
    honest: &Opened,
    (when, pieces): (Lying, &Pieces),
) -> (Came, usize) {
    node.put_back(off);
    let (result, told) = node.boot_beside(when, pieces);
    let changed = node.changed(off);
    let (first, last) = (changed.first(), changed.last());
    println!("  {when:?}: {told} blocks lied about, changed are {first:?} to {last:?}");
    match result {
        Ok(opened) => {
            println!(
                "    opened, the file: {:?}",
                opened.file.as_ref().map(String::len)
            );
            assert_eq!(opened.how, How::Unlocked);
            assert_eq!(opened.tables, honest.tables);
            is_the_file(&opened.file);
            (Came::Opened, told)
        }
        Err(error) => {
            println!("    {error}");
            for name in ["case", "case_dif"] {
                assert!(!Path::new("/dev/mapper").join(name).exists(), "{name}");
            }
            let own = |block: &usize| RENEWED.contains(block) || STARTED.contains(block);
            assert!(changed.iter().all(own), "{changed:?}");
            if changed.is_empty() {
                assert_eq!(error.exit(), Exit::Refused);
                return (Came::Refused, told);
            }
            // What was written is what a boot writes: the next one goes on from there.
            if changed.iter().all(|block| RENEWED.contains(block)) {
                let next = node.boot(|| {}).unwrap();
                assert_eq!(next.how, How::Unlocked);
                assert_eq!(next.file.unwrap(), content("file"));
            }
            (Came::NotOpened, told)
        }
    }
}

/// The data, or an error of reading it: nothing else, and never nothing.
fn is_the_file(file: &io::Result<String>) {
    match file {
        Ok(text) => assert!(*text == content("file"), "other data"),
        Err(error) => {
            let codes = [libc::EIO, libc::EILSEQ, libc::EUCLEAN].map(Some);
            assert!(codes.contains(&error.raw_os_error()), "{error}");
        }
    }
}

#[test]
fn whatever_a_disk_shows_the_second_time_nothing_else_is_opened() {
    let mut node = Node::new();
    assert_eq!(node.boot(|| {}).unwrap().how, How::Formatted);
    let older = node.device.contents();
    let work = || {
        leave_file("file");
        checkpoint();
    };
    node.boot(work).unwrap();
    let off = node.off();
    // The control, by the same way: an honest disk.
    let honest = node.boot(|| {}).unwrap();
    assert_eq!(honest.how, How::Unlocked);
    assert!(honest.file.is_ok());
    is_the_file(&honest.file);

    let [first, second] = [0, COPY_LEN].map(|at| forged(&off.disk[at..at + COPY_LEN]));
    let both = [first.clone(), second.clone()].concat();
    let keyslots = flipped(&off.disk[COPIES_LEN..COPIES_LEN + KEYSLOTS_LEN]);
    let blank = vec![
        (0, vec![0; AREA_LEN + HEAD_LEN]),
        (DISK_LEN - TAIL_LEN, vec![0; TAIL_LEN]),
    ];
    // Behind dm-integrity's superblock and journal: tags, the superblock of the file system and its first trees.
    let data = (STARTED.end * BLOCK_LEN)..(STARTED.end * BLOCK_LEN + 32 * MIB);
    let block = |at, to| superblock(&off.disk, at, to);
    let lies: [(&str, Later, Pieces); 12] = [
        (
            "primary header, forged",
            Later::OpenedAlways,
            vec![(0, first)],
        ),
        (
            "secondary header, forged",
            Later::OpenedAlways,
            vec![(COPY_LEN, second)],
        ),
        ("both headers, forged", Later::Opened, vec![(0, both)]),
        (
            "both headers, older",
            Later::Opened,
            vec![(0, older[..COPIES_LEN].to_vec())],
        ),
        (
            "keyslots, other bytes",
            Later::Opened,
            vec![(COPIES_LEN, keyslots)],
        ),
        (
            "all that makes a disk blank",
            Later::EitherAfterRefusal,
            blank,
        ),
        (
            "dm-integrity, another length",
            Later::EitherAfterRefusal,
            block(16, 0),
        ),
        (
            "dm-integrity, another journal",
            Later::EitherAfterRefusal,
            block(12, 1),
        ),
        (
            "dm-integrity, other padding",
            Later::EitherAfterRefusal,
            block(24, 0),
        ),
        (
            "dm-integrity, to recalculate",
            Later::EitherAfterRefusal,
            block(24, 8 | 2),
        ),
        (
            "data head, other bytes",
            Later::Either,
            vec![(data.start, flipped(&off.disk[data.clone()]))],
        ),
        (
            "data head, older",
            Later::Either,
            vec![(data.start, older[data].to_vec())],
        ),
    ];
    for (region, later, pieces) in &lies {
        println!("{region}");
        let mut try_when = |when| attack(&mut node, &off, &honest, (when, pieces));
        let (at_first, told) = try_when(Lying::AtFirst);
        assert!(told > 0, "nobody heard the lie");
        let (later_on, told) = try_when(Lying::After(1));
        match later {
            Later::OpenedAlways => assert_eq!([at_first, later_on], [Came::Opened; 2]),
            Later::Opened => assert_eq!([at_first, later_on], [Came::Refused, Came::Opened]),
            Later::Either => {}
            Later::EitherAfterRefusal => {
                assert_eq!(at_first, Came::Refused);
                assert!(told > 0, "nobody heard the lie");
                // libcryptsetup's read is one more than ours, the kernel's come last.
                try_when(Lying::After(2));
            }
        }
    }
}

/// The other way around: a disk that shows something at one time and nothing at another.
#[test]
fn a_disk_that_is_blank_at_one_time_only_is_formatted_if_it_was_blank_at_first() {
    let mut node = Node::new();
    let blank = node.off();
    assert!(disk::is_blank(&blank.disk));
    assert_eq!(node.boot(|| {}).unwrap().how, How::Formatted);
    let volume = node.device.contents();
    let something = vec![0x5a; 16 * BLOCK_LEN];
    let lies: [(&str, Pieces); 3] = [
        ("header area", vec![(0, volume[..AREA_LEN].to_vec())]),
        ("head", vec![(AREA_LEN + 2 * MIB, something.clone())]),
        ("tail", vec![(DISK_LEN - MIB, something)]),
    ];
    for (region, pieces) in &lies {
        println!("{region}");
        node.put_back(&blank);
        let (result, told) = node.boot_beside(Lying::AtFirst, pieces);
        let error = result.unwrap_err();
        println!("  {told} blocks lied about at first: {error}");
        assert!(told > 0);
        assert_eq!(error.exit(), Exit::Refused);
        assert!(node.changed(&blank).is_empty());

        node.put_back(&blank);
        let (result, told) = node.boot_beside(Lying::After(1), pieces);
        println!(
            "  {told} blocks lied about later: {:?}",
            result.as_ref().map(|opened| opened.how)
        );
        // Whatever came of it, an honest disk has the volume, or gets it now.
        let how = result.map_or(How::Formatted, |opened| {
            assert_eq!(opened.how, How::Formatted);
            How::Unlocked
        });
        assert_eq!(node.boot(|| {}).unwrap().how, how);
    }
}
