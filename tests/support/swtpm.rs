// SPDX-License-Identifier: Apache-2.0
//! A private software TPM for one test.

use std::env;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long swtpm may take to listen on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(5);

/// How often a pair of ports is tried: another process may take one between choosing and binding, and where many tests run
/// at once the second one of a pair is often a connection's.
const PORT_TRIES: usize = 200;

/// Closes all but the standard streams, then becomes the program. tpm2-tss leaves its connections open across an exec: a
/// program that one test starts would keep the TPM of another busy, and swtpm serves one client at a time.
const ALONE: &str = r#"
    for open in /proc/self/fd/*; do
        fd=${open##*/}
        if [ "$fd" -gt 2 ]; then exec {fd}>&-; fi
    done
    exec "$0" "$@"
"#;

/// What bash exits with where there is no such program.
const NOT_FOUND: i32 = 127;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A running swtpm, killed when dropped. Its state lives in a directory of its own that goes with it.
#[derive(Debug)]
pub(crate) struct Swtpm {
    dir: PathBuf,
    process: Child,
    port: Option<u16>,
    seen: usize,
}

impl Swtpm {
    /// Starts a new TPM, manufactured on the spot, started up and listening on two ports on loopback.
    pub(crate) fn start() -> Self {
        let dir = new_dir();
        let (process, port) = serve(&dir);
        Self {
            dir,
            process,
            port: Some(port),
            seen: 0,
        }
    }

    /// Starts a new TPM that waits for a virtual machine at [`Swtpm::socket`]. The machine's firmware starts it up.
    pub(crate) fn for_vm() -> Self {
        let dir = new_dir();
        Self {
            process: serve_vm(&dir),
            dir,
            port: None,
            seen: 0,
        }
    }

    /// The command port. The control port is the next one.
    pub(crate) fn port(&self) -> u16 {
        self.port.expect("this TPM belongs to a virtual machine")
    }

    /// The socket for QEMU's `-chardev socket,path=`.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// Resets the machine: the PCRs start again, what is persistent stays. The ports change.
    pub(crate) fn reset(&mut self) {
        self.stop();
        self.serve_again();
    }

    /// Resets the machine, and lets `change` work on the TPM's directory while nothing runs.
    pub(crate) fn reset_with(&mut self, change: impl FnOnce(&Path)) {
        self.stop();
        change(&self.dir);
        self.serve_again();
    }

    /// Replaces the TPM by a new one.
    pub(crate) fn replace(&mut self) {
        self.stop();
        fs::remove_file(self.dir.join("tpm2-00.permall")).expect("removing the TPM's state");
        self.serve_again();
    }

    /// The command codes the TPM has seen since the last call.
    pub(crate) fn commands(&mut self) -> Vec<u32> {
        let codes = command_codes(&self.log());
        let new = codes.get(self.seen..).unwrap_or_default().to_vec();
        self.seen = codes.len();
        new
    }

    /// Runs one of the tpm2-tools against this TPM, in its directory, and flushes what it left loaded.
    pub(crate) fn tool(&self, name: &str, args: &[&str]) -> Output {
        let run = |name: &str, args: &[&str]| {
            let output = alone(name)
                .args(args)
                .current_dir(&self.dir)
                .env(
                    "TPM2TOOLS_TCTI",
                    format!("swtpm:host=127.0.0.1,port={}", self.port()),
                )
                .output()
                .expect("bash");
            let is_there = output.status.code() != Some(NOT_FOUND);
            assert!(is_there, "{name} (Debian: tpm2-tools): not found");
            output
        };
        let output = run(name, args);
        run("tpm2_flushcontext", &["-t"]);
        output
    }

    /// The directory of its state, for files that go with it.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What swtpm logged: every command and response, in hex.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).expect("reading swtpm's log")
    }

    /// The bytes of all commands and responses, as hexadecimal digits in a row.
    pub(crate) fn digits(&self) -> String {
        self.log()
            .lines()
            .filter(|line| line.starts_with(' '))
            .flat_map(str::chars)
            .filter(char::is_ascii_hexdigit)
            .collect::<String>()
            .to_lowercase()
    }

    fn serve_again(&mut self) {
        if self.port.is_some() {
            let (process, port) = serve(&self.dir);
            (self.process, self.port) = (process, Some(port));
        } else {
            self.process = serve_vm(&self.dir);
        }
    }

    fn stop(&mut self) {
        self.process.kill().expect("killing swtpm");
        self.process.wait().expect("waiting for swtpm");
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        self.stop();
        fs::remove_dir_all(&self.dir).expect("removing swtpm's directory");
    }
}

