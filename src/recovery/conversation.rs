// SPDX-License-Identifier: Apache-2.0
//! One connection: who is there, what the node is, what an operator has signed, what came of it.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use super::Request;
use crate::error::{Doing, Error, Result};
use crate::https::raw_key::RawKey;
use crate::key::fill_random;
use crate::key::openssh::{OpensshKey, signature};
use crate::protocol::recovery::{
    Hello, Message, NAMESPACE, NONCE_LEN, Opened, Push, TO_NODE_LEN_MAX, Verdicts, node_id, nonce,
    qualifying, receive, send,
};
use crate::protocol::{Bytes, Credential};

/// What a connection may take: until its greeting is there, with TLS.
const GREETING_MAX: Duration = Duration::from_secs(10);
/// Until what the node is was sent and judged.
const JUDGING_MAX: Duration = Duration::from_secs(60);
/// Until an operator has signed: a person may have to be asked, and to touch a key.
const SIGNING_MAX: Duration = Duration::from_secs(180);
/// Until the verdict was sent.
const VERDICT_MAX: Duration = Duration::from_secs(10);

/// What all connections know.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) key: RawKey,
    pub(super) operators: Vec<OpensshKey>,
}

/// Speaks with whoever is there, to the end.
pub(super) fn converse(
    socket: TcpStream,
    known: &Known,
    boot: &SyncSender<Request>,
    has_pushed: &AtomicBool,
) -> Result<()> {
    let mut stream = known.key.serve(socket, GREETING_MAX)?;
    let hello: Hello = receive(&mut stream, TO_NODE_LEN_MAX, "a greeting")?;
    let operators_nonce = nonce(hello.version, &hello.nonce)?;
    let mut nodes_nonce = [0; NONCE_LEN];
    fill_random(&mut nodes_nonce)?;
    let qualifying = qualifying(&operators_nonce, known.key.digest(), &nodes_nonce);
    let mut presentation = ask(boot, |answer| Request::Present { qualifying, answer })??;
    presentation.nonce = Bytes(nodes_nonce.to_vec());
    let node = node_id(&presentation.ek_public.0);
    stream.sock.limit(JUDGING_MAX);
    send(&mut stream, &presentation)?;
    let credential: Credential = receive(&mut stream, TO_NODE_LEN_MAX, "a credential")?;
    let opened = ask(boot, |answer| Request::Open { credential, answer })??;
    stream.sock.limit(SIGNING_MAX);
    let credential = Bytes(opened.expose().to_vec());
    send(&mut stream, &Opened { credential })?;
    let push: Push = receive(&mut stream, TO_NODE_LEN_MAX, "a push")?;
    let verdicts = match signed(&push, &known.operators, &node, &nodes_nonce) {
        Ok((message, by)) => {
            has_pushed.store(true, Ordering::Release);
            ask(boot, |answer| Request::Push {
                message,
                by,
                answer,
            })?
        }
        Err(refusal) => Verdicts {
            refused: Some(refusal.to_string()),
            volumes: Vec::new(),
            goes_on: false,
        },
    };
    stream.sock.limit(VERDICT_MAX);
    send(&mut stream, &verdicts).doing("telling what came of a push")?;
    stream.conn.send_close_notify();
    drop(stream.conn.complete_io(&mut stream.sock));
    match verdicts.refused {
        Some(refused) => Err(Error::refused(refused)),
        None => Ok(()),
    }
}

/// What was signed, and by whom, where it is for this node and this connection.
fn signed(
    push: &Push,
    operators: &[OpensshKey],
    node: &str,
    nodes_nonce: &[u8; NONCE_LEN],
) -> Result<(Message, String)> {
    let signed = push.message.bytes();
    let by = signature::verify(&push.signature, NAMESPACE, signed, operators)?;
    let message = Message::parse(signed, node, nodes_nonce)?;
    Ok((message, by.to_string()))
}

/// Has the boot do something. It has nobody to do it any more where it goes on.
fn ask<T>(boot: &SyncSender<Request>, request: impl FnOnce(SyncSender<T>) -> Request) -> Result<T> {
    let (answer, answered) = sync_channel(1);
    let sent = boot.send(request(answer)).ok();
    sent.and_then(|()| answered.recv().ok())
        .ok_or_else(|| Error::temporary("the node does not wait any more"))
}
