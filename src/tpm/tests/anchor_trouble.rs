// SPDX-License-Identifier: Apache-2.0
use super::anchor::{AT, LEN, define, made, recall, record};
use super::proxy::{Fault, Proxy};
use super::*;

const FOREIGN_RECORD: &str = "reading the anchor in the TPM: NV index 0x1804e10 belongs to another program: \
     set anchor.index in the configuration to a free handle, and the second one after it too";
const FOREIGN_COUNTER: &str = "reading the anchor in the TPM: NV index 0x1804e11 belongs to another program: \
     set anchor.counter in the configuration to a free handle";

fn assert_says(error: &Error, exit: Exit, sentence: &str) {
    assert_eq!(error.to_string(), sentence);
    assert_eq!(error.exit(), exit);
}

/// Neither reads nor makes an anchor; what stopped it.
fn refused(swtpm: &Swtpm) -> Error {
    let mut tpm = connected(swtpm);
    let auth = Secret::random().unwrap();
    tpm.define_anchor(AT, POLICY, &auth, &record(&auth, 7))
        .unwrap_err();
    tpm.read_anchor(AT, POLICY, LEN).unwrap_err()
}

#[test]
fn an_index_of_another_program_is_refused_and_left_alone() {
    let swtpm = Swtpm::start();
    std::fs::write(swtpm.dir().join("policy"), [7; 32]).unwrap();
    let remove = |index| {
        succeeds(&swtpm, "tpm2_nvundefine", &["-C", "o", index]);
    };
    for attributes in [
        "ownerread|ownerwrite",
        "policyread|policywrite",
        "policyread|policywrite|no_da|authread",
        "policyread|policywrite|no_da|authwrite",
        "policyread|policywrite|no_da|ownerread",
        "policyread|policywrite|no_da|ownerwrite",
        "policyread|policywrite|no_da|write_stclear",
        "policyread|policywrite|no_da|writedefine",
        "policyread|policywrite|no_da|clear_stclear",
    ] {
        define(&swtpm, attributes, &[]);
        assert_says(&refused(&swtpm), Exit::Refused, FOREIGN_RECORD);
        remove("0x1804e10");
    }
    let args = ["0x1804e10", "-C", "o", "-L", "policy"];
    let more = ["-s", "1007", "-a", "policyread|policywrite|no_da"];
    succeeds(&swtpm, "tpm2_nvdefine", &[&args[..], &more].concat());
    assert_says(
        &refused(&swtpm),
        Exit::Refused,
        "reading the anchor in the TPM: NV index 0x1804e10 has 1007 bytes where 1008 were expected: \
         another version of this program made it, or another program: \
         set anchor.index in the configuration to a free handle, and the second one after it too",
    );
    remove("0x1804e10");

    let ours = "authread|authwrite|ownerread|no_da|nt=counter";
    for (len, attributes, more) in [
        ("8", "authread|authwrite|ownerread|no_da", &[][..]),
        ("8", "authread|authwrite|ownerread|no_da|nt=bits", &[]),
        ("8", "authread|authwrite|no_da|nt=counter", &[]),
        ("8", "authread|authwrite|ownerread|nt=counter", &[]),
        (
            "8",
            "authread|authwrite|ownerread|no_da|nt=counter|orderly",
            &[],
        ),
        (
            "8",
            "authread|authwrite|ownerread|ownerwrite|no_da|nt=counter",
            &[],
        ),
        ("8", ours, &["-L", "policy"]),
    ] {
        let args = ["0x1804e11", "-C", "o", "-s", len, "-a", attributes];
        succeeds(&swtpm, "tpm2_nvdefine", &[&args[..], more].concat());
        assert_says(&refused(&swtpm), Exit::Refused, FOREIGN_COUNTER);
        remove("0x1804e11");
    }

    // The control: what differs from ours in nothing, or only in the policy of a record without content, is no obstacle.
    define(&swtpm, "policyread|policywrite|no_da", &[]);
    let args = ["0x1804e11", "-C", "o", "-s", "8", "-a", ours];
    succeeds(&swtpm, "tpm2_nvdefine", &args);
    let mut tpm = connected(&swtpm);
    assert!(tpm.read_anchor(AT, POLICY, LEN).unwrap().is_none());
    made(&mut tpm, 7);
    assert!(tpm.read_anchor(AT, POLICY, LEN).unwrap().is_some());
}

#[test]
fn an_anchor_is_made_once() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let access = made(&mut tpm, 7);
    for mut tpm in [tpm, connected(&swtpm)] {
        let auth = Secret::random().unwrap();
        let error = tpm
            .define_anchor(AT, POLICY, &auth, &record(&auth, 8))
            .unwrap_err();
        assert_says(
            &error,
            Exit::Failure,
            "making the anchor in the TPM: there is a record already",
        );
        let found = recall(&mut tpm, LEN).unwrap();
        assert_eq!(found, Some((record(&access.auth, 7), 1)));
    }
}

