// SPDX-License-Identifier: Apache-2.0
//! What operators do: `nightlatchctl nodes` against `nightlatchd`, and who is refused.

use std::fs;
use std::process::Output;

use nightlatch::clock::utc;
use nightlatch::config::Role;
use serde_json::{Value, json};

use crate::programs::daemon::{POLL, is_admitted, patience, uuid};
use crate::programs::operators::Admin;
use crate::support::caller::{Caller, record_path};
use crate::support::machine::{Machine, volume};

#[test]
fn only_who_the_operators_authority_vouches_for_is_answered() {
    let admin = Admin::start();
    let output = admin.nodes(&["list"]);
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.starts_with(b"0 nodes\n"));
    // Somebody else's operator, and a service that is not the one meant.
    for (who, ca) in [("mallory", "ours"), ("alice", "theirs")] {
        assert_refused(&admin.nodes_as(who, ca, &["list"]));
    }
    // A certificate of a server is none of an operator.
    assert_refused(&admin.nodes_as("admin", "ours", &["list"]));
    // Nobody at all, as a browser without a certificate.
    let ca = fs::read_to_string(admin.daemon.directory.join("ours.pem")).unwrap();
    for path in ["/", "/v1/nodes", "/nothing"] {
        let heard = Caller::new(admin.at, &ca).send("GET", path, None, &[]);
        assert!(heard.is_err(), "{heard:?}");
    }
    // Nodes reach nothing of it at their own listener.
    let heard = admin.daemon.caller.get("/v1/nodes", None);
    assert_eq!(heard.status, 404);
}

/// The service hangs up, and may do so before its reason is read.
fn assert_refused(output: &Output) {
    let code = output.status.code().unwrap();
    assert!(
        [75, 77].contains(&code) && output.stdout.is_empty(),
        "{output:?}"
    );
}

#[test]
fn nodes_and_volumes_are_listed_shown_and_forgotten() {
    let admin = Admin::start();
    let caller = &admin.daemon.caller;
    for (machine, number) in [(1, 1), (1, 2), (2, 3)] {
        assert_eq!(is_admitted(caller, machine, number), Some(true));
    }
    let (one, two) = (Machine::new(1).ek_id(), Machine::new(2).ek_id());
    let listed = admin.json(&["list"]);
    let mut ids: Vec<&str> = listed["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["ek"].as_str().unwrap())
        .collect();
    ids.sort_unstable();
    let mut expected = [one.as_str(), two.as_str()];
    expected.sort_unstable();
    assert_eq!(ids, expected);

    let shown = admin.json(&["show", &one]);
    assert_eq!(shown["image"], "usual");
    assert_eq!(shown["volumes"].as_array().unwrap().len(), 2);
    assert_eq!(shown["volumes"][1]["uuid"], uuid(2));
    let text = String::from_utf8(admin.nodes(&["show", &one]).stdout).unwrap();
    assert!(
        text.contains(&uuid(1)) && text.contains("from 127.0.0.1"),
        "{text}"
    );
    assert_eq!(admin.json(&["show", &uuid(3)])["ek"], two);

    // A volume that is forgotten belongs to the next that asks, and no other does.
    assert_eq!(is_admitted(caller, 2, 1), Some(false));
    let forgotten = admin.json(&["forget", "--yes", &uuid(1)]);
    assert_eq!(forgotten["volumes"][0], uuid(1));
    assert_eq!(is_admitted(caller, 2, 1), Some(true));
    assert_eq!(is_admitted(caller, 2, 2), Some(false));
    // So do those of a node that is forgotten.
    admin.json(&["forget", "--yes", &one]);
    assert_eq!(is_admitted(caller, 2, 2), Some(true));
    let gone = admin.nodes(&["show", &one]);
    assert_eq!(gone.status.code(), Some(77), "{gone:?}");

    let lines = admin.audit();
    let forgets: Vec<&Value> = lines
        .iter()
        .filter(|line| line["event"] == "forget")
        .collect();
    assert_eq!(forgets.len(), 2);
    assert!(
        forgets[0]["operator"].as_str().unwrap().contains("alice"),
        "{}",
        forgets[0]
    );
    assert_eq!(
        (&forgets[1]["ek"], &forgets[1]["volumes"][0]),
        (&Value::from(one), &Value::from(uuid(2)))
    );
}

#[test]
fn a_volume_with_a_secret_of_its_own_is_shown_until_it_is_enrolled() {
    let admin = Admin::start();
    let caller = &admin.daemon.caller;
    let claim = [volume(&uuid(1), Role::State, None)];
    let (session, _) = caller.admitted(&Machine::new(1), &claim);
    let path = record_path(&uuid(1));
    // What its line says of the secret, after time and date, and what machines read.
    let shown = |id: &str| {
        let output = admin.nodes(&["show", id]);
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with(&uuid(1)));
        let words: Vec<&str> = line.unwrap().split_whitespace().collect();
        let [.., secret, _, _, _] = words[..] else {
            panic!("{text}");
        };
        secret.to_owned()
    };
    let node = Machine::new(1).ek_id();
    let enrolled = json!({"epoch": 2});
    for (told, secret) in [
        (json!({"epoch": 1, "own-secret": true}), "own"),
        (enrolled, "-"),
    ] {
        assert_eq!(caller.post(&path, Some(&session), &told).status, 200);
        assert_eq!(
            (shown(&uuid(1)), shown(&node)),
            (secret.into(), secret.into())
        );
        let own = (secret == "own").then_some(&Value::Bool(true));
        assert_eq!(admin.json(&["show", &uuid(1)]).get("own-secret"), own);
        let volumes = &admin.json(&["show", &node])["volumes"];
        assert_eq!(volumes[0].get("own-secret"), own, "{volumes}");
    }
}

