// SPDX-License-Identifier: Apache-2.0
mod anchor;
mod anchor_places;
mod anchor_trouble;
mod approving;
mod attesting;
pub(crate) mod bus;
mod economy;
pub(crate) mod proxy;
mod quoting;
mod requests;
mod sealing;
mod trouble;

use super::*;
use crate::error::Exit;
use crate::key::Secret;
use crate::pcr::{Digests, Pcr, PcrSet};
use crate::support::swtpm::Swtpm;

const POLICY: Policy = Policy {
    pcrs: PcrSet::of(&[Pcr::SECURE_BOOT, Pcr::KERNEL_IMAGE, Pcr::KERNEL_CONFIG]),
    bank: Bank::Sha256,
    key: None,
};

// Command codes (TPM 2.0 part 2, section 6.5.2).
const EVICT_CONTROL: u32 = 0x120;
const NV_UNDEFINE_SPACE: u32 = 0x122;
const NV_DEFINE_SPACE: u32 = 0x12a;
const CREATE_PRIMARY: u32 = 0x131;
const NV_INCREMENT: u32 = 0x134;
const NV_WRITE: u32 = 0x137;
const NV_READ: u32 = 0x14e;
const CREATE: u32 = 0x153;
const LOAD: u32 = 0x157;
const QUOTE: u32 = 0x158;
const UNSEAL: u32 = 0x15e;
const FLUSH_CONTEXT: u32 = 0x165;
const NV_READ_PUBLIC: u32 = 0x169;
const POLICY_AUTH_VALUE: u32 = 0x16b;
const POLICY_OR: u32 = 0x171;
const READ_PUBLIC: u32 = 0x173;
const START_AUTH_SESSION: u32 = 0x176;
const GET_CAPABILITY: u32 = 0x17a;
pub(crate) const PCR_READ: u32 = 0x17e;
const POLICY_PCR: u32 = 0x17f;
const POLICY_RESTART: u32 = 0x180;
pub(crate) const PCR_EXTEND: u32 = 0x182;
const POLICY_NV_WRITTEN: u32 = 0x18f;

fn connected(swtpm: &Swtpm) -> Tpm {
    Tpm::open(&Tcti::Swtpm { port: swtpm.port() }).unwrap()
}

fn succeeds(swtpm: &Swtpm, tool: &str, args: &[&str]) -> Vec<u8> {
    let output = swtpm.tool(tool, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {args:?}: {errors}");
    output.stdout
}

#[test]
fn an_event_extends_every_active_bank_with_the_digest_of_the_data() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let banks = tpm.banks().unwrap();
    assert!(banks.contains(&Bank::Sha1) && banks.contains(&Bank::Sha256));

    let digests = tpm
        .event(Pcr::SYSTEM_IDENTITY, b"the id of a cluster")
        .unwrap();

    assert_eq!(digests.len(), banks.len());
    for (bank, digest) in &digests {
        assert_eq!(*digest, bank.hash(b"the id of a cluster"));
    }
    let expected: Digests = digests
        .into_iter()
        .map(|(bank, digest)| (bank, bank.extended(&vec![0; digest.len()], &digest)))
        .collect();
    assert_eq!(tpm.read(Pcr::SYSTEM_IDENTITY).unwrap(), expected);
}

#[test]
fn another_program_reads_the_same_values() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    tpm.event(Pcr::SYSTEM_IDENTITY, b"id").unwrap();
    let values = tpm.read(Pcr::SYSTEM_IDENTITY).unwrap();
    drop(tpm);
    for (bank, value) in values {
        let list = format!("{bank}:15");
        succeeds(&swtpm, "tpm2_pcrread", &[&list, "-o", "values"]);
        assert_eq!(std::fs::read(swtpm.dir().join("values")).unwrap(), value);
    }
}

#[test]
fn a_pcr_that_is_not_zero_is_refused() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    tpm.require_zero(Pcr::SYSTEM_IDENTITY).unwrap();

    let extend = format!("15:sha384={}", "ab".repeat(48));
    succeeds(&swtpm, "tpm2_pcrextend", &[&extend]);

    let error = tpm.require_zero(Pcr::SYSTEM_IDENTITY).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert_eq!(
        error.to_string(),
        "PCR 15 (sha384) is already extended: something else measured into it during this boot; \
         turn that off or configure another PCR, then reboot"
    );
    tpm.require_zero(Pcr::KERNEL_CONFIG).unwrap();
}

