// SPDX-License-Identifier: Apache-2.0
//! Somebody between the machine and its TPM, who does not know the salt.

use std::io;

use super::proxy::{NO_SESSIONS, SESSIONS, code, meddling, response};
use super::*;

const PCR: Pcr = Pcr::SYSTEM_IDENTITY;

/// What stands in place of an answer: made of the command and of what the TPM said.
pub(crate) type Forger = fn(&[u8], Vec<u8>) -> Vec<u8>;

/// What a command ends with that one session authorises: nonce, attributes, HMAC (TPM 2.0 part 1, section 18.6.3).
const PASSWORD_AUTH: [u8; 5] = [0, 0, 1, 0, 0];

/// The port of a TPM whose answers to `command` `forge` makes, and that does not get the command where it is `swallowed`.
pub(crate) fn forging(swtpm: &Swtpm, command: u32, swallowed: bool, forge: Forger) -> u16 {
    meddling(swtpm.port(), move |sent, ask| {
        if code(&sent) != command {
            return ask(&sent);
        }
        let answer = if swallowed { Vec::new() } else { ask(&sent)? };
        Ok(forge(&sent, answer))
    })
}

fn forged(swtpm: &Swtpm, command: u32, swallowed: bool, forge: Forger) -> Tpm {
    let port = forging(swtpm, command, swallowed, forge);
    Tpm::open(&Tcti::Swtpm { port }).unwrap()
}

fn assert_altered(error: &Error, step: &str) {
    assert_eq!(error.exit(), Exit::Refused, "{error}");
    let text = error.to_string();
    let sentence =
        format!("{step}: what the TPM was sent or what it answered was altered on its way (0x");
    assert!(text.starts_with(&sentence), "{text}");
}

/// Success as a TPM says it to a command that was authorised by a password.
pub(crate) fn plain_success(_: &[u8], _: Vec<u8>) -> Vec<u8> {
    let body = [&[0; 4][..], &PASSWORD_AUTH].concat();
    response(SESSIONS, 0, &body)
}

/// The same, with an HMAC of somebody who does not know the key.
pub(crate) fn success_with_hmac(_: &[u8], _: Vec<u8>) -> Vec<u8> {
    let nonce = [&[0, 32][..], &[1; 32]].concat();
    let hmac = [&[0, 32][..], &[2; 32]].concat();
    let body = [&[0; 4][..], &nonce, &[1], &hmac].concat();
    response(SESSIONS, 0, &body)
}

/// Success without a word on sessions.
fn bare_success(_: &[u8], _: Vec<u8>) -> Vec<u8> {
    response(NO_SESSIONS, 0, &[])
}

/// What the TPM said, with one bit of the first value that was read another one. Where a session vouches, the length of the
/// parameters comes first.
pub(crate) fn other_value(_: &[u8], mut answer: Vec<u8>) -> Vec<u8> {
    let len = u32::from_be_bytes(answer[10..14].try_into().unwrap());
    let has_len = usize::try_from(len).unwrap() + 14 < answer.len();
    let parameters = if has_len { 14 } else { 10 };
    // A counter, then one selection of each bank, then the values (TPM 2.0 part 3, section 22.4).
    let banks = usize::from(answer[parameters + 7]);
    let first_value = parameters + 8 + 6 * banks + 4 + 2;
    answer[first_value] ^= 1;
    answer
}

#[test]
fn an_extend_that_was_swallowed_is_noticed() {
    for forge in [plain_success, success_with_hmac, bare_success] {
        // What such a connection has loaded stays there, so that each has a TPM of its own.
        let mut swtpm = Swtpm::start();
        let mut tpm = forged(&swtpm, PCR_EXTEND, true, forge);
        tpm.vouch();
        let error = tpm.event(PCR, b"id").unwrap_err();
        assert_altered(&error, "extending PCR 15");
        drop(tpm);
        assert!(!swtpm.commands().contains(&PCR_EXTEND));
        connected(&swtpm).require_zero(PCR).unwrap();
    }
    let swtpm = Swtpm::start();
    // What is not vouched for goes amiss without a word.
    let mut tpm = forged(&swtpm, PCR_EXTEND, true, plain_success);
    tpm.event(PCR, b"id").unwrap();
    connected(&swtpm).require_zero(PCR).unwrap();
    // The control: nobody forges anything.
    let mut tpm = forged(&swtpm, PCR_EXTEND, false, |_, answer| answer);
    tpm.vouch();
    tpm.event(PCR, b"id").unwrap();
    assert!(connected(&swtpm).require_zero(PCR).is_err());
}

#[test]
fn an_answer_to_an_earlier_extend_is_no_answer_to_this_one() {
    let swtpm = Swtpm::start();
    let mut first = None;
    let port = meddling(swtpm.port(), move |sent, ask| {
        if code(&sent) != PCR_EXTEND {
            return ask(&sent);
        }
        match &first {
            Some(answer) => Ok(Vec::clone(answer)),
            None => Ok(first.insert(ask(&sent)?).clone()),
        }
    });
    let mut tpm = Tpm::open(&Tcti::Swtpm { port }).unwrap();
    tpm.vouch();
    tpm.event(PCR, b"id").unwrap();
    let value = connected(&swtpm).read(PCR).unwrap();
    let error = tpm.event(PCR, b"id").unwrap_err();
    assert_altered(&error, "extending PCR 15");
    assert_eq!(connected(&swtpm).read(PCR).unwrap(), value);
}

