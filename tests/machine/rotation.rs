// SPDX-License-Identifier: Apache-2.0
//! Whole boots of a node whose operator has a volume's secret or its seal made anew, and the power that goes at every instant of
//! such a boot.

use std::path::Path;

use base64ct::{Base64, Encoding};
use nightlatch::anchor::RuntimeAnchor;
use nightlatch::anchor::requests::{Request, Rotation, Wish};
use nightlatch::config::{Config, Source};
use nightlatch::status::{Status, VolumeStatus};
use nightlatch::volume::How;

use crate::boots;
use crate::disk::{self, BOOT, Disk, run, try_run};
use crate::enrolment::{FIRST, SECOND, SOURCES, is_zero, keyslots, opens, sealed_secret};
use crate::key_service::{KEY, Node, Twist};
use crate::log_writes::{DISK_MIB, Logged, mark};
use crate::recovery_keys::{CTL, add, attaches, boot, cut_off_behind_the_headers, has_requests};
use crate::stale_cuts::{Point, each_point};
use crate::tpm_private::Private;
use crate::tpm_watched::Watched;

/// A node whose secret is its own, because the service does not answer, and that has booted twice.
fn own() -> (Node, Status) {
    let mut node = Node::new(&[SOURCES]);
    node.terms = "enroll = \"asked\"";
    node.twist(Twist::Deny);
    assert_eq!(boot(&mut node).volumes[0].how, How::Formatted);
    let second = boot(&mut node);
    assert!(second.volumes[0].own_secret);
    assert_eq!(second.volumes[0].rotated, None);
    (node, second)
}

fn rotate(what: &str) -> String {
    let meant: &[&str] = if what == "secret" { &["--yes"] } else { &[] };
    run(CTL, &[&["rotate", what, "case"], meant].concat(), b"")
}

fn is_one_pair(disk: &Disk) {
    let blank = match keyslots(disk)[..] {
        [0, 1, ..] => SECOND,
        [2, 3, ..] => FIRST,
        ref other => panic!("{other:?}"),
    };
    assert!(is_zero(disk, blank));
}

#[test]
fn a_secret_that_is_rotated_opens_nothing_any_more_and_the_next_one_is_the_nodes_own() {
    let (mut node, before) = own();
    let old = sealed_secret(&mut node);
    assert!(opens(&node, 0, &old));
    // What the tool asks the TPM by is that of the last boot.
    boot(&mut node);
    let old_disk = node.disk.save();
    assert!(rotate("secret").contains("this node refuses such a copy by its epoch"));
    assert!(has_requests(&node));
    assert!(run(CTL, &["status"], b"").contains("draws another secret"));

    // This boot still is the old node, and the next one is not.
    let rotated = boot(&mut node);
    let volume = &rotated.volumes[0];
    assert_eq!((volume.source, volume.keyslot), (Source::Tpm, 1));
    assert_eq!(
        (volume.rotated, volume.enrolled),
        (Some(Rotation::Secret), false)
    );
    assert!(volume.own_secret);
    assert_eq!(rotated.cluster_id, before.cluster_id);
    assert!(!has_requests(&node));
    assert!(!run(CTL, &["status"], b"").contains("draws another secret"));
    assert_eq!(keyslots(&node.disk), [2, 3]);
    assert!(is_zero(&node.disk, FIRST) && !is_zero(&node.disk, SECOND));
    let after = boot(&mut node);
    assert_eq!(
        (after.volumes[0].source, after.volumes[0].keyslot),
        (Source::Tpm, 3)
    );
    assert_eq!(after.volumes[0].rotated, None);
    assert_ne!(after.cluster_id, before.cluster_id);

    let new = sealed_secret(&mut node);
    assert_ne!(new, old);
    assert!(opens(&node, 2, &new) && opens(&node, 3, Base64::encode_string(&new).as_bytes()));
    for slot in 0..4 {
        for passphrase in [old.clone(), Base64::encode_string(&old).into_bytes()] {
            assert!(!opens(&node, slot, &passphrase), "keyslot {slot}");
        }
    }
    // The TPM still unseals the old secret, and the anchor refuses the disk it opens.
    let disk = node.disk.save();
    node.disk.load(&old_disk);
    assert!(opens(&node, 0, &old));
    let error = node.boot().unwrap_err().to_string();
    assert!(error.contains("rule G26"), "{error}");
    node.disk.load(&disk);
    assert_eq!(node.opens(), (How::Unlocked, Source::Tpm));

    // Back to the first pair, and then the service's key after all.
    rotate("secret");
    assert_eq!(boot(&mut node).volumes[0].rotated, Some(Rotation::Secret));
    assert_eq!(keyslots(&node.disk), [0, 1]);
    rotate("secret");
    run(CTL, &["enroll", "case"], b"");
    node.twist(Twist::Nothing);
    let enrolled = boot(&mut node);
    assert_eq!(
        (enrolled.volumes[0].enrolled, enrolled.volumes[0].rotated),
        (true, None)
    );
    assert!(!has_requests(&node));
    assert!(opens(&node, 2, &KEY));
    assert_eq!(node.opens(), (How::Unlocked, Source::Service));
}

