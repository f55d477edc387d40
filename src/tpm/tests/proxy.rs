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

/// What answers a command: the command, and a way to ask the TPM.
type Meddler =
    dyn FnMut(Vec<u8>, &mut dyn FnMut(&[u8]) -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> + Send;

/// Listens on a pair of ports as swtpm does, until the test program ends.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) port: u16,
    fault: Arc<Mutex<Fault>>,
}

impl Proxy {
    pub(super) fn before(swtpm_port: u16, fault: Fault) -> Self {
        let fault = Arc::new(Mutex::new(fault));
        let shared = Arc::clone(&fault);
        let port = meddling(swtpm_port, move |command, ask| {
            let mut fault = shared.lock().unwrap();
            if code(&command) == fault.command && fault.times > 0 {
                fault.times -= 1;
                Ok(response(NO_SESSIONS, fault.response, fault.body))
            } else {
                ask(&command)
            }
        });
        Self { port, fault }
    }

    /// How many more times the fault would happen.
    pub(super) fn left(&self) -> usize {
        self.fault.lock().unwrap().times
    }
}

/// `TPM_ST_NO_SESSIONS` and `TPM_ST_SESSIONS` (TPM 2.0 part 2, section 6.9).
pub(crate) const NO_SESSIONS: u16 = 0x8001;
pub(crate) const SESSIONS: u16 = 0x8002;

/// Has `meddle` answer each command; returns the port it listens on.
pub(crate) fn meddling(
    swtpm_port: u16,
    mut meddle: impl FnMut(Vec<u8>, &mut dyn FnMut(&[u8]) -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>>
    + Send
    + 'static,
) -> u16 {
    let port = free_pair();
    serve(port, swtpm_port, move |client, server| {
        answer(client, server, &mut meddle)
    });
    serve(port + 1, swtpm_port + 1, pass_on);
    port
}

/// A command's code.
pub(crate) fn code(command: &[u8]) -> u32 {
    u32::from_be_bytes(command[6..10].try_into().unwrap())
}

/// A response: tag, length, response code, body.
pub(crate) fn response(tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
    let mut response = tag.to_be_bytes().to_vec();
    let len = 10 + u32::try_from(body.len()).unwrap();
    response.extend(len.to_be_bytes());
    response.extend(code.to_be_bytes());
    response.extend(body);
    response
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

/// Reads commands and writes what `meddle` makes of them.
fn answer(mut client: &TcpStream, mut server: &TcpStream, meddle: &mut Meddler) -> io::Result<()> {
    loop {
        let command = message(client)?;
        let mut ask = |command: &[u8]| {
            server.write_all(command)?;
            message(server)
        };
        client.write_all(&meddle(command, &mut ask)?)?;
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
