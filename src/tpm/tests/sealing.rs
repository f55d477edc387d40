// SPDX-License-Identifier: Apache-2.0
use super::super::srk::Template;
use super::*;

const OTHER_VALUES: &str = "unsealing from PCRs 7+11+12 (sha256): the PCR values differ from those at sealing time: \
     this machine booted something else, or the secret is sealed to other PCRs";
const OTHER_TPM: &str = "unsealing from PCRs 7+11+12 (sha256): \
     sealed by another TPM, or the TPM was cleared since, or the sealed object was altered";

fn all_pcrs() -> Vec<Pcr> {
    (0..16).map(|index| Pcr::try_from(index).unwrap()).collect()
}

fn assert_refused(result: Result<Secret>, text: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.to_string(), text);
    assert_eq!(error.exit(), Exit::Refused);
}

#[test]
fn a_secret_comes_back_under_every_kind_of_policy() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let all = all_pcrs();
    for bank in [Bank::Sha256, Bank::Sha384] {
        for pcrs in [&all[7..8], &all[11..13], &all[..]] {
            let policy = Policy {
                pcrs: PcrSet::of(pcrs),
                bank,
                key: None,
            };
            let secret = Secret::random().unwrap();
            let sealed = tpm.seal(&secret, policy).unwrap();
            let unsealed = tpm.unseal(&sealed, policy).unwrap();
            assert_eq!(unsealed.expose(), secret.expose(), "{policy}");
        }
    }
}

#[test]
fn a_policy_without_pcrs_and_a_secret_of_another_length_are_errors() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let none = Policy {
        pcrs: PcrSet::of(&[]),
        bank: Bank::Sha256,
        key: None,
    };
    let error = tpm.seal(&Secret::random().unwrap(), none).unwrap_err();
    assert_eq!(error.exit(), Exit::Config);
    let error = tpm.seal(&Secret::new(vec![1; 31]), POLICY).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sealing to PCRs 7+11+12 (sha256): the secret is not 32 bytes"
    );
    tpm.seal(&Secret::new(vec![1; 32]), POLICY).unwrap();
}

#[test]
fn a_fence_keeps_the_secret_sealed_until_the_reset() {
    let mut swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let secret = Secret::random().unwrap();
    let sealed = tpm.seal(&secret, POLICY).unwrap();
    // The control: the same call works before the fence, and after an extend the policy does not name.
    tpm.event(Pcr::SYSTEM_IDENTITY, b"id").unwrap();
    assert_eq!(
        tpm.unseal(&sealed, POLICY).unwrap().expose(),
        secret.expose()
    );

    tpm.event(Pcr::KERNEL_CONFIG, b"fence").unwrap();
    swtpm.commands();
    assert_refused(
        tpm.unseal(&sealed, POLICY),
        "unsealing from PCRs 7+11+12 (sha256): the PCR values differ from those at sealing time: PCR 12 (what the image was \
         handed): the command line is another, something was handed to the image, or the fence of this boot has come",
    );
    // Nothing the host may have written went to the TPM.
    assert_eq!(swtpm.commands(), [PCR_READ]);

    drop(tpm);
    swtpm.reset();
    let mut tpm = connected(&swtpm);
    assert_eq!(
        tpm.unseal(&sealed, POLICY).unwrap().expose(),
        secret.expose()
    );
}

#[test]
fn a_policy_other_than_the_configured_one_is_refused() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let secret = Secret::random().unwrap();
    let weaker = Policy {
        pcrs: PcrSet::of(&[Pcr::SECURE_BOOT]),
        bank: Bank::Sha256,
        key: None,
    };
    let mut sealed = tpm.seal(&secret, weaker).unwrap();
    tpm.unseal(&sealed, weaker).unwrap();
    assert_refused(tpm.unseal(&sealed, POLICY), OTHER_VALUES);

    // A token that lies about its policy does not get further.
    sealed.policy_hash = tpm.seal(&secret, POLICY).unwrap().policy_hash;
    assert_refused(
        tpm.unseal(&sealed, POLICY),
        "unsealing from PCRs 7+11+12 (sha256): \
         expected a sealed object with the policy in tpm2-policy-hash, found another",
    );
}

