// SPDX-License-Identifier: Apache-2.0
//! `nightlatchd` as a program: its commands, its signals, and what is left when it is killed.

#[path = "../../src/keyservice/tests/caller.rs"]
pub(crate) mod caller;
#[path = "../../src/keyservice/tests/machine.rs"]
pub(crate) mod machine;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub(crate) use ::nightlatch;
use caller::{Caller, certificate};
use machine::{Machine, USUAL, volume};
use nightlatch::config::Role;

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

fn run(arguments: &[&str]) -> Output {
    command().args(arguments).output().unwrap()
}

pub(crate) fn uuid(number: u32) -> String {
    format!("a6c7535f-0a9f-4c23-9524-{number:012x}")
}

/// What was acknowledged before the kill is there after it, and nobody else's.
#[test]
fn a_kill_in_the_middle_of_a_storm_loses_no_volume_that_was_acknowledged() {
    let mut daemon = Daemon::prepared();
    let next = AtomicU32::new(0);
    let acknowledged = Mutex::new(Vec::new());
    for round in 1..=3 {
        daemon.start();
        let over = AtomicBool::new(false);
        let enough = acknowledged.lock().unwrap().len() + 20;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let owner = number % MACHINES;
                        if is_admitted(&daemon.caller, owner, number) == Some(true) {
                            acknowledged.lock().unwrap().push((owner, number));
                        }
                    }
                });
            }
            let deadline = Instant::now() + 4 * patience();
            while acknowledged.lock().unwrap().len() < enough {
                assert!(Instant::now() < deadline, "round {round}");
                std::thread::sleep(POLL / 4);
            }
            daemon.signal("KILL");
            over.store(true, Ordering::Relaxed);
        });
        assert!(!daemon.wait().success());
    }
    daemon.start();
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() >= 60);
    for (owner, number) in acknowledged {
        let other = (owner + 1) % MACHINES;
        assert_eq!(
            is_admitted(&daemon.caller, other, number),
            Some(false),
            "volume {number}"
        );
        assert_eq!(
            is_admitted(&daemon.caller, owner, number),
            Some(true),
            "volume {number}"
        );
    }
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

#[test]
fn it_reloads_on_sighup_and_stops_on_sigterm() {
    let mut daemon = Daemon::prepared();
    daemon.start();
    let audit = daemon.directory.join("audit.jsonl");
    assert_eq!(is_admitted(&daemon.caller, 1, 1), Some(true));
    fs::rename(&audit, daemon.directory.join("audit.old")).unwrap();
    daemon.signal("HUP");
    let deadline = Instant::now() + patience();
    while !audit.exists() {
        assert!(
            Instant::now() < deadline,
            "the audit log was not opened again"
        );
        std::thread::sleep(POLL);
    }
    assert_eq!(is_admitted(&daemon.caller, 1, 1), Some(true));
    assert_eq!(lines(&audit), 1);
    daemon.signal("TERM");
    assert!(daemon.wait().success());
    assert!(daemon.caller.send("GET", "/readyz", None, &[]).is_err());
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap().lines().count()
}

#[test]
fn a_configuration_is_checked_with_all_it_names() {
    let daemon = Daemon::prepared();
    let check = || run(&["check", &daemon.config()]);
    let output = check();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("valid, images: usual"));
    assert!(!daemon.directory.join("store.sqlite").exists());
    for (name, text, said) in [
        ("policy.toml", "[[image]]\n", "policy: "),
        ("cert.pem", "", "tls: "),
        ("mastersecret.json", "{}", "reading the master secret: "),
        (
            "nightlatchd.toml",
            "listn = 1\n",
            "line 1: unknown field `listn`",
        ),
    ] {
        let path = daemon.directory.join(name);
        let good = fs::read(&path).unwrap();
        fs::write(&path, text).unwrap();
        let output = check();
        assert_eq!(output.status.code(), Some(78), "{name}: {output:?}");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            words.starts_with("nightlatchd: ") && words.contains(said),
            "{words}"
        );
        fs::write(&path, good).unwrap();
    }
    assert!(check().status.success());
}

#[test]
fn secrets_are_printed_only_where_asked_to_and_never_replaced() {
    let daemon = Daemon::prepared();
    let at = daemon.directory.join("second").display().to_string();
    let quiet = run(&["init", "--directory", &at]);
    assert!(quiet.status.success());
    let secret = fs::read_to_string(daemon.directory.join("second/mastersecret.json")).unwrap();
    let words = String::from_utf8(quiet.stdout).unwrap();
    assert!(words.contains("Keep a copy off this machine") && !words.contains(&secret));
    let again = run(&["init", "--directory", &at, "--print"]);
    assert_eq!(again.status.code(), Some(77), "{again:?}");
    assert!(again.stdout.is_empty());
    let at = daemon.directory.join("third").display().to_string();
    let loud = run(&["init", "--directory", &at, "--print"]);
    let secret = fs::read_to_string(daemon.directory.join("third/mastersecret.json")).unwrap();
    assert!(String::from_utf8(loud.stdout).unwrap().contains(&secret));
}

#[test]
fn it_tells_what_it_can_do() {
    let help = run(&["--help"]);
    assert!(help.status.success() && help.stdout.starts_with(b"Give keys to machines"));
    assert!(run(&["--version"]).stdout.starts_with(b"nightlatchd "));
    let wrong = run(&["open"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("unknown command \"open\""));
}
