// SPDX-License-Identifier: Apache-2.0
//! The policy's file, and which TPMs it trusts.

use super::*;
use crate::error::Exit;
use crate::evidence::chain::tests::made;

#[test]
fn a_tpm_is_trusted_when_its_key_is_enrolled() {
    let area = |seed| Key::new(seed).endorsement();
    let (mine, other) = (Ek::parse(&area(1)).unwrap(), Ek::parse(&area(2)).unwrap());
    let ek = format!("[ek]\nenrolled = [\"{}\"]\n", hex::encode(mine.id()));
    let text = format!("{ek}[[image]]\nname = \"usual\"\n{}\n{ROLE}", rules());
    let policy = parse(&text).unwrap();
    let now = SystemTime::now();
    assert_eq!(policy.trusts(&mine, None, &[], now), Ok(Trust::Enrolled));
    let refusal = policy.trusts(&other, None, &[], now).unwrap_err();
    assert_eq!(refusal.check, Check::EkTrust);
    assert!(refusal.why.contains(&hex::encode(other.id())), "{refusal}");
    // With nobody to check it by, a certificate says nothing.
    let refusal = policy.trusts(&other, Some(b"certificate"), &[], now);
    assert_eq!(refusal.unwrap_err().check, Check::EkTrust);
}

#[test]
fn a_tpm_is_trusted_when_a_root_vouches_for_its_key() {
    let chain = made::certified();
    let read = |file: &str| match file {
        "roots.pem" => Ok(chain.roots.clone()),
        "between.pem" => Ok(chain.intermediates.clone()),
        _ => Err(Error::config("no such file")),
    };
    let text = |ek: &str| format!("{ek}[[image]]\nname = \"usual\"\n{}\n{ROLE}", rules());
    let ek = "[ek]\nroots = [\"roots.pem\"]\nintermediates = [\"between.pem\"]\n";
    let policy = Policy::parse(&text(ek), read).unwrap();
    let certificate = Some(chain.certificate.as_slice());
    let trust = policy.trusts(&chain.ek, certificate, &[], chain.now);
    assert_eq!(trust, Ok(Trust::Certified));
    let refusal = policy.trusts(&chain.ek, None, &[], chain.now);
    assert_eq!(refusal.unwrap_err().check, Check::EkTrust);
    let refusal = policy.trusts(&chain.ek, certificate, &[], SystemTime::UNIX_EPOCH);
    assert_eq!(refusal.unwrap_err().check, Check::EkChain);
    let error = Policy::parse(&text(&ek.replace("roots.pem", "x.pem")), read).unwrap_err();
    assert_eq!(error.to_string(), "no such file");
}

#[test]
fn the_example_in_the_documentation_is_a_policy() {
    let source = include_str!("../../policy.rs")
        .replace("//! ", "")
        .replace("//!", "");
    let example = source.split("```toml").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    let roots = made::certified().roots;
    let policy = Policy::parse(example, |_| Ok(roots.clone())).unwrap();
    assert_eq!(policy.images().collect::<Vec<_>>(), ["2026.11"]);
    assert_eq!(policy.roles_of("2026.11").collect::<Vec<_>>(), ["worker"]);
    assert_eq!(policy.bank(), Bank::Sha256);
    assert_eq!(policy.cluster_pcr(), Pcr::SYSTEM_IDENTITY);
}

