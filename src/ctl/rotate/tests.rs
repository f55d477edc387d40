// SPDX-License-Identifier: Apache-2.0
//! Rotation asked for on a node with a software TPM, and what is said where there is nothing to ask.

use std::fs;

use super::*;
use crate::ctl::recovery_key::tests::{BOOT, Node};
use crate::ctl::tests::run;
use crate::error::Exit;
use crate::header::fixture::Fixture;

/// The record of a boot of a node that made the secret of `state` itself.
fn own() -> String {
    let own = BOOT.replacen(
        "\"recovery_keyslots\": []",
        "\"own_secret\": true, \"recovery_keyslots\": []",
        1,
    );
    let status: Status = serde_json::from_str(&own).unwrap();
    assert!(status.volumes[0].own_secret);
    own
}

/// A node with `header` at the beginning of the disk of `state`.
fn node(status: &str, header: &Fixture) -> Node {
    let node = Node::new(status);
    let disk = node.top.join("dev/disk/by-id/virtio-state");
    fs::create_dir_all(disk.parent().unwrap()).unwrap();
    fs::write(disk, header.build()).unwrap();
    node
}

fn says(node: &Node, words: &[&str]) -> String {
    let answer = run(&node.top, words);
    answer.unwrap_or_else(|error| panic!("{error}")).text
}

fn refusal(node: &Node, words: &[&str]) -> (Exit, String) {
    match run(&node.top, &[&["rotate"], words].concat()) {
        Ok(answer) => panic!("{}", answer.text),
        Err(error) => (error.exit(), error.to_string()),
    }
}

/// What `rotate list` has of `state`, and what `status` says that the next boot is asked for.
fn asked(node: &Node) -> (Value, Option<String>) {
    let list = run(&node.top, &["rotate", "list"]).unwrap().json;
    let status = run(&node.top, &["status"]).unwrap();
    let does = status.json["next_boot"][0]["does"].as_str();
    assert_eq!(does.is_some(), status.text.contains("ASKED FOR"));
    assert!(does.is_none_or(|does| status.text.contains(does)));
    let does = does.map(ToOwned::to_owned);
    (list["volumes"][0]["rotates"].clone(), does)
}

#[test]
fn another_secret_and_another_seal_are_asked_for_shown_and_taken_back() {
    let node = node(&own(), &Fixture::ours());
    assert_eq!(asked(&node), (Value::Null, None));
    let said = says(&node, &["rotate", "seal", "state"]);
    assert!(said.contains("seals its secret anew"), "{said}");
    let seal = || (json!("seal"), Some("seals the secret anew".to_owned()));
    assert_eq!(asked(&node), seal());
    says(&node, &["rotate", "seal", "state"]);
    assert_eq!(asked(&node), seal());

    // There is no terminal in a test.
    let (exit, error) = refusal(&node, &["secret", "state"]);
    assert_eq!(exit, Exit::Usage, "{error}");
    assert!(error.contains("older copy of the disk's header"), "{error}");
    assert_eq!(asked(&node), seal());
    let said = says(&node, &["rotate", "secret", "--yes", "state"]);
    assert!(
        said.contains("this node refuses such a copy by its epoch"),
        "{said}"
    );
    let secret = || (json!("secret"), Some("draws another secret".to_owned()));
    assert_eq!(asked(&node), secret());
    // Another secret is sealed anew as well.
    says(&node, &["rotate", "seal", "state"]);
    assert_eq!(asked(&node), secret());

    let said = says(&node, &["rotate", "cancel", "state"]);
    assert!(said.contains("stay what they are"), "{said}");
    assert_eq!(asked(&node), (Value::Null, None));
    let (exit, _) = refusal(&node, &["cancel", "state"]);
    assert_eq!(exit, Exit::Refused);
}

