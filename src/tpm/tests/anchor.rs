// SPDX-License-Identifier: Apache-2.0
use super::*;

pub(super) const AT: Handles = Handles {
    record: 0x0180_4e10,
    counter: 0x0180_4e11,
};

pub(super) const PLACES: Places = Places {
    records: [0x0180_4e10, 0x0180_4e12],
    counter: 0x0180_4e11,
    requests: 0x0180_4e13,
};

/// Length of a record of eight entries, in bytes.
pub(super) const LEN: usize = 1008;

/// A record that holds `auth`, as the anchor's does, and is otherwise of one byte.
pub(super) fn record(auth: &Secret, fill: u8) -> Vec<u8> {
    let mut record = vec![fill; LEN];
    record[16..48].copy_from_slice(auth.expose());
    record
}

/// Makes an anchor; returns what the running system is handed.
pub(super) fn made(tpm: &mut Tpm, fill: u8) -> NvAccess {
    made_under(tpm, POLICY, fill)
}

pub(super) fn made_under(tpm: &mut Tpm, policy: Policy, fill: u8) -> NvAccess {
    let auth = Secret::random().unwrap();
    tpm.define_anchor(AT, policy, &auth, &record(&auth, fill))
        .unwrap();
    NvAccess {
        auth,
        pcr_policy: tpm.anchor_policy(policy).unwrap(),
    }
}

pub(super) fn fence(tpm: &mut Tpm) {
    tpm.event(Pcr::KERNEL_CONFIG, b"fence").unwrap();
}

/// The record and the counter.
pub(super) fn recall(tpm: &mut Tpm, len: usize) -> Result<Option<(Vec<u8>, u64)>> {
    let record = tpm.read_anchor(AT, POLICY, len)?;
    let both = record.map(|record| Ok((record, tpm.count_anchor(AT)?)));
    both.transpose()
}

#[test]
fn the_record_and_the_counter_come_back_at_the_next_boot() {
    let mut swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    assert!(tpm.read_anchor(AT, POLICY, LEN).unwrap().is_none());
    let auth = Secret::random().unwrap();
    let written = record(&auth, 7);
    let count = tpm.define_anchor(AT, POLICY, &auth, &written).unwrap();
    // A new TPM counts from one.
    assert_eq!(count, 1);
    assert_eq!(recall(&mut tpm, LEN).unwrap(), Some((written.clone(), 1)));
    assert_eq!(tpm.increment_anchor(AT).unwrap(), 2);
    drop(tpm);

    swtpm.reset();
    let mut tpm = connected(&swtpm);
    assert_eq!(recall(&mut tpm, LEN).unwrap(), Some((written, 2)));
    assert_eq!(tpm.increment_anchor(AT).unwrap(), 3);
    drop(tpm);
    assert_eq!(connected(&swtpm).increment_anchor(AT).unwrap(), 4);
}

#[test]
fn other_pcr_values_neither_read_the_record_nor_make_another() {
    let mut swtpm = Swtpm::start();
    let access = made(&mut connected(&swtpm), 7);
    swtpm.reset();
    let mut tpm = connected(&swtpm);
    tpm.event(Pcr::SECURE_BOOT, b"another system").unwrap();
    let error = tpm.read_anchor(AT, POLICY, LEN).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert_eq!(
        error.to_string(),
        "reading the anchor in the TPM: the record in NV index 0x1804e10 was made under other PCR values: \
         this machine booted another image, or the PCRs in the configuration changed: \
         boot what made it, or remove it with tpm2_nvundefine and provision anew"
    );
    let auth = Secret::random().unwrap();
    let error = tpm
        .define_anchor(AT, POLICY, &auth, &record(&auth, 8))
        .unwrap_err();
    assert!(
        error.to_string().contains("made under other PCR values"),
        "{error}"
    );
    drop(tpm);
    // The TPM itself refuses: by the PCRs, by no password and as the owner.
    let read = ["0x1804e10", "-s", "16"];
    assert!(!by_pcrs(&swtpm, &access, "tpm2_nvread", &read));
    for auth in [["-P", ""], ["-C", "o"]] {
        let args = [&read[..], &auth].concat();
        assert!(!swtpm.tool("tpm2_nvread", &args).status.success());
    }

    // The control: the first image reads it.
    swtpm.reset();
    assert!(by_pcrs(&swtpm, &access, "tpm2_nvread", &read));
    let found = connected(&swtpm).read_anchor(AT, POLICY, LEN).unwrap();
    assert_eq!(found.unwrap()[0], 7);
}

