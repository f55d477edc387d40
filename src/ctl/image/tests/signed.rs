// SPDX-License-Identifier: Apache-2.0
//! An image whose configuration seals to the key that signs images.

use super::*;
use crate::key::pcr::tests::{key, made};
use crate::pcr::Bank;
use crate::uki::Pe;

const DEBIAN: &[u8] = include_bytes!("../../../../tests/fixtures/evidence/debian-uefi-ca.der");

/// An initrd whose configuration seals to a key that signs images, and the image around it with the signatures that are made.
#[test]
fn an_image_that_is_sealed_to_a_key_has_to_carry_its_signature() {
    let [ours, other] = made().each_ref().map(key);
    let (pem, der) = certificate("owner");
    let mut initrd = Initrd::whole(&pem);
    let keys = "[tpm.signed]\nkeys = [\"/etc/nightlatch/pcr.pem\"]\n";
    let config = format!("{keys}{CONFIG}");
    initrd.put("etc/nightlatch/nightlatch.toml", Made::file(config));
    let public = made()[0].public_key_to_pem().unwrap();
    initrd.put("etc/nightlatch/pcr.pem", Made::file(public));
    let kernel = program(&[(".text", b"the kernel")]);
    let plain = image(&initrd.bytes(), LINE, &kernel, "257");
    let carrying = |signatures: &str| {
        let program = Pe::parse(&plain).unwrap();
        let made = program.with_section(".pcrsig", signatures.as_bytes());
        told(&signed(made.unwrap(), &der))
    };
    let uki = Uki::parse(&plain).unwrap();
    let by = |key| {
        let signed = uki.sign(key, &[Bank::Sha256], &[None]).unwrap();
        signed.to_json().unwrap()
    };
    let (exit, text) = carrying(&by(&ours));
    assert_eq!((exit, missing(&text)), (None, Vec::new()));
    let good = format!("by the key of the configuration, {}", ours.public());
    assert!(text.contains(&good), "{text}");
    let start = "signature of PCR 11: ";
    for ((exit, text), what) in [
        (carrying(&by(&other)), "the image carries no signature"),
        (carrying("{}"), "the image carries no signature"),
        (
            told(&signed(plain.clone(), &der)),
            "it has no section .pcrsig",
        ),
    ] {
        assert_eq!(exit, Some(Exit::Refused), "{what}: {text}");
        let lines = missing(&text);
        let why = format!("{start}{what}");
        assert!(lines.len() == 1 && lines[0].starts_with(&why), "{lines:?}");
    }

    // A key that is none is named, once.
    let mut broken = initrd.clone();
    broken.put("etc/nightlatch/pcr.pem", Made::file(pem.as_str()));
    let bytes = image(&broken.bytes(), LINE, &kernel, "257");
    let (_, text) = told(&signed(bytes, &der));
    let lines = missing(&text);
    let why = "certificates: /etc/nightlatch/pcr.pem: expected an RSA public key";
    assert!(lines.len() == 1 && lines[0].starts_with(why), "{lines:?}");

    // And who else signs programs is no authority beside it.
    initrd.put("etc/nightlatch/authority.pem", Made::file(DEBIAN));
    let (_, text) = told(&image(&initrd.bytes(), LINE, &kernel, "257"));
    let vendor = "signatures: Debian Secure Boot CA is listed";
    assert!(
        missing(&text).iter().any(|it| it.contains(vendor)),
        "{text}"
    );
    initrd.put("etc/nightlatch/nightlatch.toml", Made::file(CONFIG));
    let (_, text) = told(&image(&initrd.bytes(), LINE, &kernel, "257"));
    assert!(
        !missing(&text).iter().any(|it| it.contains(vendor)),
        "{text}"
    );
}
