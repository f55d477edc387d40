// SPDX-License-Identifier: Apache-2.0
//! The socket: so many connections at once, of each address so many, and none left when it is closed.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::{debug, warn};

use super::Request;
use super::conversation::{Known, converse};
use crate::error::{Doing, Error, Result};
use crate::https::raw_key::RawKey;
use crate::key::openssh::OpensshKey;

/// How many connections there are at once, and how many from one address. A person with a list of nodes needs one.
const PEERS_MAX: usize = 8;
const PEERS_OF_ADDRESS_MAX: usize = 2;
/// How long a new connection may wait to be seen.
const TICK: Duration = Duration::from_millis(100);

/// An open port.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    known: Arc<Known>,
    peers: Vec<Peer>,
    /// Each connection has a copy.
    to_boot: SyncSender<Request>,
    requests: Receiver<Request>,
}

#[derive(Debug)]
struct Peer {
    address: IpAddr,
    socket: TcpStream,
    has_pushed: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Listener {
    /// Listens on this port of all addresses, and takes what these operators sign.
    pub(crate) fn open(port: u16, operators: Vec<OpensshKey>) -> Result<Self> {
        let socket = listen(port).doing(format_args!("listening on TCP port {port}"))?;
        let (to_boot, requests) = sync_channel(PEERS_MAX);
        let key = RawKey::generate()?;
        Ok(Self {
            socket,
            known: Arc::new(Known { key, operators }),
            peers: Vec::new(),
            to_boot,
            requests,
        })
    }

    /// Where it listens.
    #[cfg(test)]
    pub(crate) fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    /// The next request, or none within a short while. Connections are accepted meanwhile.
    pub(crate) fn next(&mut self) -> Option<Request> {
        self.accept();
        self.requests.recv_timeout(TICK).ok()
    }

    /// Takes all connections that wait, as far as there is room.
    fn accept(&mut self) {
        self.peers.retain(|peer| !peer.thread.is_finished());
        for _ in 0..PEERS_MAX {
            match self.socket.accept() {
                Ok((socket, from)) => {
                    if let Err(error) = self.begin(socket, from) {
                        debug!("recovery: {from}: {error}");
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Of a connection that is gone already, or for want of memory or descriptors: the next turn tries again.
                Err(error) => return debug!("recovery: accepting: {error}"),
            }
        }
    }

    fn begin(&mut self, socket: TcpStream, from: SocketAddr) -> Result<()> {
        let address = from.ip().to_canonical();
        let same = self.peers.iter().filter(|peer| peer.address == address);
        if self.peers.len() >= PEERS_MAX || same.count() >= PEERS_OF_ADDRESS_MAX {
            return Err(Error::temporary("too many connections"));
        }
        // As accepted ones are not on every system.
        socket.set_nonblocking(false)?;
        let kept = socket.try_clone()?;
        let (known, to_boot) = (Arc::clone(&self.known), self.to_boot.clone());
        let has_pushed = Arc::new(AtomicBool::new(false));
        let pushes = Arc::clone(&has_pushed);
        let work = move || {
            if let Err(error) = converse(socket, &known, &to_boot, &pushes) {
                // Whoever reaches the port could fill the journal; an operator is told by the command.
                debug!("recovery: {address}: {error}");
            }
        };
        let thread = thread::Builder::new().spawn(work)?;
        self.peers.push(Peer {
            address,
            socket: kept,
            has_pushed,
            thread,
        });
        Ok(())
    }
}

/// The port is closed, and nothing is left of the connections: who has pushed is still told what came of it, within the time
/// that this may take, and all others are cut off.
impl Drop for Listener {
    fn drop(&mut self) {
        // Nobody answers any more, so nobody waits for that.
        drop(std::mem::replace(&mut self.requests, sync_channel(0).1));
        for peer in self.peers.drain(..) {
            let how = if peer.has_pushed.load(Ordering::Acquire) {
                Shutdown::Read
            } else {
                Shutdown::Both
            };
            // One that is gone already is closed.
            drop(peer.socket.shutdown(how));
            if peer.thread.join().is_err() {
                warn!("recovery: the thread of {} died", peer.address);
            }
        }
    }
}

/// Both families in one socket, or IPv4 where the kernel has no other.
fn listen(port: u16) -> Result<TcpListener> {
    let both = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port));
    let socket = both.or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
