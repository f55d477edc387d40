// SPDX-License-Identifier: Apache-2.0
//! The program that is measured, with its fleet registered beforehand.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::support::caller::{Caller, certificate};
use crate::support::etcd;
use crate::support::machine::{Machine, USUAL};
use nightlatch::config::Role;
use nightlatch::keyservice::config::StoreAt;
use nightlatch::keyservice::registry::{NODES, NodeEntry, VOLUMES, VolumeEntry};
use nightlatch::keyservice::secrets::init;
use nightlatch::keyservice::store::Store;
use nightlatch::protocol::VolumeRecord;

/// What the kernel counts processor time in (`USER_HZ`, the same on all of x86).
const TICKS_PER_S: f64 = 100.0;
const START_MAX: Duration = Duration::from_secs(120);
/// Writes at once while the fleet is registered.
const BATCH: usize = 5000;

/// Limits that no storm reaches.
const FAR: &str = "[limits]\npeer-connections = 4096\npeer-requests-per-s = 1000000\n\
                   ek-attestations-per-min = 1000000\n";
/// Those that the program has by itself.
pub(crate) const USUAL_LIMITS: &str = "";

/// Where it remembers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Sqlite,
    Etcd,
}

impl Kind {
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "sqlite" => Self::Sqlite,
            "etcd" => Self::Etcd,
            other => panic!("unknown store {other}"),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Etcd => "etcd",
        }
    }
}

pub(crate) struct Daemon {
    directory: PathBuf,
    child: Child,
    _etcd: Option<etcd::Server>,
    pub(crate) kind: Kind,
    pub(crate) caller: Caller,
    /// How many nodes are enrolled and registered.
    pub(crate) nodes: u32,
}

impl Daemon {
    /// With `nodes` nodes that are enrolled, `machines` among them; all the others are registered already.
    pub(crate) fn start(program: &Path, kind: Kind, machines: &[Machine], nodes: u32) -> Self {
        Self::limited(program, kind, machines, nodes, FAR)
    }

    /// The same with these limits.
    pub(crate) fn limited(
        program: &Path,
        kind: Kind,
        machines: &[Machine],
        nodes: u32,
        limits: &str,
    ) -> Self {
        let name = format!(
            "nightlatch-bench-{}-{}-{nodes}",
            std::process::id(),
            kind.name()
        );
        let directory = std::env::temp_dir().join(name);
        init::write(&directory).unwrap();
        let etcd = matches!(kind, Kind::Etcd).then(etcd::Server::start);
        let store = match &etcd {
            Some(server) => format!("etcd = {{ endpoints = [{:?}] }}", server.url()),
            None => format!("sqlite = \"{}/store.sqlite\"", directory.display()),
        };
        let others = nodes.saturating_sub(machines.len() as u32);
        let others: Vec<String> = (0..others).map(stranger).collect();
        register(&toml::from_str(&store).unwrap(), &others);
        let (certificate, key) = certificate();
        fs::write(directory.join("cert.pem"), &certificate).unwrap();
        fs::write(directory.join("key.pem"), key).unwrap();
        let enrolled: Vec<String> = machines.iter().map(Machine::ek_id).chain(others).collect();
        fs::write(directory.join("policy.toml"), policy(&enrolled)).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        drop(socket);
        let config = directory.join("nightlatchd.toml");
        fs::write(&config, configuration(&directory, at, &store, limits)).unwrap();
        let child = Command::new(program)
            .args(["serve".as_ref(), "--config".as_ref(), config.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let caller = Caller::new(at, &certificate);
        let deadline = Instant::now() + START_MAX; // wait: limit
        while caller.send("GET", "/readyz", None, &[]).is_err() {
            assert!(Instant::now() < deadline, "the service does not start");
            std::thread::sleep(Duration::from_millis(50)); // wait: event
        }
        Self {
            directory,
            child,
            _etcd: etcd,
            kind,
            caller,
            nodes,
        }
    }

    /// Processor time of the service so far, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        seconds(&format!("/proc/{}/stat", self.child.id()))
    }

    /// A line of `/proc/PID/status`, in MiB.
    pub(crate) fn memory_mib(&self, name: &str) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        let kib: f64 = line
            .trim_matches(|c: char| !c.is_ascii_digit())
            .parse()
            .unwrap();
        kib / 1024.0
    }

