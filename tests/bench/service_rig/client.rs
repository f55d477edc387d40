// SPDX-License-Identifier: Apache-2.0
//! One boot of a node, all on one connection as a node does it.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::thread;
use std::time::Duration;

use crate::support::caller::{Caller, Heard, Stream, request};
use crate::support::machine::{Machine, volume};
use nightlatch::config::Role;
use nightlatch::protocol::{ATTEST_PATH, AUTH_PATH, Jwe, RESOURCE_PATH};

/// How long a node waits that is told to come back, or hung up on: `Retry-After` says the same.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// The key of its volume.
pub(crate) fn boot(caller: &Caller, machine: &Machine, uuid: &str) -> Vec<u8> {
    try_boot(caller, machine, uuid).unwrap()
}

/// The same of a node that comes back where the service is busy.
pub(crate) fn boot_patiently(caller: &Caller, machine: &Machine, uuid: &str) -> Vec<u8> {
    loop {
        match try_boot(caller, machine, uuid) {
            Ok(secret) => return secret,
            Err(_busy) => thread::sleep(BUSY_PAUSE), // wait: event
        }
    }
}

/// An error is a service that hangs up or has too many requests.
fn try_boot(caller: &Caller, machine: &Machine, uuid: &str) -> io::Result<Vec<u8>> {
    let mut connection = BufReader::new(caller.connect()?);
    let introduction = serde_json::to_vec(&machine.introduction()).unwrap();
    let heard = ask(&mut connection, "POST", AUTH_PATH, None, &introduction)?;
    let draft = machine.draft(&heard.json(), &[volume(uuid, Role::State, Some(1))]);
    let evidence = serde_json::to_vec(&draft.request()).unwrap();
    let session = heard.session();
    let heard = ask(
        &mut connection,
        "POST",
        ATTEST_PATH,
        Some(&session),
        &evidence,
    )?;
    let path = format!("{RESOURCE_PATH}/nightlatch/volume-key/{uuid}");
    let session = heard.session();
    let heard = ask(&mut connection, "GET", &path, Some(&session), &[])?;
    let jwe: Jwe = heard.json();
    Ok(draft.open(&jwe))
}

fn ask(
    connection: &mut BufReader<Stream>,
    method: &str,
    path: &str,
    session: Option<&str>,
    body: &[u8],
) -> io::Result<Heard> {
    let bytes = request(method, path, session, body);
    let text = String::from_utf8(bytes)
        .unwrap()
        .replacen("Connection: close\r\n", "", 1);
    connection.get_mut().write_all(text.as_bytes())?;
    connection.get_mut().flush()?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if connection.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let len = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse().unwrap())
    });
    let mut body = vec![0; len.unwrap()];
    connection.read_exact(&mut body)?;
    let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
    if status == 429 || status == 503 {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    assert_eq!(status, 200, "{head} {}", String::from_utf8_lossy(&body));
    Ok(Heard { status, head, body })
}
