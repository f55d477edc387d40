// SPDX-License-Identifier: Apache-2.0
//! What is sealed to a key opens to each image whose PCR 11 it has signed, and to no other.

use super::anchor::{AT, LEN, PLACES, made_under, record};
use super::proxy::{code, meddling};
use super::*;
use crate::key::pcr::PcrKey;
use crate::sealed::signature::PcrSignatures;
use crate::support::pcr_key::{self, approve, pcr_11, policy, signatures};

const LOAD_EXTERNAL: u32 = 0x167;
const VERIFY_SIGNATURE: u32 = 0x177;
const POLICY_AUTHORIZE: u32 = 0x16a;

/// Starts the machine with an image.
fn start(swtpm: &mut Swtpm, image: &[u8]) -> Tpm {
    swtpm.reset();
    let mut tpm = connected(swtpm);
    tpm.event(Pcr::KERNEL_IMAGE, image).unwrap();
    tpm
}

/// A TPM in which an image that a key has signed has sealed a secret.
struct Provisioned {
    key: PcrKey,
    swtpm: Swtpm,
    tpm: Tpm,
    policy: Policy,
    secret: Secret,
    sealed: Sealed,
}

fn provisioned() -> Provisioned {
    let key = pcr_key::new();
    let mut swtpm = Swtpm::start();
    let mut tpm = start(&mut swtpm, b"image 1");
    let policy = approve(&key, &mut tpm);
    let secret = Secret::random().unwrap();
    let sealed = tpm.seal(&secret, policy).unwrap();
    Provisioned {
        key,
        swtpm,
        tpm,
        policy,
        secret,
        sealed,
    }
}

fn assert_other_values(tpm: &mut Tpm, sealed: &Sealed, policy: Policy) {
    let error = tpm.unseal(sealed, policy).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("have other values than at sealing time"),
        "{error}"
    );
}

#[test]
fn each_image_that_the_key_has_signed_unseals_and_reads_the_record() {
    let Provisioned {
        key,
        mut swtpm,
        mut tpm,
        policy,
        secret,
        sealed,
    } = provisioned();
    assert_eq!(sealed.key, Some(key.public().clone()));
    let access = made_under(&mut tpm, policy, 7);
    let pcr_policy = tpm.anchor_policy(policy).unwrap();
    drop(tpm);

    // A newer image, the one of before, and the newer one again.
    for image in [&b"image 2"[..], b"image 1", b"image 2"] {
        let mut tpm = start(&mut swtpm, image);
        assert_eq!(approve(&key, &mut tpm), policy);
        let unsealed = tpm.unseal(&sealed, policy).unwrap();
        assert_eq!(unsealed.expose(), secret.expose());
        let found = tpm.find_records(PLACES, policy, LEN).unwrap();
        assert_eq!(found.readable, Some(AT));
        let read = tpm.read_anchor(AT, policy, LEN).unwrap().unwrap();
        assert_eq!(read, record(&access.auth, 7));
        // The record's name, which a header vouches for, is the same for all of them.
        assert_eq!(tpm.anchor_policy(policy).unwrap(), pcr_policy);
        // The fence ends it, whichever image it is.
        tpm.event(Pcr::KERNEL_CONFIG, b"fence").unwrap();
        let error = tpm.unseal(&sealed, policy).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unsealing from signed values of PCR 11 and PCRs 7+12+13 (sha256): the PCR values differ from those at sealing \
             time: PCR 12 (what the image was handed): the command line is another, something was handed to the image, or the \
             fence of this boot has come"
        );
        let error = tpm.read_anchor(AT, policy, LEN).unwrap_err();
        assert!(error.to_string().contains("other PCR values"), "{error}");
    }
}

