// SPDX-License-Identifier: Apache-2.0
//! A node whose volume is sealed to what this boot measured, and images that it may boot next.

mod keys;
mod node;
mod on_the_esp;

use std::fs;

use serde_json::Value;

use self::node::{DEVICE, Node, SEPARATOR_UNIT, SERVICE, at};
use super::*;
use crate::ctl::image::tests::certificate;
use crate::pcr::Pcr;
use crate::support::firmware::LOG_PATH;
use crate::support::initrd::Made;
use crate::support::pcr_key;
use crate::support::unified::signed;

/// The PCRs that will have another value.
fn changed(json: &Value) -> Vec<u64> {
    let pcrs = json["pcrs"].as_array().unwrap().iter();
    let changed = pcrs.filter(|it| it["same"] == false);
    changed.map(|it| it["pcr"].as_u64().unwrap()).collect()
}

const NOTHING_ELSE: &str = "PCRs 4, 11 will have other values than its secret is sealed to; and no key service is among its sources";

#[test]
fn the_image_that_runs_opens_and_another_one_does_not() {
    let mut node = Node::new("values");
    let image = node.image("one");
    node.boot(&image);
    let answer = node.check(&image).unwrap();
    assert_eq!(answer.exit, None, "{}", answer.text);
    let json = answer.json;
    assert_eq!(json["result"], "opens");
    assert_eq!(
        (&json["running"], &json["volumes"][0]["opens"]),
        (&true.into(), &"tpm".into())
    );
    assert_eq!(changed(&json), [0; 0]);
    assert!(
        json["pcrs"]
            .as_array()
            .unwrap()
            .iter()
            .all(|it| it["same"] == true),
        "{json}"
    );

    let other = node.image("two");
    let answer = node.check(&other).unwrap();
    assert_eq!(answer.exit, Some(Exit::Refused));
    assert_eq!(changed(&answer.json), [4, 11]);
    assert_eq!(answer.json["volumes"][0]["why"], NOTHING_ELSE);
    assert_eq!(answer.json["exit"], 77);
    assert!(
        answer
            .text
            .ends_with("without one only this boot's image opens it\n"),
        "{}",
        answer.text
    );
    node.holds_after(&other, false, &answer.json);
}

#[test]
fn systemds_separator_is_told_from_the_initrd() {
    let mut node = Node::new("separator");
    node.boot(&node.image("one"));
    let mut initrd = node.initrd();
    initrd.put(SEPARATOR_UNIT, Made::file("[Unit]\n"));
    let other = signed(Node::plain(&initrd, "one"), &node.der);
    let answer = node.check(&other).unwrap();
    assert_eq!(changed(&answer.json), [4, 7, 11, 12, 13]);
    let assumed = answer.json["assumed"][1].as_str().unwrap();
    assert!(
        assumed.contains("the initrd has systemd-pcrosseparator.service"),
        "{assumed}"
    );
    node.holds_after(&other, true, &answer.json);

    // One that is masked does not run.
    node.swtpm.replace();
    node.boot(&node.image("one"));
    let mut initrd = node.initrd();
    initrd.put(SEPARATOR_UNIT, Made::file("[Unit]\n"));
    let mask = SEPARATOR_UNIT.replace("usr/lib", "etc");
    initrd.put(&mask, Made::link("/dev/null"));
    let masked = signed(Node::plain(&initrd, "one"), &node.der);
    assert_eq!(changed(&node.check(&masked).unwrap().json), [4, 11]);
}

#[test]
fn an_image_that_the_key_has_signed_opens() {
    let mut node = Node::new("signed");
    node.tpm = "[tpm.signed]\nkeys = [\"/etc/nightlatch/pcr.pem\"]";
    node.boot(&node.image("one"));
    let tpm = (None, "tpm".to_owned(), String::new());
    assert_eq!(node.opens(&node.image("one")), tpm);
    let other = node.image("two");
    assert_eq!(node.opens(&other), tpm);

    // Not without the signature, which ends the boot before a disk is read.
    let plain = Node::plain(&node.initrd(), "two");
    let answer = node.check(&signed(plain.clone(), &node.der)).unwrap();
    assert_eq!(answer.exit, Some(Exit::Refused));
    let missing = answer.json["missing"][0].as_str().unwrap();
    assert!(
        missing.starts_with("signature of PCR 11: it has no section .pcrsig"),
        "{missing}"
    );

    // Nor with another key than the one that was sealed to.
    node.key = pcr_key::new();
    let (exit, opens, why) = node.opens(&node.image("two"));
    assert_eq!((exit, opens.as_str()), (Some(Exit::Refused), "nothing"));
    assert!(why.contains("and another key, which is not what"), "{why}");
}