#[test]
fn a_record_fits_one_command() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let auth = Secret::random().unwrap();
    for len in [0, 1025] {
        let error = tpm.read_anchor(AT, POLICY, len).unwrap_err();
        assert!(
            error.to_string().ends_with("where 1 to 1024 fit"),
            "{error}"
        );
        let bytes = vec![7; len];
        assert!(tpm.define_anchor(AT, POLICY, &auth, &bytes).is_err());
    }
    tpm.define_anchor(AT, POLICY, &auth, &[7; 1024]).unwrap();
    let found = recall(&mut tpm, 1024).unwrap();
    assert_eq!(found, Some((vec![7; 1024], 1)));
}

#[test]
fn a_full_tpm_says_what_to_look_at() {
    let swtpm = Swtpm::start();
    connected(&swtpm)
        .seal(&Secret::random().unwrap(), POLICY)
        .unwrap();
    let mut next = 0x0180_1000_u32;
    let mut fill = |len: &str, attributes: &str| {
        loop {
            next += 1;
            let index = format!("{next:#x}");
            let args = [index.as_str(), "-C", "o", "-s", len, "-a", attributes];
            if !swtpm.tool("tpm2_nvdefine", &args).status.success() {
                return format!("{:#x}", next - 1);
            }
        }
    };
    let large = fill("2048", "ownerread|ownerwrite");
    fill("700", "ownerread|ownerwrite");
    fill("8", "ownerread|ownerwrite");
    let counter = fill("8", "ownerread|ownerwrite|nt=counter");
    let sentence = |what: &str| {
        format!(
            "making the anchor in the TPM: making NV index {what}: see what other programs keep there \
             with tpm2_getcap handles-nv-index, and remove what nobody needs with tpm2_nvundefine"
        )
    };
    let auth = Secret::random().unwrap();
    let make = || connected(&swtpm).define_anchor(AT, POLICY, &auth, &record(&auth, 7));
    assert_says(
        &make().unwrap_err(),
        Exit::Unavailable,
        &sentence("0x1804e11: the TPM has no room for another NV counter (8 bytes at 0x1804e11)"),
    );
    succeeds(&swtpm, "tpm2_nvundefine", &["-C", "o", &counter]);
    let no_record = sentence(
        "0x1804e10: the TPM has no room for an NV index of this size (1008 bytes at 0x1804e10)",
    );
    assert_says(&make().unwrap_err(), Exit::Unavailable, &no_record);
    // A counter without a record is none, and the next attempt goes on from it.
    assert!(
        connected(&swtpm)
            .read_anchor(AT, POLICY, LEN)
            .unwrap()
            .is_none()
    );
    assert_says(&make().unwrap_err(), Exit::Unavailable, &no_record);
    succeeds(&swtpm, "tpm2_nvundefine", &["-C", "o", &large]);
    assert_eq!(make().unwrap(), 3);
}

#[test]
fn an_owner_authorisation_stops_the_making_of_an_anchor_but_not_its_use() {
    let mut swtpm = Swtpm::start();
    connected(&swtpm)
        .seal(&Secret::random().unwrap(), POLICY)
        .unwrap();
    succeeds(&swtpm, "tpm2_changeauth", &["-c", "owner", "hunter2"]);
    let auth = Secret::random().unwrap();
    let error = connected(&swtpm)
        .define_anchor(AT, POLICY, &auth, &record(&auth, 7))
        .unwrap_err();
    assert_says(
        &error,
        Exit::Refused,
        "making the anchor in the TPM: making NV index 0x1804e11: \
         the anchor has to be made or moved and the TPM's owner authorisation is set: \
         clear it with tpm2_changeauth -c owner, in what was booted before or in another system",
    );

    swtpm.replace();
    let access = made(&mut connected(&swtpm), 7);
    succeeds(&swtpm, "tpm2_changeauth", &["-c", "owner", "hunter2"]);
    let mut tpm = connected(&swtpm);
    assert!(tpm.read_anchor(AT, POLICY, LEN).unwrap().is_some());
    assert_eq!(tpm.increment_anchor(AT).unwrap(), 2);
    tpm.write_anchor(AT, &access, 0, &[8]).unwrap();
}

#[test]
fn a_cleared_tpm_has_no_anchor_and_counts_on() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let access = made(&mut tpm, 7);
    tpm.increment_anchor(AT).unwrap();
    assert!(tpm.read_anchor(AT, POLICY, LEN).unwrap().is_some());
    drop(tpm);
    succeeds(&swtpm, "tpm2_clear", &["-c", "p"]);
    let mut tpm = connected(&swtpm);
    assert!(tpm.read_anchor(AT, POLICY, LEN).unwrap().is_none());
    assert!(tpm.read_anchor_again(AT, &access, LEN).is_err());
    let error = tpm.write_anchor(AT, &access, 0, &[1]).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    made(&mut tpm, 8);
}

