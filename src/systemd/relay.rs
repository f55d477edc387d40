// SPDX-License-Identifier: Apache-2.0
//! Between zbus and PID 1: makes the sender of PID 1's messages one that zbus takes.
//!
//! PID 1 signs what it sends on its private socket as `org.freedesktop.systemd1` (systemd, src/core/dbus.c,
//! `sd_bus_set_sender`). The D-Bus specification wants a unique name there, zbus 6 insists and drops the connection. So
//! the name's first letter becomes a colon on the way. Nothing here uses the sender.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

/// What precedes the sender: the header field's code 7, its signature `s`, and the length of the name.
///
/// D-Bus specification, "Header Fields" and "Marshaling". Messages have the machine's byte order.
const FIELD: [u8; 8] = {
    let [a, b, c, d] = 24_u32.to_ne_bytes();
    [7, 1, b's', 0, a, b, c, d]
};

/// The letter that changes: `org.freedesktop.systemd1` to `:rg.freedesktop.systemd1`.
pub(crate) const LETTER: u8 = b'o';

/// What it becomes.
pub(crate) const COLON: u8 = b':';

/// A socket that is `peer` with the senders of what comes from it changed.
pub(crate) fn through(peer: UnixStream) -> io::Result<UnixStream> {
    let (near, far) = UnixStream::pair()?;
    spawn(far.try_clone()?, peer.try_clone()?, |_| {})?;
    let mut senders = Senders::new(LETTER, COLON);
    spawn(peer, far, move |bytes| senders.change(bytes))?;
    Ok(near)
}

/// Copies until either end closes, then closes both.
fn spawn(
    mut from: UnixStream,
    mut to: UnixStream,
    mut change: impl FnMut(&mut [u8]) + Send + 'static,
) -> io::Result<()> {
    let mut copy = move || -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let len = from.read(&mut buffer)?;
            let Some(bytes @ [_, ..]) = buffer.get_mut(..len) else {
                break;
            };
            change(bytes);
            to.write_all(bytes)?;
        }
        from.shutdown(Shutdown::Both)?;
        to.shutdown(Shutdown::Both)
    };
    thread::Builder::new()
        .name("pid1-relay".into())
        .spawn(move || {
            // Both ends notice by themselves when the other one is gone.
            if let Err(error) = copy() {
                log::debug!("the connection to PID 1 ended: {error}");
            }
        })?;
    Ok(())
}

/// Finds the sender in a stream of messages, however it is cut into reads.
pub(crate) struct Senders {
    from: u8,
    to: u8,
    /// How much of [`FIELD`] has just gone by.
    seen: usize,
}

impl Senders {
    pub(crate) fn new(from: u8, to: u8) -> Self {
        Self { from, to, seen: 0 }
    }

    pub(crate) fn change(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            // Only the first byte of the field is 7, so no match can begin inside another one.
            self.seen = match FIELD.get(self.seen) {
                Some(expected) if expected == byte => self.seen.saturating_add(1),
                Some(_) => usize::from(FIELD.first() == Some(byte)),
                None => {
                    if *byte == self.from {
                        *byte = self.to;
                    }
                    0
                }
            };
        }
    }
}
