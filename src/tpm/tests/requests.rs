// SPDX-License-Identifier: Apache-2.0
//! The index of requests, in a software TPM.

use super::anchor::{AT, LEN, PLACES, made};
use super::*;
use crate::anchor::requests::REQUESTS_LEN;

const INDEX: u32 = PLACES.requests;
const NAME: &str = "0x1804e13";

fn auth() -> Secret {
    Secret::new(vec![0x5a; 32])
}

fn content(fill: u8) -> Vec<u8> {
    vec![fill; REQUESTS_LEN]
}

fn read(swtpm: &Swtpm, auth: &Secret) -> Result<Option<Vec<u8>>> {
    connected(swtpm).read_requests(INDEX, auth, REQUESTS_LEN)
}

#[test]
fn requests_come_back_at_the_next_boot_and_are_removed() {
    let mut swtpm = Swtpm::start();
    assert_eq!(read(&swtpm, &auth()).unwrap(), None);
    let mut tpm = connected(&swtpm);
    tpm.write_requests(INDEX, &auth(), &content(1)).unwrap();
    // In one connection, and in another.
    assert_eq!(
        tpm.read_requests(INDEX, &auth(), REQUESTS_LEN).unwrap(),
        Some(content(1))
    );
    tpm.write_requests(INDEX, &auth(), &content(2)).unwrap();
    drop(tpm);
    swtpm.reset();
    let mut tpm = connected(&swtpm);
    assert_eq!(
        tpm.read_requests(INDEX, &auth(), REQUESTS_LEN).unwrap(),
        Some(content(2))
    );
    tpm.remove_requests(INDEX, REQUESTS_LEN).unwrap();
    assert_eq!(
        tpm.read_requests(INDEX, &auth(), REQUESTS_LEN).unwrap(),
        None
    );
    tpm.remove_requests(INDEX, REQUESTS_LEN).unwrap();
    drop(tpm);
    assert_eq!(read(&swtpm, &auth()).unwrap(), None);
}

#[test]
fn nobody_reads_or_writes_requests_without_their_value() {
    let swtpm = Swtpm::start();
    connected(&swtpm)
        .write_requests(INDEX, &auth(), &content(1))
        .unwrap();
    let other = Secret::new(vec![0x5b; 32]);
    let refusal = "NV index 0x1804e13 does not answer to this node's record: what was asked for in a record of before, or another \
                   program's: the next boot removes it; reboot, and ask again";
    let error = read(&swtpm, &other).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert_eq!(
        error.to_string(),
        format!("reading the requests in the TPM: {refusal}")
    );
    let error = connected(&swtpm).write_requests(INDEX, &other, &content(2));
    assert_eq!(
        error.unwrap_err().to_string(),
        format!("writing the requests in the TPM: {refusal}")
    );
    // The owner neither, nor who has no value.
    for who in [["-C", "o"], ["-P", ""]] {
        let args = [&[NAME, "-s", "16"][..], &who].concat();
        assert!(!swtpm.tool("tpm2_nvread", &args).status.success());
    }
    let value = format!("hex:{}", hex::encode(auth().expose()));
    succeeds(&swtpm, "tpm2_nvread", &[NAME, "-s", "16", "-P", &value]);
    assert_eq!(read(&swtpm, &auth()).unwrap(), Some(content(1)));
}

/// Made as the owner, by whatever else runs on this TPM.
#[test]
fn an_index_that_another_program_made_is_refused() {
    let swtpm = Swtpm::start();
    let size = REQUESTS_LEN.to_string();
    let define = |attributes: &str, size: &str, auth: &str| {
        let args = [NAME, "-C", "o", "-s", size, "-a", attributes, "-p", auth];
        succeeds(&swtpm, "tpm2_nvdefine", &args);
    };
    let undefine = || succeeds(&swtpm, "tpm2_nvundefine", &[NAME, "-C", "o"]);
    let ours = "authread|authwrite|no_da";
    let foreign = "NV index 0x1804e13 belongs to another program: remove it with tpm2_nvundefine where nobody needs it, or set \
                   anchor.index in the configuration to another handle";
    for (attributes, size) in [
        ("authread|authwrite|ownerread|no_da", size.as_str()),
        ("authread|authwrite", &size),
        (ours, "64"),
    ] {
        define(attributes, size, "mine");
        let error = read(&swtpm, &auth()).unwrap_err().to_string();
        assert_eq!(error, format!("reading the requests in the TPM: {foreign}"));
        let mut tpm = connected(&swtpm);
        let error = tpm.write_requests(INDEX, &auth(), &content(1)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("writing the requests in the TPM: {foreign}")
        );
        assert!(tpm.remove_requests(INDEX, REQUESTS_LEN).is_err());
        drop(tpm);
        undefine();
    }
    // Of the same form and with another value: never written it is nothing, and the place is taken.
    define(ours, &size, "mine");
    assert_eq!(read(&swtpm, &auth()).unwrap(), None);
    connected(&swtpm)
        .write_requests(INDEX, &auth(), &content(1))
        .unwrap();
    assert_eq!(read(&swtpm, &auth()).unwrap(), Some(content(1)));
}

#[test]
fn requests_are_found_without_a_command_and_read_with_three() {
    let mut swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let access = made(&mut tpm, 7);
    let found = tpm.find_records(PLACES, POLICY, LEN).unwrap();
    assert!(!found.has_requests);
    drop(tpm);
    swtpm.commands();

    let mut tpm = connected(&swtpm);
    tpm.find_records(PLACES, POLICY, LEN).unwrap();
    let without = swtpm.commands();
    drop(tpm);
    connected(&swtpm)
        .write_requests(INDEX, &auth(), &content(1))
        .unwrap();
    swtpm.commands();
    let mut tpm = connected(&swtpm);
    let found = tpm.find_records(PLACES, POLICY, LEN).unwrap();
    assert!(found.has_requests);
    assert_eq!(found.readable, Some(AT));
    assert_eq!(swtpm.commands(), without);
    tpm.read_requests(INDEX, &auth(), REQUESTS_LEN).unwrap();
    assert_eq!(
        swtpm.commands(),
        [NV_READ_PUBLIC, START_AUTH_SESSION, NV_READ]
    );
    tpm.remove_requests(INDEX, REQUESTS_LEN).unwrap();
    assert_eq!(swtpm.commands(), [NV_UNDEFINE_SPACE]);
    drop(access);
}

/// More indices of other programs between ours than one answer names.
#[test]
fn indices_of_other_programs_in_between_hide_none_of_ours() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    made(&mut tpm, 7);
    let far = Places {
        requests: 0x0180_4fff,
        ..PLACES
    };
    tpm.write_requests(far.requests, &auth(), &content(1))
        .unwrap();
    for number in 0..70 {
        let name = format!("{:#x}", 0x0180_4e20 + number);
        succeeds(&swtpm, "tpm2_nvdefine", &[&name, "-C", "o", "-s", "1"]);
    }
    let found = connected(&swtpm).find_records(far, POLICY, LEN).unwrap();
    assert!(found.has_requests);
    assert_eq!(found.readable, Some(AT));
    let found = connected(&swtpm).find_records(PLACES, POLICY, LEN).unwrap();
    assert!(!found.has_requests);
}
