// SPDX-License-Identifier: Apache-2.0
//! A corpus of hostile headers against this program, and against `cryptsetup` in the same run.
//!
//! Each header is an accepted one with one thing changed. This program must refuse every one, say by which rule, spend
//! little on it and leave the disk alone. What comes out is the table in `tests/fixtures/corpus.md`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it found"
)]

#[path = "hostile.rs"]
mod hostile;
mod judge;
mod node;
mod stock;
mod table;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use nightlatch::config::Profile;
use peak_alloc::PeakAlloc;
use sha2::{Digest as _, Sha256};

use self::hostile::base::{Bases, PASSPHRASE, volume_key};
use self::hostile::draft::{Draft, Image, PAIR_LEN, SECOND_PAIR};
use self::hostile::{Kind, Mutation};
use self::judge::{Disk, Verdict};
use self::stock::Answer;
use self::table::Row;

/// Counts what is allocated.
#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// One test at a time, or the counts would be of several.
static ALONE: Mutex<()> = Mutex::new(());

/// What one header may cost.
const MAX_CPU_US: u128 = 100_000;
const MAX_MEMORY: usize = 32 << 20;
/// How often one is judged to see that it costs more.
const TRIES: usize = 3;
/// The least the corpus is to hold.
const MIN_HEADERS: usize = 300;

/// A directory that goes when the test does.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("nightlatch-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn sha256(image: &Image) -> Vec<u8> {
    let mut hash = Sha256::new_with_prefix(&image.start);
    for (at, what) in &image.late {
        hash.update(at.to_be_bytes());
        hash.update(what);
    }
    hash.finalize().to_vec()
}

/// The headers everything starts from are good, in our eyes and in those of cryptsetup.
fn control(bases: &Bases, place: &Place) {
    let passphrase = place.file("passphrase");
    for profile in Profile::ALL {
        let image = bases.get(profile).clone().finish();
        let disk = Disk::new(&place.file("control.img"), &image);
        let (verdict, _) = disk.judge(profile);
        assert!(
            matches!(verdict, Verdict::Accepted(_)),
            "{profile:?}: {verdict:?}"
        );
        assert!(disk.is(&image), "{profile:?}");
        let answer = stock::ask(&disk, &passphrase);
        assert!(
            answer.reads && answer.opens,
            "cryptsetup does not open even the unchanged header here: {answer:?}"
        );
        assert!(disk.is(&image), "{profile:?}");
        std::fs::write(&passphrase, b"a wrong one").unwrap();
        assert!(!stock::ask(&disk, &passphrase).opens, "{profile:?}");
        std::fs::write(&passphrase, PASSPHRASE).unwrap();
    }
}

/// Judges one header, checks what holds for all, and says whether it took the MAC to refuse it.
fn refused(mutation: &Mutation, disk: &Disk, image: &Image) -> Result<(bool, judge::Cost), String> {
    let (verdict, mut cost) = disk.judge(mutation.profile);
    // Who shares the processor adds to what is measured: a header that is dear is dear every time.
    for _ in 1..TRIES {
        if cost.cpu_us > MAX_CPU_US {
            let (_, again) = disk.judge(mutation.profile);
            cost.cpu_us = cost.cpu_us.min(again.cpu_us);
        }
    }
    let (sentence, by_mac) = match verdict {
        Verdict::Template(sentence) => (sentence, false),
        Verdict::Mac(sentence) => (sentence, true),
        Verdict::Accepted(_) => return Err("it is accepted".into()),
    };
    if !names_a_rule(&sentence) {
        return Err(format!("the refusal names no rule: {sentence}"));
    }
    if cost.cpu_us > MAX_CPU_US || cost.memory > MAX_MEMORY {
        let (cpu, memory) = (cost.cpu_us, cost.memory);
        return Err(format!("it took {cpu} us of CPU and {memory} bytes"));
    }
    if disk.is(image) {
        Ok((by_mac, cost))
    } else {
        Err("the disk was written to".into())
    }
}

/// `rule C10: segments.0.size: expected "dynamic", found "0"`
fn names_a_rule(sentence: &str) -> bool {
    let rule = sentence
        .strip_prefix("rule ")
        .and_then(|rest| rest.split_once(": "));
    rule.is_some_and(|(rule, why)| {
        let (group, number) = rule.split_at(1);
        "ABCDEF".contains(group)
            && number.parse::<u8>().is_ok()
            && why.contains("expected ")
            && why.contains(", found ")
    })
}

#[test]
fn every_hostile_header_is_refused_by_a_rule_and_left_alone() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place::new("corpus");
    let bases = Bases::real(&place.0);
    control(&bases, &place);
    let corpus = hostile::all(&bases);
    distinct(&corpus, &bases);
    // Side by side, each with a disk of its own: cryptsetup mostly waits for its keys.
    let (ours, stock) = thread::scope(|scope| {
        let stock = scope.spawn(|| asked(&bases, &place));
        (judged(&corpus, &bases, &place), stock.join().unwrap())
    });
    let mut rows: BTreeMap<Kind, Row> = BTreeMap::new();
    for ((mutation, by_mac), answer) in corpus.iter().zip(ours).zip(stock) {
        rows.entry(mutation.kind).or_default().add(by_mac, answer);
    }
    let version = stock::version();
    let table = table::draw(&rows, &version);
    println!("{table}");
    table::compare(&table, &rows, &version);
}