#[test]
fn a_pcr_that_no_file_tells_is_only_known_of_the_image_that_runs() {
    let mut node = Node::new("loaded");
    node.tpm = "pcrs = [7, 12, 13, 14]\n[tpm.signed]\nkeys = [\"/etc/nightlatch/pcr.pem\"]";
    let image = node.image("one");
    node.boot(&image);
    assert_eq!(node.opens(&image), (None, "tpm".into(), String::new()));
    let answer = node.check(&node.image("two")).unwrap();
    assert_eq!(answer.exit, Some(Exit::Unavailable), "{}", answer.text);
    let json = answer.json;
    assert_eq!(json["volumes"][0]["opens"], "unknown");
    let mut pcrs = json["pcrs"].as_array().unwrap().iter();
    let last = pcrs.find(|it| it["pcr"] == 14).unwrap();
    let why = last["why"].as_str().unwrap();
    assert!(why.contains("the file does not say"), "{why}");
    // What is certain is told all the same.
    node.swtpm.replace();
    node.tpm = "pcrs = [4, 7, 9, 11, 12, 13]";
    let image = node.image("one");
    node.boot(&image);
    assert_eq!(node.opens(&image).1, "tpm");
    let (exit, _, why) = node.opens(&node.image("two"));
    assert_eq!((exit, why.as_str()), (Some(Exit::Refused), NOTHING_ELSE));
}

#[test]
fn who_else_signs_for_secure_boot_changes_pcr_7() {
    let mut node = Node::new("signer");
    let (pem, der) = certificate("another owner");
    node.pem.push_str(&pem);
    node.tpm = "[tpm.signed]\nkeys = [\"/etc/nightlatch/pcr.pem\"]";
    node.boot(&node.image("one"));
    let plain = node.with_signatures(&Node::plain(&node.initrd(), "two"));
    assert_eq!(node.opens(&signed(plain.clone(), &node.der)).0, None);
    let answer = node.check(&signed(plain, &der)).unwrap();
    assert_eq!(answer.exit, Some(Exit::Refused));
    assert_eq!(changed(&answer.json), [7]);
    let why = answer.json["volumes"][0]["why"].as_str().unwrap();
    assert!(
        why.starts_with("PCR 7 will have another value than its secret is sealed to"),
        "{why}"
    );

    // With a service it is the firmware's db that nobody has looked at.
    node.sources = "\"tpm\", \"service\"";
    node.more = SERVICE.into();
    let mut initrd = node.initrd();
    initrd.with_network();
    let plain = node.with_signatures(&Node::plain(&initrd, "two"));
    let image = signed(plain, &der);
    let (exit, opens, why) = node.opens(&image);
    assert_eq!((exit, opens.as_str()), (Some(Exit::Unavailable), "unknown"));
    assert!(
        why.ends_with("whether the firmware's db has the image's signer is not known"),
        "{why}"
    );
    let db = node
        .top
        .join("sys/firmware/efi/efivars/db-d719b2cb-3d3a-4596-a3bc-dad00e67656f");
    fs::create_dir_all(db.parent().unwrap()).unwrap();
    for (has, verdict) in [
        (&node.der, (Some(Exit::Refused), "nothing")),
        (&der, (None, "service")),
    ] {
        fs::write(&db, [&[7, 0, 0, 0][..], &[0; 44], has].concat()).unwrap();
        let (exit, opens, why) = node.opens(&image);
        assert_eq!((exit, opens.as_str()), verdict, "{why}");
    }
}

