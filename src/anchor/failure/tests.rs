// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::support::swtpm::Swtpm;

// Command codes (TPM 2.0 part 2, section 6.5.2).
const NV_DEFINE_SPACE: u32 = 0x12a;
const NV_WRITE: u32 = 0x137;
const NV_READ: u32 = 0x14e;
const NV_READ_PUBLIC: u32 = 0x169;
const READ_CLOCK: u32 = 0x181;

const NAME: &str = "0x1804e15";

fn failure(sentence: &str) -> Failure {
    Failure::of(&Error::refused(sentence), 7)
}

fn place(swtpm: &Swtpm) -> FailurePlace {
    FailurePlace {
        tcti: Tcti::Swtpm { port: swtpm.port() },
        index: NvIndex::ANCHOR.failure(NvIndex::COUNTER).unwrap(),
    }
}

fn succeeds(swtpm: &Swtpm, tool: &str, args: &[&str]) {
    let output = swtpm.tool(tool, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {args:?}: {errors}");
}

#[test]
fn a_failure_comes_back_as_it_was_said() {
    let said = failure("volume state: its disk is older than its last boot");
    let bytes = said.encode();
    assert_eq!(bytes.len(), 200);
    assert_eq!(&bytes[..17], b"nlfailed\x01\x4d\x00\x32\x00\x00\x00\x07v");
    assert_eq!(Failure::parse(&bytes), Some(said));
}

#[test]
fn a_long_sentence_is_cut_and_says_so() {
    for (len, end) in [(184, 'x'), (185, '.')] {
        let said = failure(&"x".repeat(len));
        assert_eq!(said.sentence.len(), 184);
        assert!(said.sentence.ends_with(end));
        assert_eq!(Failure::parse(&said.encode()), Some(said));
    }
}

/// Also where somebody else wrote the index.
#[test]
fn nothing_that_a_terminal_acts_upon_is_shown() {
    let said = failure("a\u{1b}[2J\nb\u{202e}c\u{7f}é");
    assert_eq!(said.sentence, "a?[2J?b?c??");
    let mut bytes = failure("abcd").encode();
    bytes[17] = 0x1b;
    bytes[18] = 0xff;
    assert_eq!(Failure::parse(&bytes).unwrap().sentence, "a??d");
}

#[test]
fn what_is_no_failure_is_none() {
    let good = failure("why").encode();
    assert!(Failure::parse(&good).is_some());
    for len in 0..19 {
        assert_eq!(Failure::parse(&good[..len]), None);
    }
    assert_eq!(Failure::parse(&[0; 200]), None);
    assert_eq!(Failure::parse(&[0xff; 200]), None);
    // Magic, version, a success, a code of no verdict, the zero, the length, what follows the sentence.
    let bad = [
        (0, b'N'),
        (8, 2),
        (9, 0),
        (9, 3),
        (10, 1),
        (11, 0),
        (11, 2),
        (11, 255),
        (199, 1),
    ];
    for (at, value) in bad {
        let mut bytes = good.clone();
        bytes[at] = value;
        assert_eq!(Failure::parse(&bytes), None, "{at}");
    }
}

#[test]
fn a_failure_is_written_once_and_read_after_reboots() {
    let mut swtpm = Swtpm::start();
    let first = Error::refused("the first");
    assert_eq!(place(&swtpm).tell().unwrap(), None);
    swtpm.commands();
    place(&swtpm).keep(&first).unwrap();
    let looked = [READ_CLOCK, NV_READ];
    let made = [NV_READ_PUBLIC, NV_DEFINE_SPACE, NV_WRITE];
    assert_eq!(swtpm.commands(), [&looked[..], &made].concat());
    // What says the same is not written again, however often it is said.
    for starts in 1..4 {
        swtpm.reset();
        swtpm.commands();
        place(&swtpm).keep(&first).unwrap();
        assert_eq!(swtpm.commands(), looked);
        let told = place(&swtpm).tell().unwrap().unwrap();
        assert_eq!(told.starts, Some(starts));
        assert_eq!(told.failure.sentence, "the first");
        assert_eq!(told.failure.exit, Exit::Refused);
    }
    // Another sentence is, and so is the same one of another verdict.
    for other in [Error::refused("the second"), Error::failure("the second")] {
        swtpm.commands();
        place(&swtpm).keep(&other).unwrap();
        assert_eq!(
            swtpm.commands(),
            [&looked[..], &[NV_READ_PUBLIC, NV_WRITE]].concat()
        );
        let told = place(&swtpm).tell().unwrap().unwrap();
        assert_eq!(told.starts, Some(0));
        assert_eq!(
            (told.failure.exit, told.failure.sentence.as_str()),
            (other.exit(), "the second")
        );
    }
}

#[test]
fn a_boot_that_looks_takes_one_command() {
    let mut swtpm = Swtpm::start();
    let none = place(&swtpm).read().unwrap();
    assert_eq!((none, swtpm.commands()), (None, vec![NV_READ]));
    place(&swtpm).keep(&Error::config("why")).unwrap();
    swtpm.commands();
    let some = place(&swtpm).read().unwrap().unwrap();
    assert_eq!(
        (some.sentence.as_str(), swtpm.commands()),
        ("why", vec![NV_READ])
    );
}

#[test]
fn what_is_forgotten_leaves_room_for_the_next_failure() {
    let mut swtpm = Swtpm::start();
    assert!(!place(&swtpm).clear().unwrap());
    place(&swtpm).keep(&Error::refused("why")).unwrap();
    assert!(place(&swtpm).clear().unwrap());
    assert!(!place(&swtpm).clear().unwrap());
    assert_eq!(place(&swtpm).tell().unwrap(), None);
    // Who sets an owner authorisation afterwards loses nothing.
    succeeds(&swtpm, "tpm2_changeauth", &["-c", "owner", "secret"]);
    swtpm.reset();
    place(&swtpm).keep(&Error::refused("why not")).unwrap();
    let told = place(&swtpm).tell().unwrap().unwrap();
    assert_eq!(told.failure.sentence, "why not");
}

/// Whatever was booted, and whatever was measured.
#[test]
fn anybody_on_this_tpm_reads_and_writes_it() {
    let swtpm = Swtpm::start();
    place(&swtpm).keep(&Error::refused("why")).unwrap();
    succeeds(
        &swtpm,
        "tpm2_pcrextend",
        &[&format!("7:sha256={}", "ab".repeat(32))],
    );
    let bytes = swtpm.dir().join("forged");
    std::fs::write(&bytes, failure("all is well").encode()).unwrap();
    succeeds(
        &swtpm,
        "tpm2_nvwrite",
        &[NAME, "-i", &bytes.to_string_lossy()],
    );
    let told = place(&swtpm).tell().unwrap().unwrap();
    assert_eq!(told.failure.sentence, "all is well");
    // The count began anew, as after TPM2_Clear.
    assert_eq!(told.starts, None);
    succeeds(&swtpm, "tpm2_clear", &[]);
    assert_eq!(place(&swtpm).tell().unwrap(), None);
    place(&swtpm).keep(&Error::refused("why")).unwrap();
}

#[test]
fn an_index_of_another_program_is_left_alone() {
    let swtpm = Swtpm::start();
    let refusal = "keeping why this boot failed: NV index 0x1804e15 belongs to another program: remove it with tpm2_nvundefine \
                   where nobody needs it, or set anchor.index in the configuration to another handle";
    let other = swtpm.dir().join("other");
    for (attributes, size) in [
        ("authread|authwrite|ownerread|no_da", "200"),
        ("authread|authwrite|no_da", "64"),
        ("ownerread|ownerwrite", "200"),
    ] {
        let args = [NAME, "-C", "o", "-s", size, "-a", attributes];
        succeeds(&swtpm, "tpm2_nvdefine", &args);
        let who = if attributes.starts_with("auth") {
            NAME
        } else {
            "o"
        };
        std::fs::write(&other, b"somebody else's").unwrap();
        succeeds(
            &swtpm,
            "tpm2_nvwrite",
            &[NAME, "-C", who, "-i", &other.to_string_lossy()],
        );
        let error = place(&swtpm).keep(&Error::refused("why")).unwrap_err();
        assert_eq!(
            (error.exit(), error.to_string().as_str()),
            (Exit::Refused, refusal)
        );
        let read = swtpm.tool("tpm2_nvread", &[NAME, "-C", who, "-s", "15"]);
        assert_eq!(read.stdout, b"somebody else's");
        assert!(!place(&swtpm).clear().unwrap_or(false));
        succeeds(&swtpm, "tpm2_nvundefine", &[NAME, "-C", "o"]);
    }
    place(&swtpm).keep(&Error::refused("why")).unwrap();
}

#[test]
fn without_a_tpm_there_is_a_sentence() {
    let place = FailurePlace {
        tcti: Tcti::try_from("device:/dev/nonexistent".to_owned()).unwrap(),
        index: NvIndex::ANCHOR,
    };
    let error = place.keep(&Error::refused("why")).unwrap_err();
    assert_eq!(error.exit(), Exit::Unavailable);
    assert_eq!(
        error.to_string(),
        "keeping why this boot failed: opening the TPM: /dev/nonexistent: No such file or directory (os error 2)"
    );
}
