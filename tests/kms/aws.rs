// SPDX-License-Identifier: Apache-2.0
//! The back end `aws` against a moto, which checks signatures, contexts and keys, and knows no key that is disabled.

use std::fs;

use crate::failed;
use crate::fleet::Fleet;
use crate::moto::Moto;

/// A fleet with this key, and these lines in the table of its KMS.
fn fleet(moto: &Moto, key: &str, lines: &str) -> Fleet {
    let table = format!(
        "provider = \"aws\"\nkey = \"{key}\"\nurl = \"{}\"\n{lines}",
        moto.url()
    );
    Fleet::of(&table, true)
}

fn hand_over(fleet: &Fleet, (id, secret): &(String, String)) {
    let pair = serde_json::json!({ "Version": 1, "AccessKeyId": id, "SecretAccessKey": secret });
    fleet.hand_over(&pair.to_string());
}

#[test]
fn a_fleet_is_made_and_checked_with_signatures_that_others_verify() {
    let moto = Moto::start();
    let key = moto.key();
    let fleet = fleet(&moto, &key, "");
    let pair = moto.pair("service", "kms:*");
    let none = moto.pair("other", "s3:*");
    moto.close();
    hand_over(&fleet, &pair);
    fleet.init();
    let wrapped = fs::read_to_string(fleet.path("mastersecret.wrapped.json")).unwrap();
    assert!(
        wrapped.contains(&format!("\"kek\":\"aws:{key}\"")),
        "{wrapped}"
    );
    let check = || fleet.good(&["kms", "check", &fleet.config()]);
    let told = check();
    for line in [
        &format!("key: aws:{key}, of type SYMMETRIC_DEFAULT: its material is of AWS_KMS"),
        "round trip: 32 bytes were wrapped and unwrapped",
        "file: the master secret was unwrapped",
        "another id: refused by the KMS",
        "rights: missing none; for init and recover alone kms:Encrypt on arn:aws:kms:",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    fleet.good(&["check", &fleet.config()]);
    // Another secret half, and a pair that may do nothing here. Its denials have not the form of AWS's, so they are no more
    // than a KMS that is away.
    for bad in [(pair.0.clone(), "0".repeat(40)), none] {
        hand_over(&fleet, &bad);
        let (code, told) = failed(&fleet, &["kms", "check", &fleet.config()]);
        assert!(matches!(code, Some(75 | 77)), "{code:?} {told}");
        assert!(!told.contains(&bad.1), "{told}");
    }
    hand_over(&fleet, &pair);
    assert!(check().contains("the master secret was unwrapped"));
}

#[test]
fn a_file_opens_with_its_own_key_and_unchanged_alone() {
    let moto = Moto::start();
    let (key, other) = (moto.key(), moto.key());
    let ours = fleet(&moto, &key, "");
    hand_over(&ours, &("nobody".into(), "nothing".into()));
    ours.init();
    let path = ours.path("mastersecret.wrapped.json");
    let file = fs::read_to_string(&path).unwrap();
    let expect = |code: i32, said: &str| {
        let (found, told) = failed(&ours, &["kms", "check", &ours.config()]);
        assert_eq!(found, Some(code), "{told}");
        assert!(told.contains(said), "{said}\n{told}");
    };
    // Another key in the configuration, and in the file as well: the KMS knows what it has wrapped. AWS has a name of its own
    // for that (IncorrectKeyException); moto denies it.
    let config = fs::read_to_string(ours.config()).unwrap();
    fs::write(ours.config(), config.replace(&key, &other)).unwrap();
    expect(77, "kms.key and secret.master belong together");
    fs::write(&path, file.replace(&key, &other)).unwrap();
    expect(77, "the KMS denies");
    // A key that is not there.
    let absent = format!("{}000000000000", &key[..key.len() - 12]);
    fs::write(ours.config(), config.replace(&key, &absent)).unwrap();
    fs::write(&path, file.replace(&key, &absent)).unwrap();
    expect(77, "there is no such key");
    // The control.
    fs::write(ours.config(), config).unwrap();
    fs::write(&path, file).unwrap();
    ours.good(&["kms", "check", &ours.config()]);
}

#[test]
fn a_web_identity_token_is_given_for_a_pair_that_signs() {
    let moto = Moto::start();
    let key = moto.key();
    let role = "arn:aws:iam::123456789012:role/nightlatch";
    let lines = format!("role = \"{role}\"\nlogin-url = \"{}\"\n", moto.url());
    let fleet = fleet(&moto, &key, &lines);
    fleet.hand_over("eyJhbGciOiJSUzI1NiJ9.e30.AAAA");
    fleet.init();
    let told = fleet.good(&["kms", "check", &fleet.config()]);
    assert!(
        told.contains("file: the master secret was unwrapped"),
        "{told}"
    );
}
