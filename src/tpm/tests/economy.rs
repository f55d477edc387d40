// SPDX-License-Identifier: Apache-2.0
//! How many commands a boot costs. On a device node tpm2-tss adds one as it opens it.

use super::anchor::{AT, LEN, PLACES, fence, made};
use super::*;

/// The banks; then the PCRs that say how the machine was started, those of the policy, and the one that has to be zero: two
/// times eight values.
const STARTED: [u32; 3] = [GET_CAPABILITY, PCR_READ, PCR_READ];
/// The storage root key, and the session that vouches for readings and extends.
const VOUCHED: [u32; 3] = [READ_PUBLIC, READ_PUBLIC, START_AUTH_SESSION];
const UNSEALED: [u32; 4] = [LOAD, POLICY_PCR, UNSEAL, FLUSH_CONTEXT];

/// A connection as a boot has it.
fn vouching(swtpm: &Swtpm) -> Tpm {
    let mut tpm = connected(swtpm);
    tpm.vouch();
    tpm
}

/// A TPM after the next reset, with an anchor and two secrets sealed to it.
fn provisioned() -> (Swtpm, [Sealed; 2]) {
    let mut swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    made(&mut tpm, 7);
    let seal = |tpm: &mut Tpm| tpm.seal(&Secret::random().unwrap(), POLICY).unwrap();
    let sealed = [seal(&mut tpm), seal(&mut tpm)];
    drop(tpm);
    swtpm.reset();
    swtpm.commands();
    (swtpm, sealed)
}

#[test]
fn a_boot_of_one_volume_takes_twenty_four_commands_and_a_further_one_four() {
    let (mut swtpm, sealed) = provisioned();
    let mut all = 0;
    let mut saw = |swtpm: &mut Swtpm, expected: &[&[u32]]| {
        let expected = expected.concat();
        assert_eq!(swtpm.commands(), expected);
        all += expected.len();
    };
    let mut tpm = vouching(&swtpm);
    tpm.require_zero_before(Pcr::SYSTEM_IDENTITY, POLICY, PcrSet::STARTED)
        .unwrap();
    saw(&mut swtpm, &[&VOUCHED, &STARTED]);

    let found = tpm.find_records(PLACES, POLICY, LEN).unwrap();
    assert_eq!(found.readable, Some(AT));
    // Which indices there are, requests among them; then the two.
    let found = [GET_CAPABILITY, NV_READ_PUBLIC, NV_READ_PUBLIC];
    saw(&mut swtpm, &[&found, &[START_AUTH_SESSION]]);
    tpm.unseal(&sealed[0], POLICY).unwrap();
    saw(&mut swtpm, &[&UNSEALED]);
    tpm.read_anchor(AT, POLICY, LEN).unwrap().unwrap();
    let record = [POLICY_PCR, POLICY_OR, NV_READ];
    saw(&mut swtpm, &[&record]);
    tpm.anchor_policy(POLICY).unwrap();
    saw(&mut swtpm, &[]);
    tpm.count_anchor(AT).unwrap();
    saw(&mut swtpm, &[&[NV_READ]]);
    // A further volume, which is no part of the sum.
    tpm.unseal(&sealed[1], POLICY).unwrap();
    assert_eq!(swtpm.commands(), UNSEALED);
    tpm.event(Pcr::SYSTEM_IDENTITY, b"id").unwrap();
    saw(&mut swtpm, &[&[PCR_EXTEND]]);
    tpm.raise_anchor(AT).unwrap();
    saw(&mut swtpm, &[&[NV_INCREMENT]]);
    assert_eq!(tpm.increment_anchor(AT).unwrap(), 3);
    saw(&mut swtpm, &[&[NV_INCREMENT, NV_READ]]);

    fence(&mut tpm);
    saw(&mut swtpm, &[&[PCR_EXTEND]]);
    let pcrs = [Pcr::KERNEL_CONFIG, Pcr::SYSTEM_IDENTITY];
    let values = tpm.read_last(&pcrs).unwrap();
    saw(&mut swtpm, &[&[PCR_READ]]);
    // The sessions ended with their last use.
    drop(tpm);
    saw(&mut swtpm, &[]);
    for (pcr, values) in pcrs.into_iter().zip(values) {
        assert_eq!(connected(&swtpm).read(pcr).unwrap(), values);
    }
    assert_eq!(all, 24);
}

