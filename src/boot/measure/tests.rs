// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::boot::fixture::{self, Node, REQUIRED};
use crate::boot::with_volumes_open;
use crate::error::Exit;
use crate::key::Secret;
use crate::pcr::{Bank, Pcr};
use crate::support::firmware::Firmware;
use crate::tpm::Policy;
use crate::tpm::tests::bus::{Forger, forging, forging_once, other_value, plain_success};
use crate::tpm::tests::{PCR_EXTEND, PCR_READ};

/// What the PCRs of the fence and of the clusterID hold.
fn values(node: &Node) -> [Vec<u8>; 2] {
    let pcrs = [node.config.tpm.fence_pcr, node.config.measure.cluster_pcr];
    pcrs.map(|pcr| {
        let values = node.tpm().read(pcr).unwrap();
        let of = values.iter().find(|(bank, _)| *bank == Bank::Sha256);
        of.unwrap().1.clone()
    })
}

/// What a PCR holds that was zero and extended once with this text.
fn extended(text: &str) -> Vec<u8> {
    let zero = Bank::Sha256.zero();
    Bank::Sha256.hash(&[zero, Bank::Sha256.hash(text.as_bytes())].concat())
}

#[test]
fn a_boot_that_ends_before_its_keys_leaves_nothing_open() {
    let node = Node::new();
    let zero = Bank::Sha256.zero();
    assert_eq!(values(&node), [zero.clone(), zero]);
    let (result, status) = node.boot();
    let error = result.as_ref().unwrap_err();
    assert_ne!(error.exit(), Exit::Temporary, "{error}");
    assert_eq!(
        values(&node),
        [extended(measure::FENCE), extended(measure::FAILED)]
    );
    // The record says so, and still what went wrong at first.
    assert_eq!(status.fence_pcr, Some(node.config.tpm.fence_pcr));
    assert_eq!(status.error, Some(error.to_string()));
    let after = &status.pcrs.after[&Bank::Sha256];
    assert_eq!(
        after[&Pcr::SYSTEM_IDENTITY],
        hex::encode(extended(measure::FAILED))
    );

    // What comes next finds a machine that has had its boot.
    let error = node.tpm().require_zero(Pcr::SYSTEM_IDENTITY).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
}

/// Before the TPM is so much as looked for.
#[test]
fn a_boot_that_ends_at_its_kernel_leaves_nothing_open_either() {
    let node = Node::new();
    std::fs::remove_dir_all(node.top.join("proc")).unwrap();
    let result = with_volumes_open(&node.top, &node.config, &Recorder::start(), |_, _| Ok(()));
    let error = result.unwrap_err().to_string();
    assert!(error.contains("osrelease"), "{error}");
    assert_eq!(
        values(&node),
        [extended(measure::FENCE), extended(measure::FAILED)]
    );
}

#[test]
fn a_machine_that_has_its_identity_keeps_it() {
    let node = Node::new();
    let log = EventLog::open(&node.top);
    let mut tpm = node.tpm();
    tpm.event(node.config.measure.cluster_pcr, b"cluster")
        .unwrap();
    fence(&node.config, &mut tpm, &log, &Recorder::start()).unwrap();
    drop(tpm);
    assert_eq!(
        values(&node),
        [extended(measure::FENCE), extended("cluster")]
    );
}

#[test]
fn without_a_tpm_the_boot_ends_with_what_it_failed_with() {
    let mut node = Node::new();
    // Nobody listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    node.config = fixture::config(REQUIRED, port);
    let result = with_volumes_open(&node.top, &node.config, &Recorder::start(), |_, _| Ok(()));
    let error = result.unwrap_err();
    assert!(error.to_string().starts_with("preparing TPM: "), "{error}");
}

/// A booted system that loads its own kernel and initrd by kexec leaves the TPM as it is: no firmware runs and nothing is
/// reset. So the same boot again with the same TPM is what the genuine initrd finds then; the kernels are not run here.
#[test]
fn an_initrd_that_a_booted_system_starts_again_finds_the_fence() {
    let mut node = Node::new();
    let policy = Policy::of(&node.config.tpm, None);
    let log = EventLog::open(&node.top);
    let secret = Secret::random().unwrap();
    let mut tpm = node.tpm();
    let sealed = tpm.seal(&secret, policy).unwrap();
    tpm.unseal(&sealed, policy).unwrap();
    tpm.event(node.config.measure.cluster_pcr, b"cluster")
        .unwrap();
    fence(&node.config, &mut tpm, &log, &Recorder::start()).unwrap();
    drop(tpm);
    let booted = values(&node);

    let (result, status) = node.boot();
    let error = result.unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    let sentence = "preparing TPM: PCR 15 (sha1) is already extended: ";
    assert!(error.to_string().starts_with(sentence), "{error}");
    // It did not come to a disk, and the identity is that of the boot before.
    assert!(status.volumes.is_empty());
    assert_eq!(values(&node)[1], booted[1]);
    // Were there no such check, the TPM would not give the secret.
    let error = node.tpm().unseal(&sealed, policy).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);

    // The control: a reset, and a firmware that starts the same.
    node.swtpm.reset();
    node.config = fixture::config(REQUIRED, node.swtpm.port());
    node.start(&Firmware::signed());
    let again = node.tpm().unseal(&sealed, policy).unwrap();
    assert_eq!(again.expose(), secret.expose());
    let error = node.boot().0.unwrap_err().to_string();
    assert!(!error.starts_with("preparing TPM: "), "{error}");
}

/// A boot whose TPM gets `command` and answers what `forge` makes of it.
fn boot_behind(command: u32, swallowed: bool, forge: Forger) -> Error {
    let mut node = Node::new();
    let port = forging(&node.swtpm, command, swallowed, forge);
    node.config = fixture::config(REQUIRED, port);
    node.boot().0.unwrap_err()
}

#[test]
fn a_boot_that_hears_other_values_than_its_tpm_has_is_refused() {
    let error = boot_behind(PCR_READ, false, other_value);
    assert_eq!(error.exit(), Exit::Refused);
    let sentence = "preparing TPM: reading PCRs: what the TPM was sent or what it answered was altered on its way";
    assert!(error.to_string().starts_with(sentence), "{error}");
    // The control: this one gets as far as its disk, which is none.
    let error = boot_behind(PCR_READ, false, |_, answer| answer).to_string();
    assert!(
        error.starts_with("opening volume state: examining: "),
        "{error}"
    );
}

#[test]
fn a_fence_that_somebody_swallowed_is_no_fence() {
    let node = Node::new();
    let log = EventLog::open(&node.top);
    let raised = |forge: Option<Forger>| {
        let port = match forge {
            Some(forge) => forging(&node.swtpm, PCR_EXTEND, true, forge),
            None => node.swtpm.port(),
        };
        let mut tpm = Tpm::open(&crate::config::Tcti::Swtpm { port }).unwrap();
        tpm.vouch();
        fence(&node.config, &mut tpm, &log, &Recorder::start())
    };
    let error = raised(Some(plain_success)).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    let zero = Bank::Sha256.zero();
    assert_eq!(values(&node)[0], zero);
    raised(None).unwrap();
    assert_eq!(values(&node)[0], extended(measure::FENCE));
}

#[test]
fn a_fence_that_was_disturbed_once_is_raised_again() {
    let mut node = Node::new();
    node.config = fixture::config(REQUIRED, forging_once(&node.swtpm));
    // It ends before its keys, so that the fence is the first that is extended.
    node.boot().0.unwrap_err();
    assert_eq!(
        values(&node),
        [extended(measure::FENCE), extended(measure::FAILED)]
    );
}
