// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::error::Exit;
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
fn the_value_before_any_phase_and_that_of_the_initrd_are_signed_and_no_later_one() {
    let bytes = program(&PARTS);
    let uki = Uki::parse(&bytes).unwrap();
    let values = uki
        .signed_values(Bank::Sha256)
        .map(|(phase, it)| (phase, hex::encode(it)));
    let expected = [(None, BEFORE_PHASES), (Some("enter-initrd"), IN_INITRD)];
    assert_eq!(
        values,
        expected.map(|(phase, value)| (phase, value.to_owned()))
    );

    let ours = key(&made()[0]);
    let signed = uki
        .sign(&ours, &[Bank::Sha256, Bank::Sha384], &[None])
        .unwrap();
    for bank in [Bank::Sha256, Bank::Sha384] {
        let entries = signed.of(bank);
        assert_eq!(entries.len(), 2);
        for (entry, (_, value)) in entries.iter().zip(uki.signed_values(bank)) {
            assert!(entry.is_for(ours.public(), bank, &value, None));
        }
    }
    assert_eq!(signed.of(Bank::Sha256)[1].pol, POLICY);
    assert!(signed.of(Bank::Sha512).is_empty());
}

#[test]
fn an_image_is_signed_by_a_key_for_what_it_measures() {
    let [ours, other] = made().each_ref().map(key);
    let signatures = |bytes: &[u8], key: &PcrKey| {
        let signed = Uki::parse(bytes)
            .unwrap()
            .sign(key, &[Bank::Sha256], &[None]);
        signed.unwrap().to_json().unwrap()
    };
    let with = |parts: &[(&str, &[u8])], text: &str| {
        program(&[parts, &[(SIGNATURES, text.as_bytes())]].concat())
    };
    let told = |bytes: &[u8], key: &PcrKey, bank| {
        let uki = Uki::parse(bytes).unwrap();
        uki.check_signed(key.public(), bank, None).map_err(|error| {
            assert_eq!(error.exit(), Exit::Refused);
            error.to_string()
        })
    };
    let by = |bytes: &[u8], banks: &[Bank]| {
        let keys = Uki::parse(bytes).unwrap().signed_by(banks).unwrap();
        keys.map(|keys| keys.into_iter().collect::<Vec<_>>())
    };
    let plain = program(&PARTS);
    let text = signatures(&plain, &ours);
    let signed = with(&PARTS, &text);
    assert_eq!(told(&signed, &ours, Bank::Sha256), Ok(()));
    assert_eq!(by(&plain, &[Bank::Sha256]), None);
    let key_of_it = vec![ours.public().to_string()];
    assert_eq!(by(&signed, &[Bank::Sha384, Bank::Sha256]), Some(key_of_it));
    assert_eq!(by(&signed, &[Bank::Sha384]), Some(Vec::new()));
    // Without the firmware's variables no phase is measured, and the value of before is signed, too.
    let quiet = [(".cmdline", &b"efi=noruntime"[..]), PARTS[0], PARTS[2]];
    let quiet_text = signatures(&program(&quiet), &ours);
    assert_eq!(
        told(&with(&quiet, &quiet_text), &ours, Bank::Sha256),
        Ok(())
    );

    let refused = |bytes: &[u8], key: &PcrKey, bank, why: &str| {
        let said = told(bytes, key, bank).unwrap_err();
        assert!(said.contains(why), "{said}");
    };
    let another_key = "no signature of PCR 11 by the key of the configuration";
    refused(&plain, &ours, Bank::Sha256, "it has no section .pcrsig");
    refused(&signed, &other, Bank::Sha256, another_key);
    refused(&signed, &ours, Bank::Sha384, another_key);
    let of_another = with(&PARTS, &quiet_text);
    refused(
        &of_another,
        &ours,
        Bank::Sha256,
        "are of other values of PCR 11",
    );
    assert_eq!(by(&of_another, &[Bank::Sha256]), Some(Vec::new()));
    refused(
        &with(&PARTS, "text"),
        &ours,
        Bank::Sha256,
        "section .pcrsig: ",
    );
    // One that names the key and is of another.
    let forged = signatures(&plain, &other);
    let forged = forged.replace(&other.public().to_string(), &ours.public().to_string());
    refused(&with(&PARTS, &forged), &ours, Bank::Sha256, "is not by it");
}
