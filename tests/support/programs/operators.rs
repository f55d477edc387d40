// SPDX-License-Identifier: Apache-2.0
//! A service with an admin listener, and operators with certificates.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use serde_json::Value;

use crate::programs::daemon::Daemon;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca() -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes `NAME.pem` and `NAME.key`.
fn issue(directory: &Path, name: &str, ca: &Ca, usage: ExtendedKeyUsagePurpose) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![usage];
    let certificate = params.signed_by(&key, ca).unwrap();
    fs::write(directory.join(format!("{name}.pem")), certificate.pem()).unwrap();
    fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

/// A service with an admin listener.
pub(crate) struct Admin {
    pub(crate) daemon: Daemon,
    pub(crate) at: SocketAddr,
}

impl Admin {
    pub(crate) fn start() -> Self {
        let mut daemon = Daemon::prepared();
        let directory = daemon.directory.clone();
        let (ours, theirs) = (ca(), ca());
        fs::write(directory.join("ours.pem"), ours.pem()).unwrap();
        fs::write(directory.join("theirs.pem"), theirs.pem()).unwrap();
        issue(
            &directory,
            "admin",
            &ours,
            ExtendedKeyUsagePurpose::ServerAuth,
        );
        issue(
            &directory,
            "alice",
            &ours,
            ExtendedKeyUsagePurpose::ClientAuth,
        );
        issue(
            &directory,
            "mallory",
            &theirs,
            ExtendedKeyUsagePurpose::ClientAuth,
        );
        let at = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let top = directory.display();
        let admin = format!(
            "[admin]\nlisten = \"{at}\"\ncertificate = \"{top}/admin.pem\"\nkey = \"{top}/admin.key\"\n\
             client-ca = \"{top}/ours.pem\"\n"
        );
        let text = fs::read_to_string(daemon.config()).unwrap();
        fs::write(daemon.config(), text + &admin).unwrap();
        daemon.start();
        Self { daemon, at }
    }

    /// `nightlatchctl nodes`, as somebody with a certificate.
    pub(crate) fn nodes_as(&self, who: &str, ca: &str, words: &[&str]) -> Output {
        let file = |name: String| self.daemon.directory.join(name).display().to_string();
        Command::new(env!("CARGO_BIN_EXE_nightlatchctl"))
            .arg("nodes")
            .args(words)
            .args(["--server", &format!("https://localhost:{}", self.at.port())])
            .args(["--cert", &file(format!("{who}.pem"))])
            .args(["--key", &file(format!("{who}.key"))])
            .args(["--ca", &file(format!("{ca}.pem"))])
            .output()
            .unwrap()
    }

    pub(crate) fn nodes(&self, words: &[&str]) -> Output {
        self.nodes_as("alice", "ours", words)
    }

    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let output = self.nodes(&[words, &["--json"]].concat());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) fn audit(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.daemon.directory.join("audit.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}
