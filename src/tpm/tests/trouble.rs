// SPDX-License-Identifier: Apache-2.0
use super::proxy::{Fault, Proxy};
use super::*;

const ALWAYS: usize = usize::MAX;

/// Seals, then unseals over a bus on which `fault` happens; returns what came of it and the commands seen by the TPM.
fn unsealed_with(fault: Fault) -> (Result<bool>, Vec<u32>, Proxy) {
    let mut swtpm = Swtpm::start();
    let secret = Secret::random().unwrap();
    let sealed = connected(&swtpm).seal(&secret, POLICY).unwrap();
    swtpm.commands();
    let proxy = Proxy::before(swtpm.port(), fault);
    let mut tpm = Tpm::open(&Tcti::Swtpm { port: proxy.port }).unwrap();
    let unsealed = tpm.unseal(&sealed, POLICY);
    let is_same = unsealed.map(|unsealed| unsealed.expose() == secret.expose());
    drop(tpm);
    (is_same, swtpm.commands(), proxy)
}

/// Opens a TPM that always answers `command` with `body`.
fn answering(swtpm: &Swtpm, command: u32, body: &'static [u8]) -> Tpm {
    let fault = Fault {
        command,
        response: 0,
        body,
        times: ALWAYS,
    };
    let proxy = Proxy::before(swtpm.port(), fault);
    Tpm::open(&Tcti::Swtpm { port: proxy.port }).unwrap()
}

#[test]
fn a_tpm_without_an_active_bank_is_unavailable_and_one_with_an_unknown_bank_refused() {
    // No more data, TPM_CAP_PCRS, then the banks (TPM 2.0 part 2, sections 10.10.1 and 10.6.2).
    let none = &[0, 0, 0, 0, 5, 0, 0, 0, 0];
    let all_off = &[0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 0];
    let sm3_too = &[
        0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0x0b, 3, 255, 255, 255, 0, 0x12, 3, 255, 255, 255,
    ];
    let sm3_off = &[
        0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0x0b, 3, 255, 255, 255, 0, 0x12, 3, 0, 0, 0,
    ];
    let no_bank = "asking the TPM for its PCR banks: no bank is active, so nothing can be measured: \
         activate sha256 in the firmware's TPM setting";
    let unknown_bank = "asking the TPM for its PCR banks: \
         bank Sm3_256 is active and this program cannot extend it: \
         deactivate it in the firmware's TPM setting";
    let mut swtpm = Swtpm::start();
    for (banks, exit, sentence) in [
        (&none[..], Exit::Unavailable, no_bank),
        (all_off, Exit::Unavailable, no_bank),
        (sm3_too, Exit::Refused, unknown_bank),
    ] {
        let mut tpm = answering(&swtpm, GET_CAPABILITY, banks);
        let pcr = Pcr::SYSTEM_IDENTITY;
        let errors = [
            tpm.require_zero(pcr).unwrap_err(),
            tpm.read(pcr).unwrap_err(),
            tpm.event(pcr, b"id").unwrap_err(),
            tpm.extend(pcr, &Vec::new()).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.to_string(), sentence);
            assert_eq!(error.exit(), exit);
        }
        // Neither was anything read that would pass for zero, nor was one bank extended and the other left open.
        assert!(swtpm.commands().is_empty());
    }
    let mut tpm = answering(&swtpm, GET_CAPABILITY, sm3_off);
    tpm.require_zero(Pcr::SYSTEM_IDENTITY).unwrap();
    tpm.event(Pcr::SYSTEM_IDENTITY, b"id").unwrap();
    assert_eq!(swtpm.commands(), [PCR_READ, PCR_EXTEND]);
}

#[test]
fn an_answer_about_other_pcrs_than_those_asked_for_ends_the_reading() {
    // A counter, one selection of sha256 with PCR 0 or 15, one digest of 32 bytes.
    const ZERO: &[u8] = &answer_about([1, 0]);
    const FIFTEEN: &[u8] = &answer_about([0, 0x80]);
    let swtpm = Swtpm::start();
    let read =
        |body| answering(&swtpm, PCR_READ, body).values(&[(Bank::Sha256, Pcr::SYSTEM_IDENTITY)]);
    let error = read(ZERO).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the TPM answered with PCR 0 of bank sha256, which it was not asked for"
    );
    assert_eq!(error.exit(), Exit::Failure);
    assert_eq!(
        read(FIFTEEN).unwrap(),
        [((Bank::Sha256, Pcr::SYSTEM_IDENTITY), vec![0; 32])]
    );
}

/// What follows the response code of `TPM2_PCR_Read` (TPM 2.0 part 3, section 22.4).
const fn answer_about([low, high]: [u8; 2]) -> [u8; 52] {
    let mut body = [0; 52];
    body[7] = 1;
    body[9] = 0x0b;
    body[10] = 3;
    body[11] = low;
    body[12] = high;
    body[17] = 1;
    body[19] = 32;
    body
}