#[test]
fn the_running_system_reads_and_writes_after_the_fence_and_the_boot_chain_no_more() {
    let mut swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let access = made(&mut tpm, 7);
    tpm.read_anchor(AT, POLICY, LEN).unwrap();
    fence(&mut tpm);
    let error = tpm.read_anchor(AT, POLICY, LEN).unwrap_err();
    assert!(error.to_string().contains("other PCR values"), "{error}");
    drop(tpm);

    let mut tpm = connected(&swtpm);
    swtpm.commands();
    tpm.write_anchor(AT, &access, 1000, &[9; 8]).unwrap();
    assert_eq!(
        swtpm.commands(),
        [
            NV_READ_PUBLIC,
            READ_PUBLIC,
            READ_PUBLIC,
            START_AUTH_SESSION,
            POLICY_NV_WRITTEN,
            POLICY_AUTH_VALUE,
            POLICY_OR,
            NV_WRITE
        ]
    );
    let (found, count) = tpm.read_anchor_again(AT, &access, LEN).unwrap();
    let mut expected = record(&access.auth, 7);
    expected[1000..].fill(9);
    assert_eq!((found, count), (expected.clone(), 1));
    assert_eq!(tpm.increment_anchor(AT).unwrap(), 2);
    drop(tpm);

    swtpm.reset();
    let mut tpm = connected(&swtpm);
    assert_eq!(recall(&mut tpm, LEN).unwrap(), Some((expected, 2)));
    // Nothing is left loaded in the TPM but what goes with the connection.
    drop(tpm);
    for kind in ["handles-loaded-session", "handles-transient"] {
        assert!(succeeds(&swtpm, "tpm2_getcap", &[kind]).is_empty());
    }
}

#[test]
fn who_does_not_know_the_value_neither_reads_nor_writes() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let access = made(&mut tpm, 7);
    let wrong = NvAccess {
        auth: Secret::random().unwrap(),
        ..access
    };
    for _ in 0..40 {
        let error = tpm.write_anchor(AT, &wrong, 0, &[0]).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused);
        assert_eq!(
            error.to_string(),
            "writing the anchor in the TPM: the record in NV index 0x1804e10 was removed or made anew \
             since this boot read it: reboot"
        );
        assert!(tpm.read_anchor_again(AT, &wrong, LEN).is_err());
    }
    // Guessing locks nobody out.
    let access = NvAccess {
        auth: access.auth,
        ..wrong
    };
    tpm.write_anchor(AT, &access, 0, &[8]).unwrap();
    let (found, _) = tpm.read_anchor_again(AT, &access, LEN).unwrap();
    assert_eq!(found[..2], [8, 7]);
}

/// Another system boots on the same TPM, whose owner authorisation is empty, and makes a record of its own.
#[test]
fn a_record_that_another_system_makes_stays_without_content_and_counts_as_none() {
    let mut swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let access = made(&mut tpm, 7);
    drop(tpm);
    let public = succeeds(&swtpm, "tpm2_nvreadpublic", &["0x1804e10"]);
    let public = String::from_utf8(public).unwrap();
    let policy = public.split("policy: ").nth(1).unwrap();
    let policy = hex::decode(policy.split_whitespace().next().unwrap()).unwrap();
    std::fs::write(swtpm.dir().join("policy"), policy).unwrap();
    std::fs::write(swtpm.dir().join("forged"), [0; LEN]).unwrap();
    swtpm.reset();

    let theirs = NvAccess {
        auth: Secret::new(b"theirs".to_vec()),
        pcr_policy: access.pcr_policy,
    };
    let mut tpm = connected(&swtpm);
    tpm.event(Pcr::SECURE_BOOT, b"another system").unwrap();
    drop(tpm);
    succeeds(&swtpm, "tpm2_nvundefine", &["-C", "o", "0x1804e10"]);
    define(&swtpm, "policyread|policywrite|no_da", &["-p", "theirs"]);
    let write = ["0x1804e10", "-i", "forged"];
    assert!(!by_pcrs(&swtpm, &access, "tpm2_nvwrite", &write));
    let args = [&write[..], &["-P", "theirs"]].concat();
    assert!(!swtpm.tool("tpm2_nvwrite", &args).status.success());
    let mut tpm = connected(&swtpm);
    tpm.write_anchor(AT, &theirs, 0, &[0; LEN]).unwrap_err();
    drop(tpm);

    swtpm.reset();
    let mut tpm = connected(&swtpm);
    assert!(tpm.read_anchor(AT, POLICY, LEN).unwrap().is_none());
    // Ours takes its place, and the counter has gone on.
    let auth = Secret::random().unwrap();
    let count = tpm
        .define_anchor(AT, POLICY, &auth, &record(&auth, 5))
        .unwrap();
    assert_eq!(count, 2);
    assert_eq!(recall(&mut tpm, LEN).unwrap(), Some((record(&auth, 5), 2)));
    // The controls: written, the same call with the right value succeeds; and so does the boot chain's with the tools.
    let ours = NvAccess { auth, ..theirs };
    tpm.write_anchor(AT, &ours, 0, &[1; LEN]).unwrap();
    drop(tpm);
    assert!(by_pcrs(&swtpm, &access, "tpm2_nvwrite", &write));
    let (found, _) = connected(&swtpm).read_anchor_again(AT, &ours, LEN).unwrap();
    assert_eq!(found, [0; LEN]);
}

