// SPDX-License-Identifier: Apache-2.0
//! What anybody may send to a node that waits for recovery, and what anybody may say to be one. The first byte says which message.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nightlatch::error::Exit;
use nightlatch::protocol::Credential;
use nightlatch::protocol::recovery::{
    Hello, Message, Opened, PREFIX_LEN, Presentation, Push, TO_NODE_LEN_MAX, Verdicts, frame,
    nonce, parse, receive,
};

fuzz_target!(|input: &[u8]| {
    let Some((what, mut bytes)) = input.split_first() else {
        return;
    };
    match what % 8 {
        0 => {
            if let Ok(hello) = parse::<Hello>(bytes, "a greeting") {
                drop(nonce(hello.version, &hello.nonce));
            }
        }
        1 => drop(parse::<Credential>(bytes, "a credential")),
        2 => drop(parse::<Push>(bytes, "a push")),
        3 => match Message::parse(bytes, "1f", &[7; 32]) {
            Ok(message) => {
                assert!((1..=16).contains(&message.volumes.len()));
                let again = frame(&message).expect("JSON");
                Message::parse(&again[PREFIX_LEN..], "1f", &[7; 32]).expect("what was written");
            }
            Err(error) => assert_eq!(error.exit(), Exit::Refused),
        },
        4 => drop(parse::<Presentation>(bytes, "a node")),
        5 => drop(parse::<Opened>(bytes, "a secret")),
        6 => drop(parse::<Verdicts>(bytes, "verdicts")),
        _ => drop(receive::<Hello>(&mut bytes, TO_NODE_LEN_MAX, "a greeting")),
    }
});
