// SPDX-License-Identifier: Apache-2.0
//! Our volumes opened by stock programs, and theirs by us.

use std::fs;

use nightlatch::header::Stamp;
use nightlatch::volume::{self, FirstSecret, Found, ProvisionHooks, Rekeyed, SecretProviders};

use crate::disk::{self, Disk, SECRET, close, config, new, run, volume};

#[test]
fn stock_cryptsetup_opens_our_volume_with_the_secret_as_key_file() {
    let disk = Disk::virtio("blank4g");
    let config = config(&disk, &["kdf = \"argon2id\""]);
    disk::format(volume(&config));
    close();
    run(
        "cryptsetup",
        &["open", "--key-file=-", disk.as_str(), "case"],
        &SECRET,
    );
    disk::mount("btrfs");
}

pub(crate) fn luks_format(disk: &Disk, more: &[&str]) {
    let arguments = [
        "luksFormat",
        "--batch-mode",
        "--type=luks2",
        "--key-file=-",
        "--sector-size=4096",
        "--cipher=aes-xts-plain64",
        "--key-size=512",
        "--pbkdf=argon2id",
        "--pbkdf-force-iterations=4",
        "--pbkdf-memory=65536",
        "--pbkdf-parallel=4",
        disk.as_str(),
    ];
    run("cryptsetup", &[&arguments[..], more].concat(), &SECRET);
}

#[test]
fn we_open_a_volume_that_stock_cryptsetup_made_and_refuse_one_without_integrity() {
    let strict = [
        "profile = \"luks2-strict\"",
        "format = \"never\"",
        "sources = [\"tpm\"]",
    ];
    let disk = Disk::virtio("blank4g");
    // The clusterID needs a volume of ours; here only the second volume of a node is under test.
    let config = disk::config_beside_ours(&disk, &strict);
    let volume = config.volumes().nth(1).unwrap();

    luks_format(&disk, &["--integrity=hmac-sha256", "--integrity-no-wipe"]);
    let keyed = disk::key(volume).unwrap();
    volume::open(volume, keyed, None).unwrap();
    close();

    luks_format(&disk, &[]);
    let before = disk.read(0, 16 << 20);
    let error = disk::key(volume).unwrap_err();
    assert_eq!(error.exit().code(), 77);
    assert!(
        error.to_string().contains("C10") || error.to_string().contains("C11"),
        "{error}"
    );
    assert_eq!(disk.read(0, 16 << 20), before);
}

/// The machine's own TPM, as `systemd-cryptsetup` finds it.
#[test]
fn systemd_cryptsetup_attaches_our_volume_with_the_tpm() {
    let disk = Disk::virtio("blank4g");
    let config = config(&disk, &["kdf = \"argon2id\""]);
    let volume = volume(&config);
    let mut tpm = nightlatch::tpm::Tpm::open(&config.tpm.tcti).unwrap();
    let policy = nightlatch::tpm::Policy::of(&config.tpm, None);
    let keyed = new(volume)
        .prepare(
            volume,
            policy,
            FirstSecret::generated().unwrap(),
            |secret| tpm.seal(secret, policy),
            ProvisionHooks::none(0),
        )
        .unwrap();
    volume::open(volume, keyed, None).unwrap();
    close();

    // The control: we open it with the TPM ourselves.
    let Found::Existing(existing) = volume::examine(volume).unwrap() else {
        panic!("expected an existing volume");
    };
    let keyed = existing
        .unlock(
            volume,
            policy,
            SecretProviders::tpm(|sealed| tpm.unseal(sealed, policy)),
        )
        .unwrap();
    assert_eq!(keyed.keyslot, 1);
    drop(volume::open(volume, keyed, None).unwrap());
    close();
    drop(tpm);

    let attach = || {
        let options = "tpm2-device=auto,headless=1,luks";
        run(
            "/usr/lib/systemd/systemd-cryptsetup",
            &["attach", "case", disk.as_str(), "-", options],
            b"",
        );
        disk::mount("btrfs");
        fs::write("/mnt/file", b"by way of systemd").unwrap();
        let slots = run("systemd-cryptenroll", &[disk.as_str()], b"");
        close();
        slots
    };
    let slots = attach();
    assert!(slots.contains("1 tpm2"), "{slots}");

    // The same after its secret was changed for another one.
    let mut tpm = nightlatch::tpm::Tpm::open(&config.tpm.tcti).unwrap();
    let Found::Existing(existing) = volume::examine(volume).unwrap() else {
        panic!("expected an existing volume");
    };
    let unseal = |sealed: &_| tpm.unseal(sealed, policy);
    let mut keyed = existing
        .unlock(volume, policy, SecretProviders::tpm(unseal))
        .unwrap();
    let seal = |secret: &_| tpm.seal(secret, policy);
    let enrolled = (Rekeyed::Enrolled, &disk::secret());
    keyed.rekey(volume, policy, enrolled, seal).unwrap();
    let nonce = None;
    volume::open(volume, keyed, Some(Stamp { epoch: 1, nonce }))
        .unwrap()
        .renew()
        .unwrap();
    close();
    drop(tpm);
    let slots = attach();
    assert!(slots.contains("3 tpm2") && !slots.contains("1 "), "{slots}");
}
