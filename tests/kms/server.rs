// SPDX-License-Identifier: Apache-2.0
//! A server that others have made, of one test: a process, a port of loopback and a directory of its own.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::fleet::at_this_pace;

static COUNT: AtomicU32 = AtomicU32::new(0);

const POLL: Duration = Duration::from_millis(50);

/// How often other ports are tried: those that were free may be taken meanwhile.
const TRIES_MAX: usize = 5;

/// A running one.
pub(crate) struct Server {
    process: Child,
    pub(crate) at: SocketAddr,
    pub(crate) directory: PathBuf,
}

impl Server {
    /// Starts what `command` says, for an address and a directory, and waits until it `answers`, no longer than `limit`.
    pub(crate) fn start(
        name: &str,
        limit: Duration,
        command: impl Fn(SocketAddr, &Path) -> Command,
        answers: impl Fn(&Self) -> bool,
    ) -> Self {
        let tried = (0..TRIES_MAX).find_map(|_| {
            let mut server = Self::spawn(name, &command);
            server.is_up(name, limit, &answers).then_some(server)
        });
        tried.unwrap_or_else(|| panic!("{name} does not start"))
    }

    fn spawn(name: &str, command: impl Fn(SocketAddr, &Path) -> Command) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nightlatch-{name}-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = free.local_addr().unwrap();
        drop(free);
        let log = File::create(directory.join("log")).unwrap();
        let process = command(at, &directory)
            .env("HOME", &directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("the server cannot be started");
        Self {
            process,
            at,
            directory,
        }
    }

    /// Waits until it answers; false where it has ended instead.
    fn is_up(&mut self, name: &str, limit: Duration, answers: impl Fn(&Self) -> bool) -> bool {
        // wait: limit, of the caller
        let deadline = Instant::now() + at_this_pace(limit);
        while !answers(self) {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < deadline, "{name} does not answer");
            std::thread::sleep(POLL);
        }
        true
    }

    /// Stops it in the middle of whatever it does, or has it go on.
    pub(crate) fn stop(&self, is_stopped: bool) {
        let name = if is_stopped { "STOP" } else { "CONT" };
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let killed = self.process.kill().and_then(|()| self.process.wait());
        assert!(killed.is_ok() || std::thread::panicking());
        fs::remove_dir_all(&self.directory).unwrap();
    }
}

/// A server's program, which tests/boots/harness/openbao.py has fetched.
pub(crate) fn program(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} does not say where the server is: tests/run kms fetches it")
    })
}