#[test]
fn a_boot_of_two_volumes_without_an_anchor_takes_nineteen_commands() {
    let (mut swtpm, sealed) = provisioned();
    let mut tpm = vouching(&swtpm);
    assert!(swtpm.commands().is_empty());
    tpm.require_zero_before(Pcr::SYSTEM_IDENTITY, POLICY, PcrSet::STARTED)
        .unwrap();
    assert_eq!(swtpm.commands(), [VOUCHED, STARTED].concat());
    tpm.unseal(&sealed[0], POLICY).unwrap();
    let session = [START_AUTH_SESSION];
    assert_eq!(swtpm.commands(), [&session[..], &UNSEALED].concat());
    tpm.unseal(&sealed[1], POLICY).unwrap();
    assert_eq!(swtpm.commands(), UNSEALED);
    tpm.event(Pcr::SYSTEM_IDENTITY, b"id").unwrap();
    assert_eq!(swtpm.commands(), [PCR_EXTEND]);
    fence(&mut tpm);
    assert_eq!(swtpm.commands(), [PCR_EXTEND]);
    tpm.read_last(&[Pcr::KERNEL_CONFIG, Pcr::SYSTEM_IDENTITY])
        .unwrap();
    assert_eq!(swtpm.commands(), [PCR_READ]);
    drop(tpm);
    assert_eq!(swtpm.commands(), [FLUSH_CONTEXT]);
}

#[test]
fn values_read_before_do_not_stand_in_for_those_of_now() {
    let (mut swtpm, sealed) = provisioned();
    let mut tpm = connected(&swtpm);
    let mut other = connected(&swtpm);
    // Another program extends a PCR between the reading and the unsealing: the TPM refuses.
    tpm.require_zero_before(Pcr::SYSTEM_IDENTITY, POLICY, PcrSet::STARTED)
        .unwrap();
    other.event(Pcr::KERNEL_CONFIG, b"phase").unwrap();
    swtpm.commands();
    assert!(tpm.unseal(&sealed[0], POLICY).is_err());
    assert!(swtpm.commands().contains(&UNSEAL));
    // Sealing and a first record go by the values of now, even where older ones are known.
    other.event(Pcr::KERNEL_IMAGE, b"phase").unwrap();
    let secret = Secret::random().unwrap();
    let now = tpm.seal(&secret, POLICY).unwrap();
    assert_eq!(tpm.unseal(&now, POLICY).unwrap().expose(), secret.expose());
    // What does not fit the known values is compared with those of now before it is refused.
    let mut again = connected(&swtpm);
    again
        .require_zero_before(Pcr::SYSTEM_IDENTITY, POLICY, PcrSet::STARTED)
        .unwrap();
    other.event(Pcr::SECURE_BOOT, b"phase").unwrap();
    let later = other.seal(&secret, POLICY).unwrap();
    again.unseal(&later, POLICY).unwrap();
    // Our own extends are known to change a policy that names them.
    again.event(Pcr::SECURE_BOOT, b"x").unwrap();
    swtpm.commands();
    assert!(again.unseal(&later, POLICY).is_err());
    assert_eq!(swtpm.commands(), [PCR_READ]);
}