#[test]
fn the_tpm_itself_enforces_the_policy() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let sealed = tpm.seal(&Secret::random().unwrap(), POLICY).unwrap();
    tpm.event(Pcr::KERNEL_CONFIG, b"x").unwrap();
    drop(tpm);
    load(&swtpm, &sealed);
    let refused = swtpm.tool("tpm2_unseal", &["-c", "object", "-p", "pcr:sha256:7,11,12"]);
    assert!(!refused.status.success());
    // Nor is there a password.
    assert!(
        !swtpm
            .tool("tpm2_unseal", &["-c", "object"])
            .status
            .success()
    );
}

#[test]
fn another_tpm_and_a_cleared_one_are_refused() {
    let mut swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let sealed = tpm.seal(&Secret::random().unwrap(), POLICY).unwrap();
    tpm.unseal(&sealed, POLICY).unwrap();
    drop(tpm);

    succeeds(&swtpm, "tpm2_clear", &["-c", "p"]);
    assert_refused(connected(&swtpm).unseal(&sealed, POLICY), OTHER_TPM);

    swtpm.replace();
    assert_refused(connected(&swtpm).unseal(&sealed, POLICY), OTHER_TPM);
    // Where the token does not say which parent it wants, the TPM finds out.
    let nameless = Sealed {
        srk: None,
        ..sealed
    };
    assert_refused(
        connected(&swtpm).unseal(&nameless, POLICY),
        "unsealing from PCRs 7+11+12 (sha256): loading the object: \
         sealed by another TPM, or the TPM was cleared since, or the sealed object was altered",
    );
}

#[test]
fn every_altered_byte_is_refused() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    let sealed = tpm.seal(&Secret::random().unwrap(), POLICY).unwrap();
    let mut tried = 0;
    for place in 0..sealed.private.len() {
        let mut altered = sealed.clone();
        altered.private[place] ^= 1;
        let error = tpm.unseal(&altered, POLICY).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused, "private {place}: {error}");
        tried += 1;
    }
    for place in 0..sealed.public.len() {
        let mut altered = sealed.clone();
        altered.public[place] ^= 1;
        let error = tpm.unseal(&altered, POLICY).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused, "public {place}: {error}");
        tried += 1;
    }
    for len in 0..sealed.private.len() {
        let mut altered = sealed.clone();
        altered.private.truncate(len);
        let error = tpm.unseal(&altered, POLICY).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused, "{len} bytes: {error}");
        tried += 1;
    }
    assert!(tried > 200);
    tpm.unseal(&sealed, POLICY).unwrap();
}

#[test]
fn the_storage_root_key_is_made_once_and_used_again() {
    let mut swtpm = Swtpm::start();
    let sealed = connected(&swtpm)
        .seal(&Secret::random().unwrap(), POLICY)
        .unwrap();
    let commands = swtpm.commands();
    assert_eq!(
        commands,
        [
            READ_PUBLIC,
            CREATE_PRIMARY,
            EVICT_CONTROL,
            FLUSH_CONTEXT,
            READ_PUBLIC,
            PCR_READ,
            START_AUTH_SESSION,
            CREATE,
            FLUSH_CONTEXT
        ]
    );
    let again = connected(&swtpm)
        .seal(&Secret::random().unwrap(), POLICY)
        .unwrap();
    assert_eq!(again.srk, sealed.srk);
    let commands = swtpm.commands();
    assert!(!commands.contains(&CREATE_PRIMARY));

    succeeds(
        &swtpm,
        "tpm2_readpublic",
        &["-c", "0x81000001", "-t", "handle"],
    );
    assert_eq!(
        std::fs::read(swtpm.dir().join("handle")).unwrap(),
        sealed.srk.unwrap(),
        "tpm2_readpublic -t writes what Esys_TR_Serialize gives"
    );
}

#[test]
fn an_rsa_storage_root_key_serves_as_well() {
    let swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    tpm.create_srk(Template::Rsa).unwrap().unwrap();
    drop(tpm);
    let mut tpm = connected(&swtpm);
    let secret = Secret::random().unwrap();
    let sealed = tpm.seal(&secret, POLICY).unwrap();
    assert_eq!(
        tpm.unseal(&sealed, POLICY).unwrap().expose(),
        secret.expose()
    );
}

