// SPDX-License-Identifier: Apache-2.0
use super::proxy::{Fault, Proxy};
use super::*;

const ALWAYS: usize = usize::MAX;

/// Seals, then unseals over a bus on which `fault` happens; returns what came of it and the commands seen by the TPM.
fn unsealed_with(fault: Fault) -> (Result<bool>, Vec<u32>, Proxy) {
    let mut swtpm = Swtpm::start();
    let secret = Secret::random().unwrap();
    let sealed = connected(&swtpm).seal(&secret, &POLICY).unwrap();
    swtpm.commands();
    let proxy = Proxy::before(swtpm.port(), fault);
    let mut tpm = Tpm::open(&Tcti::Swtpm { port: proxy.port }).unwrap();
    let unsealed = tpm.unseal(&sealed, &POLICY);
    let is_same = unsealed.map(|unsealed| unsealed.expose() == secret.expose());
    drop(tpm);
    (is_same, swtpm.commands(), proxy)
}

#[test]
fn a_busy_tpm_is_asked_again() {
    // TPM_RC_RETRY, TPM_RC_YIELDED, TPM_RC_TESTING
    for response in [0x922, 0x908, 0x90a] {
        let (unsealed, _, proxy) = unsealed_with(Fault {
            command: UNSEAL,
            response,
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
    let sealed = connected(&swtpm).seal(&secret, &POLICY).unwrap();
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
        tpm.unseal(&sealed, &POLICY).unwrap().expose(),
        secret.expose()
    );
    tpm.seal(&secret, &POLICY).unwrap();
}

#[test]
fn the_secret_never_crosses_the_bus_in_clear() {
    let swtpm = Swtpm::start();
    let secret = Secret::random().unwrap();
    let mut tpm = connected(&swtpm);
    let sealed = tpm.seal(&secret, &POLICY).unwrap();
    tpm.unseal(&sealed, &POLICY).unwrap();
    let digits: String = swtpm
        .log()
        .lines()
        .filter(|line| line.starts_with(' '))
        .flat_map(str::chars)
        .filter(char::is_ascii_hexdigit)
        .collect::<String>()
        .to_lowercase();
    // The control: what is no secret is found.
    assert!(digits.contains(&hex::encode(sealed.policy_hash)));
    assert!(digits.contains(&hex::encode(&sealed.private)));
    assert!(!digits.contains(&hex::encode(secret.expose())));
}
