// SPDX-License-Identifier: Apache-2.0
//! A node that lost its TPM, and an operator who said so at the key service, or did not.

use std::fs;

use nightlatch::config::Source;
use nightlatch::error::{Error, Exit};
use nightlatch::status::Status;
use nightlatch::volume::How;
use serde_json::{Value, json};

use crate::disk::{self, Disk};
use crate::key_service::{DISK_MIB, Node, Twist, keep_endorsement_key, optional};
use crate::tpm_private::Private;

/// How a TPM gets lost.
#[derive(Clone, Copy, Debug)]
enum Lost {
    /// `TPM2_Clear`, as firmware menus do it. The endorsement key stays.
    Cleared,
    /// The VM was made anew on another host.
    Replaced,
}

fn lose(node: &mut Node, how: Lost) {
    match how {
        Lost::Cleared => {
            node.tpm.reset();
            node.tpm.tool("tpm2_clear", &["-c", "p"]);
        }
        Lost::Replaced => node.tpm = Private::start(),
    }
    keep_endorsement_key(&node.tpm);
}

fn path(uuid: &str) -> String {
    format!("/kbs/v0/nightlatch/volume/{uuid}")
}

/// What the node reported last.
fn reported(node: &Node, uuid: &str) -> Value {
    node.service.body(&format!("POST {}", path(uuid)))
}

/// When the service answers for an operator's word for the first time.
const ANSWERED_S: u64 = 1_800_000_000;

/// What the service answers for an operator's word, until it is told something else: the record, with the time of the answer.
fn readmit(node: &Node, uuid: &str, record: &Value) {
    let mut record = record.clone();
    record["readmitted-s"] = ANSWERED_S.into();
    node.service.tell(&path(uuid), record);
}

