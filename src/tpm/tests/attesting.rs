// SPDX-License-Identifier: Apache-2.0
//! Which TPM this is, with tpm2-tools as the judge.

use super::*;

pub(super) const POLICY_SECRET: u32 = 0x151;
pub(super) const ACTIVATE_CREDENTIAL: u32 = 0x147;
const SECRET: &[u8; 32] = b"what the credential of a test is";
pub(super) const RSA_EK: &str = "0x81010001";
const ECC_EK: &str = "0x81010002";

fn sized(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap();
    [&len.to_be_bytes()[..], bytes].concat()
}

/// Makes a credential with `tpm2_makecredential`, which needs no TPM for it.
pub(super) fn credential(swtpm: &Swtpm, identity: &TpmIdentity) -> (Vec<u8>, Vec<u8>) {
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(swtpm.dir().join(name), bytes).unwrap();
    };
    write("ek.tss", &sized(&identity.ek_public));
    write("secret", SECRET);
    let name = [&[0, 0x0b][..], &Bank::Sha256.hash(&identity.ak_public)].concat();
    let name = hex::encode(name);
    let args = [
        "-T",
        "none",
        "-u",
        "ek.tss",
        "-s",
        "secret",
        "-n",
        &name,
        "-o",
        "credential",
    ];
    succeeds(swtpm, "tpm2_makecredential", &args);
    // A magic number, a version, a TPM2B_ID_OBJECT and a TPM2B_ENCRYPTED_SECRET.
    let file = std::fs::read(swtpm.dir().join("credential")).unwrap();
    let part = |bytes: &[u8]| {
        let len = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        (bytes[2..2 + len].to_vec(), bytes[2 + len..].to_vec())
    };
    let (blob, rest) = part(&file[8..]);
    (blob, part(&rest).0)
}

pub(super) fn persist_ek(swtpm: &Swtpm, handle: &str, algorithm: &str) {
    let args = ["-c", handle, "-G", algorithm, "-u", "persisted.tss"];
    succeeds(swtpm, "tpm2_createek", &args);
}

#[test]
fn a_credential_for_these_two_keys_is_activated() {
    for (handle, algorithm) in [(None, "rsa"), (Some(RSA_EK), "rsa"), (Some(ECC_EK), "ecc")] {
        for kind in [AkKind::Ecdsa, AkKind::Rsassa] {
            let swtpm = Swtpm::start();
            if let Some(handle) = handle {
                persist_ek(&swtpm, handle, algorithm);
            }
            let mut tpm = connected(&swtpm);
            let identity = tpm.identity(kind, None).unwrap();
            drop(tpm);
            assert_eq!(identity.ek_certificate, None);
            let (blob, secret) = credential(&swtpm, &identity);
            let mut tpm = connected(&swtpm);
            let activated = tpm.activate(kind, &blob, &secret).unwrap();
            assert_eq!(activated.expose(), SECRET);
            // Unsealing goes on in the same session.
            let sealed = tpm.seal(&activated, POLICY).unwrap();
            assert_eq!(tpm.unseal(&sealed, POLICY).unwrap().expose(), SECRET);

            let other = match kind {
                AkKind::Ecdsa => AkKind::Rsassa,
                AkKind::Rsassa => AkKind::Ecdsa,
            };
            let error = tpm.activate(other, &blob, &secret).unwrap_err();
            assert_eq!(error.exit(), Exit::Refused, "{error}");
            let mut altered = blob.clone();
            altered[10] ^= 1;
            let error = tpm.activate(kind, &altered, &secret).unwrap_err();
            assert_eq!(
                error.to_string(),
                "activating the credential: the service made it for another TPM or another attestation key"
            );
            let error = tpm.activate(kind, &[0; 4096], &secret).unwrap_err();
            assert_eq!(error.exit(), Exit::Refused, "{error}");
            assert!(tpm.activate(kind, &blob, &secret).is_ok());
            drop(tpm);

            let stranger = Swtpm::start();
            let mut tpm = connected(&stranger);
            let error = tpm.activate(kind, &blob, &secret).unwrap_err();
            assert_eq!(error.exit(), Exit::Refused, "{error}");
        }
    }
}

#[test]
fn a_key_at_the_reserved_handle_that_is_another_kind_of_key_is_not_taken() {
    let swtpm = Swtpm::start();
    let expected = connected(&swtpm).identity(AkKind::Ecdsa, None).unwrap();
    succeeds(
        &swtpm,
        "tpm2_createprimary",
        &["-C", "e", "-c", "other.ctx", "-G", "rsa"],
    );
    succeeds(
        &swtpm,
        "tpm2_evictcontrol",
        &["-C", "o", "-c", "other.ctx", RSA_EK],
    );
    let found = connected(&swtpm).identity(AkKind::Ecdsa, None).unwrap();
    assert_eq!(found, expected);
}