/// An anchor read over a bus on which `fault` happens; what came of it, the commands seen by the TPM and the fault.
fn read_with(command: u32, response: u32, times: usize) -> (Result<bool>, Vec<u32>, Proxy) {
    let mut swtpm = Swtpm::start();
    let access = made(&mut connected(&swtpm), 7);
    swtpm.commands();
    let fault = Fault {
        command,
        response,
        body: &[],
        times,
    };
    let proxy = Proxy::before(swtpm.port(), fault);
    let mut tpm = Tpm::open(&Tcti::Swtpm { port: proxy.port }).unwrap();
    let found = recall(&mut tpm, LEN);
    let is_same = found.map(|found| found == Some((record(&access.auth, 7), 1)));
    drop(tpm);
    (is_same, swtpm.commands(), proxy)
}

#[test]
fn a_pcr_that_changes_meanwhile_starts_the_policy_again() {
    let (found, commands, proxy) = read_with(NV_READ, 0x128, 2);
    assert!(found.unwrap());
    assert_eq!(proxy.left(), 0);
    let restarts = commands.iter().filter(|c| **c == POLICY_RESTART).count();
    assert_eq!(restarts, 2);

    let (found, commands, _) = read_with(NV_READ, 0x128, usize::MAX);
    assert_says(
        &found.unwrap_err(),
        Exit::Temporary,
        "reading the anchor in the TPM: reading the record: the PCRs changed each time they were used",
    );
    // Both sessions are flushed all the same.
    assert_eq!(commands[commands.len() - 2..], [FLUSH_CONTEXT; 2]);
}

#[test]
fn trouble_with_the_anchor_is_one_sentence_and_a_verdict() {
    let other_values = "the record in NV index 0x1804e10 was made under other PCR values: \
         this machine booted another image, or the PCRs in the configuration changed: \
         boot what made it, or remove it with tpm2_nvundefine and provision anew";
    let cases = [
        (NV_READ, 0x99d, Exit::Refused, other_values),
        (POLICY_OR, 0x1c4, Exit::Refused, other_values),
        (
            NV_READ,
            0x921,
            Exit::Refused,
            "the TPM is locked out after failed authorisations: \
             wait until it recovers, or run tpm2_dictionarylockout --clear-lockout",
        ),
        (
            NV_READ,
            0x143,
            Exit::Failure,
            "command code not supported (0x143)",
        ),
        (
            NV_READ,
            0x148,
            Exit::Refused,
            "the NV index is locked until the next reset: reboot, and find out what locked it",
        ),
    ];
    for (command, response, exit, sentence) in cases {
        let (found, _, _) = read_with(command, response, 1);
        let error = found.unwrap_err();
        assert_eq!(error.exit(), exit);
        let sentence = format!("reading the anchor in the TPM: reading the record: {sentence}");
        assert_eq!(error.to_string(), sentence);
    }
    let (found, _, _) = read_with(NV_READ, 0x922, 12);
    assert!(found.unwrap());
}

#[test]
fn a_tpm_without_counters_or_without_such_large_indices_is_unavailable() {
    // TPM_RC_ATTRIBUTES and TPM_RC_SIZE of parameter two.
    for response in [0x2c2, 0x2d5] {
        let swtpm = Swtpm::start();
        let fault = Fault {
            command: NV_DEFINE_SPACE,
            response,
            body: &[],
            times: 1,
        };
        let proxy = Proxy::before(swtpm.port(), fault);
        let mut tpm = Tpm::open(&Tcti::Swtpm { port: proxy.port }).unwrap();
        let auth = Secret::random().unwrap();
        let mut make = || tpm.define_anchor(AT, POLICY, &auth, &record(&auth, 7));
        assert_says(
            &make().unwrap_err(),
            Exit::Unavailable,
            "making the anchor in the TPM: making NV index 0x1804e11: \
             the TPM offers no NV counters (8 bytes): \
             set volume.anchor to off, or give the machine another TPM",
        );
        make().unwrap();
    }
}

#[test]
fn the_record_never_crosses_the_bus_in_clear() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let access = made(&mut tpm, 7);
    tpm.read_anchor(AT, POLICY, LEN).unwrap().unwrap();
    drop(tpm);
    let mut tpm = connected(&swtpm);
    tpm.read_anchor(AT, POLICY, LEN).unwrap().unwrap();
    tpm.write_anchor(AT, &access, 0, &record(&access.auth, 8))
        .unwrap();
    tpm.read_anchor_again(AT, &access, LEN).unwrap();
    let digits = swtpm.digits();
    // The control: what is no secret is found.
    assert!(digits.contains(&hex::encode(access.pcr_policy)));
    for secret in [access.auth.expose(), &[7; 32], &[8; 32]] {
        assert!(!digits.contains(&hex::encode(secret)));
    }
}
