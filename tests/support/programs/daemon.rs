// SPDX-License-Identifier: Apache-2.0
//! `nightlatchd` as a process, with a configuration, secrets and a policy of its own.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nightlatch::config::Role;

use crate::support::caller::{Caller, certificate};
use crate::support::machine::{Machine, USUAL, volume};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// How often to look whether something has happened.
pub(crate) const POLL: Duration = Duration::from_millis(20);
pub(crate) const MACHINES: u32 = 32;

/// How long the program may take to start, to stop or to notice something: many times what it does on a quiet machine, and
/// longer where tests/boots/harness/calibration.py has found a slow one.
pub(crate) fn patience() -> Duration {
    let figure = std::env::var("NIGHTLATCH_PACE").map_or(1.0, |text| text.parse().unwrap());
    Duration::from_secs(30).mul_f64(f64::max(1.0, figure))
}

pub(crate) struct Daemon {
    pub(crate) directory: PathBuf,
    pub(crate) at: SocketAddr,
    pub(crate) caller: Caller,
    child: Option<Child>,
}

impl Daemon {
    pub(crate) fn prepared() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nightlatchd-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let made = run(&["init", "--directory", &directory.display().to_string()]);
        assert!(made.status.success(), "{made:?}");
        let (certificate, key) = certificate();
        let enrolled: Vec<String> = (0..MACHINES).map(|n| Machine::new(n).ek_id()).collect();
        let value = hex::encode(USUAL);
        let policy = format!(
            "[ek]\nenrolled = {enrolled:?}\n[[image]]\nname = \"usual\"\npcrs = {{ 11 = [\"{value}\"] }}\n\
             [[role]]\nname = \"node\"\nvolumes = [\"state\"]\nimages = [\"usual\"]\n"
        );
        let free = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let at = free.local_addr().unwrap();
        let top = directory.display();
        let config = format!(
            "listen = \"{at}\"\npolicy = \"{top}/policy.toml\"\naudit = \"{top}/audit.jsonl\"\n\
             [tls]\ncertificate = \"{top}/cert.pem\"\nkey = \"{top}/key.pem\"\n\
             [secret]\nmaster = \"file:{top}/mastersecret.json\"\nmeasurement-salt = \"file:{top}/measurement-salt\"\n\
             [store]\nsqlite = \"{top}/store.sqlite\"\n\
             [limits]\npeer-connections = 4096\npeer-requests-per-s = 100000\nek-attestations-per-min = 100000\n"
        );
        for (name, text) in [
            ("policy.toml", &policy),
            ("nightlatchd.toml", &config),
            ("cert.pem", &certificate),
            ("key.pem", &key),
        ] {
            fs::write(directory.join(name), text).unwrap();
        }
        drop(free);
        Self {
            caller: Caller::new(at, &certificate),
            directory,
            at,
            child: None,
        }
    }

    pub(crate) fn config(&self) -> String {
        self.directory
            .join("nightlatchd.toml")
            .display()
            .to_string()
    }

    pub(crate) fn start(&mut self) {
        let child = command()
            .args(["serve", "--config", &self.config()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + patience();
        while self
            .caller
            .send("GET", "/readyz", None, &[])
            .map_or(0, |heard| heard.status)
            != 200
        {
            assert!(
                Instant::now() < deadline,
                "nightlatchd does not answer at {}",
                self.at
            );
            std::thread::sleep(POLL);
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &id])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.child.take().unwrap().wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        fs::remove_dir_all(&self.directory).unwrap();
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_nightlatchd"))
}

/// What it says to a command line.
pub(crate) fn run(arguments: &[&str]) -> Output {
    command().args(arguments).output().unwrap()
}

pub(crate) fn uuid(number: u32) -> String {
    format!("a6c7535f-0a9f-4c23-9524-{number:012x}")
}

/// Whether a machine is admitted to a volume; nothing where there was no answer.
pub(crate) fn is_admitted(caller: &Caller, owner: u32, number: u32) -> Option<bool> {
    let machine = Machine::new(owner);
    let body = serde_json::to_vec(&machine.introduction()).unwrap();
    let heard = caller.send("POST", "/kbs/v0/auth", None, &body).ok()?;
    if heard.status != 200 {
        return None;
    }
    let draft = machine.draft(&heard.json(), &[volume(&uuid(number), Role::State, None)]);
    let body = serde_json::to_vec(&draft.request()).unwrap();
    let heard = caller
        .send("POST", "/kbs/v0/attest", Some(&heard.session()), &body)
        .ok()?;
    match heard.status {
        200 => Some(true),
        401 => Some(false),
        _ => None,
    }
}
