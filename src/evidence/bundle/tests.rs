// SPDX-License-Identifier: Apache-2.0
use serde_json::{Value, json};

use super::*;
use crate::evidence::fixture::{FirmwareLog, Key, Sent, Statement};

pub(crate) fn bundle() -> Bundle {
    let sent = Sent::of(&FirmwareLog::usual());
    Bundle {
        ak_public: Bytes(sent.ak),
        quote: Bytes(sent.attest),
        signature: Bytes(sent.signature),
        pcrs: Pcrs::of(Bank::Sha256, &sent.values),
        firmware_log: Some(Bytes(sent.firmware_log)),
        userspace_log: Some(Bytes(sent.userspace_log)),
    }
}

fn refusal(json: &Value) -> String {
    let bundle = Bundle::parse(&json.to_string());
    bundle.and_then(|it| it.verify()).unwrap_err().to_string()
}

#[test]
fn a_bundle_is_written_and_read_back_and_verified() {
    let bundle = bundle();
    let text = serde_json::to_string(&bundle).unwrap();
    let again = Bundle::parse(&text).unwrap();
    assert_eq!(again, bundle);
    let verified = again.verify().unwrap();
    assert!(verified.explained.contains(4));
    assert_eq!(verified.pcrs, bundle.pcrs.values(Bank::Sha256).unwrap());

    let without_logs = Bundle {
        firmware_log: None,
        userspace_log: None,
        ..bundle
    };
    let text = serde_json::to_string(&without_logs).unwrap();
    assert!(!text.contains("log"));
    assert!(
        Bundle::parse(&text)
            .unwrap()
            .verify()
            .unwrap()
            .explained
            .is_empty()
    );
}

#[test]
fn values_come_as_a_list_of_all_24_too() {
    let all: Values = (0..24).map(|pcr| (pcr, vec![pcr; 32])).collect();
    let sent = Sent::signed(&Key::new(7), &Statement::over(&all), all.clone());
    let list = all.values().map(hex::encode).collect();
    let bundle = Bundle {
        ak_public: Bytes(sent.ak),
        quote: Bytes(sent.attest),
        signature: Bytes(sent.signature),
        pcrs: Pcrs::List(list),
        firmware_log: None,
        userspace_log: None,
    };
    let text = serde_json::to_string(&bundle).unwrap();
    assert_eq!(Bundle::parse(&text).unwrap().verify().unwrap().pcrs, all);
}

#[test]
fn values_that_were_not_quoted_are_left_out() {
    let mut bundle = bundle();
    if let Pcrs::Banks(banks) = &mut bundle.pcrs {
        banks
            .get_mut(&Bank::Sha256)
            .unwrap()
            .insert("0".into(), "11".repeat(32));
    }
    assert!(!bundle.verify().unwrap().pcrs.contains_key(&0));
}

#[test]
fn what_is_no_bundle_is_refused() {
    let good = serde_json::to_value(bundle()).unwrap();
    let with = |key: &str, value: Value| {
        let mut json = good.clone();
        json[key] = value;
        json
    };
    for (json, why) in [
        (with("quote", json!("*")), "invalid Base64 encoding"),
        (with("more", json!(1)), "unknown field `more`"),
        (
            with("pcrs", json!(["00"])),
            "PCR values: expected 24, found 1",
        ),
        (
            with("pcrs", json!({"sha1": {}})),
            "PCR values: there are none of sha256",
        ),
        (
            with("pcrs", json!({"sha256": {"24": ""}})),
            "PCR values: expected a PCR from 0 to 23, found \"24\"",
        ),
        (
            with("pcrs", json!({"sha256": {"4": "00"}})),
            "PCR values: PCR 4: expected 32 bytes of sha256",
        ),
    ] {
        let refusal = refusal(&json);
        assert!(refusal.starts_with("check encoding: "), "{refusal}");
        assert!(refusal.contains(why), "{refusal}: {why}");
    }
    assert!(refusal(&json!({})).contains("missing field"));
}