#[test]
fn a_busy_tpm_is_asked_again() {
    // TPM_RC_RETRY, TPM_RC_YIELDED, TPM_RC_TESTING
    for response in [0x922, 0x908, 0x90a] {
        let (unsealed, _, proxy) = unsealed_with(Fault {
            command: UNSEAL,
            response,
            body: &[],
            times: 12,
        });
        assert!(unsealed.unwrap());
        assert_eq!(proxy.left(), 0);
    }
}

#[test]
fn a_tpm_that_stays_busy_is_a_temporary_failure() {
    let (unsealed, commands, _) = unsealed_with(Fault {
        command: UNSEAL,
        response: 0x922,
        body: &[],
        times: ALWAYS,
    });
    let error = unsealed.unwrap_err();
    assert_eq!(error.exit(), Exit::Temporary);
    assert_eq!(
        error.to_string(),
        "unsealing from PCRs 7+11+12 (sha256): the TPM stayed busy (0x922): try again"
    );
    // What was loaded is flushed all the same: the object and the session.
    assert_eq!(commands[commands.len() - 2..], [FLUSH_CONTEXT; 2]);
}

#[test]
fn a_pcr_that_changes_meanwhile_starts_the_policy_again() {
    let changed = |times| Fault {
        command: UNSEAL,
        response: 0x128,
        body: &[],
        times,
    };
    let (unsealed, commands, _) = unsealed_with(changed(2));
    assert!(unsealed.unwrap());
    let restarts = |commands: &[u32]| commands.iter().filter(|c| **c == POLICY_RESTART).count();
    assert_eq!(restarts(&commands), 2);

    let (unsealed, commands, _) = unsealed_with(changed(ALWAYS));
    let error = unsealed.unwrap_err();
    assert_eq!(error.exit(), Exit::Temporary);
    assert_eq!(
        error.to_string(),
        "unsealing from PCRs 7+11+12 (sha256): the PCRs changed each time they were used"
    );
    assert_eq!(restarts(&commands), 30);
}

#[test]
fn trouble_is_one_sentence_and_a_verdict() {
    let cases = [
        (
            0x921,
            Exit::Refused,
            "the TPM is locked out after failed authorisations: \
             wait until it recovers, or run tpm2_dictionarylockout --clear-lockout",
        ),
        (
            0x99d,
            Exit::Refused,
            "the PCR values differ from those at sealing time: \
             this machine booted something else, or the secret is sealed to other PCRs",
        ),
        (
            0x101,
            Exit::Unavailable,
            "the TPM failed its self-test: power-cycle or replace it",
        ),
        (
            0x100,
            Exit::Unavailable,
            "the firmware did not start the TPM: check the firmware's TPM setting",
        ),
        (0x143, Exit::Failure, "command code not supported (0x143)"),
    ];
    for (response, exit, sentence) in cases {
        let (unsealed, _, _) = unsealed_with(Fault {
            command: UNSEAL,
            response,
            body: &[],
            times: 1,
        });
        let error = unsealed.unwrap_err();
        assert_eq!(error.exit(), exit);
        assert_eq!(
            error.to_string(),
            format!("unsealing from PCRs 7+11+12 (sha256): {sentence}")
        );
    }
}

#[test]
fn a_locked_out_tpm_still_unseals_because_nothing_of_ours_counts_failures() {
    let swtpm = Swtpm::start();
    let secret = Secret::random().unwrap();
    let sealed = connected(&swtpm).seal(&secret, POLICY).unwrap();
    let setup = ["-s", "-n", "1", "-t", "3600", "-l", "3600"];
    succeeds(&swtpm, "tpm2_dictionarylockout", &setup);
    std::fs::write(swtpm.dir().join("data"), b"x").unwrap();
    let create = [
        "-C",
        "0x81000001",
        "-i",
        "data",
        "-p",
        "right",
        "-c",
        "object",
    ];
    succeeds(&swtpm, "tpm2_create", &create);
    let unseal = |auth| swtpm.tool("tpm2_unseal", &["-c", "object", "-p", auth]);
    assert!(unseal("right").status.success());
    assert!(!unseal("wrong").status.success());
    // Locked: now the right one is refused too.
    let locked = unseal("right");
    let errors = String::from_utf8_lossy(&locked.stderr).into_owned();
    assert!(errors.contains("0x921"), "{errors}");

    let mut tpm = connected(&swtpm);
    assert_eq!(
        tpm.unseal(&sealed, POLICY).unwrap().expose(),
        secret.expose()
    );
    tpm.seal(&secret, POLICY).unwrap();
}

#[test]
fn the_secret_never_crosses_the_bus_in_clear() {
    let swtpm = Swtpm::start();
    let secret = Secret::random().unwrap();
    let mut tpm = connected(&swtpm);
    let sealed = tpm.seal(&secret, POLICY).unwrap();
    tpm.unseal(&sealed, POLICY).unwrap();
    let digits = swtpm.digits();
    // The control: what is no secret is found.
    assert!(digits.contains(&hex::encode(sealed.policy_hash)));
    assert!(digits.contains(&hex::encode(&sealed.private)));
    assert!(!digits.contains(&hex::encode(secret.expose())));
}