#[test]
fn a_key_service_carries_a_volume_over_where_it_has_its_secret() {
    let mut node = Node::new("service");
    node.sources = "\"tpm\", \"service\"";
    node.more = SERVICE.into();
    let one = node.image_with_network("one");
    node.boot(&one);
    assert_eq!(node.opens(&one).1, "tpm");
    let two = node.image_with_network("two");
    let answer = node.check(&two).unwrap();
    assert_eq!(answer.exit, None, "{}", answer.text);
    assert_eq!(answer.json["volumes"][0]["opens"], "service");
    let to_do = answer.json["to-do"][0].as_str().unwrap();
    assert!(to_do.contains("nightlatchctl policy image"), "{to_do}");

    // Not where an operator has to say so each time.
    node.tpm = "stale = \"operator\"";
    let (exit, opens, why) = node.opens(&node.image_with_network("two"));
    assert_eq!((exit, opens.as_str()), (Some(Exit::Refused), "nothing"));
    assert!(
        why.ends_with("so it takes an operator's word at the key service"),
        "{why}"
    );

    // Nor where the record that cannot be read has more than the service knows, or is gone.
    node.tpm = "";
    let checkpoint = format!("anchor = \"checkpoint\"\n{SERVICE}");
    node.more = checkpoint;
    let why = node.opens(&node.image_with_network("two")).2;
    assert!(why.contains("the last checkpoint is in a record"), "{why}");
    node.more = SERVICE.into();
    assert_eq!(node.opens(&two).1, "service");
    node.undefine(at(&node.config()).record);
    let (exit, _, why) = node.opens(&two);
    assert_eq!(exit, Some(Exit::Refused));
    assert!(
        why.contains("the TPM has no record that a volume's header names"),
        "{why}"
    );

    // Nor where the secret is the node's own, whatever the TPM has.
    node.swtpm.replace();
    let (one, two) = (
        node.image_with_network("one"),
        node.image_with_network("two"),
    );
    node.boot_as(&one, |header| header.with_own_secret());
    let (exit, _, why) = node.opens(&two);
    assert_eq!(exit, Some(Exit::Refused));
    assert!(
        why.ends_with("the node's own, which the key service does not have"),
        "{why}"
    );
    let at = at(&node.config());
    node.undefine(at.record);
    let (exit, _, why) = node.opens(&one);
    assert_eq!(exit, Some(Exit::Refused));
    assert!(
        why.starts_with("the TPM has no record of the anchor"),
        "{why}"
    );
    node.undefine(at.counter);
    let why = node.opens(&one).2;
    assert!(
        why.starts_with("the TPM's counter of boots is gone"),
        "{why}"
    );
}

#[test]
fn what_cannot_be_told_is_said_and_not_guessed() {
    let node = Node::new("unknown");
    let image = node.image("one");
    let unavailable = |node: &Node, what: &str| {
        let error = node.check(&image).err().unwrap();
        assert_eq!(error.exit(), Exit::Unavailable, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    };
    unavailable(&node, "there is none");
    node.boot(&image);
    assert_eq!(node.opens(&image).0, None);

    // A device that is not there, and one that is blank.
    let device = node.top.join(DEVICE);
    let header = fs::read(&device).unwrap();
    fs::remove_file(&device).unwrap();
    let (exit, opens, why) = node.opens(&image);
    assert_eq!(
        (exit, opens.as_str()),
        (Some(Exit::Unavailable), "unknown"),
        "{why}"
    );
    fs::File::create(&device)
        .unwrap()
        .set_len(64 << 20)
        .unwrap();
    let (exit, _, why) = node.opens(&image);
    assert_eq!(exit, Some(Exit::Unavailable), "{why}");
    assert!(why.starts_with("its device is blank"), "{why}");
    // A header that breaks a rule is refused by the boot as well.
    let mut broken = header.clone();
    broken[4096 + 1] ^= 1;
    broken[16384 + 4096 + 1] ^= 1;
    fs::write(&device, broken).unwrap();
    assert_eq!(node.opens(&image).0, Some(Exit::Refused));
    fs::write(&device, header).unwrap();
    assert_eq!(node.opens(&image).0, None);

    // A log that does not explain what the TPM holds says nothing of the next boot.
    let path = node.top.join(LOG_PATH);
    let log = fs::read(&path).unwrap();
    node.tpm().event(Pcr::SECURE_BOOT, b"more").unwrap();
    unavailable(&node, "does not replay to PCR 7");
    fs::write(&path, &log[..log.len() - 1]).unwrap();
    unavailable(&node, "reading what this boot measured");
}