#[test]
fn what_a_boot_went_on_with_is_shown_and_written_down() {
    let admin = Admin::start();
    let caller = &admin.daemon.caller;
    let claim = [volume(&uuid(1), Role::State, None)];
    let (session, _) = caller.admitted(&Machine::new(1), &claim);
    let node = Machine::new(1).ek_id();
    let shown = |id: &str| {
        let output = admin.nodes(&["show", id]);
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with(&uuid(1)));
        // Name, role, epoch and the time of registration stand before it.
        let words = line.unwrap().split_whitespace().skip(4).take(2);
        assert!(text.contains(" ACCEPTED "), "{text}");
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    let path = record_path(&uuid(1));
    let mut last = None;
    for (epoch, accepted) in [
        (1, None),
        (2, Some("readmitted")),
        (3, Some("stale")),
        (4, None),
    ] {
        let mut told = json!({"epoch": epoch});
        if let Some(what) = accepted {
            told["accepted"] = what.into();
            last = accepted;
        }
        assert_eq!(caller.post(&path, Some(&session), &told).status, 200);
        let line = admin.audit().pop().unwrap();
        assert_eq!(line["event"], "report");
        assert_eq!(line.get("accepted").and_then(Value::as_str), accepted);

        let volume = admin.json(&["show", &uuid(1)]);
        let json = volume.get("accepted");
        assert_eq!(
            admin.json(&["show", &node])["volumes"][0].get("accepted"),
            json
        );
        assert_eq!(json.map(|it| &it["what"]), last.map(Value::from).as_ref());
        let time = json.map(|it| utc(it["reported-s"].as_u64().unwrap()));
        for words in [shown(&uuid(1)), shown(&node)] {
            match (last, &time) {
                (Some(what), Some(time)) => assert_eq!(words, [what, time]),
                // The column of its secret stands behind it.
                _ => assert_eq!(words, ["-", "-"]),
            }
        }
    }
}

