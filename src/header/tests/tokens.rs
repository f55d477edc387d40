// SPDX-License-Identifier: Apache-2.0
//! Tokens: rule C13.

mod tpm2;

use serde_json::Value;

use super::super::fixture::{Fixture, TPM2, stamp};
use super::super::{Checked, Expect, Form, NightlatchToken, Tpm2Token};
use super::refusal;
use crate::config::{Profile, Role, VolumeName};
use crate::error::Result;
use crate::pcr::Bank;

fn check(fixture: &Fixture) -> Result<Checked> {
    fixture
        .area()
        .header()?
        .check(Profile::Nightlatch1, &Expect::default())
}

fn tpm2() -> Tpm2Token {
    check(&Fixture::ours()).unwrap().tpm.unwrap()
}

#[test]
fn a_token_of_systemd_cryptenroll_is_read_and_written_back_the_same() {
    let token = tpm2();
    assert_eq!((token.keyslot, token.bank), (1, Bank::Sha256));
    let pcrs: Vec<u8> = token.pcrs.iter().map(|pcr| pcr.index()).collect();
    assert_eq!(pcrs, [7, 11, 12]);
    assert_eq!((token.private.len(), token.public.len()), (0x9e, 0x4e));
    assert_eq!(token.srk.as_ref().unwrap()[..4], [0x81, 0, 0, 1]);
    let written: Value = serde_json::from_str(TPM2).unwrap();
    assert_eq!(token.to_json(), written);
}

