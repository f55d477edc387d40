// SPDX-License-Identifier: Apache-2.0
//! What is sealed to a key that signs images: a node whose images change, and then our volumes opened by stock programs, and
//! theirs by us, with the machine's own TPM, whose PCR 11 goes on as that of another image would.

use std::fs;
use std::path::Path;

use nightlatch::config::{Source, Tcti};
use nightlatch::error::{Exit, Result};
use nightlatch::key::pcr::PcrKey;
use nightlatch::pcr::Pcr;
use nightlatch::sealed::signature::SIGNATURES_PATH;
use nightlatch::status::Status;
use nightlatch::tpm::{Policy, Tpm};
use nightlatch::volume::{self, FirstSecret, Found, How, Keyed, ProvisionHooks, SecretProviders};

use crate::disk::{self, Disk, SECRET, close, config, new, run, try_run, volume};
use crate::key_service::{Node, Twist};
use crate::stale::{SOURCES, image, indices};
use crate::stock::luks_format;
use crate::support::firmware::Firmware;
use crate::support::pcr_key::{self, approve, pcr_11, policy, signatures};

const SIGNATURES: &str = "/tmp/signatures.json";

fn tpm() -> Tpm {
    Tpm::open(&Tcti::Auto).unwrap()
}

/// Lays the key's signature of what PCR 11 holds where systemd looks for it.
fn sign(key: &PcrKey) {
    let value = pcr_11(&mut tpm());
    let signatures = signatures(key, &[&value]).to_json().unwrap();
    fs::write(SIGNATURES, signatures).unwrap();
}

/// The key of a volume that is there, by the TPM, in a boot whose image the key has signed.
fn unlock(volume: &nightlatch::config::Volume, key: &PcrKey) -> Result<Keyed> {
    let Found::Existing(existing) = volume::examine(volume).unwrap() else {
        panic!("expected an existing volume");
    };
    let mut tpm = tpm();
    let policy = approve(key, &mut tpm);
    existing.unlock(
        volume,
        policy,
        SecretProviders::tpm(|sealed| tpm.unseal(sealed, policy)),
    )
}

#[test]
fn systemd_cryptsetup_attaches_our_volume_under_each_image_that_the_key_has_signed() {
    let key = pcr_key::new();
    let disk = Disk::virtio("blank4g");
    let config = config(&disk, &["kdf = \"argon2id\""]);
    let volume = volume(&config);
    let mut first = tpm();
    let policy = approve(&key, &mut first);
    let keyed = new(volume)
        .prepare(
            volume,
            policy,
            FirstSecret::generated().unwrap(),
            |secret| first.seal(secret, policy),
            ProvisionHooks::none(0),
        )
        .unwrap();
    volume::open(volume, keyed, None).unwrap();
    close();
    drop(first);

    let attach = || {
        let options = format!("tpm2-device=auto,tpm2-signature={SIGNATURES},headless=1,luks");
        try_run(
            "/usr/lib/systemd/systemd-cryptsetup",
            &["attach", "case", disk.as_str(), "-", &options],
            b"",
        )
    };
    sign(&key);
    assert!(attach().status.success());
    disk::mount("btrfs");
    close();

    // Another image: the signature of before is none of it.
    tpm().event(Pcr::KERNEL_IMAGE, b"image 2").unwrap();
    assert!(!attach().status.success());
    sign(&key);
    assert!(attach().status.success());
    disk::mount("btrfs");
    close();
    let keyed = unlock(volume, &key).unwrap();
    assert_eq!(keyed.keyslot, 1);
    volume::open(volume, keyed, None).unwrap();
    close();

    // Somebody else's signature is none.
    sign(&pcr_key::new());
    assert!(!attach().status.success());
    let error = unlock(volume, &pcr_key::new()).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert!(
        error
            .to_string()
            .starts_with("rule C13: the token is sealed to what the key "),
        "{error}"
    );
}

