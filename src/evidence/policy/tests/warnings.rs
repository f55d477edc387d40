// SPDX-License-Identifier: Apache-2.0
//! What a policy leaves open.

use super::*;
use crate::evidence::eventlog::tests::SIGNED_CERTIFICATE;

/// The places of the warnings about an image with these rules.
fn places(rules: &str) -> Vec<String> {
    let text = format!("{EK}[[image]]\nname = \"usual\"\n{rules}\n{ROLE}");
    let policy = Policy::parse(&text, |_| Ok(SIGNED_CERTIFICATE.into())).unwrap();
    let warnings = policy.warnings();
    let place = |warning: &String| {
        let after = warning.strip_prefix("image \"usual\": ").unwrap();
        after.split(':').next().unwrap().to_owned()
    };
    warnings.iter().map(place).collect()
}

#[test]
fn an_image_is_told_which_pcrs_it_says_nothing_about() {
    let zeros = "00".repeat(32);
    let pcr = |index: u8| format!("pcrs.{index} = [\"{zeros}\"]\n");
    let hash = format!("uki-hash = [\"{zeros}\"]\n");
    let all: String = [2, 4, 7, 9, 12, 13].map(pcr).concat();
    assert_eq!(places(&all), Vec::<String>::new());
    for index in [2, 4, 7, 9, 12, 13] {
        let others = all.replace(&pcr(index), "");
        assert_eq!(places(&others), [format!("PCR {index}")]);
    }
    let whole = format!(
        "{hash}command-line = [\"x\"]\nsecure-boot = true\nauthorities = [\"owner.pem\"]\n{}",
        pcr(13)
    );
    assert_eq!(places(&whole), Vec::<String>::new());
    assert_eq!(
        places(&hash),
        ["PCR 2", "PCR 7", "PCR 9", "PCR 12", "PCR 13"]
    );
    let kernel = format!("{whole}kernel-hash = [\"{zeros}\"]\n");
    // The tables of pcrs come last.
    let kernel = kernel.replace(&pcr(13), "") + &pcr(13);
    assert_eq!(places(&kernel), ["PCR 9"]);
    let initrd = kernel.replace(
        &pcr(13),
        &format!("initrd-hash = [\"{zeros}\"]\n{}", pcr(13)),
    );
    assert_eq!(places(&initrd), Vec::<String>::new());
    let listed = format!("{hash}additions = [\"{zeros}\"]\n");
    assert_eq!(places(&listed), ["PCR 7", "PCR 9", "PCR 12", "PCR 13"]);
}

#[test]
fn a_root_of_a_public_cloud_is_told_to_vouch_for_every_tenant() {
    let policy = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let common = rcgen::DnType::CommonName;
        parameters.distinguished_name.push(common, name);
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = parameters.self_signed(&key).unwrap().pem();
        let zeros = "00".repeat(32);
        let all = [2, 4, 7, 9, 12, 13].map(|pcr| format!("pcrs.{pcr} = [\"{zeros}\"]\n"));
        let all = all.concat();
        let text =
            format!("[ek]\nroots = [\"root.pem\"]\n[[image]]\nname = \"usual\"\n{all}{ROLE}");
        Policy::parse(&text, |_| Ok(root.clone())).unwrap()
    };
    assert_eq!(policy("A factory's root").warnings(), Vec::<String>::new());
    let warnings = policy("Azure Virtual TPM Root Certificate Authority 2023").warnings();
    assert_eq!(warnings.len(), 1);
    let start = "[ek] roots: CN=Azure Virtual TPM Root Certificate Authority 2023 vouches for every \
                 machine of every tenant";
    assert!(warnings[0].starts_with(start), "{warnings:?}");
}
