// SPDX-License-Identifier: Apache-2.0
//! The sentence of a boot that failed, shown by the next one.

use super::*;
use crate::anchor::failure::FailurePlace;
use crate::config::{NvIndex, Tcti};
use crate::error::Error;
use crate::support::swtpm::Swtpm;

fn place(swtpm: &Swtpm) -> FailurePlace {
    FailurePlace {
        tcti: Tcti::Swtpm { port: swtpm.port() },
        index: NvIndex::ANCHOR.failure(NvIndex::COUNTER).unwrap(),
    }
}

/// A machine whose boot has left a record.
fn booted(name: &str, place: FailurePlace) -> Scratch {
    let scratch = Scratch::new(name);
    write(&scratch, place);
    scratch
}

fn write(scratch: &Scratch, place: FailurePlace) {
    let mut status = Status::parse(BOOT).unwrap();
    status.failures = Some(place);
    status.write(&scratch.0).unwrap();
}

#[test]
fn a_failure_is_shown_until_it_is_forgotten() {
    let mut swtpm = Swtpm::start();
    let scratch = booted("last-failure", place(&swtpm));
    let none = "no boot of this machine has left a failure\n";
    let answer = at(&scratch.0, &["last-failure"]);
    assert_eq!(
        (answer.text.as_str(), answer.json),
        (none, json!({"last_failure": null}))
    );
    assert_eq!(at(&scratch.0, &["status"]).json.get("last_failure"), None);

    let said = "keying volume state: its disk is older than its last boot";
    place(&swtpm).keep(&Error::refused(said)).unwrap();
    for when in [
        "since the machine was last started",
        "one start of the machine ago",
        "2 starts of the machine ago, or in each since",
    ] {
        let text = format!(
            "a boot failed {when}: refused (exit 77)\n  {said}\n  unproven: whatever runs on this machine can write this; \
             nightlatchctl last-failure --clear forgets it\n"
        );
        let answer = at(&scratch.0, &["last-failure"]);
        assert_eq!(answer.text, text);
        let told = answer.json.get("last_failure").unwrap();
        assert_eq!(told.get("error"), Some(&json!(said)));
        assert_eq!(told.get("proven"), Some(&json!(false)));
        let status = at(&scratch.0, &["status"]);
        assert!(
            status.text.ends_with(&format!("\n{text}")),
            "{}",
            status.text
        );
        assert_eq!(status.json.get("last_failure"), Some(told));
        // The boot itself has gone well.
        assert_eq!(status.exit, None);
        swtpm.reset();
        write(&scratch, place(&swtpm));
    }
    assert_eq!(
        at(&scratch.0, &["last-failure", "--clear"]).text,
        "forgotten\n"
    );
    for words in [&["last-failure"][..], &["last-failure", "--clear"]] {
        assert_eq!(at(&scratch.0, words).text, none);
    }
}

#[test]
fn a_failure_is_found_at_another_handle() {
    let swtpm = Swtpm::start();
    let other = FailurePlace {
        index: NvIndex::try_from(0x0180_0105).unwrap(),
        ..place(&swtpm)
    };
    other.keep(&Error::config("why")).unwrap();
    let scratch = booted("last-failure-index", place(&swtpm));
    for (index, is_there) in [
        ("0x01800105", true),
        ("1800105", true),
        ("0x01804e15", false),
    ] {
        let answer = at(&scratch.0, &["last-failure", "--index", index]);
        assert_eq!(!answer.json["last_failure"].is_null(), is_there, "{index}");
    }
    for index in ["0x81000001", "x", "0x"] {
        assert!(Cli::try_parse_from([cli::NAME, "last-failure", "--index", index]).is_err());
    }
}

#[test]
fn status_says_where_the_tpm_does_not_answer() {
    let swtpm = Swtpm::start();
    let place = place(&swtpm);
    drop(swtpm);
    let scratch = booted("last-failure-none", place);
    let answer = at(&scratch.0, &["status"]);
    assert!(
        answer
            .text
            .contains("\nreading why a boot failed: opening the TPM: "),
        "{}",
        answer.text
    );
    assert!(answer.json["last_failure"]["unread"].is_string());
    assert!(run(&scratch.0, &["last-failure"]).is_err());
}