#[test]
fn an_extend_with_another_digest_does_not_happen() {
    let swtpm = Swtpm::start();
    let other_digest = |command: &[u8]| -> io::Result<Vec<u8>> {
        let mut command = command.to_vec();
        if code(&command) == PCR_EXTEND {
            *command.last_mut().unwrap() ^= 1;
        }
        Ok(command)
    };
    let port = meddling(swtpm.port(), move |sent, ask| ask(&other_digest(&sent)?));
    let mut tpm = Tpm::open(&Tcti::Swtpm { port }).unwrap();
    tpm.vouch();
    let error = tpm.event(PCR, b"id").unwrap_err();
    assert_altered(&error, "extending PCR 15");
    connected(&swtpm).require_zero(PCR).unwrap();
    // What is not vouched for is extended with another digest.
    let mut tpm = Tpm::open(&Tcti::Swtpm { port }).unwrap();
    tpm.event(PCR, b"id").unwrap();
    assert!(connected(&swtpm).require_zero(PCR).is_err());
}

#[test]
fn a_reading_that_was_altered_is_noticed() {
    let mut swtpm = Swtpm::start();
    let mut tpm = forged(&swtpm, PCR_READ, false, other_value);
    assert!(tpm.require_zero(PCR).is_err(), "the attack does nothing");
    drop(tpm);
    for last in [false, true] {
        let read = |tpm: &mut Tpm| {
            if last {
                tpm.read_last(&[PCR])
            } else {
                tpm.read_all(&[PCR])
            }
        };
        let mut tpm = forged(&swtpm, PCR_READ, false, other_value);
        tpm.vouch();
        assert_altered(&read(&mut tpm).unwrap_err(), "reading PCRs");
        let mut tpm = connected(&swtpm);
        tpm.vouch();
        read(&mut tpm).unwrap();
    }
    // A TPM that has another bank than it says could be extended at will there.
    let one_bank = |_: &[u8], _: Vec<u8>| {
        let sha256 = [0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0x0b, 3, 255, 255, 255];
        response(NO_SESSIONS, 0, &sha256)
    };
    let mut tpm = forged(&swtpm, GET_CAPABILITY, true, one_bank);
    assert_eq!(tpm.banks().unwrap(), [Bank::Sha256]);
    let mut tpm = forged(&swtpm, GET_CAPABILITY, true, one_bank);
    tpm.vouch();
    let error = tpm.banks().unwrap_err();
    assert_altered(&error, "asking the TPM for its PCR banks");
    swtpm.commands();
}

/// Forges the answer to the first extend, and nothing afterwards.
pub(crate) fn forging_once(swtpm: &Swtpm) -> u16 {
    let mut forgeries = 1;
    meddling(swtpm.port(), move |sent, ask| {
        if code(&sent) == PCR_EXTEND && forgeries > 0 {
            forgeries -= 1;
            return Ok(success_with_hmac(&sent, Vec::new()));
        }
        ask(&sent)
    })
}

#[test]
fn a_connection_that_heard_a_forgery_is_of_no_use_and_the_next_one_is() {
    let swtpm = Swtpm::start();
    let port = forging_once(&swtpm);
    let open = || {
        let mut tpm = Tpm::open(&Tcti::Swtpm { port }).unwrap();
        tpm.vouch();
        tpm
    };
    let mut tpm = open();
    assert_altered(&tpm.event(PCR, b"id").unwrap_err(), "extending PCR 15");
    assert!(tpm.event(Pcr::KERNEL_CONFIG, b"fence").is_err());
    drop(tpm);
    connected(&swtpm).require_zero(Pcr::KERNEL_CONFIG).unwrap();
    open().event(Pcr::KERNEL_CONFIG, b"fence").unwrap();
    assert!(connected(&swtpm).require_zero(Pcr::KERNEL_CONFIG).is_err());
}

#[test]
fn a_pcr_holds_what_follows_from_what_was_read_and_extended() {
    let swtpm = Swtpm::start();
    let (mut tpm, mut other) = (connected(&swtpm), connected(&swtpm));
    tpm.vouch();
    // Nothing follows where nothing was read.
    tpm.event(PCR, b"id").unwrap();
    other.event(PCR, b"another program's").unwrap();
    tpm.read(PCR).unwrap();
    // Somebody else's extends are nobody's business where this connection has none.
    other.event(PCR, b"another program's").unwrap();
    tpm.read(PCR).unwrap();
    for text in [b"first", b"again"] {
        tpm.event(PCR, text).unwrap();
        tpm.read(PCR).unwrap();
    }
    other.event(PCR, b"another program's").unwrap();
    let error = tpm.read(PCR).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert_eq!(
        error.to_string(),
        "PCR 15 (sha1) does not hold what this boot measured into it: something else extended it as well, or the TPM \
         lost a measurement; turn that off or configure another PCR, then reboot"
    );
}

#[test]
fn a_tpm_without_a_storage_root_key_that_lets_nobody_make_one_is_measured_into_all_the_same() {
    let swtpm = Swtpm::start();
    succeeds(&swtpm, "tpm2_changeauth", &["-c", "owner", "hunter2"]);
    let mut tpm = connected(&swtpm);
    tpm.vouch();
    tpm.event(PCR, b"id").unwrap();
    assert!(tpm.require_zero(PCR).is_err());
    tpm.require_zero(Pcr::KERNEL_CONFIG).unwrap();
}