#[test]
fn a_seal_that_is_made_anew_is_of_the_same_secret_the_services_too() {
    let (mut node, before) = own();
    let old = sealed_secret(&mut node);
    boot(&mut node);
    rotate("seal");
    let sealed = boot(&mut node);
    assert_eq!(sealed.volumes[0].rotated, Some(Rotation::Seal));
    assert!(sealed.volumes[0].own_secret && !has_requests(&node));
    assert_eq!(keyslots(&node.disk), [2, 3]);
    is_one_pair(&node.disk);
    assert_eq!(sealed_secret(&mut node), old);
    let after = boot(&mut node);
    assert_eq!(
        (after.volumes[0].keyslot, after.volumes[0].rotated),
        (3, None)
    );
    assert_eq!(after.cluster_id, before.cluster_id);

    run(CTL, &["enroll", "case"], b"");
    node.twist(Twist::Nothing);
    assert!(boot(&mut node).volumes[0].enrolled);
    let service = boot(&mut node);
    assert_eq!(service.volumes[0].source, Source::Service);
    let refused = try_run(CTL, &["rotate", "secret", "case", "--yes"], b"");
    assert_eq!(refused.status.code(), Some(2));
    let pair = keyslots(&node.disk);
    rotate("seal");
    let sealed = boot(&mut node);
    assert_eq!(
        (sealed.volumes[0].rotated, sealed.volumes[0].enrolled),
        (Some(Rotation::Seal), false)
    );
    assert_ne!(keyslots(&node.disk), pair);
    is_one_pair(&node.disk);
    assert_eq!(sealed_secret(&mut node), KEY);
    // What was sealed anew opens it alone, and is no enrolment.
    node.twist(Twist::Deny);
    let alone = boot(&mut node);
    assert_eq!(alone.volumes[0].source, Source::Tpm);
    assert!(!alone.volumes[0].own_secret);
    let refused = try_run(CTL, &["rotate", "volume-key", "case"], b"");
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn recovery_keys_come_and_stay_beside_a_secret_that_is_rotated() {
    let (mut node, _) = own();
    let key = add("/tmp/recovery.key");
    boot(&mut node);
    rotate("secret");
    let second = add("/tmp/second.key");
    let both = boot(&mut node);
    assert_eq!(both.volumes[0].rotated, Some(Rotation::Secret));
    assert_eq!(both.volumes[0].recovery_keyslots, [4, 5]);
    assert_eq!(keyslots(&node.disk), [2, 3, 4, 5]);
    assert!(attaches(&node.disk, &key) && attaches(&node.disk, &second));
    assert!(!has_requests(&node));
    // Cut off behind the headers it is done once more, and each key is there once.
    rotate("secret");
    let cut = cut_off_behind_the_headers(&mut node);
    node.disk.load(&cut);
    assert!(has_requests(&node));
    assert_eq!(keyslots(&node.disk), [0, 1, 4, 5]);
    assert_eq!(boot(&mut node).volumes[0].rotated, Some(Rotation::Secret));
    assert!(!has_requests(&node));
    assert_eq!(keyslots(&node.disk), [2, 3, 4, 5]);
    is_one_pair(&node.disk);
    assert!(attaches(&node.disk, &key) && attaches(&node.disk, &second));
}

/// A node that has its TPM and nobody else.
fn alone(disk: &Disk, port: u16) -> Config {
    let volume = disk::lines(disk, &[]);
    Config::parse(&format!(
        "{BOOT}[tpm]\ntcti = \"swtpm:port={port}\"\n{volume}"
    ))
    .unwrap()
}

/// A boot that makes the volume, another one, and one that rotates, all of it in the log.
struct Story {
    log: Vec<u8>,
    states: Vec<Vec<u8>>,
}

fn record(rotation: Rotation) -> Story {
    let logged = Logged::start();
    let mut tpm = Watched::start(|number| mark(&format!("tpm:{number}")));
    let config = alone(&logged.disk, tpm.port());
    for number in [0, 1, 2] {
        if number == 2 {
            ask(rotation);
        }
        // So that `points` takes the last one.
        mark(&format!("image:{number}"));
        tpm.reset();
        let volume = boots::boot(&config, || {}).unwrap();
        assert_eq!(volume.rotated, (number == 2).then_some(rotation));
    }
    Story {
        log: logged.into_log(),
        states: tpm.into_states(),
    }
}

fn ask(rotation: Rotation) {
    let anchor = RuntimeAnchor::take(Path::new("/")).unwrap();
    anchor
        .change_requests(|record, requests| {
            let uuid = record.entries().next().unwrap().uuid;
            let wish = Wish::Rotate(rotation);
            requests.push(Request { uuid, wish })
        })
        .unwrap();
}

/// The power goes at the points that are `chosen` by number, of so many: how often the request was gone then, and was there.
fn crash(rotation: Rotation, chosen: impl Fn(usize, usize) -> bool) -> [u32; 2] {
    let story = record(rotation);
    let copy = Disk::in_memory(DISK_MIB);
    let mut was_asked = [0; 2];
    each_point(&story.log, &story.states, chosen, |point| {
        let Point { durable, state, .. } = point;
        copy.load_from(point.left);
        let mut tpm = Private::start();
        tpm.restore(&story.states[state]);
        let is_asked = is_asked(&tpm);
        let mut next = |which: usize| -> VolumeStatus {
            tpm.reset();
            let booted = boots::boot(&alone(&copy, tpm.port()), || {});
            booted.unwrap_or_else(|error| {
                panic!("entry {durable}, state {state}, boot {which}: {error}")
            })
        };
        let first = next(0);
        assert_eq!((first.how, first.source), (How::Unlocked, Source::Tpm));
        // What was done and not taken back is done once more, and what was taken back was done.
        assert_eq!(first.rotated, is_asked.then_some(rotation));
        assert!(is_asked || keyslots(&copy) == [2, 3]);
        is_one_pair(&copy);
        let second = next(1);
        assert_eq!((second.source, second.rotated), (Source::Tpm, None));
        assert!(second.own_secret);
        is_one_pair(&copy);
        was_asked[usize::from(is_asked)] += 1;
    });
    println!("the request was gone and was there: {was_asked:?}");
    was_asked
}

fn is_asked(tpm: &Private) -> bool {
    let indices = tpm.tool("tpm2_getcap", &["handles-nv-index"]);
    let indices = String::from_utf8(indices).unwrap().to_lowercase();
    assert!(indices.contains("0x1804e10"), "{indices}");
    indices.contains("0x1804e13")
}

#[test]
fn a_crash_in_the_middle_of_a_rotation_is_finished_by_the_next_boot() {
    let was_asked = crash(Rotation::Secret, |number, count| number == count / 2);
    assert_eq!(was_asked.iter().sum::<u32>(), 1);
}

#[test]
fn wherever_the_power_goes_a_rotated_secret_opens_and_is_one() {
    let was_asked = crash(Rotation::Secret, |_, _| true);
    assert!(was_asked.iter().all(|count| *count > 0), "{was_asked:?}");
}

#[test]
fn wherever_the_power_goes_a_seal_made_anew_opens() {
    let was_asked = crash(Rotation::Seal, |number, count| {
        number % 3 == 0 || number + 1 == count
    });
    assert!(was_asked.iter().all(|count| *count > 0), "{was_asked:?}");
}
