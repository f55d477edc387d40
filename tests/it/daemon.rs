// SPDX-License-Identifier: Apache-2.0
//! `nightlatchd` as a program: its commands, its signals, and what is left when it is killed.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use crate::programs::daemon::{Daemon, MACHINES, POLL, is_admitted, patience, run};

/// What was acknowledged before the kill is there after it, and nobody else's.
#[test]
fn a_kill_in_the_middle_of_a_storm_loses_no_volume_that_was_acknowledged() {
    let mut daemon = Daemon::prepared();
    let next = AtomicU32::new(0);
    let acknowledged = Mutex::new(Vec::new());
    for round in 1..=3 {
        daemon.start();
        let over = AtomicBool::new(false);
        let enough = acknowledged.lock().unwrap().len() + 20;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let owner = number % MACHINES;
                        if is_admitted(&daemon.caller, owner, number) == Some(true) {
                            acknowledged.lock().unwrap().push((owner, number));
                        }
                    }
                });
            }
            let deadline = Instant::now() + 4 * patience();
            while acknowledged.lock().unwrap().len() < enough {
                assert!(Instant::now() < deadline, "round {round}");
                std::thread::sleep(POLL / 4);
            }
            daemon.signal("KILL");
            over.store(true, Ordering::Relaxed);
        });
        assert!(!daemon.wait().success());
    }
    daemon.start();
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() >= 60);
    for (owner, number) in acknowledged {
        let other = (owner + 1) % MACHINES;
        assert_eq!(
            is_admitted(&daemon.caller, other, number),
            Some(false),
            "volume {number}"
        );
        assert_eq!(
            is_admitted(&daemon.caller, owner, number),
            Some(true),
            "volume {number}"
        );
    }
}

#[test]
fn it_reloads_on_sighup_and_stops_on_sigterm() {
    let mut daemon = Daemon::prepared();
    daemon.start();
    let audit = daemon.directory.join("audit.jsonl");
    assert_eq!(is_admitted(&daemon.caller, 1, 1), Some(true));
    fs::rename(&audit, daemon.directory.join("audit.old")).unwrap();
    daemon.signal("HUP");
    let deadline = Instant::now() + patience();
    while !audit.exists() {
        assert!(
            Instant::now() < deadline,
            "the audit log was not opened again"
        );
        std::thread::sleep(POLL);
    }
    assert_eq!(is_admitted(&daemon.caller, 1, 1), Some(true));
    assert_eq!(lines(&audit), 1);
    daemon.signal("TERM");
    assert!(daemon.wait().success());
    assert!(daemon.caller.send("GET", "/readyz", None, &[]).is_err());
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap().lines().count()
}

#[test]
fn a_configuration_is_checked_with_all_it_names() {
    let daemon = Daemon::prepared();
    let check = || run(&["check", &daemon.config()]);
    let output = check();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("valid, images: usual"));
    assert!(!daemon.directory.join("store.sqlite").exists());
    for (name, text, said) in [
        ("policy.toml", "[[image]]\n", "policy: "),
        ("cert.pem", "", "tls: "),
        ("mastersecret.json", "{}", "reading the master secret: "),
        (
            "nightlatchd.toml",
            "listn = 1\n",
            "line 1: unknown field `listn`",
        ),
    ] {
        let path = daemon.directory.join(name);
        let good = fs::read(&path).unwrap();
        fs::write(&path, text).unwrap();
        let output = check();
        assert_eq!(output.status.code(), Some(78), "{name}: {output:?}");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            words.starts_with("nightlatchd: ") && words.contains(said),
            "{words}"
        );
        fs::write(&path, good).unwrap();
    }
    assert!(check().status.success());
}

#[test]
fn secrets_are_printed_only_where_asked_to_and_never_replaced() {
    let daemon = Daemon::prepared();
    let at = daemon.directory.join("second").display().to_string();
    let quiet = run(&["init", "--directory", &at]);
    assert!(quiet.status.success());
    let secret = fs::read_to_string(daemon.directory.join("second/mastersecret.json")).unwrap();
    let words = String::from_utf8(quiet.stdout).unwrap();
    assert!(words.contains("Keep a copy off this machine") && !words.contains(&secret));
    let again = run(&["init", "--directory", &at, "--print"]);
    assert_eq!(again.status.code(), Some(77), "{again:?}");
    assert!(again.stdout.is_empty());
    let at = daemon.directory.join("third").display().to_string();
    let loud = run(&["init", "--directory", &at, "--print"]);
    let secret = fs::read_to_string(daemon.directory.join("third/mastersecret.json")).unwrap();
    assert!(String::from_utf8(loud.stdout).unwrap().contains(&secret));
}

#[test]
fn it_tells_what_it_can_do() {
    let help = run(&["--help"]);
    assert!(help.status.success() && help.stdout.starts_with(b"Give keys to machines"));
    for command in ["serve", "check", "init"] {
        for (option, said) in [
            ("--help", "Usage: nightlatchd "),
            ("--version", "nightlatchd"),
        ] {
            let output = run(&[command, option]);
            let words = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && words.contains(said), "{words}");
        }
    }
    assert!(run(&["--version"]).stdout.starts_with(b"nightlatchd "));
    for (words, said) in [
        (&["open"][..], "unrecognized subcommand 'open'"),
        (&["init", "--directry", "x"], "'--directory'"),
    ] {
        let wrong = run(words);
        assert_eq!(wrong.status.code(), Some(2));
        let text = String::from_utf8_lossy(&wrong.stderr);
        assert!(
            text.contains(said) && text.contains("Usage: nightlatchd"),
            "{text}"
        );
    }
}

/// What a KMS needs is in no default build, and such a build does not pass over it.
#[cfg(not(feature = "kms"))]
#[test]
fn a_build_without_a_kms_says_so_and_starts_with_no_wrapped_secret() {
    let daemon = Daemon::prepared();
    let config = daemon.config();
    assert!(run(&["check", &config]).status.success());
    let text = fs::read_to_string(&config).unwrap();
    let at = daemon.directory.display();
    let plain = format!("file:{at}/mastersecret.json");
    let kms = "[kms]\nprovider = \"openbao\"\nkey = \"a/b\"\nurl = \"http://127.0.0.1:1\"\ncredentials = \"file:/t\"\n";
    let wrapped = text.replace(&plain, &format!("wrapped:{at}/wrapped.json")) + kms;
    fs::write(&config, wrapped).unwrap();
    let second = format!("{at}/second");
    for words in [
        &["serve", "--config", &config][..],
        &["check", &config],
        &["kms", "check", &config],
        &["kms", "status", &config],
        &["init", "--kms", "--config", &config, "--directory", &second],
    ] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(78), "{words:?}: {output:?}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("built without a KMS"), "{words:?}: {told}");
    }
    assert!(!Path::new(&second).exists());
}
