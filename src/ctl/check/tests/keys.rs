// SPDX-License-Identifier: Apache-2.0
//! A node whose firmware's keys are about to change.

use std::fs;

use super::{Node, SERVICE, changed};
use crate::ctl::Answer;
use crate::ctl::image::tests::certificate;
use crate::ctl::tests::run;
use crate::error::{Exit, Result};
use crate::evidence::signature_list::tests::list;
use crate::evidence::signature_list::{SHA256, X509};
use crate::pcr::Bank;
use crate::uki::Uki;

/// A node whose firmware has the owner's certificate in db, and one hash in dbx.
fn node(name: &str) -> Node {
    let mut node = Node::new(name);
    node.tpm = "[tpm.signed]\nkeys = [\"/etc/nightlatch/pcr.pem\"]";
    let (db, dbx) = (list(X509, &[&node.der]), list(SHA256, &[&[1; 32]]));
    node.lists = vec![("KEK", Vec::new()), ("db", db), ("dbx", dbx)];
    node
}

/// What is said of an image where these files are given with these options.
fn check(node: &Node, image: &[u8], given: &[(&str, &[u8])]) -> Result<Answer> {
    let file = node.top.join("next.efi");
    fs::write(&file, image).unwrap();
    let mut words = vec!["check".to_owned(), file.display().to_string()];
    for (option, content) in given {
        let file = node.top.join(&option[2..]);
        fs::write(&file, content).unwrap();
        words.extend([(*option).to_owned(), file.display().to_string()]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    run(&node.top, &words)
}

/// The exit code, the PCRs that change, and what opens the volume.
fn told(answer: &Answer) -> (Option<Exit>, Vec<u64>, String) {
    let opens = answer.json["volumes"][0]["opens"].as_str().unwrap();
    (answer.exit, changed(&answer.json), opens.to_owned())
}

#[test]
fn an_update_of_dbx_closes_every_image_unless_a_service_carries_it_over() {
    let mut node = node("dbx");
    let one = node.image("one");
    node.boot(&one);
    let opens = (None, vec![], "tpm".to_owned());
    let there = list(SHA256, &[&[1; 32]]);
    assert_eq!(
        told(&check(&node, &one, &[("--dbx", &there)]).unwrap()),
        opens
    );
    let update = list(SHA256, &[&[1; 32], &[2; 32]]);
    for image in [&one, &node.image("two")] {
        assert_eq!(told(&check(&node, image, &[]).unwrap()), opens);
        let answer = check(&node, image, &[("--dbx", &update)]).unwrap();
        assert_eq!(
            told(&answer),
            (Some(Exit::Refused), vec![7], "nothing".into())
        );
        assert_eq!(answer.json["changes"], serde_json::json!(["dbx"]));
        let why = answer.json["volumes"][0]["why"].as_str().unwrap();
        assert!(why.starts_with("PCR 7 will have another value"), "{why}");
        let to_do = answer.json["to-do"].as_array().unwrap();
        assert!(
            to_do[0]
                .as_str()
                .unwrap()
                .starts_with("leave the firmware's keys"),
            "{to_do:?}"
        );
    }
    // An update that has the image's own hash is worse.
    let digest = Uki::parse(&one)
        .unwrap()
        .program
        .authenticode(Bank::Sha256)
        .unwrap();
    let answer = check(&node, &one, &[("--dbx", &list(SHA256, &[&digest]))]).unwrap();
    let why = answer.json["refused"].as_str().unwrap();
    assert!(
        why.starts_with("the firmware's dbx gets the image's own hash"),
        "{why}"
    );

    node.swtpm.replace();
    node.sources = "\"tpm\", \"service\"";
    node.more = SERVICE.into();
    node.tpm = "";
    let one = node.image_with_network("one");
    node.boot(&one);
    assert_eq!(told(&check(&node, &one, &[]).unwrap()), opens);
    let answer = check(&node, &one, &[("--dbx", &update)]).unwrap();
    assert_eq!(
        told(&answer),
        (None, vec![7], "service".into()),
        "{}",
        answer.text
    );
}

#[test]
fn another_signer_is_another_pcr_7_and_has_to_be_in_db_and_in_the_image() {
    let mut node = node("signers");
    let (pem, der) = certificate("another owner");
    node.boot(&node.image("one"));
    let two = node.image("two");
    let signer: (&str, &[u8]) = ("--signer", pem.as_bytes());
    // Not listed in the image.
    let more = list(X509, &[&der]);
    let answer = check(&node, &two, &[("--db", &more), signer]).unwrap();
    let why = answer.json["refused"].as_str().unwrap();
    assert!(why.contains("boot.authorities does not list"), "{why}");
    let owners = node.pem.clone();
    node.pem.push_str(&pem);
    node.sources = "\"tpm\", \"service\"";
    node.more = SERVICE.into();
    let mut initrd = node.initrd();
    initrd.with_network();
    let plain = node.with_signatures(&Node::plain(&initrd, "two"));
    let two = crate::support::unified::signed(plain, &node.der);
    let same = check(&node, &two, &[("--signer", owners.as_bytes())]).unwrap();
    assert_eq!(told(&same), (None, vec![], "tpm".into()), "{}", same.text);
    let answer = check(&node, &two, &[signer]).unwrap();
    assert_eq!(
        told(&answer),
        (Some(Exit::Refused), vec![7], "nothing".into())
    );
    let why = answer.json["volumes"][0]["why"].as_str().unwrap();
    assert!(why.ends_with("its db lacks the signer"), "{why}");
    let answer = check(&node, &two, &[("--db", &more), signer]).unwrap();
    assert_eq!(
        told(&answer),
        (None, vec![7], "service".into()),
        "{}",
        answer.text
    );
    assert_eq!(
        answer.json["changes"],
        serde_json::json!(["db", "the signer"])
    );
}

#[test]
fn what_is_no_list_and_no_certificate_is_an_error_that_names_the_file() {
    let node = node("broken");
    let one = node.image("one");
    node.boot(&one);
    for (option, content, words) in [
        (
            "--dbx",
            &b"no list"[..],
            "expected signature lists, with the signature",
        ),
        ("--kek", b"", "expected signature lists, found none"),
        (
            "--signer",
            b"no certificate",
            "expected certificates in PEM",
        ),
        (
            "--signer",
            &node.pem.repeat(2).into_bytes(),
            "expected one certificate, found 2",
        ),
    ] {
        let error = check(&node, &one, &[(option, content)]).err().unwrap();
        assert_eq!(error.exit(), Exit::Config, "{error}");
        let said = error.to_string();
        assert!(
            said.contains(words) && said.contains(&option[2..]),
            "{said}"
        );
    }
}