#[test]
fn a_storage_root_key_that_could_leave_the_tpm_is_refused() {
    let attributes = [
        "restricted|decrypt|sensitivedataorigin|userwithauth",
        "fixedtpm|fixedparent|decrypt|sensitivedataorigin|userwithauth",
        "fixedtpm|fixedparent|sign|sensitivedataorigin|userwithauth",
    ];
    for attributes in attributes {
        let swtpm = Swtpm::start();
        let primary = ["-C", "o", "-G", "ecc", "-a", attributes, "-c", "key"];
        succeeds(&swtpm, "tpm2_createprimary", &primary);
        let evict = ["-C", "o", "-c", "key", "0x81000001"];
        succeeds(&swtpm, "tpm2_evictcontrol", &evict);
        let error = connected(&swtpm)
            .seal(&Secret::random().unwrap(), POLICY)
            .unwrap_err();
        assert_eq!(error.exit(), Exit::Refused);
        assert_eq!(
            error.to_string(),
            "sealing to PCRs 7+11+12 (sha256): checking the storage root key: \
             the key at 0x81000001 is not a storage key of this TPM: \
             remove it with tpm2_evictcontrol and reboot"
        );
    }
}

#[test]
fn an_owner_authorisation_stops_the_making_of_a_key_but_not_its_use() {
    let mut swtpm = Swtpm::start();
    succeeds(&swtpm, "tpm2_changeauth", &["-c", "owner", "hunter2"]);
    let secret = Secret::random().unwrap();
    let error = connected(&swtpm).seal(&secret, POLICY).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert_eq!(
        error.to_string(),
        "sealing to PCRs 7+11+12 (sha256): \
         the TPM has no storage root key, and its owner authorisation is set: \
         make the key with systemd-tpm2-setup or tpm2_createprimary and tpm2_evictcontrol"
    );

    swtpm.replace();
    let sealed = connected(&swtpm).seal(&secret, POLICY).unwrap();
    succeeds(&swtpm, "tpm2_changeauth", &["-c", "owner", "hunter2"]);
    connected(&swtpm).unseal(&sealed, POLICY).unwrap();
}

#[test]
fn tpm2_tools_unseal_what_we_seal_and_we_what_they_seal() {
    let swtpm = Swtpm::start();
    let secret = Secret::random().unwrap();
    let sealed = connected(&swtpm).seal(&secret, POLICY).unwrap();
    // fixedTPM, fixedParent, noDA
    assert_eq!(sealed.public[4..8], [0, 0, 0x04, 0x12]);
    load(&swtpm, &sealed);
    let args = ["-c", "object", "-p", "pcr:sha256:7,11,12"];
    assert_eq!(succeeds(&swtpm, "tpm2_unseal", &args), secret.expose());

    let file = |name: &str| swtpm.dir().join(name);
    std::fs::write(file("data"), [7; 32]).unwrap();
    std::fs::write(file("policy"), sealed.policy_hash).unwrap();
    // As newer versions of systemd make it, and older ones.
    for attributes in ["fixedtpm|fixedparent|noda", "fixedtpm|fixedparent"] {
        let (at, by) = (attributes, "0x81000001");
        let args = [
            "-C", by, "-i", "data", "-a", at, "-L", "policy", "-u", "pub", "-r", "priv",
        ];
        succeeds(&swtpm, "tpm2_create", &args);
        let theirs = Sealed {
            private: std::fs::read(file("priv")).unwrap()[2..].to_vec(),
            public: std::fs::read(file("pub")).unwrap()[2..].to_vec(),
            ..sealed.clone()
        };
        let unsealed = connected(&swtpm).unseal(&theirs, POLICY).unwrap();
        assert_eq!(unsealed.expose(), [7; 32]);
    }
}

/// Loads `sealed` with tpm2-tools, as `object`.
fn load(swtpm: &Swtpm, sealed: &Sealed) {
    for (name, body) in [("priv", &sealed.private), ("pub", &sealed.public)] {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        let bytes = [&len[..], body].concat();
        std::fs::write(swtpm.dir().join(name), bytes).unwrap();
    }
    let args = [
        "-C",
        "0x81000001",
        "-u",
        "pub",
        "-r",
        "priv",
        "-c",
        "object",
    ];
    succeeds(swtpm, "tpm2_load", &args);
}
