// SPDX-License-Identifier: Apache-2.0
//! A node with a TPM whose boot is played, and what its operator has.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::*;
use crate::config::{Config, Role, Tcti};
use crate::error::Exit;
use crate::evidence::key::Ek;
use crate::key::KEY_LEN;
use crate::sources::recovery::{OperatorSession, Refusal, Waiting};
use crate::sources::service::ServiceSession;
use crate::support::swtpm::Swtpm;
use crate::tpm::{AkKind, Tpm};

pub(super) const UUID: &str = "a6c7535f-0a9f-4c23-9524-fed431126906";
pub(super) const OTHER: &str = "b7d8646f-1baf-4d34-8635-0fe542237a17";
pub(super) const KEY_ID: &str = "ab";

/// A node that waits for the key of a volume, and what its operator has.
pub(super) struct Node {
    pub(super) swtpm: Swtpm,
    pub(super) directory: PathBuf,
    pub(super) config: Config,
    pub(super) port: u16,
}

pub(super) fn ssh_key(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
        .arg(&path)
        .status();
    assert!(made.unwrap().success());
    path
}

impl Node {
    pub(super) fn new(lines: &str) -> Self {
        Self::of(lines, None)
    }

    /// Another node of the same operator, whose machine has what it takes for both.
    pub(super) fn beside(&self) -> Self {
        let other = Self::of("", Some(&self.path("operator")));
        self.write_policy_of(&[self.ek(), other.ek()], &[0; 32]);
        other
    }

    fn of(lines: &str, identity: Option<&Path>) -> Self {
        let swtpm = Swtpm::start();
        let directory = swtpm.dir().join("operator");
        fs::create_dir_all(&directory).unwrap();
        let identity = identity.map_or_else(|| ssh_key(&directory, "operator"), Path::to_path_buf);
        let operator = fs::read_to_string(identity.with_extension("pub")).unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        let text = format!(
            "boot.authorities = [\"/authority.der\"]\ntpm.tcti = \"swtpm:port={}\"\n{lines}\
             [recovery]\noperators = [{:?}]\nport = {port}\nwait-s = 120\n\
             [[volume]]\nname = \"state\"\ndevice = \"/dev/null\"\nrole = \"state\"\nmount = \"/state\"\n\
             sources = [{}\"recovery\"]\n",
            swtpm.port(),
            operator.trim(),
            if lines.is_empty() {
                "\"tpm\", "
            } else {
                "\"service\", "
            },
        );
        let node = Self {
            config: Config::parse(&text).unwrap(),
            swtpm,
            directory,
            port,
        };
        fs::write(node.path("key"), [5; KEY_LEN]).unwrap();
        node.write_policy(&node.ek(), &[0; 32]);
        node
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn ek(&self) -> String {
        let port = self.swtpm.port();
        let mut tpm = Tpm::open(&Tcti::Swtpm { port }).unwrap();
        let identity = tpm.identity(AkKind::Ecdsa, None).unwrap();
        hex::encode(Ek::parse(&identity.ek_public).unwrap().id())
    }

    pub(super) fn write_policy(&self, ek: &str, value: &[u8; 32]) {
        self.write_policy_of(&[ek.to_owned()], value);
    }

    fn write_policy_of(&self, eks: &[String], value: &[u8; 32]) {
        let value = hex::encode(value);
        let text = format!(
            "[ek]\nenrolled = {eks:?}\n\n[[image]]\nname = \"usual\"\npcrs = {{ 11 = [\"{value}\"] }}\n\n\
             [[role]]\nname = \"node\"\nvolumes = [\"state\", \"root\"]\nimages = [\"usual\"]\n"
        );
        fs::write(self.path("policy.toml"), text).unwrap();
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(super) fn options(&self) -> Recover {
        Recover {
            nodes: vec![self.address()],
            scan: None,
            policy: self.path("policy.toml"),
            master_secret: None,
            key_file: Some(self.path("key")),
            identity: self.path("operator"),
            expect: None,
            new_owner: false,
            words: Vec::new(),
            yes: true,
        }
    }

    /// What the boot of it tries: the key that is right opens the volume.
    pub(super) fn keyed(&self, session: &OperatorSession, right: &[u8]) -> Result<()> {
        let given = session.given(UUID)?;
        let key = given.as_ref().and_then(|given| given.key.as_ref());
        let why = match key.map(Secret::expose) {
            Some(key) if key == right => return Ok(()),
            Some(_) => "the secret does not open it",
            None => "no source gave it",
        };
        let refusal = Refusal::new(Error::refused(why), &[Need::Key]);
        let volume = self.config.volumes().next().unwrap();
        Err(session.note(volume, waits(), refusal))
    }

    /// Has it wait while `operators` work; what came of its boot.
    pub(super) fn wait(&self, operators: impl FnOnce()) -> Result<()> {
        let session = OperatorSession::open(&self.directory, &self.config).unwrap();
        self.wait_with(&session, operators, || self.keyed(&session, &[5; KEY_LEN]))
    }

    pub(super) fn wait_with(
        &self,
        session: &OperatorSession,
        operators: impl FnOnce(),
        boot: impl FnMut() -> Result<()> + Send,
    ) -> Result<()> {
        let service = ServiceSession::open(&self.directory, &self.config).unwrap();
        let waiting = Waiting {
            top: &self.directory,
            config: &self.config,
            service: &service,
        };
        thread::scope(|scope| {
            let boot = scope.spawn(move || session.attempt(waiting, boot));
            self.until_open();
            operators();
            boot.join().unwrap()
        })
    }

    pub(super) fn until_open(&self) {
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "the port is closed"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

pub(super) fn waits() -> WaitingVolume {
    WaitingVolume {
        name: "state".into(),
        uuid: UUID.into(),
        role: Role::State,
        key_id: Some(KEY_ID.into()),
        epoch: Some(4),
        needs: Vec::new(),
        why: String::new(),
    }
}

/// What the command says of the one node.
pub(super) fn said(options: &Recover) -> (Option<Exit>, Value) {
    let answer = recover(options).unwrap();
    (answer.exit, answer.json["nodes"][0].clone())
}

pub(super) fn refused(options: &Recover, why: &str) {
    let (exit, node) = said(options);
    assert!(exit.is_some() && node["recovered"] == false, "{node}");
    let error = node["error"].as_str().unwrap_or_default();
    assert!(error.contains(why), "{node}");
}

/// A push that was made by hand.
pub(super) fn push(
    node: &Node,
    session: Session,
    change: impl FnOnce(&mut Message),
) -> (Push, Result<Verdicts>) {
    let mut message = Message {
        version: VERSION,
        node: session.node().to_owned(),
        nonce: Bytes(session.nodes_nonce().to_vec()),
        said_s: 0,
        volumes: vec![PushedVolume {
            uuid: UUID.into(),
            key: Some(PushedKey(Secret::new(vec![5; KEY_LEN]))),
            words: Vec::new(),
            key_id: None,
            epoch: None,
        }],
    };
    change(&mut message);
    let text = frame(&message).unwrap()[PREFIX_LEN..].to_vec();
    let signature = signing::sign(&node.path("operator"), &text).unwrap();
    let push = Push {
        message: SignedText(Secret::new(text)),
        signature,
    };
    let verdicts = session.push(&push);
    (push, verdicts)
}

pub(super) fn connected(node: &Node) -> Session {
    let policy = Policy::load(&node.path("policy.toml")).unwrap();
    Session::open(&node.options().nodes[0], &policy).unwrap()
}