/// Nothing is sealed to an image that could not open it again.
#[test]
fn an_image_without_a_signature_of_its_own_is_refused() {
    let (key, other) = (pcr_key::new(), pcr_key::new());
    let mut swtpm = Swtpm::start();
    let mut tpm = start(&mut swtpm, b"image 1");
    let value = pcr_11(&mut tpm);
    let of_another = Bank::Sha256.hash(b"another value");
    let public = key.public();
    let mut refusal = |signatures: &PcrSignatures| {
        let refused = tpm.approve(public, signatures, Bank::Sha256, &value);
        let error = refused.unwrap_err();
        assert_eq!(error.exit(), Exit::Refused);
        error.to_string()
    };
    for none in [signatures(&key, &[]), signatures(&other, &[&value])] {
        let message = refusal(&none);
        let start = format!(
            "the image carries no signature of PCR 11 by the key of the configuration, {public}: "
        );
        assert!(message.starts_with(&start), "{message}");
    }
    let message = refusal(&signatures(&key, &[&of_another]));
    assert!(
        message.starts_with(
            "the signatures by the key of the configuration are of other values of PCR 11"
        ),
        "{message}"
    );
    // The control: among others it is found.
    let all = signatures(&key, &[&of_another, &value]);
    tpm.approve(public, &all, Bank::Sha256, &value).unwrap();
    tpm.seal(&Secret::random().unwrap(), policy(&key)).unwrap();
}

/// What names a key has to be by it: the TPM looks.
#[test]
fn a_signature_that_only_says_whose_it_is_is_refused() {
    let (key, other) = (pcr_key::new(), pcr_key::new());
    let mut swtpm = Swtpm::start();
    let mut tpm = start(&mut swtpm, b"the host's own");
    let value = pcr_11(&mut tpm);
    let mut entry = signatures(&other, &[&value]).of(Bank::Sha256)[0].clone();
    entry.pkfp = key.public().to_string();
    let forged = PcrSignatures::new([(Bank::Sha256, vec![entry])]);
    let error = tpm
        .approve(key.public(), &forged, Bank::Sha256, &value)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "looking at the signature of PCR 11: it is not by the key of the configuration, {}, though it says so",
            key.public()
        )
    );
    assert_eq!(error.exit(), Exit::Refused);
    let error = tpm
        .seal(&Secret::random().unwrap(), policy(&key))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("no signature of PCR 11 was looked at"),
        "{error}"
    );
}

/// With all that is on the disk and in the TPM, but a key of its own.
#[test]
fn another_system_with_a_key_of_its_own_opens_nothing_and_its_record_is_none_of_ours() {
    let (key, own) = (pcr_key::new(), pcr_key::new());
    let mut swtpm = Swtpm::start();
    let mut tpm = start(&mut swtpm, b"image 1");
    let policy = approve(&key, &mut tpm);
    let secret = Secret::random().unwrap();
    let sealed = tpm.seal(&secret, policy).unwrap();
    drop(tpm);

    let mut tpm = start(&mut swtpm, b"the host's own");
    let foreign = approve(&own, &mut tpm);
    let error = tpm.unseal(&sealed, foreign).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    // A ticket of its own beside our key's name.
    let error = tpm.unseal(&sealed, policy).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("no signature of PCR 11 was looked at"),
        "{error}"
    );
    made_under(&mut tpm, foreign, 9);
    drop(tpm);

    let mut tpm = start(&mut swtpm, b"image 1");
    let policy = approve(&key, &mut tpm);
    let found = tpm.find_records(PLACES, policy, LEN).unwrap();
    assert_eq!((found.readable, found.others), (None, vec![AT.record]));
    // The control.
    assert_eq!(
        tpm.unseal(&sealed, policy).unwrap().expose(),
        secret.expose()
    );
}

/// The values beside what is signed count: PCR 7 says whose signature the firmware took.
#[test]
fn a_signed_image_under_another_secure_boot_opens_nothing() {
    let Provisioned {
        key,
        mut swtpm,
        mut tpm,
        policy,
        sealed,
        ..
    } = provisioned();
    for pcr in [Pcr::SECURE_BOOT, Pcr::KERNEL_CONFIG, Pcr::SYSTEM_EXTENSIONS] {
        drop(tpm);
        tpm = start(&mut swtpm, b"image 1");
        approve(&key, &mut tpm);
        tpm.unseal(&sealed, policy).unwrap();
        tpm.event(pcr, b"another").unwrap();
        let error = tpm.unseal(&sealed, policy).unwrap_err().to_string();
        let expected = format!("the PCR values differ from those at sealing time: PCR {pcr} (");
        assert!(error.contains(&expected), "{error}");
        // A token of systemd's tells no values.
        let without = Sealed {
            values: None,
            ..sealed.clone()
        };
        assert_other_values(&mut tpm, &without, policy);
    }
}

