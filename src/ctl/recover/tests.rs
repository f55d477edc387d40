// SPDX-License-Identifier: Apache-2.0
//! Both sides over loopback: the command of an operator, and a node with a TPM whose boot is played.

mod impostors;
mod many;
mod node;

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use self::node::{Node, OTHER, UUID, connected, push, refused, said, ssh_key, waits};
use super::*;
use crate::error::Exit;
use crate::key::KEY_LEN;
use crate::sources::recovery::{OperatorSession, Waiting};
use crate::sources::service::ServiceSession;
use crate::support::machine::USUAL;

#[test]
fn a_node_is_recovered_by_a_key_that_its_operator_pushes() {
    let node = Node::new("");
    node.wait(|| {
        let (exit, told) = said(&node.options());
        assert_eq!(exit, None, "{told}");
        assert_eq!(told["recovered"], true);
        assert_eq!(told["ek"], node.ek());
        assert_eq!(told["image"], "usual");
        assert_eq!(told["volumes"][0]["uuid"], UUID);
    })
    .unwrap();
    // Nobody is waited for any more.
    TcpStream::connect((Ipv4Addr::LOCALHOST, node.port)).unwrap_err();
}

#[test]
fn a_key_that_is_wrong_is_answered_so_and_waiting_goes_on() {
    let node = Node::new("");
    fs::write(node.path("wrong"), [6; KEY_LEN]).unwrap();
    let master = r#"{"key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","salt":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}"#;
    fs::write(node.path("master.json"), master).unwrap();
    let wrong = |options: Recover| {
        let (exit, told) = said(&options);
        assert_eq!(exit, Some(Exit::Refused));
        let why = told["volumes"][0]["wrong"].as_str().unwrap();
        assert_eq!(why, "the secret does not open it");
    };
    node.wait(|| {
        wrong(Recover {
            key_file: Some(node.path("wrong")),
            ..node.options()
        });
        wrong(Recover {
            key_file: None,
            master_secret: Some(node.path("master.json")),
            ..node.options()
        });
        assert_eq!(said(&node.options()).0, None);
    })
    .unwrap();
}

#[test]
fn what_a_foreign_operator_signs_is_refused() {
    let node = Node::new("");
    ssh_key(&node.directory, "foreign");
    node.wait(|| {
        refused(
            &Recover {
                identity: node.path("foreign"),
                ..node.options()
            },
            "it is by a key that is not listed",
        );
        assert_eq!(said(&node.options()).0, None);
    })
    .unwrap();
}

#[test]
fn what_was_signed_counts_once_and_for_one_node() {
    let node = Node::new("");
    node.wait(|| {
        let why = |verdicts: Result<Verdicts>| verdicts.unwrap().refused.unwrap();
        let (_, other) = push(&node, connected(&node), |message| {
            message.node = "0f".repeat(32);
        });
        assert!(why(other).contains("the message is for node 0f0f"));
        // Signed well, for a volume that the node does not wait for.
        let (first, verdicts) = push(&node, connected(&node), |message| {
            message.volumes[0].uuid = OTHER.into();
        });
        let verdicts = verdicts.unwrap();
        let wrong = verdicts.volumes[0].wrong.as_deref();
        assert_eq!(wrong, Some("the node does not wait for this volume"));
        // The same once more, on another connection, which is what another boot is too.
        let again = connected(&node).push(&first);
        assert!(why(again).contains("what was said once counts once"));
        let (_, good) = push(&node, connected(&node), |_| {});
        assert!(good.unwrap().goes_on);
    })
    .unwrap();
}

#[test]
fn a_node_that_is_not_attested_gets_nothing() {
    let node = Node::new("");
    node.wait(|| {
        let ek = node.ek();
        node.write_policy(&ek, &USUAL);
        refused(&node.options(), "attesting: check image");
        node.write_policy(&"0f".repeat(32), &[0; 32]);
        refused(&node.options(), "attesting: check ek-trust");
        node.write_policy(&ek, &[0; 32]);
        assert_eq!(said(&node.options()).0, None);
    })
    .unwrap();
}

