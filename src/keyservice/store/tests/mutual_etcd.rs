// SPDX-License-Identifier: Apache-2.0
//! What a cluster promises beside that: who may ask it, who is believed, and what is left alone.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

use super::{Store, StoreAt, pair};
use crate::error::{Exit, Result};
use crate::support::etcd::Server;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca() -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes `NAME.pem` and `NAME.key` of somebody at 127.0.0.1.
fn issue(directory: &Path, name: &str, ca: &Ca) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = params.signed_by(&key, ca).unwrap();
    std::fs::write(directory.join(format!("{name}.pem")), certificate.pem()).unwrap();
    std::fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

fn open(text: &str) -> Result<Store> {
    Store::open(&StoreAt::Etcd(toml::from_str(text).unwrap()))
}

#[test]
fn both_sides_show_certificates_and_a_stranger_is_refused_by_either() {
    let directory = std::env::temp_dir().join(format!("nightlatch-pki-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let (ours, theirs) = (ca(), ca());
    std::fs::write(directory.join("ours.pem"), ours.pem()).unwrap();
    std::fs::write(directory.join("theirs.pem"), theirs.pem()).unwrap();
    issue(&directory, "member", &ours);
    issue(&directory, "service", &ours);
    issue(&directory, "stranger", &theirs);
    let file = |name: &str| directory.join(name).display().to_string();
    let server = Server::with(
        "https",
        &[
            format!("--cert-file={}", file("member.pem")),
            format!("--key-file={}", file("member.key")),
            format!("--trusted-ca-file={}", file("ours.pem")),
            "--client-cert-auth".to_owned(),
        ],
    );
    let text = |ca: &str, who: Option<&str>| {
        let who = who.map_or_else(String::new, |who| {
            let (certificate, key) = (file(&format!("{who}.pem")), file(&format!("{who}.key")));
            format!("certificate = {certificate:?}\nkey = {key:?}\n")
        });
        let endpoint = format!("https://{}", server.at);
        format!("endpoints = [{endpoint:?}]\nca = {:?}\n{who}", file(ca))
    };
    let store = open(&text("ours.pem", Some("service"))).unwrap();
    store.create(&[pair("a/1", "one")]).unwrap();
    assert_eq!(store.get("a/1").unwrap().unwrap().value, b"one");
    for refused in [
        text("ours.pem", None),
        text("ours.pem", Some("stranger")),
        text("theirs.pem", Some("service")),
    ] {
        let error = open(&refused).unwrap_err();
        assert_eq!(error.exit(), Exit::Temporary, "{error}");
    }
    drop(server);
    let error = store.get("a/1").unwrap_err();
    assert_eq!(error.exit(), Exit::Temporary, "{error}");
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn fleets_in_one_cluster_do_not_see_each_other_and_a_later_version_is_left_alone() {
    let server = Server::start();
    let open = |prefix: &str| {
        let url = server.url();
        open(&format!("endpoints = [{url:?}]\nprefix = {prefix:?}"))
    };
    let (one, other) = (open("/one/").unwrap(), open("/one/more/").unwrap());
    one.create(&[pair("a/1", "one")]).unwrap();
    other
        .create(&[pair("a/1", "other"), pair("a/2", "x")])
        .unwrap();
    assert_eq!(one.get("a/1").unwrap().unwrap().value, b"one");
    assert_eq!(one.list("a/", "", 9).unwrap().len(), 1);
    assert_eq!(other.list("a/", "", 9).unwrap().len(), 2);
    let old = one.get("schema").unwrap().unwrap();
    assert_eq!(one.swap(&[(old, b"2".to_vec())]).unwrap(), [true]);
    let error = open("/one/").unwrap_err();
    assert!(
        error.to_string().contains("below /one/ has version 2"),
        "{error}"
    );
    open("/one/more/").unwrap();
}
