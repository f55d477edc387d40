// SPDX-License-Identifier: Apache-2.0
//! The files of one key service, and its program.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

use crate::bao::Bao;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Longer than any of it takes: a confirmed refusal is a minute.
const READY_LIMIT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(100);

const POLICY: &str = "[ek]\nenrolled = [\"EK\"]\n[[image]]\nname = \"usual\"\npcrs = { 11 = [\"EK\"] }\n\
                      [[role]]\nname = \"node\"\nvolumes = [\"state\"]\nimages = [\"usual\"]\n";

/// A service that is not started yet.
pub(crate) struct Fleet {
    directory: PathBuf,
    operations: std::net::SocketAddr,
    child: Option<Child>,
}

/// A pair of P-256 as openssl makes it: the private and the public file.
pub(crate) fn key_pair(fleet: &Fleet, name: &str) -> (PathBuf, PathBuf) {
    let private = fleet.path(&format!("{name}.key"));
    let public = fleet.path(&format!("{name}.pem"));
    let openssl = |words: &[&str]| {
        let output = Command::new("openssl").args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let (from, to) = (private.display().to_string(), public.display().to_string());
    let curve = "ec_paramgen_curve:P-256";
    openssl(&[
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        curve,
        "-out",
        &from,
    ]);
    openssl(&["pkey", "-in", &from, "-pubout", "-out", &to]);
    (private, public)
}

/// Longer where tests/boots/harness/calibration.py has found a slower machine.
pub(crate) fn at_this_pace(quiet: Duration) -> Duration {
    let figure = std::env::var("NIGHTLATCH_PACE").map_or(1.0, |text| text.parse().unwrap());
    quiet.mul_f64(f64::max(1.0, figure))
}

impl Fleet {
    /// One that shows the token of who wraps.
    pub(crate) fn new(bao: &Bao, has_recovery: bool) -> Self {
        let fleet = Self::with(bao, "", has_recovery);
        fleet.hand_over(&bao.token("wrap"));
        fleet
    }

    /// One with these lines in the table of its KMS.
    pub(crate) fn with(bao: &Bao, lines: &str, has_recovery: bool) -> Self {
        let kms = format!(
            "provider = \"openbao\"\nkey = \"transit/nightlatch\"\nurl = \"{}\"\n{lines}",
            bao.url()
        );
        Self::of(&kms, has_recovery)
    }

    /// One whose KMS is in these lines.
    pub(crate) fn of(kms: &str, has_recovery: bool) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nightlatch-kms-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (nodes, operations) = (free(), free());
        let listen = nodes.local_addr().unwrap();
        let fleet = Self {
            directory,
            operations: operations.local_addr().unwrap(),
            child: None,
        };
        let at = fleet.directory.display();
        let recovery = if has_recovery {
            let (_, public) = key_pair(&fleet, "recovery");
            format!("recovery-key = \"{}\"\n", public.display())
        } else {
            String::new()
        };
        let config = format!(
            "listen = \"{listen}\"\noperations-listen = \"{}\"\npolicy = \"{at}/policy.toml\"\n\
             audit = \"{at}/audit.jsonl\"\n[tls]\ncertificate = \"{at}/cert.pem\"\nkey = \"{at}/key.pem\"\n\
             [secret]\nmaster = \"wrapped:{at}/mastersecret.wrapped.json\"\n\
             measurement-salt = \"file:{at}/measurement-salt\"\n[store]\nsqlite = \"{at}/store.sqlite\"\n\
             [kms]\ncredentials = \"file:{at}/token\"\nrecheck-s = 1\n{recovery}{kms}",
            fleet.operations
        );
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = names.self_signed(&key).unwrap();
        for (name, text) in [
            ("nightlatchd.toml", config),
            ("policy.toml", POLICY.replace("EK", &"00".repeat(32))),
            ("cert.pem", certificate.pem()),
            ("key.pem", key.serialize_pem()),
        ] {
            fs::write(fleet.path(name), text).unwrap();
        }
        fleet
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn config(&self) -> String {
        self.path("nightlatchd.toml").display().to_string()
    }

    /// Puts a token where the service reads it.
    pub(crate) fn hand_over(&self, token: &str) {
        let path = self.path("token");
        fs::write(&path, token).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_nightlatchd"))
            .args(words)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What it says, where all is good.
    pub(crate) fn good(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn init_words(&self) -> Vec<String> {
        let words = ["init", "--kms", "--config"].map(str::to_owned);
        let at = self.directory.display().to_string();
        [words.as_slice(), &[self.config(), "--directory".into(), at]].concat()
    }

    pub(crate) fn init(&self) {
        let words = self.init_words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.good(&words);
    }

    /// Makes the secrets of a service without a KMS, and wraps its master secret.
    pub(crate) fn wrap_plain(&self) {
        let plain = self.path("plain").display().to_string();
        self.good(&["init", "--directory", &plain]);
        fs::copy(
            self.path("plain/measurement-salt"),
            self.path("measurement-salt"),
        )
        .unwrap();
        let master = format!("{plain}/mastersecret.json");
        let wrapped = self.path("mastersecret.wrapped.json").display().to_string();
        self.good(&["kms", "wrap", "--config", &self.config(), &master, &wrapped]);
    }

    pub(crate) fn serve(&mut self) {
        let log = fs::File::create(self.path("said")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_nightlatchd"))
            .args(["serve", "--config", &self.config()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// What the running service has said.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.path("said")).unwrap()
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The status of `/readyz`, 0 where nobody answers.
    pub(crate) fn ready(&self) -> u16 {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build();
        let agent = ureq::Agent::new_with_config(config);
        let heard = agent
            .get(format!("http://{}/readyz", self.operations))
            .call();
        heard.map_or(0, |response| response.status().as_u16())
    }

    /// What the audit log has of the KMS.
    pub(crate) fn events(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("audit.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let lines = lines.filter(|line: &Value| line["step"] == "kms");
        let word = |line: &Value, name: &str| line[name].as_str().unwrap_or("-").to_owned();
        lines
            .map(|line| format!("{} {}", word(&line, "event"), word(&line, "check")))
            .collect()
    }

    /// Waits for what the service does by itself.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + at_this_pace(READY_LIMIT);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}\n{}", self.said());
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop();
        fs::remove_dir_all(&self.directory).unwrap();
    }
}
