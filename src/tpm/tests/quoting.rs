// SPDX-License-Identifier: Apache-2.0
use super::*;

/// Asks `tpm2_checkquote` for its opinion; whether it is satisfied.
pub(super) fn is_genuine(swtpm: &Swtpm, quote: &Quote, qualifying: &[u8; 32]) -> bool {
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(swtpm.dir().join(name), bytes).unwrap();
    };
    let len = u16::try_from(quote.ak.len()).unwrap().to_be_bytes();
    write("ak.tss", &[&len[..], &quote.ak].concat());
    write("attest", &quote.attest);
    write("signature", &quote.signature);
    let print = ["-t", "TPM2B_PUBLIC", "-f", "pem", "ak.tss"];
    let pem = succeeds(swtpm, "tpm2_print", &print);
    write("ak.pem", &pem);
    let hex = hex::encode(qualifying);
    let check = [
        "-u",
        "ak.pem",
        "-m",
        "attest",
        "-s",
        "signature",
        "-q",
        &hex,
    ];
    swtpm.tool("tpm2_checkquote", &check).status.success()
}

#[test]
fn a_quote_is_genuine_and_covers_its_qualifying_data() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let quote = tpm.quote(&[7; 32], POLICY).unwrap();
    drop(tpm);
    assert!(is_genuine(&swtpm, &quote, &[7; 32]));
    assert!(!is_genuine(&swtpm, &quote, &[8; 32]));
    let mut altered = quote.clone();
    *altered.attest.last_mut().unwrap() ^= 1;
    assert!(!is_genuine(&swtpm, &altered, &[7; 32]));

    // The statement ends with the selection and the digest of the values (TPM 2.0 part 2, sections 10.12.1 and 10.9.7).
    let values = Bank::Sha256.hash(&[0; 96]);
    let end = [&[0, 0, 0, 1, 0, 0x0b, 3, 0x80, 0x18, 0, 0, 32][..], &values].concat();
    assert!(quote.attest.ends_with(&end));
}

#[test]
fn the_key_signs_only_what_the_tpm_made_and_is_the_same_at_each_boot() {
    let mut swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    swtpm.commands();
    let first = tpm.quote(&[7; 32], POLICY).unwrap();
    assert_eq!(swtpm.commands(), [CREATE_PRIMARY, QUOTE]);
    let second = tpm.quote(&[8; 32], POLICY).unwrap();
    assert_eq!(swtpm.commands(), [QUOTE]);
    drop(tpm);
    assert_eq!(swtpm.commands(), [FLUSH_CONTEXT]);
    assert_eq!(first.ak, second.ak);
    // ECC, SHA-256, fixedTPM fixedParent sensitiveDataOrigin userWithAuth noDA restricted sign, no policy
    let start = [0, 0x23, 0, 0x0b, 0, 0x05, 0x04, 0x72, 0, 0];
    assert_eq!(first.ak[..10], start);

    swtpm.reset();
    let again = connected(&swtpm).quote(&[7; 32], POLICY).unwrap();
    assert_eq!(again.ak, first.ak);
    assert!(is_genuine(&swtpm, &again, &[7; 32]));

    swtpm.replace();
    let other = connected(&swtpm).quote(&[7; 32], POLICY).unwrap();
    assert_ne!(other.ak, first.ak);
}

#[test]
fn an_owner_authorisation_stops_a_quote() {
    let swtpm = Swtpm::start();
    succeeds(&swtpm, "tpm2_changeauth", &["-c", "owner", "hunter2"]);
    let error = connected(&swtpm).quote(&[7; 32], POLICY).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert_eq!(
        error.to_string(),
        "quoting PCRs 7+11+12 (sha256): making an attestation key: \
         the TPM's owner authorisation is set: \
         clear it with tpm2_changeauth -c owner until the first boot is done"
    );
}