#[test]
fn we_open_what_systemd_cryptenroll_sealed_to_a_key() {
    let key = pcr_key::new();
    let disk = Disk::virtio("blank4g");
    let config = disk::config_beside_ours(
        &disk,
        &[
            "profile = \"luks2-strict\"",
            "format = \"never\"",
            "sources = [\"tpm\"]",
        ],
    );
    let volume = config.volumes().nth(1).unwrap();
    luks_format(&disk, &["--integrity=hmac-sha256", "--integrity-no-wipe"]);
    fs::write("/tmp/key", SECRET).unwrap();
    fs::write("/tmp/pcr.pem", key.public().pem()).unwrap();
    let enroll = |pcrs: &str, more: &[&str]| {
        let pcrs = format!("--tpm2-pcrs={pcrs}");
        let device = ["--tpm2-device=auto", "--wipe-slot=tpm2", disk.as_str()];
        let unlock = ["--unlock-key-file=/tmp/key", &pcrs];
        run(
            "systemd-cryptenroll",
            &[&unlock[..], more, &device].concat(),
            b"",
        );
    };
    let signed = [
        "--tpm2-public-key=/tmp/pcr.pem",
        "--tpm2-public-key-pcrs=11",
    ];

    // The configuration says what it is sealed to, and a token may not choose less.
    enroll("7+12", &signed);
    let error = unlock(volume, &key).unwrap_err();
    assert_eq!(
        error.to_string(),
        "rule C13: the token is sealed to sha256 7+12, the configuration says sha256 7+12+13"
    );
    enroll("7+12+13", &["--tpm2-public-key="]);
    let error = unlock(volume, &key).unwrap_err();
    assert_eq!(
        error.to_string(),
        "rule C13: the token is sealed to no key, the configuration has tpm.signed"
    );

    enroll("7+12+13", &signed);
    tpm().event(Pcr::KERNEL_IMAGE, b"image 2").unwrap();
    let keyed = unlock(volume, &key).unwrap();
    assert_ne!(keyed.keyslot, 0);
    volume::open(volume, keyed, None).unwrap();
    close();

    // The policy of a configuration without a key.
    let plain = Policy {
        key: None,
        ..policy(&key)
    };
    let Found::Existing(existing) = volume::examine(volume).unwrap() else {
        panic!("expected an existing volume");
    };
    let mut tpm = tpm();
    let refused = existing.unlock(
        volume,
        plain,
        SecretProviders::tpm(|sealed| tpm.unseal(sealed, plain)),
    );
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .ends_with("which is not the key of tpm.signed in the configuration")
    );
}

/// What the configuration of a signed image says, in the table of the TPM.
const SIGNED: &str = "signed.keys = [\"/tmp/pcr.pem\"]";

/// An image of the owner's: PCRs 4 and 11 tell it from the others.
fn started(number: u8) -> Firmware {
    image(number).added(11, &format!("kernel {number}"))
}

/// Puts an image in, and its signature where systemd-stub lays it.
fn install(node: &mut Node, number: u8, key: &PcrKey) {
    node.firmware = started(number);
    node.tpm.reset_to(&node.firmware);
    let value = pcr_11(&mut node.tpm.open());
    let signed = signatures(key, &[&value]).to_json().unwrap();
    let path = Path::new("/").join(SIGNATURES_PATH);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, signed).unwrap();
}

fn said(status: &Status) -> (Source, Option<&str>) {
    let volume = &status.volumes[0];
    assert_eq!(volume.how, How::Unlocked);
    (volume.source, volume.accepted.as_deref())
}

/// No image after the first signed one needs anybody, and the record stays where it is.
#[test]
fn a_node_is_carried_to_signed_images_once_and_each_further_one_needs_nobody() {
    let key = pcr_key::new();
    fs::write("/tmp/pcr.pem", key.public().pem()).unwrap();
    let mut node = Node::new(&SOURCES);
    node.firmware = started(1);
    node.boot().unwrap();
    let by_values = node.disk.save();

    node.measure = SIGNED;
    install(&mut node, 2, &key);
    assert_eq!(
        said(&node.boot().unwrap()),
        (Source::Service, Some("stale"))
    );
    node.twist(Twist::Deny);
    for number in [2, 3, 4, 2] {
        install(&mut node, number, &key);
        assert_eq!(said(&node.boot().unwrap()), (Source::Tpm, None));
        assert_eq!(indices(&node), ["0x1804E11", "0x1804E12"]);
    }

    // An image that the key has not signed changes nothing, whatever opens the volume.
    node.twist(Twist::Nothing);
    let before = (node.disk.contents(), indices(&node));
    install(&mut node, 5, &pcr_key::new());
    let error = node.boot().unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert!(
        error
            .to_string()
            .contains("the image carries no signature of PCR 11"),
        "{error}"
    );
    node.disk.forget_reads();
    assert!((node.disk.contents(), indices(&node)) == before);
    // Neither does one that is sealed to values open what is sealed to the key by itself, nor a disk of before.
    node.twist(Twist::Deny);
    node.measure = "";
    node.firmware = started(1);
    assert_eq!(node.boot().unwrap_err().exit(), Exit::Refused);
    let now = node.disk.save();
    node.disk.load(&by_values);
    node.measure = SIGNED;
    install(&mut node, 2, &key);
    assert_eq!(node.boot().unwrap_err().exit(), Exit::Refused);
    node.disk.load(&now);
    assert_eq!(said(&node.boot().unwrap()), (Source::Tpm, None));

    // Back to images that are sealed to values it takes the service again.
    node.twist(Twist::Nothing);
    node.measure = "";
    node.firmware = started(1);
    assert_eq!(
        said(&node.boot().unwrap()),
        (Source::Service, Some("stale"))
    );
}
