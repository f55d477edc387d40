// SPDX-License-Identifier: Apache-2.0
//! Programs that say they are a node that waits, and are not.

use std::fs;
use std::sync::Mutex;
use std::thread;

use super::super::*;
use super::node::{Node, refused, waits};
use crate::config::Tcti;
use crate::key::openssh::OpensshKey;
use crate::protocol::TpmQuote;
use crate::protocol::recovery::Presentation;
use crate::recovery::{Listener, Request};
use crate::support::machine::Machine;
use crate::tpm::{AkKind, Tpm};

/// A program that shows what this makes of what the TPM of `node` says, and opens credentials by that TPM.
fn impostor(
    node: &Node,
    change: impl Fn(&mut Presentation) + Send + Sync,
    policy: impl FnOnce(&Node),
    why: &str,
) {
    let keys = OpensshKey::parse(
        fs::read_to_string(node.path("operator.pub"))
            .unwrap()
            .trim(),
    );
    let mut listener = Listener::open(0, vec![keys.unwrap()]).unwrap();
    let options = Recover {
        nodes: vec![format!("127.0.0.1:{}", listener.port())],
        ..node.options()
    };
    policy(node);
    thread::scope(|scope| {
        let operator = scope.spawn(|| refused(&options, why));
        let port = node.swtpm.port();
        let mut tpm = Tpm::open(&Tcti::Swtpm { port }).unwrap();
        while !operator.is_finished() {
            match listener.next() {
                Some(Request::Present { qualifying, answer }) => {
                    let identity = tpm.identity(AkKind::Ecdsa, None).unwrap();
                    let evidence = tpm.attest(AkKind::Ecdsa, &qualifying).unwrap();
                    let mut shown = Presentation {
                        version: VERSION,
                        nonce: Bytes::default(),
                        ek_public: Bytes(identity.ek_public),
                        ek_certificate: None,
                        ak_public: Bytes(identity.ak_public),
                        quote: TpmQuote {
                            signature: Bytes(evidence.quote.signature),
                            message: Bytes(evidence.quote.attest),
                            pcrs: evidence.pcrs.iter().map(hex::encode).collect(),
                        },
                        firmware_log: None,
                        userspace_log: None,
                        volumes: vec![waits()],
                    };
                    change(&mut shown);
                    answer.send(Ok(shown)).unwrap();
                }
                Some(Request::Open { credential, answer }) => {
                    let (blob, secret) = (&credential.blob.0, &credential.secret.0);
                    answer
                        .send(tpm.activate(AkKind::Ecdsa, blob, secret))
                        .unwrap();
                }
                Some(Request::Push { .. }) => panic!("it was given a key"),
                None => {}
            }
        }
        operator.join().unwrap();
    });
}

#[test]
fn whoever_shows_the_endorsement_key_of_another_tpm_gets_nothing() {
    let node = Node::new("");
    let machine = Machine::new(1);
    let ek_public = machine.ek_public();
    impostor(
        &node,
        |shown| shown.ek_public = Bytes(ek_public.clone()),
        |node| node.write_policy(&machine.ek_id(), &[0; 32]),
        "the node did not open the credential",
    );
}

#[test]
fn whoever_shows_no_quote_or_another_ones_gets_nothing() {
    let node = Node::new("");
    impostor(
        &node,
        |shown| shown.quote.message = Bytes::default(),
        |_| {},
        "attesting: check encoding",
    );
    impostor(
        &node,
        |shown| shown.quote.signature.0[20] ^= 1,
        |_| {},
        "attesting: check signature",
    );
    // As where somebody in the middle hands on what the node says to another connection.
    let kept = Mutex::new(None);
    impostor(
        &node,
        |shown| {
            let mut kept = kept.lock().unwrap();
            let first = kept.get_or_insert_with(|| shown.quote.clone());
            shown.quote = first.clone();
            // The first one is spoilt by its values.
            shown.quote.pcrs[0] = "00".into();
        },
        |_| {},
        "attesting: check",
    );
    impostor(
        &node,
        |shown| shown.quote = kept.lock().unwrap().clone().unwrap(),
        |_| {},
        "attesting: check nonce",
    );
}