#[test]
fn a_wrong_policy_is_told_with_what_was_expected() {
    let good = format!("{EK}[[image]]\nname = \"usual\"\n{}\n{ROLE}", rules());
    parse(&good).unwrap();
    let hash = format!("uki-hash = [\"{}\"]", program());
    let cases = [
        ("secure-boot", "secureboot", "unknown field `secureboot`"),
        (EK, "", "[ek]: expected roots or enrolled keys"),
        (
            "00\"]",
            "\"]",
            "[ek] enrolled: expected SHA-256 digests of 32 bytes, found 31",
        ),
        ("00\"]", "0x\"]", "expected hexadecimal digits"),
        (&hash, "", "image \"usual\": expected pcrs or uki-hash"),
        (
            &hash,
            "uki-hash = []",
            "image \"usual\": uki-hash: expected at least one: a value",
        ),
        (
            &hash,
            "uki-hash = [\"00\"]",
            "expected 32 bytes of sha256, found 1",
        ),
        (
            &hash,
            "pcrs = { 16 = [\"00\"] }",
            "expected a PCR from 0 to 15, found 16",
        ),
        (
            &hash,
            "pcrs = { 07 = [\"00\"] }",
            "expected a PCR from 0 to 15, found \"07\"",
        ),
        (
            "images = [\"usual\"]",
            "images = [\"x\"]",
            "role \"worker\": there is no image \"x\"",
        ),
        (
            "images = [\"usual\"]",
            "images = []",
            "images: expected at least one: an image",
        ),
        (
            "volumes = [\"state\"]",
            "volumes = []",
            "volumes: expected at least one",
        ),
        (
            "volumes = [\"state\"]",
            "volumes = [\"swap\"]",
            "unknown variant `swap`",
        ),
        (ROLE, "", "missing field `role`"),
        (
            "[ek]",
            "bank = \"sha1\"\n[ek]",
            "bank: expected one that is not SHA-1",
        ),
    ];
    for (from, to, why) in cases {
        assert!(good.contains(from), "{from}");
        let error = parse(&good.replacen(from, to, 1)).unwrap_err();
        assert_eq!(error.exit(), Exit::Config);
        assert!(error.to_string().contains(why), "{error}: {why}");
    }
    for twice in [
        format!("{good}{ROLE}"),
        format!("{good}[[image]]\nname = \"usual\"\n{hash}\n"),
    ] {
        let error = parse(&twice).unwrap_err().to_string();
        assert!(error.starts_with("two of "), "{error}");
    }
}

#[test]
fn a_wrong_rule_about_what_ran_is_told_with_what_was_expected() {
    let good = format!("{EK}[[image]]\nname = \"usual\"\n{}\n{ROLE}", rules());
    let cases = [
        (
            "secure-boot = true",
            "secure-boot = true\nauthorities = []",
            "authorities: expected at least one: a certificate",
        ),
        (
            "secure-boot = true",
            "secure-boot = false\nauthorities = [\"owner.pem\"]",
            "authorities: expected secure-boot = true beside them",
        ),
        (
            "uki-hash",
            "pcrs = { 13 = [\"00\"] }\nkernel-hash",
            "kernel-hash: expected uki-hash beside them",
        ),
        (
            "secure-boot = true",
            "loader-hash = [\"00\"]",
            "loader-hash: expected 32 bytes of sha256, found 1",
        ),
        (
            "secure-boot = true",
            "firmware = []",
            "firmware: expected at least one: a version or digest",
        ),
        (
            "secure-boot = true",
            "additions = [\"00\"]",
            "additions: expected 32 bytes of sha256, found 1",
        ),
    ];
    for (from, to, why) in cases {
        assert!(good.contains(from), "{from}");
        let error = parse(&good.replacen(from, to, 1)).unwrap_err();
        assert_eq!(error.exit(), Exit::Config);
        assert!(error.to_string().contains(why), "{error}: {why}");
    }
}

#[test]
fn a_file_of_authorities_has_certificates() {
    let rules = format!("{}\nauthorities = [\"owner.pem\"]", rules());
    let text = format!("{EK}[[image]]\nname = \"usual\"\n{rules}\n{ROLE}");
    let roots = made::certified().roots;
    Policy::parse(&text, |_| Ok(roots.clone())).unwrap();
    let error = Policy::parse(&text, |_| Ok("none".into())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "image \"usual\": authorities: owner.pem: no certificate in it"
    );
}

#[test]
fn certificates_are_read_beside_the_policy() {
    let text = format!(
        "[ek]\nroots = [\"roots.pem\"]\n[[image]]\nname = \"usual\"\n{}\n{ROLE}",
        rules()
    );
    let error = Policy::parse(&text, |_| Ok("no certificate".into())).unwrap_err();
    assert_eq!(error.to_string(), "roots.pem: no certificate in it");
    let directory = std::env::temp_dir().join(format!("nightlatch-policy-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    let path = directory.join("policy.toml");
    fs::write(&path, text).unwrap();
    let error = Policy::load(&path).unwrap_err();
    let roots = directory.join("roots.pem");
    let start = format!("{}: {}: ", path.display(), roots.display());
    assert!(error.to_string().starts_with(&start), "{error}");
    assert_eq!(error.exit(), Exit::Config);
    fs::remove_dir_all(&directory).unwrap();
}