const SERVICE: &str = "[service]\nurls = [\"https://127.0.0.1:1\"]\npin = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"\ndeadline-s = 1\n";

#[test]
fn where_the_key_service_comes_first_a_push_that_is_half_done_is_cut_off() {
    let node = Node::new(SERVICE);
    let session = OperatorSession::open(&node.directory, &node.config).unwrap();
    let session = session.pausing(Duration::from_secs(3));
    let tries = AtomicUsize::new(0);
    let boot = || match tries.fetch_add(1, Ordering::SeqCst) {
        0 => node.keyed(&session, &[5; KEY_LEN]),
        _ => Ok(()),
    };
    let operator = || {
        let begun = connected(&node);
        let started = Instant::now();
        while tries.load(Ordering::SeqCst) < 2 {
            assert!(started.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(20));
        }
        let (_, verdicts) = push(&node, begun, |_| {});
        let error = verdicts.unwrap_err().to_string();
        assert!(!error.is_empty());
    };
    node.wait_with(&session, operator, boot).unwrap();
    assert_eq!(tries.load(Ordering::SeqCst), 2);
}

#[test]
fn what_no_push_can_end_is_not_waited_for() {
    let node = Node::new("");
    let session = OperatorSession::open(&node.directory, &node.config).unwrap();
    let service = ServiceSession::open(&node.directory, &node.config).unwrap();
    let waiting = Waiting {
        top: &node.directory,
        config: &node.config,
        service: &service,
    };
    let volume = node.config.volumes().next().unwrap();
    let mut tries = 0;
    let done: Result<()> = session.attempt(waiting, || {
        tries += 1;
        Err(session.note(volume, waits(), Error::refused("rule D15").into()))
    });
    assert_eq!(done.unwrap_err().to_string(), "rule D15");
    assert_eq!(tries, 1);
}

#[test]
fn a_list_says_which_node_has_which_volume() {
    let node = Node::new("");
    let with = |uuids: &[&str]| Attested {
        ek: "0f".repeat(32),
        image: "usual".into(),
        volumes: uuids
            .iter()
            .map(|uuid| WaitingVolume {
                uuid: (*uuid).into(),
                ..waits()
            })
            .collect(),
    };
    let listed = |attested: &Attested, list: &str, new_owner| {
        fs::write(node.path("list"), list).unwrap();
        let options = Recover {
            new_owner,
            ..node.options()
        };
        let operator = Operator {
            policy: Policy::load(&options.policy).unwrap(),
            secret: None,
            expected: Some(Expected::read(&node.path("list")).unwrap()),
            options: &options,
            terminal: Mutex::default(),
        };
        operator.is_listed(attested)
    };
    let (own, other) = ("0f".repeat(32), "1f".repeat(32));
    let one = with(&[UUID]);
    for new_owner in [false, true] {
        let whole = listed(&one, &format!("{own} {UUID}\n"), new_owner);
        assert_eq!(whole.unwrap(), Listed::Whole);
    }
    // What no node has is asked about where that is meant.
    let list = format!("{own} {OTHER}\n");
    let error = listed(&one, &list, false).unwrap_err().to_string();
    assert!(error.ends_with("add --new-owner"), "{error}");
    let unlisted = format!("volume state ({UUID}): the list has it for no node");
    assert_eq!(
        listed(&one, &list, true).unwrap(),
        Listed::Not(vec![unlisted.clone()])
    );
    // What another node has is refused, whatever the others are, and all of it is named.
    let both = with(&[UUID, OTHER]);
    let theirs = format!("the list has it for endorsement key {other}, and this is {own}: ");
    let lists = [
        (&one, format!("{other} {UUID}\n")),
        (&both, format!("{other} {OTHER}\n")),
        (&both, format!("{other} {UUID}\n{own} {OTHER}\n")),
    ];
    for (attested, list) in lists {
        for new_owner in [false, true] {
            let error = listed(attested, &list, new_owner).unwrap_err().to_string();
            assert!(error.contains(&theirs), "{error}");
        }
    }
    let list = format!("{other} {UUID}\n{other} {OTHER}\n");
    let error = listed(&both, &list, true).unwrap_err().to_string();
    assert!(error.contains(UUID) && error.contains(OTHER), "{error}");
    // The question says what is not in it.
    let asked = question("192.0.2.7", &one, std::slice::from_ref(&unlisted));
    assert!(asked.contains(&unlisted), "{asked}");
}

