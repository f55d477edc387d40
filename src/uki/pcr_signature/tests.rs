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
    let signed = uki.sign(&ours, &[Bank::Sha256, Bank::Sha384]).unwrap();
    for bank in [Bank::Sha256, Bank::Sha384] {
        let entries = signed.of(bank);
        assert_eq!(entries.len(), 2);
        for (entry, (_, value)) in entries.iter().zip(uki.signed_values(bank)) {
            assert!(entry.is_for(ours.public(), bank, &value));
        }
    }
    assert_eq!(signed.of(Bank::Sha256)[1].pol, POLICY);
    assert!(signed.of(Bank::Sha512).is_empty());
    assert_eq!(signed.keys(), [hex::encode(ours.public().fingerprint())]);
}
