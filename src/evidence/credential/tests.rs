// SPDX-License-Identifier: Apache-2.0
//! The TPM opens what this module makes, as it opens what `tpm2_makecredential` makes.

use super::*;
use crate::evidence::key::Ak;
use crate::support::swtpm::Swtpm;

const SECRET: [u8; 32] = *b"what the TPM has to give out: 32";

/// A TPM with an endorsement key and two keys below it.
struct Machine {
    swtpm: Swtpm,
    ek: Ek,
    ak: Ak,
}

fn tool(swtpm: &Swtpm, name: &str, args: &[&str]) -> bool {
    swtpm.tool(name, args).status.success()
}

impl Machine {
    fn with(kind: &str) -> Self {
        let swtpm = Swtpm::start();
        let ek = ["-G", kind, "-c", "ek", "-u", "ek.pub"];
        assert!(tool(&swtpm, "tpm2_createek", &ek));
        for name in ["ak", "other"] {
            let public = format!("{name}.pub");
            let ak = [
                "-C", "ek", "-c", name, "-G", "ecc", "-s", "ecdsa", "-g", "sha256",
            ];
            let ak = [&ak[..], &["-u", &public, "-f", "tss", "-n", "ak.name"]].concat();
            assert!(tool(&swtpm, "tpm2_createak", &ak));
        }
        let area = |name: &str| std::fs::read(swtpm.dir().join(name)).unwrap()[2..].to_vec();
        Self {
            ek: Ek::parse(&area("ek.pub")).unwrap(),
            ak: Ak::parse(&area("ak.pub")).unwrap(),
            swtpm,
        }
    }

    /// What the TPM gives out for a file of tpm2-tools, with this key loaded.
    fn activate(&self, file: &str, key: &str) -> Option<Vec<u8>> {
        let out = self.swtpm.dir().join("secret");
        if out.exists() {
            std::fs::remove_file(&out).unwrap();
        }
        let session = ["--policy-session", "-S", "session"];
        assert!(tool(&self.swtpm, "tpm2_startauthsession", &session));
        // The policy of the templates: whoever may use the endorsement hierarchy.
        assert!(tool(
            &self.swtpm,
            "tpm2_policysecret",
            &["-S", "session", "-c", "e"]
        ));
        let activate = [
            "-c",
            key,
            "-C",
            "ek",
            "-i",
            file,
            "-o",
            "secret",
            "-P",
            "session:session",
        ];
        let done = tool(&self.swtpm, "tpm2_activatecredential", &activate);
        assert!(tool(&self.swtpm, "tpm2_flushcontext", &["session"]));
        done.then(|| std::fs::read(&out).unwrap())
    }

    /// Writes a credential as tpm2-tools keeps one: a magic number, a version, both parts.
    fn write(&self, credential: &Credential) {
        let file = [
            &0xbadc_c0de_u32.to_be_bytes()[..],
            &1_u32.to_be_bytes(),
            &credential.id_object,
            &credential.encrypted_secret,
        ]
        .concat();
        std::fs::write(self.swtpm.dir().join("credential"), file).unwrap();
    }

    fn opens(&self, credential: &Credential, key: &str) -> Option<Vec<u8>> {
        self.write(credential);
        self.activate("credential", key)
    }
}

#[test]
fn the_tpm_gives_the_secret_out_for_the_named_key_only() {
    for kind in ["rsa", "ecc"] {
        let machine = Machine::with(kind);
        let name = machine.ak.name();
        let credential = make(&machine.ek, &name, &SECRET).unwrap();
        assert_eq!(machine.opens(&credential, "ak"), Some(SECRET.to_vec()));
        assert_eq!(machine.opens(&credential, "other"), None);

        let mut altered = credential.clone();
        *altered.id_object.last_mut().unwrap() ^= 1;
        assert_eq!(machine.opens(&altered, "ak"), None);

        // The same lengths as those of the other maker, and never the same bytes twice.
        std::fs::write(machine.swtpm.dir().join("plain"), SECRET).unwrap();
        let hex = hex::encode(name.as_bytes());
        let make_theirs = ["-u", "ek.pub", "-s", "plain", "-n", &hex, "-o", "theirs"];
        assert!(tool(&machine.swtpm, "tpm2_makecredential", &make_theirs));
        assert_eq!(machine.activate("theirs", "ak"), Some(SECRET.to_vec()));
        let theirs = std::fs::read(machine.swtpm.dir().join("theirs")).unwrap();
        let len = 8 + credential.id_object.len() + credential.encrypted_secret.len();
        assert_eq!(theirs.len(), len);
        let again = make(&machine.ek, &name, &SECRET).unwrap();
        assert_ne!(again.encrypted_secret, credential.encrypted_secret);
        assert_eq!(machine.opens(&again, "ak"), Some(SECRET.to_vec()));
    }
}

#[test]
fn another_tpm_does_not_give_the_secret_out() {
    let machine = Machine::with("ecc");
    let other = Machine::with("ecc");
    let credential = make(&other.ek, &machine.ak.name(), &SECRET).unwrap();
    assert_eq!(machine.opens(&credential, "ak"), None);
    let credential = make(&machine.ek, &machine.ak.name(), &SECRET).unwrap();
    assert_eq!(machine.opens(&credential, "ak"), Some(SECRET.to_vec()));
}