#[test]
fn a_pcr_that_is_not_zero_is_refused_before_the_policy_is_used_too() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let policy = Policy {
        pcrs: PcrSet::of(&[Pcr::SECURE_BOOT, Pcr::SYSTEM_IDENTITY]),
        ..POLICY
    };
    tpm.require_zero_before(Pcr::SYSTEM_IDENTITY, policy, PcrSet::STARTED)
        .unwrap();
    let known = tpm.anchor_policy(policy).unwrap();
    assert_eq!(known, connected(&swtpm).anchor_policy(policy).unwrap());
    let extend = format!("15:sha384={}", "ab".repeat(48));
    drop(tpm);
    succeeds(&swtpm, "tpm2_pcrextend", &[&extend]);
    let error = connected(&swtpm)
        .require_zero_before(Pcr::SYSTEM_IDENTITY, policy, PcrSet::STARTED)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("PCR 15 (sha384) is already extended: "),
        "{error}"
    );
    let none = Policy {
        pcrs: PcrSet::of(&[]),
        ..POLICY
    };
    let mut tpm = connected(&swtpm);
    tpm.require_zero_before(Pcr::SECURE_BOOT, none, PcrSet::STARTED)
        .unwrap();
    assert_eq!(tpm.anchor_policy(none).unwrap_err().exit(), Exit::Config);
}

#[test]
fn an_attested_boot_of_one_volume_takes_twenty_six_commands() {
    let mut swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    made(&mut tpm, 7);
    drop(tpm);
    attesting::persist_ek(&swtpm, attesting::RSA_EK, "rsa");
    let certificate: Option<&[u8]> = Some(b"a certificate in the initrd");
    let identity = connected(&swtpm)
        .identity(AkKind::Ecdsa, certificate)
        .unwrap();
    let (blob, secret) = attesting::credential(&swtpm, &identity);
    swtpm.reset();
    swtpm.commands();

    let mut tpm = vouching(&swtpm);
    tpm.prepare_to_attest().unwrap();
    tpm.require_zero_before(Pcr::SYSTEM_IDENTITY, POLICY, PcrSet::STARTED)
        .unwrap();
    tpm.find_records(PLACES, POLICY, LEN).unwrap();
    tpm.read_anchor(AT, POLICY, LEN).unwrap().unwrap();
    tpm.anchor_policy(POLICY).unwrap();
    tpm.count_anchor(AT).unwrap();
    let begun = swtpm.commands();
    let key = [READ_PUBLIC, READ_PUBLIC, START_AUTH_SESSION];
    let found = [GET_CAPABILITY, NV_READ_PUBLIC, NV_READ_PUBLIC];
    let anchor = [found.as_slice(), &[START_AUTH_SESSION]].concat();
    let record = [POLICY_PCR, POLICY_OR, NV_READ, NV_READ];
    assert_eq!(begun, [&key[..], &STARTED, &anchor, &record].concat());

    assert_eq!(tpm.identity(AkKind::Ecdsa, certificate).unwrap(), identity);
    tpm.activate(AkKind::Ecdsa, &blob, &secret).unwrap();
    tpm.attest(AkKind::Ecdsa, &[7; 32]).unwrap();
    let attested = swtpm.commands();
    let activated = [attesting::POLICY_SECRET, attesting::ACTIVATE_CREDENTIAL];
    let quoted = [QUOTE, PCR_READ];
    assert_eq!(
        attested,
        [&[CREATE_PRIMARY][..], &activated, &quoted].concat()
    );

    tpm.event(Pcr::SYSTEM_IDENTITY, b"id").unwrap();
    tpm.raise_anchor(AT).unwrap();
    tpm.increment_anchor(AT).unwrap();
    fence(&mut tpm);
    tpm.read_last(&[Pcr::KERNEL_CONFIG, Pcr::SYSTEM_IDENTITY])
        .unwrap();
    drop(tpm);
    let ended = swtpm.commands();
    let counted = [PCR_EXTEND, NV_INCREMENT, NV_INCREMENT, NV_READ];
    assert_eq!(
        ended,
        [&counted[..], &[PCR_EXTEND, PCR_READ, FLUSH_CONTEXT]].concat()
    );
    assert_eq!(begun.len() + attested.len() + ended.len(), 26);
}