/// PCR 11 goes on where the initrd ends: what is signed is its value before.
#[test]
fn a_later_phase_of_the_boot_opens_nothing() {
    let Provisioned {
        swtpm: _running,
        mut tpm,
        policy,
        sealed,
        ..
    } = provisioned();
    tpm.unseal(&sealed, policy).unwrap();
    tpm.event(Pcr::KERNEL_IMAGE, b"leave-initrd").unwrap();
    assert_other_values(&mut tpm, &sealed, policy);
}

/// So a boot of one volume, which unseals and reads the record, takes seven more than one that is sealed to an image.
#[test]
fn it_takes_three_commands_once_and_two_more_for_each_use() {
    let key = pcr_key::new();
    let mut swtpm = Swtpm::start();
    let mut tpm = start(&mut swtpm, b"image 1");
    let policy = policy(&key);
    let value = pcr_11(&mut tpm);
    let signatures = signatures(&key, &[&value]);
    swtpm.commands();
    tpm.approve(key.public(), &signatures, Bank::Sha256, &value)
        .unwrap();
    assert_eq!(
        swtpm.commands(),
        [LOAD_EXTERNAL, VERIFY_SIGNATURE, FLUSH_CONTEXT]
    );
    let sealed = tpm.seal(&Secret::random().unwrap(), policy).unwrap();
    tpm.unseal(&sealed, policy).unwrap();
    swtpm.commands();
    tpm.unseal(&sealed, policy).unwrap();
    assert_eq!(
        swtpm.commands(),
        [
            LOAD,
            POLICY_PCR,
            POLICY_AUTHORIZE,
            POLICY_PCR,
            UNSEAL,
            FLUSH_CONTEXT
        ]
    );
}

/// The kernel measures on its own while a boot works (IMA, PCR 10): each step of a policy notices that, and is done again.
#[test]
fn a_pcr_that_changes_between_the_steps_of_a_policy_has_it_satisfied_again() {
    let Provisioned {
        key,
        mut swtpm,
        tpm,
        policy,
        secret,
        sealed,
    } = provisioned();
    drop(tpm);
    swtpm.reset();
    connected(&swtpm)
        .event(Pcr::KERNEL_IMAGE, b"image 1")
        .unwrap();
    let mut steps = 0;
    let port = meddling(swtpm.port(), move |command, ask| {
        if code(&command) == POLICY_PCR {
            steps += 1;
            if steps == 2 {
                ask(&extend_pcr_10())?;
            }
        }
        ask(&command)
    });
    let mut tpm = Tpm::open(&Tcti::Swtpm { port }).unwrap();
    approve(&key, &mut tpm);
    swtpm.commands();
    let unsealed = tpm.unseal(&sealed, policy).unwrap();
    assert_eq!(unsealed.expose(), secret.expose());
    let commands = swtpm.commands();
    let count = |code| commands.iter().filter(|it| **it == code).count();
    assert_eq!((count(PCR_EXTEND), count(POLICY_RESTART)), (1, 1));
    // Both steps again.
    assert_eq!((count(POLICY_PCR), count(POLICY_AUTHORIZE)), (4, 2));
}

/// `TPM2_PCR_Extend` (TPM 2.0 part 3, section 22.2), as another program sends it.
fn extend_pcr_10() -> Vec<u8> {
    let mut command = hex::decode("80020000004100000182").unwrap();
    // The register; a session that is an empty password; one digest, of SHA-256.
    for part in [
        "0000000a",
        "00000009",
        "40000009",
        "0000000000",
        "00000001",
        "000b",
    ] {
        command.extend(hex::decode(part).unwrap());
    }
    command.extend([7; 32]);
    command
}
