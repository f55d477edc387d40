// SPDX-License-Identifier: Apache-2.0
//! Recovery keys asked for on a node with a software TPM, and what is said where there is nothing to ask.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::anchor::Located;
use crate::anchor::judge::DeviceState;
use crate::config::Config;
use crate::ctl::tests::run;
use crate::error::Exit;
use crate::status::STATUS_PATH;
use crate::support::swtpm::Swtpm;
use crate::tpm::{Policy, Tpm};

/// Its volumes are `state` and `system`.
pub(in crate::ctl) const BOOT: &str = include_str!("../../../tests/fixtures/status/boot.json");
const STATE: &str = "01234567-89ab-4cde-8f01-23456789abcd";

/// A node that was provisioned and is running.
pub(in crate::ctl) struct Node {
    swtpm: Swtpm,
    pub(in crate::ctl) top: PathBuf,
}

impl Node {
    pub(in crate::ctl) fn new(status: &str) -> Self {
        let swtpm = Swtpm::start();
        let top = swtpm.dir().join("top");
        let node = Self { swtpm, top };
        node.write_status(status);
        let config = node.config();
        let mut tpm = Tpm::open(&config.tpm.tcti).unwrap();
        let policy = Policy::of(&config.tpm, None);
        let located = Located::find(&config, policy, &mut tpm).unwrap().unwrap();
        let mut anchor = located.read(&mut tpm).unwrap();
        anchor.count(&mut tpm).unwrap();
        for volume in config.volumes() {
            anchor.permit(volume, DeviceState::Blank).unwrap();
            let uuid = STATE.parse().unwrap();
            anchor
                .begin_provisioning(&mut tpm, volume, uuid, [7; 32])
                .unwrap();
        }
        anchor.advance(&mut tpm).unwrap();
        let runtime = anchor.into_runtime(&config).unwrap();
        runtime.leave(&node.top).unwrap();
        node
    }

    fn config(&self) -> Config {
        let port = self.swtpm.port();
        Config::parse(&format!(
            "boot.authorities = [\"/etc/nightlatch/authority.pem\"]\n[tpm]\ntcti = \"swtpm:port={port}\"\n\
             [[volume]]\nname = \"state\"\nrole = \"state\"\ndevice = \"/dev/state\"\nmount = \"/state\"\n\
             sources = [\"tpm\", \"generate\"]\nformat = \"if-blank\"\n"
        ))
        .unwrap()
    }

    pub(in crate::ctl) fn write_status(&self, status: &str) {
        let path = self.top.join(STATUS_PATH);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, status).unwrap();
    }

    fn file(&self, name: &str) -> String {
        self.top.join(name).display().to_string()
    }

    fn run(&self, words: &[&str]) -> Result<Answer> {
        run(&self.top, &[&["recovery-key"], words].concat())
    }

    fn says(&self, words: &[&str]) -> String {
        self.run(words)
            .unwrap_or_else(|error| panic!("{error}"))
            .text
    }

    fn refusal(&self, words: &[&str]) -> (Exit, String) {
        match self.run(words) {
            Err(error) => (error.exit(), error.to_string()),
            Ok(answer) => panic!("{}", answer.text),
        }
    }
}

/// The record of a boot in which `state` has these recovery keyslots.
fn status(keyslots: &str) -> String {
    let none = "\"recovery_keyslots\": []";
    assert!(BOOT.contains(none));
    BOOT.replacen(none, &format!("\"recovery_keyslots\": {keyslots}"), 1)
}

#[test]
fn a_key_is_asked_for_once_it_was_kept_and_can_be_taken_back() {
    let node = Node::new(&status("[]"));
    let nothing = "VOLUME  KEYSLOTS  NEXT BOOT\nstate   -         -\nsystem  4         -\n";
    assert_eq!(node.says(&["list"]), nothing);
    let kept = node.file("kept");
    let said = node.says(&["add", "state", "--confirm-file", &kept]);
    assert!(
        said.starts_with("volume state: the next boot makes the keyslot; "),
        "{said}"
    );
    let text = fs::read_to_string(&kept).unwrap();
    assert!(!said.contains(text.trim_end()));
    assert!(
        node.says(&["list"])
            .contains("state   -         makes one\n")
    );
    let json = node.run(&["list"]).unwrap().json;
    assert_eq!(json["volumes"][0]["adds"], 1);
    assert_eq!(json["volumes"][0]["keyslots"], json!([]));

    // A file that is there is nobody's to write over, and then nothing is asked for.
    let (exit, error) = node.refusal(&["add", "state", "--confirm-file", &kept]);
    assert_eq!(exit, Exit::Failure, "{error}");
    assert!(node.says(&["list"]).contains("makes one\n"));
    node.says(&["add", "state", "--confirm-file", &node.file("second")]);
    let third = node.file("third");
    let (exit, error) = node.refusal(&["add", "state", "--confirm-file", &third]);
    assert_eq!(exit, Exit::Refused);
    assert!(error.contains("there is room for no more"), "{error}");
    assert!(!PathBuf::from(third).exists());

    assert!(
        node.says(&["remove", "state"])
            .contains("no keyslot is made")
    );
    assert_eq!(node.says(&["list"]), nothing);
}

