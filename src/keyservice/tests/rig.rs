// SPDX-License-Identifier: Apache-2.0
//! A service of one test, in this process, with everything it needs in a directory of its own.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use serde_json::Value;
use tokio::sync::watch;

use crate::key::Secret;
use crate::keyservice::config::Config;
use crate::keyservice::run::bind;
use crate::keyservice::state::Service;
use crate::support::caller::{Caller, certificate};
use crate::support::machine::{Machine, USUAL};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Machines with these numbers are enrolled.
const ENROLLED: std::ops::Range<u32> = 0..16;

/// What the limits of a service begin with whose master secret is wrapped: the end of a table that is none of theirs.
const KMS_TABLE: &str = "[kms]\n";

pub(crate) struct Rig {
    directory: PathBuf,
    #[cfg(feature = "kms-openbao")]
    limits: String,
    pub(crate) caller: Caller,
    pub(crate) operations: Option<std::net::SocketAddr>,
    pub(crate) service: Arc<Service>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    owns_directory: bool,
}

impl Rig {
    pub(crate) fn start() -> Self {
        Self::with("")
    }

    /// A service whose limits are others.
    pub(crate) fn with(limits: &str) -> Self {
        Self::prepared(limits, |directory| {
            crate::keyservice::secrets::init::write(directory).unwrap();
        })
    }

    /// A service whose master secret this engine unwraps, with these lines in its table.
    #[cfg(feature = "kms-openbao")]
    pub(crate) fn wrapped(engine: &crate::keyservice::kms::tests::Engine, lines: &str) -> Self {
        let table = engine.table(lines);
        let kms: crate::keyservice::config::kms::Kms = toml::from_str(&table).unwrap();
        // The table is the last one but the limits.
        let limits = format!("{KMS_TABLE}{table}");
        Self::prepared(&limits, |directory| {
            let wrap = |master: &Secret| {
                let envelope = crate::keyservice::secrets::wrapped::wrap(&kms, master)?;
                envelope.text().map(zeroize::Zeroizing::new)
            };
            crate::keyservice::secrets::init::write_wrapped(directory, wrap).unwrap();
        })
    }

    /// Opens the service once more with what is in its directory now.
    #[cfg(feature = "kms-openbao")]
    pub(crate) fn reopen(&self) -> crate::error::Result<Service> {
        Service::open(&config(&self.directory, &self.limits))
    }

    fn prepared(limits: &str, make: impl FnOnce(&std::path::Path)) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nightlatch-service-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        make(&directory);
        let (certificate, key) = certificate();
        fs::write(directory.join("cert.pem"), certificate).unwrap();
        fs::write(directory.join("key.pem"), key).unwrap();
        let enrolled: Vec<String> = ENROLLED.map(|n| Machine::new(n).ek_id()).collect();
        let policy = policy(&enrolled, &USUAL);
        fs::write(directory.join("policy.toml"), policy).unwrap();
        let mut rig = Self::serve(directory, limits);
        rig.owns_directory = true;
        rig
    }

    /// Another service with the same secret and store.
    pub(crate) fn replica(&self) -> Self {
        Self::serve(self.directory.clone(), "")
    }

    fn serve(directory: PathBuf, limits: &str) -> Self {
        let config = config(&directory, limits);
        let (stop, stopped) = watch::channel(false);
        let (told, bound) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let bound = bind(config).await.unwrap();
                told.send((bound.address, bound.operations, bound.service()))
                    .unwrap();
                bound.serve(stopped).await;
            });
        });
        let (address, operations, service) = bound.recv().unwrap();
        let certificate = fs::read_to_string(directory.join("cert.pem")).unwrap();
        Self {
            caller: Caller::new(address, &certificate),
            directory,
            #[cfg(feature = "kms-openbao")]
            limits: limits.to_owned(),
            operations,
            service,
            stop,
            thread: Some(thread),
            owns_directory: false,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The lines of the audit log.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("audit.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The last of them.
    pub(crate) fn last(&self) -> Value {
        self.audit().pop().unwrap()
    }

    fn secrets(&self) -> (Vec<u8>, Vec<u8>) {
        use base64ct::{Base64, Encoding as _};
        let text = fs::read_to_string(self.path("mastersecret.json")).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        let bytes = |name: &str| Base64::decode_vec(value[name].as_str().unwrap()).unwrap();
        (bytes("key"), bytes("salt"))
    }

    pub(crate) fn master_secret(&self) -> Secret {
        Secret::new(self.secrets().0)
    }

    pub(crate) fn salt(&self) -> Vec<u8> {
        self.secrets().1
    }

    pub(crate) fn measurement_salt(&self) -> Vec<u8> {
        let text = fs::read_to_string(self.path("measurement-salt")).unwrap();
        hex::decode(text.trim()).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || std::thread::panicking());
        }
        if self.owns_directory {
            fs::remove_dir_all(&self.directory).unwrap();
        }
    }
}

/// A policy whose one image has this value of PCR 11, and may be any machine's with a state or a root volume.
pub(crate) fn policy(enrolled: &[String], value: &[u8; 32]) -> String {
    let value = hex::encode(value);
    format!(
        "[ek]\nenrolled = {enrolled:?}\n\n[[image]]\nname = \"usual\"\npcrs = {{ 11 = [\"{value}\"] }}\n\n\
         [[role]]\nname = \"node\"\nvolumes = [\"state\", \"root\"]\nimages = [\"usual\"]\n"
    )
}

/// The configuration. What comes as limits may be the table of a KMS instead.
fn config(directory: &std::path::Path, limits: &str) -> Config {
    let at = directory.display();
    let (master, limits) = match limits.strip_prefix(KMS_TABLE) {
        Some(_) => ("wrapped", format!("{limits}[limits]\n")),
        None => ("file", format!("[limits]\n{limits}\n")),
    };
    let name = match master {
        "wrapped" => "mastersecret.wrapped.json",
        _ => "mastersecret.json",
    };
    let text = format!(
        "listen = \"127.0.0.1:0\"\noperations-listen = \"127.0.0.1:0\"\n\
         policy = \"{at}/policy.toml\"\naudit = \"{at}/audit.jsonl\"\n\
         [tls]\ncertificate = \"{at}/cert.pem\"\nkey = \"{at}/key.pem\"\n\
         [secret]\nmaster = \"{master}:{at}/{name}\"\n\
         measurement-salt = \"file:{at}/measurement-salt\"\n\
         [store]\nsqlite = \"{at}/store.sqlite\"\n{limits}"
    );
    let text = if limits.contains("ek-attestations-per-min") {
        text
    } else {
        text + "ek-attestations-per-min = 100000\n"
    };
    Config::parse(&text).unwrap()
}
