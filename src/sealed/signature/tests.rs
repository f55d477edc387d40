// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::key::pcr::tests::{key, made};

/// What PCR 11 is in the initrd of an image of three small parts, and the digest that `systemd-measure` of version 254 signs
/// for that.
const IN_INITRD: &str = "b856b524b4cb96ea3c018da29deb000698458b221f756928546c9667a69fae88";
const POLICY: &str = "006ef278db89030332f46f64d2ea0ba0650de6ba92174f88b56c815d3eb3f58c";

#[test]
fn the_policy_is_what_systemd_measure_signs() {
    let value = hex::decode(IN_INITRD).unwrap();
    let digest = |bank, value: &[u8]| hex::encode(policy_digest(bank, value));
    assert_eq!(digest(Bank::Sha256, &value), POLICY);
    // The bank is a part of it.
    assert_ne!(digest(Bank::Sha384, &value), POLICY);
}

/// Each field that a reader looks at, once: other PCRs, key, policy, signature and a reference.
#[test]
fn a_signature_is_for_one_key_bank_and_value() {
    let [ours, other] = made().each_ref().map(key);
    let value = hex::decode(IN_INITRD).unwrap();
    let entry = PcrSignature::new(&ours, Bank::Sha256, &value, None).unwrap();
    let is_for = |entry: &PcrSignature| entry.is_for(ours.public(), Bank::Sha256, &value, None);
    assert!(is_for(&entry));
    assert!(!entry.is_for(other.public(), Bank::Sha256, &value, None));
    assert!(!entry.is_for(ours.public(), Bank::Sha384, &value, None));
    assert!(!entry.is_for(ours.public(), Bank::Sha256, &Bank::Sha256.zero(), None));
    let with = |change: fn(&mut PcrSignature)| {
        let mut altered = entry.clone();
        change(&mut altered);
        altered
    };
    for altered in [
        with(|it| it.pcrs = vec![4, 11]),
        with(|it| it.pkfp = "00".repeat(32)),
        with(|it| it.reference = Some("initrd".into())),
        with(|it| it.pol = "00".repeat(32)),
        with(|it| it.sig = Base64::encode_string(&[1; 256])),
        with(|it| it.sig = "no Base64".into()),
    ] {
        assert!(!is_for(&altered), "{altered:?}");
    }
}

/// A signature for one floor is none for another, nor without: the reference is signed too.
#[test]
fn a_signature_is_for_one_floor() {
    let ours = key(&made()[0]);
    let value = hex::decode(IN_INITRD).unwrap();
    let floors = [None, floor(1), floor(2)];
    let entries = floors.map(|it| PcrSignature::new(&ours, Bank::Sha256, &value, it).unwrap());
    let all = PcrSignatures::new([(Bank::Sha256, entries.to_vec())]);
    for (entry, of) in entries.iter().zip(floors) {
        for other in floors {
            let is_for = entry.is_for(ours.public(), Bank::Sha256, &value, other);
            assert_eq!(is_for, of == other, "{of:?} {other:?}");
        }
        let found = all.find(Bank::Sha256, ours.public(), &value, of).unwrap();
        assert_eq!(found, Base64::decode_vec(&entry.sig).unwrap());
    }
    assert_eq!(entries[2].reference.as_deref(), Some("nightlatch-2"));
    assert_eq!(all.floor_of(Bank::Sha256, &value), floor(2));
    assert_eq!(all.floor_of(Bank::Sha256, &[0; 32]), None);
    // Another reference's digest was not signed.
    let renamed = PcrSignature {
        reference: Some("nightlatch-2".into()),
        ..entries[1].clone()
    };
    assert!(!renamed.is_for(ours.public(), Bank::Sha256, &value, floor(2)));
    let error = all
        .find(Bank::Sha256, ours.public(), &value, floor(3))
        .unwrap_err();
    let start =
        "the image carries no signature of PCR 11 for floor 3 by the key of the configuration, ";
    assert!(error.to_string().starts_with(start), "{error}");
}

fn floor(number: u32) -> Option<Floor> {
    Floor::try_from(number).ok()
}

/// As `systemd-measure` writes it: what is not looked at may be there, and what fills up a section as well.
#[test]
fn what_other_tools_write_is_taken() {
    let one = |more: &str| {
        format!(r#"{{"sha256":[{{"pcrs":[11],"pkfp":"aa",{more}"pol":"bb","sig":"cc"}}]}}"#)
    };
    let plain = PcrSignatures::parse(one("").as_bytes()).unwrap();
    assert_eq!(plain.of(Bank::Sha256).len(), 1);
    assert_eq!(plain.to_json().unwrap(), one(""));
    for end in ["\n", "   ", "\0\0", " \0"] {
        let text = one("") + end;
        assert_eq!(PcrSignatures::parse(text.as_bytes()).unwrap(), plain);
    }
    let later = PcrSignatures::parse(one(r#""tbs":"dd","#).as_bytes()).unwrap();
    assert_eq!(later, plain);
    let named = PcrSignatures::parse(one(r#""ref":"initrd","#).as_bytes()).unwrap();
    assert_eq!(
        named.of(Bank::Sha256)[0].reference.as_deref(),
        Some("initrd")
    );
    assert_eq!(named.to_json().unwrap(), one(r#""ref":"initrd","#));

    let long = vec![b' '; SIGNATURES_LEN_MAX + 1];
    for bad in [&b""[..], b"\0", b"[]", br#"{"sha256":[{}]}"#, &long] {
        let error = PcrSignatures::parse(bad).unwrap_err().to_string();
        assert!(error.starts_with("signatures of PCR values: "), "{error}");
    }
}

/// Without one it is said which of the two is another: key or value.
#[test]
fn the_signature_of_a_value_is_found_by_key_bank_and_value() {
    let [ours, other] = made().each_ref().map(key);
    let value = hex::decode(IN_INITRD).unwrap();
    let entries = [[0; 32].to_vec(), value.clone()]
        .map(|value| PcrSignature::new(&ours, Bank::Sha256, &value, None).unwrap());
    let signature = Base64::decode_vec(&entries[1].sig).unwrap();
    let signed = PcrSignatures::new([(Bank::Sha256, entries.to_vec())]);
    let find = |bank, key: &PcrKey, value: &[u8]| {
        let found = signed.find(bank, key.public(), value, None);
        found.map_err(|error| error.to_string())
    };
    assert_eq!(find(Bank::Sha256, &ours, &value).unwrap(), signature);
    for (bank, key) in [(Bank::Sha256, &other), (Bank::Sha384, &ours)] {
        let none = format!(
            "the image carries no signature of PCR 11 by the key of the configuration, {}: ",
            key.public()
        );
        let error = find(bank, key, &value).unwrap_err();
        assert!(error.starts_with(&none), "{error}");
    }
    let error = find(Bank::Sha256, &ours, &[7; 32]).unwrap_err();
    let start = "the signatures by the key of the configuration are of other values of PCR 11";
    assert!(error.starts_with(start), "{error}");
}

#[test]
fn no_altered_byte_makes_it_panic() {
    let [ours, _] = made().each_ref().map(key);
    let entry = PcrSignature::new(&ours, Bank::Sha256, &[1; 32], None).unwrap();
    let text = PcrSignatures::new([(Bank::Sha256, vec![entry])])
        .to_json()
        .unwrap();
    for at in 0..text.len() {
        let mut altered = text.clone().into_bytes();
        altered[at] ^= 1;
        if let Ok(signatures) = PcrSignatures::parse(&altered) {
            drop(signatures.find(Bank::Sha256, ours.public(), &[1; 32], None));
        }
    }
}
