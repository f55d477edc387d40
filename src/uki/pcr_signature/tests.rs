// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::key::pcr::tests::{key, made};
use crate::support::unified::program;

/// The parts, the value in the initrd and the digest that `systemd-measure` of version 254 signs for them.
const PARTS: [(&str, &[u8]); 3] = [
    (".linux", b"LINUX\n"),
    (".cmdline", b"root=x"),
    (".initrd", b"INITRD\n"),
];
const IN_INITRD: &str = "b856b524b4cb96ea3c018da29deb000698458b221f756928546c9667a69fae88";
const BEFORE_PHASES: &str = "a4073b78b9ced4120946a5f66c4589e2e5e66b2ce8a62745b562c50ee73e2bb3";
const POLICY: &str = "006ef278db89030332f46f64d2ea0ba0650de6ba92174f88b56c815d3eb3f58c";

#[test]
fn the_policy_is_what_systemd_measure_signs() {
    let value = hex::decode(IN_INITRD).unwrap();
    let digest = |bank, value: &[u8]| hex::encode(policy_digest(bank, value).unwrap());
    assert_eq!(digest(Bank::Sha256, &value), POLICY);
    // The bank is a part of it.
    assert_ne!(digest(Bank::Sha384, &value), POLICY);
}

#[test]
fn the_value_before_any_phase_and_that_of_the_initrd_are_signed_and_no_later_one() {
    let bytes = program(&PARTS);
    let uki = Uki::parse(&bytes).unwrap();
    let values =
        PcrSignatures::values(&uki, Bank::Sha256).map(|(phase, it)| (phase, hex::encode(it)));
    let expected = [(None, BEFORE_PHASES), (Some("enter-initrd"), IN_INITRD)];
    assert_eq!(
        values,
        expected.map(|(phase, value)| (phase, value.to_owned()))
    );

    let ours = key(&made()[0]);
    let signed = PcrSignatures::sign(&uki, &ours, &[Bank::Sha256, Bank::Sha384]).unwrap();
    for bank in [Bank::Sha256, Bank::Sha384] {
        let entries = signed.of(bank);
        assert_eq!(entries.len(), 2);
        for (entry, (_, value)) in entries.iter().zip(PcrSignatures::values(&uki, bank)) {
            assert!(entry.is_for(ours.public(), bank, &value));
        }
    }
    assert_eq!(signed.of(Bank::Sha256)[1].pol, POLICY);
    assert!(signed.of(Bank::Sha512).is_empty());
    assert_eq!(signed.keys(), [hex::encode(ours.public().fingerprint())]);
}

/// Each field that a reader looks at, once: other PCRs, key, policy, signature and a reference.
#[test]
fn a_signature_is_for_one_key_bank_and_value() {
    let bytes = program(&PARTS);
    let uki = Uki::parse(&bytes).unwrap();
    let [ours, other] = made().each_ref().map(key);
    let signed = PcrSignatures::sign(&uki, &ours, &[Bank::Sha256]).unwrap();
    let value = hex::decode(IN_INITRD).unwrap();
    let entry = signed.of(Bank::Sha256)[1].clone();
    let is_for = |entry: &PcrSignature| entry.is_for(ours.public(), Bank::Sha256, &value);
    assert!(is_for(&entry));
    assert!(!entry.is_for(other.public(), Bank::Sha256, &value));
    assert!(!entry.is_for(ours.public(), Bank::Sha384, &value));
    assert!(!entry.is_for(ours.public(), Bank::Sha256, &Bank::Sha256.zero()));
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

    let long = vec![b' '; LEN_MAX + 1];
    for bad in [&b""[..], b"\0", b"[]", br#"{"sha256":[{}]}"#, &long] {
        let error = PcrSignatures::parse(bad).unwrap_err().to_string();
        assert!(error.starts_with("signatures of PCR values: "), "{error}");
    }
}
