// SPDX-License-Identifier: Apache-2.0
//! A bus that misbehaves on demand: between tpm2-tss and swtpm, it answers some commands itself.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::swtpm::free_pair;

/// The answer to commands of one code, and how many of them get it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) command: u32,
    pub(super) response: u32,
    /// What follows the response code.
    pub(super) body: &'static [u8],
    pub(super) times: usize,
}

/// Listens on a pair of ports as swtpm does, until the test program ends.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) port: u16,
    fault: Arc<Mutex<Fault>>,
}

impl Proxy {
    pub(super) fn before(swtpm_port: u16, fault: Fault) -> Self {
        let port = free_pair();
        let fault = Arc::new(Mutex::new(fault));
        let shared = Arc::clone(&fault);
        serve(port, swtpm_port, move |client, server| {
            answer(client, server, &shared)
        });
        serve(port + 1, swtpm_port + 1, pass_on);
        Self { port, fault }
    }

    /// How many more times the fault would happen.
    pub(super) fn left(&self) -> usize {
        self.fault.lock().unwrap().times
    }
}

/// Handles connections one after the other, as swtpm does: tpm2-tss makes a new one for every few messages.
fn serve(
    port: u16,
    swtpm_port: u16,
    mut handle: impl FnMut(&TcpStream, &TcpStream) -> io::Result<()> + Send + 'static,
) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, swtpm_port)) else {
                return;
            };
            // The end of a connection reads as an error.
            let _ended = handle(&client, &server);
        }
    });
}

/// Passes bytes on both ways until the client closes.
fn pass_on(mut client: &TcpStream, mut server: &TcpStream) -> io::Result<()> {
    let (mut back_from, mut back_to) = (server.try_clone()?, client.try_clone()?);
    let back = thread::spawn(move || io::copy(&mut back_from, &mut back_to));
    io::copy(&mut client, &mut server)?;
    server.shutdown(Shutdown::Both)?;
    back.join().unwrap()?;
    Ok(())
}

/// Passes commands and responses on, or answers itself: tag, length, response code, body.
fn answer(mut client: &TcpStream, mut server: &TcpStream, fault: &Mutex<Fault>) -> io::Result<()> {
    loop {
        let command = message(client)?;
        let code = u32::from_be_bytes(command[6..10].try_into().unwrap());
        let mut fault = fault.lock().unwrap();
        if code == fault.command && fault.times > 0 {
            fault.times -= 1;
            let mut response = vec![0x80, 0x01];
            let len = 10 + u32::try_from(fault.body.len()).unwrap();
            response.extend(len.to_be_bytes());
            response.extend(fault.response.to_be_bytes());
            response.extend(fault.body);
            client.write_all(&response)?;
        } else {
            server.write_all(&command)?;
            client.write_all(&message(server)?)?;
        }
    }
}

/// One command or response: its length stands in bytes 2 to 5.
fn message(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 10];
    stream.read_exact(&mut bytes)?;
    let len = u32::from_be_bytes(bytes[2..6].try_into().unwrap());
    bytes.resize(usize::try_from(len).unwrap(), 0);
    stream.read_exact(&mut bytes[10..])?;
    Ok(bytes)
}