    /// How many lines of this event the audit log has.
    pub(crate) fn count(&self, event: &str) -> usize {
        let text = fs::read_to_string(self.directory.join("audit.jsonl")).unwrap();
        text.matches(&format!("\"event\":\"{event}\"")).count()
    }

    pub(crate) fn stop(mut self) {
        let id = self.child.id().to_string();
        let told = Command::new("kill").arg(&id).status().unwrap();
        assert!(told.success() && self.child.wait().unwrap().success());
        fs::remove_dir_all(&self.directory).unwrap();
    }
}

/// Processor time of this process so far, in seconds: the scheduler's count, since that of `stat` is coarse.
pub(crate) fn own_seconds() -> f64 {
    let text = fs::read_to_string("/proc/self/schedstat").unwrap();
    let nanoseconds: f64 = text.split(' ').next().unwrap().parse().unwrap();
    nanoseconds / 1e9
}

/// User and system time of all threads, living and dead (`proc_pid_stat(5)`, fields 14 and 15).
fn seconds(stat: &str) -> f64 {
    let text = fs::read_to_string(stat).unwrap();
    let (_, rest) = text.rsplit_once(") ").unwrap();
    let ticks = rest.split(' ').skip(11).take(2);
    ticks
        .map(|ticks| ticks.parse::<f64>().unwrap())
        .sum::<f64>()
        / TICKS_PER_S
}

/// The id of a node that stays silent.
fn stranger(number: u32) -> String {
    hex::encode(Sha256::digest(
        [&b"silent"[..], &number.to_be_bytes()].concat(),
    ))
}

fn register(at: &StoreAt, others: &[String]) {
    let store = Store::open(at).unwrap();
    let entries = others.iter().zip(0_u32..).flat_map(|(ek, number)| {
        let node = NodeEntry {
            first_seen_s: 1,
            last_seen_s: 1,
            image: "usual".into(),
            address: "192.0.2.1".into(),
            denial: None,
            failure: None,
        };
        let volume = VolumeEntry {
            ek: ek.clone(),
            role: Role::State,
            registered_s: 1,
            record: VolumeRecord {
                key_id: Some("ab".repeat(32)),
                epoch: 1,
                nonce: None,
            },
            own_secret: false,
            accepted: None,
            readmission: None,
            answered_s: None,
            void_s: None,
            rollback: None,
            rollback_by: None,
            answered_to: None,
        };
        [
            (format!("{NODES}{ek}"), serde_json::to_vec(&node).unwrap()),
            (
                format!("{VOLUMES}{}", uuid(u64::from(number) | 1 << 40)),
                serde_json::to_vec(&volume).unwrap(),
            ),
        ]
    });
    let entries: Vec<_> = entries.collect();
    for batch in entries.chunks(BATCH) {
        assert!(store.create(batch).unwrap().iter().all(Option::is_none));
    }
}

/// The UUID of a volume.
pub(crate) fn uuid(number: u64) -> String {
    format!("a6c7535f-0a9f-4c23-9524-{number:012x}")
}

fn policy(enrolled: &[String]) -> String {
    let mut text = String::from("[ek]\nenrolled = [\n");
    for id in enrolled {
        writeln!(text, "  \"{id}\",").unwrap();
    }
    let value = hex::encode(USUAL);
    text + &format!(
        "]\n[[image]]\nname = \"usual\"\npcrs = {{ 11 = [\"{value}\"] }}\n\
         [[role]]\nname = \"node\"\nvolumes = [\"state\"]\nimages = [\"usual\"]\n"
    )
}

fn configuration(directory: &Path, at: SocketAddr, store: &str, limits: &str) -> String {
    let top = directory.display();
    format!(
        "listen = \"{at}\"\npolicy = \"{top}/policy.toml\"\naudit = \"{top}/audit.jsonl\"\n\
         [tls]\ncertificate = \"{top}/cert.pem\"\nkey = \"{top}/key.pem\"\n\
         [secret]\nmaster = \"file:{top}/mastersecret.json\"\n\
         measurement-salt = \"file:{top}/measurement-salt\"\n[store]\n{store}\n{limits}"
    )
}
