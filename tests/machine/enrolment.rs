// SPDX-License-Identifier: Apache-2.0
//! Whole boots of a node that made its secret before it could reach the key service, and is given the service's key later.

use std::path::Path;

use base64ct::{Base64, Encoding};
use nightlatch::config::{Config, Enroll, Profile, Source};
use nightlatch::error::{Error, Exit};
use nightlatch::header::{AREA_LEN, Area, Expect};
use nightlatch::key::Secret;
use nightlatch::status::Status;
use nightlatch::volume::{self, Existing, Found, How, SecretProviders};

use crate::disk::{self, Disk, run, try_run};
use crate::key_service::{KEY, Node, Twist, WRONG};
use crate::node::policy;

pub(crate) const SOURCES: &str = "sources = [\"service\", \"tpm\", \"generate\"]";
/// What the request begins with in which a node tells of a volume.
const REPORT: &str = "POST /kbs/v0/nightlatch/volume/";
/// Where the key material of keyslots 0 and 1 is, and behind it that of 2 and 3.
pub(crate) const FIRST: u64 = 32_768;
const PAIR_LEN: usize = 770_048;
pub(crate) const SECOND: u64 = FIRST + PAIR_LEN as u64;

/// What a boot says of its volume: where the secret came from, the keyslot, whether the volume was enrolled, and on whose
/// word it will be.
fn said(status: &Status) -> (Source, u8, bool, Option<Enroll>) {
    let volume = &status.volumes[0];
    (
        volume.source,
        volume.keyslot,
        volume.enrolled,
        volume.enroll,
    )
}

/// The keyslots the header on the disk has, both copies of which must be the same.
pub(crate) fn keyslots(disk: &Disk) -> Vec<u8> {
    disk.forget_reads();
    let area = Area::from_vec(disk.read(0, AREA_LEN)).unwrap();
    let header = area.header().unwrap();
    header
        .check(Profile::Nightlatch1, &Expect::default())
        .unwrap()
        .keyslots
}

pub(crate) fn is_zero(disk: &Disk, offset: u64) -> bool {
    disk::is_blank(&disk.read(offset, PAIR_LEN))
}

fn existing(config: &Config) -> Existing {
    match volume::examine(disk::volume(config)).unwrap() {
        Found::Existing(existing) => *existing,
        Found::New(_) => panic!("expected a volume"),
    }
}

/// The secret that the TPM unseals for the header on the disk.
pub(crate) fn sealed_secret(node: &mut Node) -> Vec<u8> {
    node.tpm.reset();
    let config = node.config();
    let mut tpm = node.tpm.open();
    let unseal = |sealed: &_| tpm.unseal(sealed, policy(&config));
    let keyed = existing(&config)
        .unlock(
            disk::volume(&config),
            policy(&config),
            SecretProviders::tpm(unseal),
        )
        .unwrap();
    keyed.secret().expose().to_vec()
}

/// Whether stock cryptsetup opens a keyslot with this passphrase.
pub(crate) fn opens(node: &Node, keyslot: u8, passphrase: &[u8]) -> bool {
    let slot = format!("--key-slot={keyslot}");
    let words = ["open", "--test-passphrase", "--key-file=-", &slot];
    let words = [&words[..], &[node.disk.as_str()]].concat();
    try_run("cryptsetup", &words, passphrase).status.success()
}

fn ctl(words: &[&str]) -> String {
    run("/payload/bin/nightlatchctl", words, b"")
}

#[test]
fn a_volume_that_made_its_own_secret_is_given_the_services_key_once_the_service_answers() {
    let mut node = Node::new(&[SOURCES]);
    node.twist(Twist::Deny);
    let first = node.boot().unwrap();
    assert_eq!(first.volumes[0].how, How::Formatted);
    assert_eq!(
        said(&first),
        (Source::Generate, 0, false, Some(Enroll::Auto))
    );
    let second = node.boot().unwrap();
    assert_eq!(said(&second), (Source::Tpm, 1, false, Some(Enroll::Auto)));
    assert_eq!(keyslots(&node.disk), [0, 1]);
    assert!(!is_zero(&node.disk, FIRST) && is_zero(&node.disk, SECOND));
    let old = sealed_secret(&mut node);
    assert!(opens(&node, 0, &old) && opens(&node, 1, Base64::encode_string(&old).as_bytes()));
    let old_disk = node.disk.save();

    // It answers: this boot still is the old node, and the next one has the service's key.
    node.twist(Twist::Nothing);
    let enrolled = node.boot().unwrap();
    assert_eq!(said(&enrolled), (Source::Tpm, 1, true, None));
    assert_eq!(enrolled.cluster_id, first.cluster_id);
    assert_eq!(keyslots(&node.disk), [2, 3]);
    assert!(is_zero(&node.disk, FIRST) && !is_zero(&node.disk, SECOND));
    let third = node.boot().unwrap();
    assert_eq!(said(&third), (Source::Service, 2, false, None));
    assert_ne!(third.cluster_id, first.cluster_id);

    // The old secret opens nothing any more; the new one opens what it is for.
    for slot in 0..4 {
        for passphrase in [old.clone(), Base64::encode_string(&old).into_bytes()] {
            assert!(!opens(&node, slot, &passphrase), "keyslot {slot}");
        }
    }
    assert!(opens(&node, 2, &KEY) && opens(&node, 3, Base64::encode_string(&KEY).as_bytes()));
    let config = node.config();
    let with_old = existing(&config).unlock_with(&Secret::new(old), 2);
    assert_eq!(with_old.unwrap_err().exit(), Exit::Refused);
    drop(
        existing(&config)
            .unlock_with(&Secret::new(KEY.to_vec()), 2)
            .unwrap(),
    );
    assert_eq!(sealed_secret(&mut node), KEY);

    // The service is gone again: what is sealed is its key, and the node is the same.
    node.twist(Twist::Deny);
    let without = node.boot().unwrap();
    assert_eq!(said(&without), (Source::Tpm, 3, false, Some(Enroll::Asked)));
    assert!(!without.volumes[0].own_secret);
    assert_eq!(without.cluster_id, third.cluster_id);

    // The TPM still unseals the old secret, and the anchor refuses the disk it opens.
    let disk = node.disk.save();
    node.disk.load(&old_disk);
    let error: Error = node.boot().unwrap_err();
    assert!(error.to_string().contains("rule G26"), "{error}");
    node.disk.load(&disk);
    assert_eq!(node.opens(), (How::Unlocked, Source::Tpm));
}

