// SPDX-License-Identifier: Apache-2.0
//! The command lines of the programs: every verb explains itself, and a slip is told with what was meant.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::sources::read;

/// Each command that can be given, with the words that lead to it.
pub(crate) fn leaves(command: &clap::Command) -> Vec<(Vec<String>, clap::Command)> {
    let of_one = |sub: &clap::Command| {
        let name = sub.get_name().to_owned();
        if sub.has_subcommands() {
            let below = leaves(sub).into_iter();
            let named = below.map(|(words, leaf)| ([vec![name.clone()], words].concat(), leaf));
            named.collect()
        } else {
            vec![(vec![name], sub.clone())]
        }
    };
    let own = command.get_subcommands();
    own.filter(|sub| sub.get_name() != "help")
        .flat_map(of_one)
        .collect()
}

fn run(program: &str, words: &[&str]) -> Output {
    let path = match program {
        "nightlatchctl" => env!("CARGO_BIN_EXE_nightlatchctl"),
        _ => env!("CARGO_BIN_EXE_nightlatchd"),
    };
    Command::new(path).args(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_verb_has_help_and_a_version_and_refuses_what_it_does_not_know() {
    let programs = [
        ("nightlatchctl", nightlatch::ctl::command(), 17),
        ("nightlatchd", nightlatch::keyservice::command(), 7),
    ];
    for (program, command, count_min) in programs {
        let verbs = leaves(&command);
        assert!(verbs.len() >= count_min, "{program}: {}", verbs.len());
        for (verb, _) in verbs {
            let with = |word| {
                let verb: Vec<&str> = verb.iter().map(String::as_str).collect();
                run(program, &[verb.as_slice(), &[word]].concat())
            };
            let verb = verb.join(" ");
            let help = with("--help");
            let usage = format!("Usage: {program} {verb}");
            assert!(help.status.success(), "{usage}");
            assert!(text(&help.stdout).contains(&usage), "{usage}");
            let version = with("--version");
            let number = env!("CARGO_PKG_VERSION");
            assert!(version.status.success(), "{usage}");
            assert!(text(&version.stdout).contains(number), "{usage}");
            let wrong = with("--unheard-of");
            assert_eq!(wrong.status.code(), Some(2), "{usage}");
            let said = text(&wrong.stderr);
            assert!(
                said.contains("--unheard-of") && wrong.stdout.is_empty(),
                "{said}"
            );
        }
    }
}

#[test]
fn a_slip_is_told_with_what_was_meant_for_people_and_for_machines() {
    let slip = run("nightlatchctl", &["polciy", "check", "x"]);
    assert_eq!(slip.status.code(), Some(2));
    let said = text(&slip.stderr);
    assert!(
        said.contains("similar subcommand exists: 'policy'"),
        "{said}"
    );
    // Nothing of a terminal's is written to a pipe.
    assert!(!said.contains('\u{1b}'), "{said}");
    for words in [&["--json", "polciy"][..], &["polciy", "--json"]] {
        let slip = run("nightlatchctl", words);
        assert_eq!(slip.status.code(), Some(2));
        let told: Value = serde_json::from_slice(&slip.stdout).unwrap();
        assert_eq!(
            (&told["result"], &told["exit"]),
            (&"usage".into(), &2.into())
        );
        let error = told["error"].as_str().unwrap();
        assert!(
            error.contains("'policy'") && !error.contains('\n'),
            "{error}"
        );
    }
    let help = run("nightlatchctl", &["config", "check", "--help", "--json"]);
    let told: Value = serde_json::from_slice(&help.stdout).unwrap();
    assert!(
        told["help"]
            .as_str()
            .unwrap()
            .contains("Usage: nightlatchctl config check")
    );
    assert!(
        run("nightlatchctl", &["--version"])
            .stdout
            .starts_with(b"nightlatchctl ")
    );
}

#[test]
fn completions_are_scripts_that_know_the_verbs() {
    let of = |shell: &str| {
        let output = run("nightlatchctl", &["completions", shell]);
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout)
    };
    let verbs = leaves(&nightlatch::ctl::command());
    for shell in ["bash", "zsh", "fish"] {
        let script = of(shell);
        for word in verbs.iter().flat_map(|(words, _)| words) {
            assert!(script.contains(word.as_str()), "{shell}: {word}");
        }
    }
    let asked = "COMP_WORDS=(nightlatchctl config ch) COMP_CWORD=2
        _nightlatchctl nightlatchctl ch config
        echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash")
        .args(["-c", &format!("{}\n{asked}", of("bash"))])
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout).trim(), "check", "{output:?}");
    let other = run("nightlatchctl", &["completions", "tcsh"]);
    assert_eq!(other.status.code(), Some(2));
}

#[test]
fn what_cannot_be_undone_needs_a_word_where_nobody_can_be_asked() {
    for words in [
        &["anchor", "forget", "a"][..],
        &["anchor", "accept", "new", "a"],
        &["anchor", "accept", "rollback", "a"],
    ] {
        // Nothing is on standard input, which is no terminal.
        let asked = run("nightlatchctl", words);
        assert_eq!(asked.status.code(), Some(2), "{asked:?}");
        assert!(text(&asked.stderr).contains("add --yes"), "{asked:?}");
        // The control: it goes on, and this machine has no anchor.
        let meant = run("nightlatchctl", &[words, &["--yes"]].concat());
        assert_eq!(meant.status.code(), Some(69), "{meant:?}");
    }
}

#[test]
fn a_configuration_is_read_from_standard_input() {
    let check = |text: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_nightlatchctl"))
            .args(["config", "check", "-", "--json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), told)
    };
    let good = read("units/examples/state.toml");
    let (code, told) = check(&good);
    assert_eq!(
        (code, &told["result"]),
        (Some(0), &"valid".into()),
        "{told}"
    );
    let (code, told) = check(&good.replace("sources =", "sorces ="));
    assert_eq!((code, &told["file"]), (Some(78), &"-".into()), "{told}");
    assert_eq!(told["key"], "volume.sorces");
    assert!(told["line"].as_u64().unwrap() > 1, "{told}");
}