#[test]
fn a_volume_whose_node_lost_its_tpm_is_readmitted_by_an_operator_and_by_nobody_else() {
    let admin = Admin::start();
    let caller = &admin.daemon.caller;
    for number in [1, 2] {
        assert_eq!(is_admitted(caller, 1, number), Some(true));
    }
    assert_eq!(is_admitted(caller, 2, 1), Some(false));
    for (who, ca) in [("mallory", "ours"), ("alice", "theirs"), ("admin", "ours")] {
        assert_refused(&admin.nodes_as(who, ca, &["readmit", &uuid(1)]));
    }
    let path = format!("/v1/volumes/{}/readmission", uuid(1));
    assert_eq!(caller.send("PUT", &path, None, &[]).unwrap().status, 404);
    assert_eq!(is_admitted(caller, 2, 1), Some(false));

    // Taken back before it is used.
    let said = admin.json(&["readmit", &uuid(1)]);
    assert!(said["readmission"]["until-s"].as_u64().is_some(), "{said}");
    let said = admin.json(&["readmit", "--cancel", &uuid(1)]);
    assert_eq!(said.get("readmission"), None);
    assert_eq!(is_admitted(caller, 2, 1), Some(false));

    let output = admin.nodes(&["readmit", &uuid(1)]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("as old as epoch 0"), "{text}");
    let show = || String::from_utf8(admin.nodes(&["show", &uuid(1)]).stdout).unwrap();
    assert!(show().contains("the next machine until "), "{}", show());
    let ek = |number| Machine::new(number).ek_id();
    assert_eq!(is_admitted(caller, 2, 1), Some(true));
    assert_eq!(is_admitted(caller, 1, 1), Some(false));
    assert_eq!(is_admitted(caller, 2, 2), Some(false));
    let shown = admin.json(&["show", &uuid(1)]);
    assert_eq!(shown["ek"], ek(2));
    assert_eq!(shown["readmission"]["ek"], ek(2));
    assert!(show().contains(&format!("{} until ", ek(2))), "{}", show());

    let lines = admin.audit();
    let of = |event: &str| -> Vec<&Value> {
        let lines = lines.iter().filter(|line| line["event"] == event);
        lines.collect()
    };
    assert_eq!((of("readmit").len(), of("cancel-readmit").len()), (2, 1));
    for line in [of("readmit"), of("cancel-readmit")].concat() {
        assert!(line["operator"].as_str().unwrap().contains("alice"));
        assert_eq!(
            (&line["volumes"][0], &line["ek"]),
            (&Value::from(uuid(1)), &Value::from(ek(1)))
        );
    }
    let [moved] = of("readmission")[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(moved["ek"], ek(2));
    assert!(moved["why"].as_str().unwrap().contains(&ek(1)), "{moved}");
}

#[test]
fn an_older_disk_is_gone_on_with_for_an_operators_word_and_for_nobody_elses() {
    let admin = Admin::start();
    assert_eq!(is_admitted(&admin.daemon.caller, 1, 1), Some(true));
    let accept = ["accept", "rollback", &uuid(1)];
    for (who, ca) in [("mallory", "ours"), ("alice", "theirs"), ("admin", "ours")] {
        assert_refused(&admin.nodes_as(who, ca, &accept));
    }
    let path = format!("/v1/volumes/{}/rollback", uuid(1));
    let sent = admin.daemon.caller.send("PUT", &path, None, &[]);
    assert_eq!(sent.unwrap().status, 404);
    let show = || String::from_utf8(admin.nodes(&["show", &uuid(1)]).stdout).unwrap();
    assert!(!show().contains(" until "), "{}", show());

    let said = admin.json(&accept);
    assert!(said["rollback"]["until-s"].as_u64().is_some(), "{said}");
    assert!(show().contains("any epoch until "), "{}", show());
    let said = admin.json(&[&accept[..], &["--epoch", "7"]].concat());
    assert_eq!(said["rollback"]["epoch"], 7);
    assert!(show().contains("epoch 7 until "), "{}", show());
    let said = admin.json(&[&accept[..], &["--cancel"]].concat());
    assert_eq!(said.get("rollback"), None);

    let lines = admin.audit();
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    assert_eq!((of("accept-rollback"), of("cancel-rollback")), (2, 1));
}

#[test]
fn what_is_not_there_or_no_name_is_refused() {
    let admin = Admin::start();
    for (words, code) in [
        (vec!["show", "00"], 2),
        (vec!["show", "../nodes"], 2),
        (vec!["forget", "A6C7535F-0A9F-4C23-9524-FED431126906"], 2),
        (vec!["forget"], 2),
        (vec!["readmit"], 2),
        (vec!["readmit", "--cancel"], 2),
        (vec!["readmit", "../nodes"], 2),
        (vec!["accept", "rollback"], 2),
        (
            vec!["accept", "new", "a6c7535f-0a9f-4c23-9524-fed431126906"],
            2,
        ),
        (vec!["drop"], 2),
    ] {
        let output = admin.nodes(&words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
    }
    for id in [uuid(9), "ab".repeat(32)] {
        for verb in [&["show"][..], &["forget", "--yes"]] {
            let output = admin.nodes(&[verb, &[&id]].concat());
            assert_eq!(output.status.code(), Some(77), "{output:?}");
        }
    }
    // A node has its volumes readmitted one by one.
    assert_eq!(
        admin.nodes(&["readmit", &"ab".repeat(32)]).status.code(),
        Some(2)
    );
    for words in [
        &["readmit"][..],
        &["readmit", "--cancel"],
        &["accept", "rollback"],
    ] {
        let output = admin.nodes(&[words, &[&uuid(9)]].concat());
        assert_eq!(output.status.code(), Some(77), "{output:?}");
    }
    assert_eq!(admin.json(&["list"])["nodes"], Value::Array(Vec::new()));
    assert!(admin.audit().is_empty());
}

#[test]
fn a_new_authority_of_operators_is_in_force_soon() {
    let admin = Admin::start();
    assert!(admin.nodes(&["list"]).status.success());
    assert!(
        !admin
            .nodes_as("mallory", "ours", &["list"])
            .status
            .success()
    );
    let top = &admin.daemon.directory;
    let both = ["ours.pem", "theirs.pem"].map(|name| fs::read_to_string(top.join(name)).unwrap());
    // The service's own certificate is still vouched for by the first.
    fs::write(top.join("ours.pem"), both.concat()).unwrap();
    let deadline = std::time::Instant::now() + patience();
    while !admin
        .nodes_as("mallory", "ours", &["list"])
        .status
        .success()
    {
        assert!(std::time::Instant::now() < deadline, "the new authority");
        std::thread::sleep(POLL);
    }
    assert!(admin.nodes(&["list"]).status.success());
}