#[test]
fn the_certificate_comes_from_the_tpm_without_its_padding() {
    let swtpm = Swtpm::start();
    for (index, len, template) in [("0x1c00002", 1500_u16, "rsa"), ("0x1c0000a", 600, "ecc")] {
        let certificate: Vec<u8> = [&[0x30, 0x82][..], &(len - 4).to_be_bytes()]
            .concat()
            .into_iter()
            .chain((4..len).map(|at| at.to_le_bytes()[0]))
            .collect();
        let padded = [&certificate[..], &[0xff; 100]].concat();
        std::fs::write(swtpm.dir().join("certificate"), &padded).unwrap();
        let size = padded.len().to_string();
        let attributes = "ownerwrite|ownerread|authread|no_da";
        let define = ["-C", "o", "-s", &size, "-a", attributes, index];
        succeeds(&swtpm, "tpm2_nvdefine", &define);
        succeeds(
            &swtpm,
            "tpm2_nvwrite",
            &["-C", "o", "-i", "certificate", index],
        );
        let identity = connected(&swtpm).identity(AkKind::Ecdsa, None).unwrap();
        assert_eq!(
            identity.ek_certificate.as_deref(),
            Some(&certificate[..]),
            "{template}"
        );
        let given = connected(&swtpm)
            .identity(AkKind::Ecdsa, Some(b"given"))
            .unwrap();
        assert_eq!(given.ek_certificate.as_deref(), Some(&b"given"[..]));
        // The second certificate makes the key one of its own kind.
        let is_ecc = identity.ek_public.starts_with(&[0, 0x23]);
        assert_eq!(is_ecc, template == "ecc");
    }
}

#[test]
fn a_quote_of_all_pcrs_comes_with_the_values_it_covers() {
    for kind in [AkKind::Ecdsa, AkKind::Rsassa] {
        let mut swtpm = Swtpm::start();
        let mut tpm = connected(&swtpm);
        tpm.event(Pcr::KERNEL_IMAGE, b"image").unwrap();
        tpm.require_zero_before(Pcr::SYSTEM_IDENTITY, POLICY, PcrSet::STARTED)
            .unwrap();
        swtpm.commands();
        let evidence = tpm.attest(kind, &[7; 32]).unwrap();
        // Eight values are known, and nobody uses eleven PCRs.
        assert_eq!(swtpm.commands(), [CREATE_PRIMARY, QUOTE, PCR_READ]);
        assert_eq!(evidence.pcrs.len(), 24);
        assert_eq!(evidence.pcrs[17..23], [[0xff; 32]; 6]);
        assert_eq!(evidence.pcrs[15], [0; 32]);
        let image = &tpm.read(Pcr::KERNEL_IMAGE).unwrap();
        let image = image
            .iter()
            .find(|(bank, _)| *bank == Bank::Sha256)
            .unwrap();
        assert_eq!(evidence.pcrs[11], *image.1.as_slice());
        drop(tpm);
        assert!(quoting::is_genuine(&swtpm, &evidence.quote, &[7; 32]));
        assert!(!quoting::is_genuine(&swtpm, &evidence.quote, &[8; 32]));
    }
}

#[test]
fn what_was_read_before_and_guessed_gives_way_to_what_the_quote_says() {
    let mut swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let mut other = connected(&swtpm);
    tpm.require_zero_before(Pcr::SYSTEM_IDENTITY, POLICY, PcrSet::STARTED)
        .unwrap();
    other.event(Pcr::KERNEL_CONFIG, b"phase").unwrap();
    let mok = Pcr::try_from(14).unwrap();
    other.event(mok, b"shim").unwrap();
    swtpm.commands();
    let evidence = tpm.attest(AkKind::Ecdsa, &[7; 32]).unwrap();
    let reads = swtpm
        .commands()
        .iter()
        .filter(|code| **code == PCR_READ)
        .count();
    assert_eq!(reads, 1 + 3);
    assert_ne!(evidence.pcrs[12], [0; 32]);
    assert_ne!(evidence.pcrs[14], [0; 32]);
    // Now all of them are known.
    tpm.attest(AkKind::Ecdsa, &[8; 32]).unwrap();
    assert_eq!(swtpm.commands(), [QUOTE]);
}

#[test]
fn an_endorsement_authorisation_is_named() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let identity = tpm.identity(AkKind::Ecdsa, None).unwrap();
    drop(tpm);
    let (blob, secret) = credential(&swtpm, &identity);
    succeeds(&swtpm, "tpm2_changeauth", &["-c", "endorsement", "hunter2"]);
    let mut tpm = connected(&swtpm);
    for error in [
        tpm.identity(AkKind::Ecdsa, None).unwrap_err(),
        tpm.activate(AkKind::Ecdsa, &blob, &secret).unwrap_err(),
    ] {
        assert_eq!(error.exit(), Exit::Refused);
        assert!(
            error.to_string().ends_with(
                "the TPM's endorsement authorisation is set: clear it with tpm2_changeauth -c endorsement"
            ),
            "{error}"
        );
    }
}

#[test]
fn attesting_costs_few_commands() {
    let mut swtpm = Swtpm::start();
    persist_ek(&swtpm, RSA_EK, "rsa");
    let mut tpm = connected(&swtpm);
    let identity = tpm.identity(AkKind::Ecdsa, Some(b"given")).unwrap();
    drop(tpm);
    let (blob, secret) = credential(&swtpm, &identity);
    let mut tpm = connected(&swtpm);
    swtpm.commands();
    tpm.identity(AkKind::Ecdsa, Some(b"given")).unwrap();
    assert_eq!(swtpm.commands(), [READ_PUBLIC, READ_PUBLIC, CREATE_PRIMARY]);
    tpm.activate(AkKind::Ecdsa, &blob, &secret).unwrap();
    let once = swtpm.commands();
    assert!(
        once.ends_with(&[POLICY_SECRET, ACTIVATE_CREDENTIAL]),
        "{once:x?}"
    );
    tpm.activate(AkKind::Ecdsa, &blob, &secret).unwrap();
    assert_eq!(swtpm.commands(), [POLICY_SECRET, ACTIVATE_CREDENTIAL]);
}
