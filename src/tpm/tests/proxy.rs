// SPDX-License-Identifier: Apache-2.0
//! A bus that misbehaves on demand: between tpm2-tss and swtpm, it answers some commands itself.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::free_pair;

/// The answer to commands of one code, and how many of them get it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) command: u32,
    pub(super) response: u32,
    pub(super) times: usize,
}

/// Listens on a pair of ports as swtpm does; its threads end with the connections.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) port: u16,
    fault: Arc<Mutex<Fault>>,
}

impl Proxy {
    pub(super) fn before(swtpm_port: u16, fault: Fault) -> Self {
        let port = free_pair().unwrap();
        let listen = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (command, control) = (listen(port), listen(port + 1));
        let fault = Arc::new(Mutex::new(fault));
        let shared = Arc::clone(&fault);
        thread::spawn(move || {
            let (client, server) = pair(&command, swtpm_port);
            answer(client, server, &shared)
        });
        thread::spawn(move || {
            let (client, server) = pair(&control, swtpm_port + 1);
            let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
            thread::spawn(move || io::copy(&mut { client_side(server) }, &mut { client }));
            io::copy(&mut from, &mut to)
        });
        Self { port, fault }
    }

    /// How many more times the fault would happen.
    pub(super) fn left(&self) -> usize {
        self.fault.lock().unwrap().times
    }
}

fn client_side(stream: TcpStream) -> TcpStream {
    stream
}

fn pair(listener: &TcpListener, port: u16) -> (TcpStream, TcpStream) {
    let (client, _) = listener.accept().unwrap();
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    (client, server)
}

/// Passes commands and responses on, or answers with ten bytes: tag, length, response code.
fn answer(mut client: TcpStream, mut server: TcpStream, fault: &Mutex<Fault>) -> io::Result<()> {
    loop {
        let command = message(&mut client)?;
        let code = u32::from_be_bytes(command[6..10].try_into().unwrap());
        let mut fault = fault.lock().unwrap();
        if code == fault.command && fault.times > 0 {
            fault.times -= 1;
            let mut response = vec![0x80, 0x01, 0, 0, 0, 10];
            response.extend(fault.response.to_be_bytes());
            client.write_all(&response)?;
        } else {
            server.write_all(&command)?;
            client.write_all(&message(&mut server)?)?;
        }
    }
}

/// One command or response: its length stands in bytes 2 to 5.
fn message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 10];
    stream.read_exact(&mut bytes)?;
    let len = u32::from_be_bytes(bytes[2..6].try_into().unwrap());
    bytes.resize(usize::try_from(len).unwrap(), 0);
    stream.read_exact(&mut bytes[10..])?;
    Ok(bytes)
}
