// SPDX-License-Identifier: Apache-2.0
//! Chains that `swtpm_localca` made, and chains made byte by byte in which one thing is wrong.

pub(in crate::evidence) mod made;

use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::support::swtpm::Swtpm;

/// A TPM that was manufactured with endorsement certificates by a local authority.
struct Manufactured {
    ek: Ek,
    certificate: Vec<u8>,
    root: String,
    issuer: String,
}

fn now() -> SystemTime {
    SystemTime::now() + Duration::from_secs(60)
}

fn manufactured() -> Manufactured {
    let mut swtpm = Swtpm::start();
    swtpm.reset_with(manufacture);
    let args = ["-G", "rsa", "-c", "ek", "-u", "ek.pub"];
    assert!(swtpm.tool("tpm2_createek", &args).status.success());
    let public = fs::read(swtpm.dir().join("ek.pub")).unwrap();
    // TCG's index of the certificate for an RSA key.
    let args = ["-o", "ek.der", "0x1c00002"];
    assert!(swtpm.tool("tpm2_nvread", &args).status.success());
    let text = |name: &str| fs::read_to_string(swtpm.dir().join("ca").join(name)).unwrap();
    Manufactured {
        ek: Ek::parse(&public[2..]).unwrap(),
        certificate: fs::read(swtpm.dir().join("ek.der")).unwrap(),
        root: text("swtpm-localca-rootca-cert.pem"),
        issuer: text("issuercert.pem"),
    }
}

fn manufacture(dir: &Path) {
    let at = |name: &str| dir.join(name).display().to_string();
    fs::create_dir(dir.join("ca")).unwrap();
    let authority = format!(
        "statedir = {ca}\nsigningkey = {ca}/key.pem\nissuercert = {ca}/issuercert.pem\n\
         certserial = {ca}/serial\n",
        ca = at("ca")
    );
    fs::write(dir.join("localca.conf"), authority).unwrap();
    let options = "--platform-manufacturer test\n--platform-version 1\n--platform-model test\n";
    fs::write(dir.join("options"), options).unwrap();
    let setup = format!(
        "create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = {}\n\
         create_certs_tool_options = {}\n",
        at("localca.conf"),
        at("options")
    );
    fs::write(dir.join("setup.conf"), setup).unwrap();
    let output = Command::new("swtpm_setup")
        .args(["--tpm2", "--create-ek-cert", "--overwrite"])
        .args(["--tpmstate", &at(""), "--config", &at("setup.conf")])
        .output()
        .expect("swtpm_setup (Debian: swtpm-tools)");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
}

#[test]
fn a_certificate_from_a_tpms_maker_is_accepted_for_that_tpm_only() {
    let tpm = manufactured();
    let authorities = Authorities::from_pem(&tpm.root, &tpm.issuer).unwrap();
    let verify = |certificate: &[u8], ek: &Ek| authorities.verify(certificate, &[], ek, now());
    verify(&tpm.certificate, &tpm.ek).unwrap();

    // An NV index may be larger than what is in it.
    for padding in [[0; 64], [0xff; 64]] {
        verify(&[&tpm.certificate[..], &padding].concat(), &tpm.ek).unwrap();
    }
    let followed = [&tpm.certificate[..], &[0, 1]].concat();
    assert_eq!(
        verify(&followed, &tpm.ek).unwrap_err().check,
        Check::Encoding
    );

    // In the signature, which is at the end; and in what is signed.
    let mut altered = tpm.certificate.clone();
    *altered.last_mut().unwrap() ^= 1;
    let refusal = verify(&altered, &tpm.ek).unwrap_err();
    assert_eq!(refusal.check, Check::EkChain);
    assert!(
        refusal.why.ends_with("nobody who is trusted issued it"),
        "{refusal}"
    );

    let another = manufactured();
    let refusal = verify(&tpm.certificate, &another.ek).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "check ek-key: the endorsement certificate is about another key"
    );
    let refusal = verify(&another.certificate, &another.ek).unwrap_err();
    assert_eq!(
        refusal.check,
        Check::EkChain,
        "another root of the same name"
    );
    Authorities::from_pem(&another.root, &another.issuer)
        .unwrap()
        .verify(&another.certificate, &[], &another.ek, now())
        .unwrap();
}

#[test]
fn an_intermediate_may_come_with_the_certificate_and_a_root_may_not() {
    let tpm = manufactured();
    let der = |text: &str| {
        let (_, der) = pem::decode_vec(text.as_bytes()).unwrap();
        der
    };
    let (root, issuer) = (der(&tpm.root), der(&tpm.issuer));
    let verify = |authorities: &Authorities, sent: &[Vec<u8>]| {
        let result = authorities.verify(&tpm.certificate, sent, &tpm.ek, now());
        result.map_err(|refusal| refusal.check)
    };
    let only_root = Authorities::from_pem(&tpm.root, "").unwrap();
    assert_eq!(verify(&only_root, &[]), Err(Check::EkChain));
    assert_eq!(verify(&only_root, std::slice::from_ref(&issuer)), Ok(()));
    let nobody = Authorities::default();
    assert!(nobody.is_empty());
    assert_eq!(
        verify(&nobody, &[issuer.clone(), root]),
        Err(Check::EkChain)
    );
    let too_many = vec![issuer; INTERMEDIATES_MAX + 1];
    assert_eq!(verify(&only_root, &too_many), Err(Check::EkChain));
}

#[test]
fn no_altered_byte_of_a_certificate_is_accepted() {
    let tpm = manufactured();
    let authorities = Authorities::from_pem(&tpm.root, &tpm.issuer).unwrap();
    for at in 0..tpm.certificate.len() {
        let mut altered = tpm.certificate.clone();
        altered[at] ^= 0x10;
        let result = authorities.verify(&altered, &[], &tpm.ek, now());
        assert!(result.is_err(), "byte {at}");
    }
}

#[test]
fn text_without_certificates_trusts_nobody_and_half_a_certificate_is_refused() {
    assert!(Authorities::from_pem("nothing", "").unwrap().is_empty());
    for (text, why) in [
        (BEGIN.to_owned(), "it has no end"),
        (format!("{BEGIN}\nAAAA\n{END}"), ""),
    ] {
        let refusal = Authorities::from_pem(&text, "").unwrap_err();
        assert_eq!(refusal.check, Check::Encoding);
        assert!(refusal.why.ends_with(why), "{refusal}");
    }
}