fn new_dir() -> PathBuf {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("nightlatch-swtpm-{}-{number}", std::process::id());
    let dir = env::temp_dir().join(name);
    fs::create_dir(&dir).expect("making swtpm's directory");
    dir
}

/// A command that inherits nothing.
pub(crate) fn alone(program: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", ALONE, program]);
    command
}

/// Starts swtpm with its state and its log in `dir` and waits until it listens; `None` if it ended at once, for want of
/// what `listening` names. Paths are absolute.
fn spawn(dir: &Path, listening: &[String]) -> Option<Child> {
    let file = |name: &str| format!("file={}", dir.join(name).display());
    let pid_file = dir.join("pid");
    if pid_file.exists() {
        fs::remove_file(&pid_file).expect("removing swtpm's pid file");
    }
    let mut process = alone("swtpm")
        .args(["socket", "--tpm2", "--tpmstate"])
        .arg(format!("dir={}", dir.display()))
        .args(["--pid", &file("pid")])
        .args(["--log", &format!("level=20,{}", file("log"))])
        .args(listening)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("bash");
    let start = Instant::now();
    // swtpm writes this file once it has its sockets.
    while !pid_file.exists() {
        if let Some(status) = process.try_wait().expect("asking for swtpm") {
            let is_there = status.code() != Some(NOT_FOUND);
            assert!(is_there, "swtpm (Debian: swtpm): not found");
            return None;
        }
        if start.elapsed() > START_LIMIT {
            process.kill().expect("killing swtpm");
            process.wait().expect("waiting for swtpm");
            panic!("swtpm did not listen within {START_LIMIT:?}");
        }
        thread::sleep(POLL);
    }
    Some(process)
}

/// Starts swtpm at the socket in `dir`, for QEMU.
fn serve_vm(dir: &Path) -> Child {
    let socket = dir.join("socket");
    if socket.exists() {
        fs::remove_file(&socket).expect("removing swtpm's socket");
    }
    let control = format!("type=unixio,path={}", socket.display());
    spawn(dir, &["--ctrl".into(), control]).expect("a socket for swtpm")
}

/// Starts swtpm on a free pair of ports, as the swtpm TCTI of tpm2-tss wants them.
fn serve(dir: &Path) -> (Child, u16) {
    (0..PORT_TRIES)
        .find_map(|_| {
            let port = free_pair();
            let listening = [
                "--flags".into(),
                "not-need-init,startup-clear".into(),
                "--server".into(),
                format!("type=tcp,port={port}"),
                "--ctrl".into(),
                format!("type=tcp,port={}", port + 1),
            ];
            Some((spawn(dir, &listening)?, port))
        })
        .expect("two free ports for swtpm")
}

/// A free port whose successor is free as well.
pub(crate) fn free_pair() -> u16 {
    let pair = || {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = first.local_addr()?.port();
        // The last port has no successor, and is no pair as one that is taken is none.
        TcpListener::bind((Ipv4Addr::LOCALHOST, port.saturating_add(1)))?;
        Ok(port)
    };
    let mut tried: io::Result<u16> = pair();
    for _ in 1..PORT_TRIES {
        if tried.is_ok() {
            break;
        }
        tried = pair();
    }
    tried.expect("two free ports in a row")
}

/// The command codes in a log of swtpm at level 20: each command is `SWTPM_IO_Read: length N`, then its bytes in hex, of
/// which 6 to 9 are the code (TPM 2.0 part 1, section 18.2).
pub(crate) fn command_codes(log: &str) -> Vec<u32> {
    log.split("SWTPM_IO_Read: length ")
        .skip(1)
        .filter_map(|block| {
            let bytes: Vec<u8> = block
                .lines()
                .skip(1)
                .flat_map(str::split_whitespace)
                .map_while(|byte| u8::from_str_radix(byte, 16).ok())
                .collect();
            let code = bytes.get(6..10)?;
            Some(u32::from_be_bytes(code.try_into().ok()?))
        })
        .collect()
}