#[test]
fn what_was_asked_for_a_volume_that_is_away_is_taken_back_and_ends_with_its_entry() {
    let node = Node::new(&status("[]"));
    let waiting = || {
        let anchor = RuntimeAnchor::take(&node.top).unwrap();
        anchor
            .requests()
            .unwrap()
            .of(STATE.parse().unwrap())
            .count()
    };
    let away = status("[]").replacen("\"name\": \"state\"", "\"name\": \"other\"", 1);
    for kept in ["first", "second"] {
        node.write_status(&status("[]"));
        node.says(&["add", "state", "--confirm-file", &node.file(kept)]);
        assert_eq!(waiting(), 1);
        node.write_status(&away);
        let said = match kept {
            "first" => node.says(&["remove", "state"]),
            _ => {
                run(&node.top, &["anchor", "forget", "state", "--yes"])
                    .unwrap()
                    .text
            }
        };
        assert!(said.starts_with("volume state: "), "{said}");
        assert_eq!(waiting(), 0);
    }
    let (exit, error) = node.refusal(&["remove", "state"]);
    assert_eq!(exit, Exit::Usage);
    assert!(
        error.contains("this boot opened no volume state"),
        "{error}"
    );
}

#[test]
fn a_keyslot_that_is_to_go_is_named_where_there_are_two() {
    let node = Node::new(&status("[4, 5]"));
    let (exit, error) = node.refusal(&["remove", "state", "--yes"]);
    assert_eq!(exit, Exit::Usage);
    assert!(error.contains("say which with --keyslot"), "{error}");
    let (exit, error) = node.refusal(&["remove", "state", "--keyslot", "1", "--yes"]);
    assert_eq!(exit, Exit::Refused);
    assert!(
        error.contains("has no recovery key in keyslot 1"),
        "{error}"
    );
    let said = node.says(&["remove", "state", "--keyslot", "4", "--yes"]);
    assert!(said.contains("can open that copy for ever"), "{said}");
    assert!(
        node.says(&["list"])
            .contains("state   4 5       empties 4\n")
    );
    // It still takes its place until a boot has emptied it.
    let (exit, _) = node.refusal(&["add", "state", "--confirm-file", &node.file("key")]);
    assert_eq!(exit, Exit::Refused);
    let (exit, _) = node.refusal(&["remove", "state", "--keyslot", "4", "--yes"]);
    assert_eq!(exit, Exit::Refused);
    node.says(&["remove", "state", "--yes"]);
    assert!(node.says(&["list"]).contains("empties 4, empties 5\n"));
}

#[test]
fn volumes_whose_recovery_keys_are_not_ours_to_make_are_told_apart() {
    let strict = status("[]").replacen("nightlatch-1", "luks2-strict", 1);
    let node = Node::new(&strict);
    for verb in ["add", "remove", "test"] {
        let (exit, error) = node.refusal(&[verb, "state"]);
        assert_eq!(exit, Exit::Refused);
        assert!(
            error.contains("systemd-cryptenroll --recovery-key /dev/disk/by-id/virtio-state"),
            "{error}"
        );
    }
    node.write_status(&status("[]").replacen("nightlatch-1", "constellation", 1));
    let (_, error) = node.refusal(&["add", "state"]);
    assert!(error.contains("which has one keyslot"), "{error}");
    let (exit, error) = node.refusal(&["add", "other"]);
    assert_eq!(exit, Exit::Usage);
    assert!(
        error.contains("this boot opened no volume other"),
        "{error}"
    );
    // There is no terminal in a test.
    node.write_status(&status("[]"));
    let (exit, error) = node.refusal(&["add", "state"]);
    assert_eq!(exit, Exit::Usage, "{error}");
    assert!(node.says(&["list"]).contains("state   -         -\n"));
}

#[test]
fn status_asks_for_a_recovery_key_until_there_is_one() {
    let node = Node::new(&status("[]"));
    let shown = |status: &str| {
        node.write_status(status);
        run(&node.top, &["status"]).unwrap()
    };
    let reminder = "volume state: it is to have a recovery key and has none: nightlatchctl recovery-key add state\n";
    let required = |status: String| status.replacen("\"optional\"", "\"required\"", 1);
    let answer = shown(&required(status("[]")));
    assert!(answer.text.contains(reminder), "{}", answer.text);
    assert_eq!(answer.json["reminders"], json!([reminder.trim_end()]));
    assert_eq!(answer.exit, None);
    for good in [status("[]"), required(status("[5]"))] {
        let answer = shown(&good);
        assert!(!answer.text.contains("recovery-key add"));
        assert!(answer.json.get("reminders").is_none());
    }
}