#[test]
fn nothing_is_sent_unasked_without_the_fleets_list() {
    let parsed = |more: &[&str]| {
        let words = [
            "recover",
            "--policy",
            "p",
            "--key-file",
            "k",
            "--identity",
            "i",
        ];
        let words = [&[crate::ctl::cli::NAME], &words[..], more].concat();
        <crate::ctl::cli::Cli as clap::Parser>::try_parse_from(words).is_ok()
    };
    assert!(parsed(&["--node", "a"]) && parsed(&["--scan", "list"]));
    assert!(parsed(&["--node", "a", "--scan", "list", "--node", "b"]));
    assert!(!parsed(&[]));
    assert!(!parsed(&["--node", "a", "--yes"]));
    assert!(!parsed(&["--node", "a", "--new-owner"]));
    assert!(parsed(&[
        "--node",
        "a",
        "--yes",
        "--expect",
        "list",
        "--new-owner"
    ]));
}

/// The list says whose a disk is. How old it may be is looked at, or said of one node.
#[test]
fn a_word_goes_out_for_what_somebody_has_looked_at() {
    let node = Node::new("");
    let with = |nodes: &[&str]| Recover {
        nodes: nodes.iter().map(ToString::to_string).collect(),
        words: vec![Word::Rollback],
        ..node.options()
    };
    let error = recover(&with(&["192.0.2.1", "192.0.2.2"])).err().unwrap();
    assert_eq!(error.exit(), Exit::Usage);
    assert!(error.to_string().contains("expected one --node"), "{error}");
    let scanned = Recover {
        scan: Some(node.path("list")),
        ..with(&[])
    };
    assert_eq!(recover(&scanned).err().unwrap().exit(), Exit::Usage);
    assert!(is_for_one(&with(&["192.0.2.1"])));

    let attested = |needs: &[Need], why: &str| Attested {
        ek: "ab".repeat(32),
        image: "node 1".into(),
        volumes: vec![WaitingVolume {
            needs: needs.to_vec(),
            why: why.into(),
            ..waits()
        }],
    };
    let (key, word) = ([Need::Key], [Need::Key, Need::Rollback]);
    assert!(!needs_a_word(&attested(&key, "")) && needs_a_word(&attested(&word, "")));
    // After the question it is the same node, whatever it says of its other sources by now.
    assert!(attested(&key, "within 10 s").is_like(&attested(&key, "within 120 s")));
    assert!(!attested(&word, "").is_like(&attested(&key, "")));
}

#[test]
fn a_volume_that_takes_a_word_is_given_none_unasked() {
    let node = Node::new("");
    let enough = |needs: &[Need], words: &[Word]| {
        let options = Recover {
            words: words.to_vec(),
            ..node.options()
        };
        let operator = Operator {
            policy: Policy::load(&options.policy).unwrap(),
            secret: Given::read(&options).unwrap(),
            expected: None,
            options: &options,
            terminal: Mutex::default(),
        };
        operator.is_enough(&[WaitingVolume {
            needs: needs.to_vec(),
            ..waits()
        }])
    };
    enough(&[Need::Key], &[]).unwrap();
    let error = enough(&[Need::Key, Need::Readmit], &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("nothing tells the age of that disk"),
        "{error}"
    );
    enough(&[Need::Key, Need::Readmit], &[Word::Readmit]).unwrap();
    let error = enough(&[Need::Rollback], &[Word::Readmit]).unwrap_err();
    assert!(error.to_string().contains("add --word rollback"), "{error}");
    enough(&[Need::Rollback], &[Word::Rollback]).unwrap();
    // Each of two.
    let both = [Need::Key, Need::Readmit, Need::Rollback];
    let error = enough(&both, &[Word::Readmit]).unwrap_err();
    assert!(error.to_string().contains("add --word rollback"), "{error}");
    enough(&both, &[Word::Readmit, Word::Rollback]).unwrap();
}