/// A node of these lines that has booted twice: its volume's UUID, the report of its last boot, and its disk before that.
fn used(lines: &[&'static str]) -> (Node, String, Value, disk::Saved) {
    let mut node = Node::new(lines);
    let uuid = node.boot().unwrap().volumes[0].uuid.clone();
    let stale = node.disk.save();
    node.boot().unwrap();
    let report = reported(&node, &uuid);
    (node, uuid, report, stale)
}

/// A boot that is refused and leaves the disk as it is; what it said.
fn refused(node: &mut Node, expected: &str) -> String {
    let before = node.disk.contents();
    let error = node.boot().unwrap_err();
    assert_eq!(error.exit(), Exit::Refused, "{error}");
    assert!(error.to_string().contains(expected), "{error}");
    node.disk.forget_reads();
    assert!(node.disk.contents() == before, "the disk has changed");
    error.to_string()
}

const UNKNOWN: &str = "the TPM does not remember this volume";

/// Where its secret came from, and what was accepted.
fn said(status: &Status) -> (Source, Option<&str>, bool) {
    let volume = &status.volumes[0];
    assert_eq!(volume.how, How::Unlocked);
    (volume.source, volume.accepted.as_deref(), volume.enrolled)
}

/// How often readmissions were measured since the machine of all cases started.
fn measured() -> usize {
    let log = fs::read_to_string("/run/log/systemd/tpm2-measure.log").unwrap_or_default();
    log.matches("nightlatch:accept:readmitted:case").count()
}

fn opens_readmitted(node: &mut Node) -> Status {
    let before = measured();
    let status = node.boot().unwrap();
    assert_eq!(said(&status), (Source::Service, Some("readmitted"), false));
    assert_eq!(measured(), before + 1);
    status
}

#[test]
fn a_node_that_lost_its_tpm_opens_the_current_disk_for_an_operators_word_and_no_other() {
    let lines = ["sources = [\"service\", \"tpm\"]"];
    let (mut node, uuid, report, stale) = used(&lines);
    let current = node.disk.save();
    lose(&mut node, Lost::Replaced);

    // Nobody said anything. Nor does it help that the service gives the key, or that it does not.
    let told = refused(&mut node, UNKNOWN);
    assert!(told.contains("nightlatchctl nodes readmit"), "{told}");
    node.twist(Twist::Deny);
    refused(&mut node, UNKNOWN);
    node.twist(Twist::Nothing);

    // An older disk, another volume, and one that the service was never told of.
    readmit(&node, &uuid, &report);
    node.disk.load(&stale);
    refused(&mut node, "rule G26: the header is of epoch");
    node.disk.load(&current);
    let other = json!({"key-id": "ab".repeat(32), "epoch": 0});
    readmit(&node, &uuid, &other);
    refused(&mut node, "rule D15: this is a volume with key");
    readmit(&node, &uuid, &json!({"epoch": 0}));
    refused(&mut node, "was never told which key it has");

    readmit(&node, &uuid, &report);
    opens_readmitted(&mut node);
    let epoch = |report: &Value| report["epoch"].as_u64().unwrap();
    let told = reported(&node, &uuid);
    // Ahead of whatever an answer of before can have led to.
    assert_eq!((epoch(&report) >> 30, epoch(&told) >> 30), (0, ANSWERED_S));
    assert_eq!(told["key-id"], report["key-id"]);

    // As if nothing had been: remembered, counted, and sealed to this TPM. Nobody has to say anything any more.
    let after = node.disk.save();
    let next = node.boot().unwrap();
    assert_eq!(said(&next), (Source::Service, None, false));
    assert_eq!(epoch(&reported(&node, &uuid)), epoch(&told) + 2);
    node.twist(Twist::Deny);
    assert_eq!(said(&node.boot().unwrap()), (Source::Tpm, None, false));
    let latest = node.disk.save();
    // What the lost TPM sealed, this one does not unseal; the service's key opens either.
    node.twist(Twist::Nothing);
    for old in [&current, &after] {
        node.disk.load(old);
        refused(&mut node, "rule G26: the header is of epoch");
    }
    // Not even where an operator's word is still there: the report of a boot can be held back.
    readmit(&node, &uuid, &report);
    node.disk.load(&current);
    refused(&mut node, "rule G26: the header is of epoch");
    node.disk.load(&latest);
    assert_eq!(node.opens(), (How::Unlocked, Source::Service));
}

/// The boot ends when its header is written and its count is made, and nothing is remembered yet.
#[test]
fn a_readmitted_node_that_is_interrupted_is_readmitted_again() {
    let (mut node, uuid, report, stale) = used(&["sources = [\"service\", \"tpm\"]"]);
    lose(&mut node, Lost::Cleared);
    refused(&mut node, UNKNOWN);
    readmit(&node, &uuid, &report);
    for _ in 0..2 {
        let before = measured();
        let cut = node.boot_until(|| Err(Error::failure("the power goes")));
        assert!(cut.unwrap_err().to_string().contains("the power goes"));
        assert_eq!(measured(), before + 1);
    }
    let current = node.disk.save();
    // The TPM has an anchor by now, and it says nothing of the volume.
    node.service.tell(&path(&uuid), report.clone());
    refused(&mut node, UNKNOWN);
    readmit(&node, &uuid, &report);
    node.disk.load(&stale);
    refused(&mut node, "rule G26: the header is of epoch");
    node.disk.load(&current);
    opens_readmitted(&mut node);
    assert_eq!(said(&node.boot().unwrap()), (Source::Service, None, false));
}

/// With the TPM first the service is asked as well, where the TPM remembers nothing: the host can remove the anchor alone, and
/// then what was sealed still comes out.
#[test]
fn a_node_whose_first_source_is_the_tpm_asks_whether_it_was_readmitted() {
    let (mut node, uuid, report, _) = used(&["sources = [\"tpm\", \"service\"]"]);
    assert_eq!(node.opens(), (How::Unlocked, Source::Tpm));
    lose(&mut node, Lost::Replaced);
    refused(&mut node, UNKNOWN);
    readmit(&node, &uuid, &report);
    opens_readmitted(&mut node);
    assert_eq!(node.opens(), (How::Unlocked, Source::Tpm));

    // Whoever owns the TPM removes the indices, and the key of the volume is still sealed to it.
    let handles = node.config().anchor;
    for handle in [handles.index.handle(), handles.counter.handle()] {
        let handle = format!("{handle:#x}");
        node.tpm.tool("tpm2_nvundefine", &["-C", "o", &handle]);
    }
    node.service.tell(&path(&uuid), report.clone());
    refused(&mut node, UNKNOWN);
    readmit(&node, &uuid, &report);
    let status = node.boot().unwrap();
    assert_eq!(said(&status), (Source::Tpm, Some("readmitted"), false));
    assert_eq!(said(&node.boot().unwrap()), (Source::Tpm, None, false));
}

#[test]
fn a_node_that_lost_its_tpm_is_readmitted_at_every_level() {
    for level in ["anchor = \"identity\"", "anchor = \"checkpoint\""] {
        let (mut node, uuid, report, stale) = used(&["sources = [\"service\", \"tpm\"]", level]);
        let current = node.disk.save();
        lose(&mut node, Lost::Replaced);
        refused(&mut node, UNKNOWN);
        readmit(&node, &uuid, &report);
        opens_readmitted(&mut node);
        assert_eq!(said(&node.boot().unwrap()), (Source::Service, None, false));
        node.twist(Twist::Deny);
        assert_eq!(said(&node.boot().unwrap()), (Source::Tpm, None, false));
        node.twist(Twist::Nothing);
        if level.contains("checkpoint") {
            for old in [&stale, &current] {
                node.disk.load(old);
                refused(&mut node, "rule G26: the header is of epoch");
            }
        }
    }
    // Where nothing is anchored nothing has to be accepted: the service gives the key, or it does not.
    let (mut node, _, _, _) = used(&["sources = [\"service\"]", "anchor = \"off\""]);
    lose(&mut node, Lost::Replaced);
    assert_eq!(said(&node.boot().unwrap()), (Source::Service, None, false));
    node.twist(Twist::Deny);
    refused(&mut node, "it denied this machine");
}

/// How the refusal of an older disk begins; its epoch follows.
const OLD: &str = "rule G26: the header is of epoch ";

/// The word does not make the TPM forget: it goes on from what it counted.
#[test]
fn a_disk_that_was_put_back_is_gone_on_with_for_an_operators_word_at_the_service() {
    for sources in [
        "sources = [\"service\", \"tpm\"]",
        "sources = [\"tpm\", \"service\"]",
    ] {
        let (mut node, uuid, report, stale) = used(&[sources]);
        let current = node.disk.save();
        node.disk.load(&stale);
        let said = refused(&mut node, OLD);
        let of_disk = said.split(OLD).nth(1).unwrap().split(',').next().unwrap();
        let of_disk: u64 = of_disk.parse().unwrap();
        // That the service finds nothing wrong is no word of an operator.
        let mut record = report.clone();
        record["epoch"] = of_disk.into();
        record.as_object_mut().unwrap().remove("nonce");
        node.service.tell(&path(&uuid), record.clone());
        refused(&mut node, OLD);

        // Nor is the word for another disk, however its header came to be shown to the service.
        record["rollback"] = (of_disk + 1).into();
        node.service.tell(&path(&uuid), record.clone());
        refused(&mut node, OLD);

        record["rollback"] = of_disk.into();
        node.service.tell(&path(&uuid), record);
        let status = node.boot().unwrap();
        assert_eq!(status.volumes[0].accepted.as_deref(), Some("rollback"));
        let told = reported(&node, &uuid);
        assert_eq!(told["accepted"], "rollback");
        assert!(told["epoch"].as_u64() > report["epoch"].as_u64(), "{told}");

        // Once: neither that disk nor the one that it took the place of opens without another word, and its own next boot does.
        let after = node.disk.save();
        node.service.tell(&path(&uuid), told);
        for older in [&stale, &current] {
            node.disk.load(older);
            refused(&mut node, "rule G26");
        }
        node.disk.load(&after);
        assert_eq!(node.boot().unwrap().volumes[0].accepted, None);
    }
}

/// The TPM has forgotten both volumes, and an operator readmits the one that is there.
#[test]
fn a_blank_disk_beside_a_readmitted_volume_is_not_taken_for_a_new_one() {
    let data = Disk::in_memory(DISK_MIB);
    let mut node = Node::new(&["sources = [\"service\", \"tpm\"]"]);
    node.measure = "[measure]\ncluster-volume = \"case\"";
    node.terms = optional(&data, "\"service\"");
    let of_case = |status: &Status| {
        let volume = status.volumes.iter().find(|volume| volume.name == "case");
        volume.unwrap().uuid.clone()
    };
    let first = node.boot().unwrap();
    assert_eq!(first.volumes.len(), 2);
    let uuid = of_case(&node.boot().unwrap());
    let report = reported(&node, &uuid);
    lose(&mut node, Lost::Cleared);
    disk::run("blkdiscard", &["--zeroout", data.as_str()], b"");
    readmit(&node, &uuid, &report);
    // In that boot, and in those that follow.
    for accepted in [Some("readmitted"), None] {
        let status = node.boot().unwrap();
        assert_eq!(status.volumes.len(), 1);
        assert_eq!(said(&status), (Source::Service, accepted, false));
        let why = &status.away[0].error;
        assert!(why.contains("whether there was a volume data"), "{why}");
        data.forget_reads();
        assert!(disk::is_blank(&data.contents()));
        node.service.tell(&path(&uuid), reported(&node, &uuid));
    }
}