/// Runs one of the tpm2-tools by the branch of PCR values; whether it succeeded.
fn by_pcrs(swtpm: &Swtpm, access: &NvAccess, tool: &str, args: &[&str]) -> bool {
    std::fs::write(swtpm.dir().join("a"), access.pcr_policy).unwrap();
    std::fs::write(swtpm.dir().join("b"), policy::knowing_auth()).unwrap();
    let start = ["--policy-session", "-S", "session"];
    succeeds(swtpm, "tpm2_startauthsession", &start);
    let pcrs = ["-S", "session", "-l", "sha256:7,11,12"];
    succeeds(swtpm, "tpm2_policypcr", &pcrs);
    let either = swtpm.tool("tpm2_policyor", &["-S", "session", "sha256:a,b"]);
    let args = [args, &["-P", "session:session"]].concat();
    let succeeded = either.status.success() && swtpm.tool(tool, &args).status.success();
    succeeds(swtpm, "tpm2_flushcontext", &["session"]);
    succeeded
}

/// Defines the record's index with tpm2-tools, under the policy in the file of that name.
pub(super) fn define(swtpm: &Swtpm, attributes: &str, more: &[&str]) {
    let args = [
        "0x1804e10",
        "-C",
        "o",
        "-s",
        "1008",
        "-L",
        "policy",
        "-a",
        attributes,
    ];
    succeeds(swtpm, "tpm2_nvdefine", &[&args[..], more].concat());
}

#[test]
fn a_removed_counter_comes_back_higher() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    made(&mut tpm, 7);
    for count in 2..=5 {
        assert_eq!(tpm.increment_anchor(AT).unwrap(), count);
    }
    drop(tpm);
    succeeds(&swtpm, "tpm2_nvundefine", &["-C", "o", "0x1804e11"]);
    let error = connected(&swtpm).read_anchor(AT, POLICY, LEN).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert!(
        error.to_string().starts_with(
            "reading the anchor in the TPM: there is a record in NV index 0x1804e10 \
             and no counter in 0x1804e11: somebody removed the counter, "
        ),
        "{error}"
    );
    // Nor does one count that was made anew and has not been raised.
    let counter = "authread|authwrite|ownerread|no_da|nt=counter";
    let args = ["0x1804e11", "-C", "o", "-s", "8", "-a", counter];
    succeeds(&swtpm, "tpm2_nvdefine", &args);
    assert!(connected(&swtpm).read_anchor(AT, POLICY, LEN).is_err());
    assert!(connected(&swtpm).increment_anchor(AT).is_err());

    succeeds(&swtpm, "tpm2_nvundefine", &["-C", "o", "0x1804e10"]);
    let mut tpm = connected(&swtpm);
    let auth = Secret::random().unwrap();
    let count = tpm
        .define_anchor(AT, POLICY, &auth, &record(&auth, 7))
        .unwrap();
    assert_eq!(count, 6);
}

#[test]
fn another_program_sees_the_attributes_that_were_meant() {
    let swtpm = Swtpm::start();
    made(&mut connected(&swtpm), 7);
    let attributes = |index| {
        let public = succeeds(&swtpm, "tpm2_nvreadpublic", &[index]);
        let public = String::from_utf8(public).unwrap();
        // The first is the hash algorithm's.
        let mut friendly = public.split("friendly: ").skip(2);
        friendly.next().unwrap().lines().next().unwrap().to_owned()
    };
    assert_eq!(
        attributes("0x1804e10"),
        "policywrite|policyread|no_da|written"
    );
    // Not orderly: that one jumps when the power fails.
    assert_eq!(
        attributes("0x1804e11"),
        "authwrite|nt=0x1|ownerread|authread|no_da|written"
    );
}
