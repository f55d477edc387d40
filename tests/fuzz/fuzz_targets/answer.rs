// SPDX-License-Identifier: Apache-2.0
//! What a key service answers, as a node takes it. The first byte says what it answers, and of an encrypted key which parts
//! are replaced by genuine ones: a fuzzer does not find one by itself.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nightlatch::client::{Failure, answer};
use nightlatch::error::Exit;
use nightlatch::key::Secret;
use nightlatch::protocol::Jwe;
use nightlatch::protocol::jwe::EphemeralKeyPair;

/// What only this run has: a node's key, and what was encrypted to it.
struct Handshake {
    pair: EphemeralKeyPair,
    genuine: Jwe,
}

const CONTENT: &[u8] = &[7; 32];

static HANDSHAKE: LazyLock<Handshake> = LazyLock::new(|| {
    let pair = EphemeralKeyPair::generate().expect("random bytes");
    let genuine = Jwe::seal(&Secret::new(CONTENT.to_vec()), &pair.public()).expect("a good key");
    Handshake { pair, genuine }
});

fuzz_target!(|input: &[u8]| {
    let Some((how, body)) = input.split_first() else {
        return;
    };
    match how % 8 {
        0 => {
            if let Some((_, Some(credential))) = good(answer::challenge(body)) {
                assert_eq!(credential.version, nightlatch::protocol::EXTENSION);
            }
        }
        1 => {
            good(answer::admission(body));
        }
        2 => {
            if let Some(remembered) = good(answer::record(body)) {
                assert!(remembered.record.key_id.is_none_or(|id| id.len() == 64));
            }
        }
        3 => cookie(body),
        4 => problem(body),
        _ => {
            if let Some(jwe) = good(answer::resource(body)) {
                open(how / 8, jwe);
            }
        }
    }
});

/// What was accepted. What was not is final for this address: another answer would not be another service.
fn good<T>(answer: Result<T, Failure>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(Failure::Final(_)) => None,
        Err(other) => panic!("{other:?}"),
    }
}

fn cookie(header: &[u8]) {
    let header = String::from_utf8_lossy(header);
    if let Some(cookie) = answer::cookie(&header) {
        assert!(cookie.starts_with("kbs-session-id=") && header.contains(&cookie));
        // Nothing that would end a header or begin another cookie.
        assert!(
            cookie.bytes().all(|b| b.is_ascii_graphic() && b != b';'),
            "{cookie:?}"
        );
    }
}

/// Two bytes of status, then the body. What is said of it is fit for a log.
fn problem(input: &[u8]) {
    let Some((status, body)) = input.split_first_chunk() else {
        return;
    };
    let said = match answer::failure(u16::from_be_bytes(*status), body, None) {
        Failure::Later(said)
        | Failure::Busy(said, _)
        | Failure::Untrusted(said)
        | Failure::Final(said)
        | Failure::Denied(said) => said,
        Failure::Local(error) => panic!("{error}"),
    };
    assert!(said.len() < 500, "{said}");
    assert!(
        said.bytes().all(|b| b == b' ' || b.is_ascii_graphic()),
        "{said:?}"
    );
}

fn open(genuine: u8, mut jwe: Jwe) {
    let Handshake {
        pair,
        genuine: ours,
    } = &*HANDSHAKE;
    let parts: [fn(&mut Jwe) -> &mut String; 5] = [
        |jwe| &mut jwe.protected,
        |jwe| &mut jwe.encrypted_key,
        |jwe| &mut jwe.iv,
        |jwe| &mut jwe.ciphertext,
        |jwe| &mut jwe.tag,
    ];
    let mut ours = ours.clone();
    for (bit, part) in parts.iter().enumerate() {
        if genuine & (1 << bit) != 0 {
            part(&mut jwe).clone_from(part(&mut ours));
        }
    }
    let is_ours = parts.iter().all(|part| *part(&mut jwe) == *part(&mut ours));
    match pair.open(&jwe) {
        Ok(secret) => {
            assert!(is_ours, "{jwe:?}");
            assert_eq!(secret.expose(), CONTENT);
        }
        Err(error) => {
            assert!(!is_ours, "{error}");
            assert_eq!(error.exit(), Exit::Refused, "{error}");
        }
    }
}