#[test]
fn our_token_is_read_and_written_back_the_same() {
    let token = NightlatchToken {
        form: Form::First,
        role: Role::State,
        volume: VolumeName::try_from("data".to_owned()).unwrap(),
        salt: std::array::from_fn(|at| 0x20 + u8::try_from(at).unwrap()),
        epoch: 7,
        nonce: None,
        key_id: std::array::from_fn(|at| 0x40 + u8::try_from(at).unwrap()),
        evidence: None,
        own_secret: false,
        mac: [0; 32],
    };
    assert_eq!(
        check(&Fixture::ours()).unwrap().nightlatch,
        Some(token.clone())
    );
    let own = NightlatchToken {
        own_secret: true,
        ..token.clone()
    };
    let named = NightlatchToken {
        nonce: stamp(7, 0xa5).nonce,
        ..own.clone()
    };
    assert_eq!(named.to_json()["nonce"], "a5a5a5a5a5a5a5");
    let fixture = Fixture::plain();
    let start = fixture.json.find(r#"{"type":"nightlatch""#).unwrap();
    let end = fixture.json.find(r#"},"segments""#).unwrap();
    for token in [token, own, named] {
        let json = token.to_json().to_string();
        let rewritten = fixture.with(&fixture.json[start..end], &json);
        assert_eq!(check(&rewritten).unwrap().nightlatch, Some(token));
    }
}

#[test]
fn rule_c13_tokens_are_of_known_types_and_exactly_as_many_as_the_profile_allows() {
    let ours = Fixture::ours();
    check(&ours).unwrap();
    let tpm2 = |id: u8| format!(r#""{id}":{TPM2}"#);
    let cases = [
        (
            tpm2(1),
            r#""1":{"type":"evil","keyslots":["1"]}"#.to_owned(),
            "rule C13: tokens.1.type: expected one of \"nightlatch\", \"systemd-tpm2\", \"systemd-recovery\", \"constellation-state-disk\", found \"evil\"",
        ),
        (
            tpm2(1),
            r#""1":{"type":"systemd-recovery","keyslots":["1"]}"#.to_owned(),
            "rule C13: keyslots of tokens \"systemd-recovery\": expected [], found [1]",
        ),
        (
            tpm2(1),
            format!("{},{}", tpm2(1), tpm2(2)),
            "rule C13: tokens.2: expected no further token of this type, found one",
        ),
        (
            tpm2(1),
            tpm2(1).replace(r#"["1"]"#, r#"["2"]"#),
            "rule C13: tokens.1.keyslots: expected a keyslot there is, found 2",
        ),
        (
            tpm2(1),
            tpm2(1).replace(r#"["1"]"#, r#"["0"]"#),
            "rule C13: keyslot of token \"systemd-tpm2\": expected Some(1), found Some(0)",
        ),
        (
            format!(",{}", tpm2(1)),
            String::new(),
            "rule C13: keyslot of token \"systemd-tpm2\": expected Some(1), found None",
        ),
        (
            r#""keyslots":[],"#.to_owned(),
            r#""keyslots":["0"],"#.to_owned(),
            "rule C13: tokens.0.keyslots: expected no keyslots, found an array",
        ),
        (
            r#""role":"state""#.to_owned(),
            r#""role":"other""#.to_owned(),
            "rule C13: tokens.0.role: expected \"state\" or \"root\", found \"other\"",
        ),
        (
            r#""profile":"nightlatch-1""#.to_owned(),
            r#""profile":"nightlatch-0""#.to_owned(),
            "rule C13: tokens.0.profile: expected \"nightlatch-1\" or \"nightlatch-2\", found \"nightlatch-0\"",
        ),
        (
            r#""measurement-salt":"ICEi"#.to_owned(),
            r#""measurement-salt":""#.to_owned(),
            "rule C13: tokens.0.measurement-salt: expected 32 bytes, found 29",
        ),
        (
            r#""epoch":"7""#.to_owned(),
            r#""own-secret":false,"epoch":"7""#.to_owned(),
            "rule C13: tokens.0.own-secret: expected true, found false",
        ),
    ];
    for (from, to, expected) in cases {
        assert_eq!(refusal(check(&ours.with(&from, &to))), expected);
    }
}

#[test]
fn the_role_the_caller_expects_must_be_the_volumes() {
    let header = Fixture::ours().header();
    let expect = |role| Expect {
        role: Some(role),
        ..Expect::default()
    };
    assert!(
        header
            .check(Profile::Nightlatch1, &expect(Role::State))
            .is_ok()
    );
    assert_eq!(
        refusal(header.check(Profile::Nightlatch1, &expect(Role::Root))),
        "rule C13: token nightlatch: role: expected \"root\", found \"state\""
    );
}

#[test]
fn the_volume_the_caller_expects_must_be_this_one() {
    let header = Fixture::ours().header();
    let expect = |name: &str| Expect {
        volume: Some(VolumeName::try_from(name.to_owned()).unwrap()),
        ..Expect::default()
    };
    assert!(header.check(Profile::Nightlatch1, &expect("data")).is_ok());
    assert_eq!(
        refusal(header.check(Profile::Nightlatch1, &expect("logs"))),
        "rule C13: token nightlatch: volume: expected \"logs\", found \"data\""
    );
}

#[test]
fn a_stock_volume_may_have_a_recovery_key_and_one_tpm() {
    let strict = |tokens: &str| {
        let tokens = format!(r#""tokens":{{{tokens}}}"#);
        let header = Fixture::strict().with(r#""tokens":{}"#, &tokens).header();
        header.check(Profile::Luks2Strict, &Expect::default())
    };
    let recovery = r#"{"type":"systemd-recovery","keyslots":["0"]}"#;
    let tpm2 = TPM2.replace(r#"["1"]"#, r#"["0"]"#);
    let both = format!(r#""0":{recovery},"1":{recovery},"2":{tpm2}"#);
    assert_eq!(strict(&both).unwrap().tpm.unwrap().keyslot, 0);
    assert_eq!(
        refusal(strict(&format!(r#"{both},"3":{tpm2}"#))),
        "rule C13: tokens.3: expected no further token of this type, found one"
    );
    assert_eq!(
        refusal(strict(
            &recovery
                .replace(r#"{"type""#, r#""0":{"type""#)
                .replace(r#"["0"]"#, r#"["5"]"#)
        )),
        "rule C13: tokens.0.keyslots: expected a keyslot there is, found 5"
    );
}