#[test]
fn a_request_about_recovery_keys_is_neither_shown_nor_taken_back_as_a_rotation() {
    let status = own().replacen("\"recovery_keyslots\": []", "\"recovery_keyslots\": [4]", 1);
    let node = node(&status, &Fixture::ours());
    says(&node, &["recovery-key", "remove", "state", "--yes"]);
    let only_that = (Value::Null, Some("empties keyslot 4".to_owned()));
    assert_eq!(asked(&node), only_that);
    assert_eq!(refusal(&node, &["cancel", "state"]).0, Exit::Refused);
    says(&node, &["rotate", "secret", "--yes", "state"]);
    let list = says(&node, &["recovery-key", "list"]);
    assert!(list.contains("state   4         empties 4\n"), "{list}");
    says(&node, &["rotate", "cancel", "state"]);
    assert_eq!(asked(&node), only_that);
}

#[test]
fn what_cannot_be_made_anew_is_told_apart() {
    // The service's, or one of which nobody says whose it is.
    let node = node(BOOT, &Fixture::ours());
    let (exit, error) = refusal(&node, &["secret", "--yes", "state"]);
    assert_eq!(exit, Exit::Usage);
    assert!(
        error.contains("changes with its master secret alone"),
        "{error}"
    );
    says(&node, &["rotate", "seal", "state"]);
    says(&node, &["rotate", "cancel", "state"]);

    let (exit, error) = refusal(&node, &["volume-key", "state"]);
    assert_eq!(exit, Exit::Usage);
    assert!(
        error.contains("nightlatchctl anchor forget state"),
        "{error}"
    );
    for verb in ["seal", "volume-key", "cancel"] {
        let (exit, error) = refusal(&node, &[verb, "other"]);
        assert_eq!(exit, Exit::Usage);
        assert!(
            error.contains("this boot opened no volume other"),
            "{error}"
        );
    }

    node.write_status(&own().replacen("nightlatch-1", "luks2-strict", 1));
    let (exit, error) = refusal(&node, &["secret", "--yes", "state"]);
    assert_eq!(exit, Exit::Refused);
    assert!(error.contains("whose keyslots are its owner's"), "{error}");
    assert_eq!(asked(&node), (Value::Null, None));
}

#[test]
fn a_volume_that_nothing_is_sealed_of_has_nothing_to_make_anew() {
    let node = node(&own(), &Fixture::plain());
    for words in [&["secret", "--yes", "state"][..], &["seal", "state"]] {
        let (exit, error) = refusal(&node, words);
        assert_eq!(exit, Exit::Refused);
        assert!(error.contains("no keyslot for the TPM"), "{error}");
    }
    assert_eq!(asked(&node), (Value::Null, None));
}

#[test]
fn at_a_level_without_an_epoch_it_is_said_that_older_copies_open() {
    let identity = own().replacen("\"anchor\": \"epoch\"", "\"anchor\": \"identity\"", 1);
    let node = node(&identity, &Fixture::ours());
    let said = says(&node, &["rotate", "secret", "--yes", "state"]);
    assert!(
        said.contains("at anchor level identity this node opens such a copy too"),
        "{said}"
    );
}

/// Whoever looks is told so, and the rest of the record all the same.
#[test]
fn requests_that_are_not_this_nodes_are_no_end_of_status() {
    let node = node(&own(), &Fixture::ours());
    says(&node, &["rotate", "seal", "state"]);
    let key = node.top.join("run/nightlatch/anchor.key");
    let text = fs::read_to_string(&key).unwrap();
    let auth = text.split("\"auth\":\"").nth(1).unwrap();
    let other = text.replacen(&auth[..8], "00000000", 1);
    fs::write(&key, other).unwrap();
    let status = run(&node.top, &["status"]).unwrap();
    assert!(status.text.contains("state"), "{}", status.text);
    let does = status.json["next_boot"][0]["does"].as_str();
    let does = does.unwrap();
    assert!(
        does.contains("does not answer to this node's record"),
        "{does}"
    );
}