/// There are enough of them, and no two are the same.
fn distinct(corpus: &[Mutation], bases: &Bases) {
    let mut seen: HashMap<Vec<u8>, String> = HashMap::new();
    for profile in Profile::ALL {
        let image = bases.get(profile).clone().finish();
        seen.insert(
            sha256(&image),
            format!("the control of {}", profile.as_str()),
        );
    }
    let mut names = HashSet::new();
    let mut twice = Vec::new();
    for Mutation { name, .. } in corpus {
        twice.extend((!names.insert(name)).then(|| format!("{name} is there twice")));
    }
    for mutation in corpus {
        let name = &mutation.name;
        let other = seen.insert(sha256(&mutation.image(bases)), name.clone());
        twice.extend(other.map(|other| format!("{name} is the same header as {other}")));
    }
    assert!(twice.is_empty(), "{}", twice.join("\n"));
    assert!(names.len() >= MIN_HEADERS, "only {} headers", names.len());
}

/// For each header, whether it takes the MAC to refuse it. That it is refused is asserted.
fn judged(corpus: &[Mutation], bases: &Bases, place: &Place) -> Vec<bool> {
    let (mut cpu_us, mut memory) = (0, 0);
    let (mut by_mac, mut wrong) = (Vec::new(), Vec::new());
    for mutation in corpus {
        let image = mutation.image(bases);
        let disk = Disk::new(&place.file("ours.img"), &image);
        match refused(mutation, &disk, &image) {
            Ok((mac, cost)) => {
                by_mac.push(mac);
                cpu_us = cpu_us.max(cost.cpu_us);
                memory = memory.max(cost.memory);
            }
            Err(what) => wrong.push(format!("{}: {what}", mutation.name)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("at most {cpu_us} us of CPU and {memory} bytes of memory for one header");
    by_mac
}

/// For each header, what cryptsetup says, and whether it wrote to the disk.
fn asked(bases: &Bases, place: &Place) -> Vec<(Answer, bool)> {
    let passphrase = place.file("passphrase");
    let ask = |mutation: &Mutation| {
        let image = mutation.image(bases);
        let disk = Disk::new(&place.file("stock.img"), &image);
        let answer = stock::ask(&disk, &passphrase);
        if answer.crashes {
            println!("cryptsetup crashes on: {}", mutation.name);
        }
        (answer, disk.start(image.start.len()) != image.start)
    };
    hostile::all(bases).iter().map(ask).collect()
}

/// A MAC tells the genuine copy of a header from the other one, so nothing an attacker does to one copy is believed.
#[test]
fn what_happens_to_one_copy_of_a_header_with_a_mac_changes_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place::new("copies");
    let bases = Bases::made_up();
    let path: &Path = &place.file("disk.img");
    let genuine = Disk::new(path, &bases.ours.clone().finish());
    let (Verdict::Accepted(genuine), _) = genuine.judge(Profile::Nightlatch1) else {
        panic!("the control is refused");
    };
    genuine.authenticate(&volume_key()).unwrap();
    let mut count = 0;
    for mutation in hostile::all(&bases) {
        let one_copy = matches!(mutation.kind, Kind::Copies | Kind::Checksum)
            && mutation.profile == Profile::Luks2Strict;
        if !one_copy {
            continue;
        }
        let image = mutation.draft(&bases.ours).finish();
        let disk = Disk::new(path, &image);
        match disk.judge(Profile::Nightlatch1).0 {
            Verdict::Accepted(opened) => {
                assert!(opened.parts() == genuine.parts(), "{}", mutation.name);
            }
            other @ (Verdict::Template(_) | Verdict::Mac(_)) => {
                panic!("{}: {other:?}", mutation.name)
            }
        }
        assert!(disk.is(&image), "{}", mutation.name);
        count += 1;
    }
    assert!(count >= 40, "only {count} headers");
}

/// What is in the place of the pair of keyslots that is not used is what is left of an old secret: nobody is given it to
/// read, and the MAC does not cover it. One byte behind it is another matter, which the corpus has.
#[test]
fn what_is_in_the_place_of_the_other_pair_of_keyslots_changes_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place::new("pairs");
    let bases = Bases::made_up();
    let path: &Path = &place.file("disk.img");
    let judged = |draft: &Draft| {
        let image = draft.clone().finish();
        let disk = Disk::new(path, &image);
        let verdict = disk.judge(Profile::Nightlatch1).0;
        assert!(disk.is(&image));
        match verdict {
            Verdict::Accepted(opened) => opened,
            other @ (Verdict::Template(_) | Verdict::Mac(_)) => panic!("{other:?}"),
        }
    };
    let genuine = judged(&bases.ours);
    assert!(!genuine.has_leftover());
    for at in [SECOND_PAIR, SECOND_PAIR + PAIR_LEN] {
        let mut draft = bases.ours.clone();
        draft.put(at, b"x");
        let opened = judged(&draft);
        assert!(opened.has_leftover() && opened.parts() == genuine.parts());
    }
}