/// A service whose master secret is another one now is not believed on its own word. The change the operator asks for goes
/// back to the first keyslots.
#[test]
fn a_key_that_is_not_the_volumes_any_more_takes_the_operator() {
    let mut node = Node::new(&[SOURCES]);
    node.twist(Twist::Deny);
    assert_eq!(node.opens(), (How::Formatted, Source::Generate));
    node.twist(Twist::Nothing);
    assert!(node.boot().unwrap().volumes[0].enrolled);
    node.gives(WRONG);
    for _ in 0..2 {
        let left = node.boot().unwrap();
        assert_eq!(said(&left), (Source::Tpm, 3, false, Some(Enroll::Asked)));
        left.write(Path::new("/")).unwrap();
    }
    ctl(&["enroll", "case"]);
    assert_eq!(said(&node.boot().unwrap()), (Source::Tpm, 3, true, None));
    assert_eq!(keyslots(&node.disk), [0, 1]);
    assert!(!is_zero(&node.disk, FIRST) && is_zero(&node.disk, SECOND));
    let after = node.boot().unwrap();
    assert_eq!(said(&after), (Source::Service, 0, false, None));
}

/// Without an anchor no header is written at a boot, but this one is.
#[test]
fn a_volume_without_an_anchor_is_enrolled_too() {
    let mut node = Node::new(&[SOURCES, "anchor = \"off\""]);
    node.twist(Twist::Deny);
    assert_eq!(node.opens(), (How::Formatted, Source::Generate));
    let before = node.disk.read(0, AREA_LEN);
    assert_eq!(node.opens(), (How::Unlocked, Source::Tpm));
    node.disk.forget_reads();
    assert!(node.disk.read(0, AREA_LEN) == before);
    node.twist(Twist::Nothing);
    assert_eq!(said(&node.boot().unwrap()), (Source::Tpm, 1, true, None));
    assert_eq!(keyslots(&node.disk), [2, 3]);
    assert_eq!(node.opens(), (How::Unlocked, Source::Service));
}

#[test]
fn a_volume_is_left_alone_until_the_operator_asks_where_the_configuration_says_so() {
    let mut node = Node::new(&[SOURCES]);
    node.terms = "enroll = \"asked\"";
    let told = |node: &Node| {
        let requests = node.service.requests();
        let report = requests.iter().rfind(|it| it.starts_with(REPORT)).unwrap();
        node.service.body(report).get("own-secret").cloned()
    };
    node.twist(Twist::Deny);
    assert_eq!(node.opens(), (How::Formatted, Source::Generate));
    node.twist(Twist::Nothing);
    let left = node.boot().unwrap();
    assert_eq!(said(&left), (Source::Tpm, 1, false, Some(Enroll::Asked)));
    // The service hears of it, and of its end in the boot that brings it.
    assert_eq!(told(&node), Some(true.into()));
    assert_eq!(keyslots(&node.disk), [0, 1]);
    left.write(Path::new("/")).unwrap();
    assert!(ctl(&["enroll"]).contains("own"));
    assert!(ctl(&["enroll", "case"]).contains("gives it the service's key"));
    let asked = || ctl(&["--json", "anchor", "show"]).contains("\"enroll\": true");
    assert!(asked());

    // It holds until a boot has reached the service.
    node.twist(Twist::DenyKeys);
    assert_eq!(said(&node.boot().unwrap()), said(&left));
    assert!(asked());
    node.twist(Twist::Nothing);
    assert_eq!(said(&node.boot().unwrap()), (Source::Tpm, 1, true, None));
    assert_eq!(told(&node), None);
    assert!(!asked());
    let after = node.boot().unwrap();
    assert_eq!(said(&after), (Source::Service, 2, false, None));
    after.write(Path::new("/")).unwrap();
    let refused = try_run("/payload/bin/nightlatchctl", &["enroll", "case"], b"");
    assert_eq!(refused.status.code(), Some(77));
}
