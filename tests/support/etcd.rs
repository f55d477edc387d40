// SPDX-License-Identifier: Apache-2.0
//! A private etcd of one test.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Longer than it takes by far.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(20);

/// How often other ports are tried: those that were free may be taken meanwhile.
const TRIES_MAX: usize = 5;

/// One member, which is the whole cluster.
pub(crate) struct Server {
    process: Child,
    directory: PathBuf,
    pub(crate) at: SocketAddr,
}

impl Server {
    /// Plain, on loopback.
    pub(crate) fn start() -> Self {
        Self::with("http", &[])
    }

    /// With these options as well.
    pub(crate) fn with(scheme: &str, options: &[String]) -> Self {
        for _ in 0..TRIES_MAX {
            if let Some(server) = Self::try_start(scheme, options) {
                return server;
            }
        }
        panic!("etcd does not start")
    }

    fn try_start(scheme: &str, options: &[String]) -> Option<Self> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nightlatch-etcd-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let (at, peer) = (free(), free());
        let (at_url, peer_url) = (format!("{scheme}://{at}"), format!("http://{peer}"));
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(&directory)
            .args(["--listen-client-urls", &at_url])
            .args(["--advertise-client-urls", &at_url])
            .args(["--listen-peer-urls", &peer_url])
            .args(["--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is not installed: tests/setup installs it");
        let mut server = Self {
            process,
            directory,
            at,
        };
        server.is_up().then_some(server)
    }

    /// Waits until it answers; false where it has ended instead.
    fn is_up(&mut self) -> bool {
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(self.at).is_err() {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < deadline, "etcd does not answer");
            std::thread::sleep(POLL);
        }
        true
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.at)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let killed = self.process.kill().and_then(|()| self.process.wait());
        assert!(killed.is_ok() || std::thread::panicking());
        if self.directory.exists() {
            std::fs::remove_dir_all(&self.directory).unwrap();
        }
    }
}

/// A port nobody uses at this moment.
fn free() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}