#[test]
fn an_extend_that_leaves_a_bank_out_is_an_error_and_extends_nothing() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let all: Digests = tpm
        .banks()
        .unwrap()
        .into_iter()
        .map(|bank| (bank, bank.hash(b"x")))
        .collect();
    let but_sha1: Digests = all
        .iter()
        .filter(|(bank, _)| *bank != Bank::Sha1)
        .cloned()
        .collect();

    let error = tpm.extend(Pcr::SYSTEM_IDENTITY, &but_sha1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "PCR bank sha1 is active and has no digest to extend it with"
    );
    tpm.require_zero(Pcr::SYSTEM_IDENTITY).unwrap();
    tpm.extend(Pcr::SYSTEM_IDENTITY, &all).unwrap();
    assert!(tpm.require_zero(Pcr::SYSTEM_IDENTITY).is_err());
}

#[test]
fn a_missing_tpm_is_one_sentence_that_says_what_to_do() {
    // tcpmux, which nothing serves any more
    let error = Tpm::open(&Tcti::Swtpm { port: 1 }).unwrap_err();
    assert_eq!(error.exit(), Exit::Unavailable);
    assert!(
        error
            .to_string()
            .starts_with("opening the TPM: no TPM: nothing answers as swtpm on port 1: "),
        "{error}"
    );

    let error = open_first(["/nonexistent/tpm0", "/nonexistent/tpmrm0"]).unwrap_err();
    assert_eq!(error.exit(), Exit::Unavailable);
    assert_eq!(
        error.to_string(),
        "no TPM: neither /nonexistent/tpm0 nor /nonexistent/tpmrm0 exists: \
         give the machine a vTPM, or its initrd the driver for it"
    );

    let error = open_node("/nonexistent/tpm0").unwrap_err();
    assert_eq!(error.exit(), Exit::Unavailable);
    assert_eq!(
        error.to_string(),
        "no TPM: /nonexistent/tpm0: No such file or directory"
    );
}

#[test]
fn a_bank_that_is_not_active_is_left_alone_and_cannot_carry_a_policy() {
    let mut swtpm = Swtpm::start();
    succeeds(&swtpm, "tpm2_pcrallocate", &["sha384:none"]);
    swtpm.reset();
    let mut tpm = connected(&swtpm);
    assert_eq!(
        tpm.banks().unwrap(),
        [Bank::Sha1, Bank::Sha256, Bank::Sha512]
    );
    let digests = tpm.event(Pcr::SYSTEM_IDENTITY, b"id").unwrap();
    assert_eq!(digests.len(), 3);

    let policy = Policy {
        bank: Bank::Sha384,
        ..POLICY
    };
    let secret = Secret::random().unwrap();
    let error = tpm.seal(&secret, policy).unwrap_err();
    assert_eq!(error.exit(), Exit::Unavailable);
    let sentence = "from PCRs 7+11+12 (sha384): the TPM has no PCR 7 in bank sha384: \
         activate the bank or configure another";
    assert_eq!(error.to_string(), sentence.replace("from", "sealing to"));
    let sealed = tpm.seal(&secret, POLICY).unwrap();
    let error = tpm.unseal(&sealed, policy).unwrap_err();
    assert_eq!(error.exit(), Exit::Unavailable);
    assert_eq!(error.to_string(), format!("unsealing {sentence}"));
    tpm.unseal(&sealed, POLICY).unwrap();
}

#[test]
fn a_tpm_that_goes_away_is_unavailable() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    tpm.read(Pcr::SYSTEM_IDENTITY).unwrap();
    drop(swtpm);
    let error = tpm.read(Pcr::SYSTEM_IDENTITY).unwrap_err();
    assert_eq!(error.exit(), Exit::Unavailable);
    assert_eq!(
        error.to_string(),
        "reading PCRs: the TPM did not answer (tpm2-tss error 0xa000a)"
    );
}

#[test]
fn a_tpm_for_a_virtual_machine_waits_at_its_socket_after_a_reset_too() {
    let mut swtpm = Swtpm::for_vm();
    for _ in 0..2 {
        std::os::unix::net::UnixStream::connect(swtpm.socket()).unwrap();
        swtpm.reset();
    }
}

#[test]
fn a_program_a_test_starts_does_not_inherit_connections() {
    let swtpm = Swtpm::start();
    let (end, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    // Unlike what the standard library opens, a duplicate stays open in programs; so does what tpm2-tss opens.
    let _inherited = nix::unistd::dup(&end).unwrap();
    let open = succeeds(&swtpm, "ls", &["-l", "/proc/self/fd"]);
    let open = String::from_utf8(open).unwrap();
    assert!(open.contains("/fd") && !open.contains("socket:"), "{open}");
}

#[test]
fn a_connection_may_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Tpm>();
}
