// SPDX-License-Identifier: Apache-2.0
//! A node that boots another image than the one that made the TPM's record: the key service carries it over, and nobody else.

use std::fs;

use nightlatch::config::Source;
use nightlatch::error::{Error, Exit};
use nightlatch::status::Status;
use nightlatch::volume::How;
use serde_json::{Value, json};

use crate::disk::{Saved, run};
use crate::key_service::{Node, Twist};
use crate::support::firmware::{Firmware, OWNER};

pub(crate) const SOURCES: [&str; 1] = ["sources = [\"service\", \"tpm\"]"];
const OTHER: &str = "the TPM's record was made under other PCR values";
/// `anchor.index`, `anchor.spare-index` and `anchor.counter`, as tpm2-tools write them.
const FIRST: &str = "0x1804E10";
const SPARE: &str = "0x1804E12";
const COUNTER: &str = "0x1804E11";

/// An image of the owner's, as PCR 4 tells it from the others.
pub(crate) fn image(number: u8) -> Firmware {
    let program = format!("image {number}");
    Firmware::with_secure_boot(true)
        .authority(OWNER)
        .program(program.as_bytes())
        .image()
}

fn path(node: &Node) -> String {
    let uuid = String::from_utf8(node.disk.read(168, 36)).unwrap();
    format!("/kbs/v0/nightlatch/volume/{uuid}")
}

/// What the node reported last.
fn reported(node: &Node) -> Value {
    node.service.body(&format!("POST {}", path(node)))
}

/// A node of these lines whose first image has booted twice, and its disk before that.
fn used(lines: &[&'static str]) -> (Node, Saved) {
    let mut node = Node::new(lines);
    node.firmware = image(1);
    node.boot().unwrap();
    let old = node.disk.save();
    node.boot().unwrap();
    (node, old)
}

/// A boot that is refused and changes neither the disk nor the NV indices; what it said.
fn refused(node: &mut Node, expected: &str) -> String {
    let (disk, indices) = (node.disk.contents(), indices(node));
    let error = node.boot().unwrap_err();
    assert_eq!(error.exit(), Exit::Refused, "{error}");
    assert!(error.to_string().contains(expected), "{error}");
    node.disk.forget_reads();
    assert!(node.disk.contents() == disk, "the disk has changed");
    assert_eq!(self::indices(node), indices);
    error.to_string()
}

/// Which NV indices there are, all of them the anchor's.
pub(crate) fn indices(node: &Node) -> Vec<String> {
    let said = node.tpm.tool("tpm2_getcap", &["handles-nv-index"]);
    let said = String::from_utf8(said).unwrap();
    let handles = said.lines().filter_map(|line| line.strip_prefix("- "));
    handles.map(str::to_owned).collect()
}

/// Where its secret came from, and what was accepted.
fn said(status: &Status) -> (Source, Option<&str>) {
    let volume = &status.volumes[0];
    assert_eq!(volume.how, How::Unlocked);
    (volume.source, volume.accepted.as_deref())
}

/// How often it was measured that a record of before could not be read, since the machine of all cases started.
fn measured() -> usize {
    let log = fs::read_to_string("/run/log/systemd/tpm2-measure.log").unwrap_or_default();
    log.matches("nightlatch:accept:stale:case").count()
}

/// Carried over in this boot.
fn is_carried_over(node: &mut Node) {
    let before = measured();
    let status = node.boot().unwrap();
    assert_eq!(said(&status), (Source::Service, Some("stale")));
    assert_eq!(measured(), before + 1);
    assert_eq!(reported(node)["accepted"], "stale");
}

#[test]
fn a_node_is_carried_to_another_image_and_back_and_is_alone_again_afterwards() {
    let to_and_back = [(2, SPARE), (3, FIRST), (2, SPARE)];
    for (first, sources, moves) in [
        (Source::Service, SOURCES, &to_and_back[..]),
        (
            Source::Tpm,
            ["sources = [\"tpm\", \"service\"]"],
            &to_and_back[..1],
        ),
    ] {
        let (mut node, _) = used(&sources);
        assert_eq!(indices(&node), [FIRST, COUNTER]);
        for &(number, record) in moves {
            node.firmware = image(number);
            is_carried_over(&mut node);
            let mut left = [record, COUNTER];
            left.sort_unstable();
            assert_eq!(indices(&node), left);
            assert_eq!(said(&node.boot().unwrap()), (first, None));
            // What is sealed to this image opens it without the service.
            node.twist(Twist::Deny);
            assert_eq!(said(&node.boot().unwrap()), (Source::Tpm, None));
            refused_for_the_image_before(&mut node, number);
            node.twist(Twist::Nothing);
        }
    }
}

/// The image of before finds no record of its own, and its seal is gone.
fn refused_for_the_image_before(node: &mut Node, now: u8) {
    node.firmware = image(now - 1);
    let told = refused(node, OTHER);
    assert!(told.contains("denied this machine"), "{told}");
    node.firmware = image(now);
}

#[test]
fn without_the_services_word_nothing_is_changed_and_the_image_of_before_opens_what_it_opened() {
    let (mut node, _) = used(&SOURCES);
    node.firmware = image(2);
    node.twist(Twist::Deny);
    refused(&mut node, "denied this machine");
    node.twist(Twist::Nothing);
    let told = reported(&node);
    for (record, expected) in [
        (json!({"epoch": 0}), "was never told which key"),
        (
            json!({"key-id": "ab".repeat(32), "epoch": 0}),
            "rule D15: this is a volume with key",
        ),
    ] {
        node.service.tell(&path(&node), record);
        refused(&mut node, expected);
    }
    node.service.tell(&path(&node), told);
    // Nor is a volume made beside a record that cannot be read.
    let disk = node.disk.save();
    run("blkdiscard", &["--zeroout", node.disk.as_str()], b"");
    refused(&mut node, "The device has no volume");
    node.disk.load(&disk);

    node.firmware = image(1);
    assert_eq!(said(&node.boot().unwrap()), (Source::Service, None));
    node.firmware = image(2);
    is_carried_over(&mut node);
}

/// Other PCRs in the configuration are other values as well: so what was sealed to fewer goes on, as a volume of before does.
#[test]
fn a_node_that_was_sealed_to_fewer_pcrs_is_carried_over_by_the_same_image() {
    let mut node = Node::new(&SOURCES);
    node.measure = "pcrs = [7, 12, 13]";
    node.boot().unwrap();
    // What another image reaches as well is no other value.
    node.firmware = image(2);
    assert_eq!(said(&node.boot().unwrap()), (Source::Service, None));
    node.measure = "";
    is_carried_over(&mut node);
    node.twist(Twist::Deny);
    assert_eq!(said(&node.boot().unwrap()), (Source::Tpm, None));
    node.firmware = image(3);
    refused(&mut node, OTHER);
}

/// Without a service, and with one that an operator has to speak through.
#[test]
fn who_has_to_say_it_is_told() {
    let mut node = Node::new(&["sources = [\"tpm\", \"generate\"]"]);
    node.measure = "[measure]\ncluster = \"service\"";
    node.firmware = image(1);
    node.boot().unwrap();
    node.firmware = image(2);
    refused(&mut node, "none among the sources of volume case");

    for (tpm, level, why) in [
        (
            "stale = \"operator\"",
            "anchor = \"epoch\"",
            "tpm.stale is \"operator\"",
        ),
        (
            "",
            "anchor = \"checkpoint\"",
            "the volume's level is \"checkpoint\"",
        ),
    ] {
        let (mut node, _) = used(&[SOURCES[0], level]);
        node.measure = tpm;
        node.firmware = image(2);
        let told = refused(&mut node, why);
        assert!(told.contains("nightlatchctl nodes readmit"), "{told}");
        let mut record = reported(&node);
        record["readmitted-s"] = 1_800_000_000.into();
        node.service.tell(&path(&node), record);
        let told = reported(&node)["epoch"].as_u64().unwrap();
        is_carried_over(&mut node);
        // It is consent; the epochs go on as they are, so a boot that is cut off costs nothing.
        assert_eq!(reported(&node)["epoch"], told + 2);
        assert_eq!(said(&node.boot().unwrap()), (Source::Service, None));
        assert_eq!(indices(&node), [COUNTER, SPARE]);
    }
}

#[test]
fn no_older_disk_is_carried_over() {
    let (mut node, old) = used(&SOURCES);
    let first_report = reported(&node);
    let current = node.disk.save();
    node.firmware = image(2);
    node.disk.load(&old);
    refused(&mut node, "rule G26: the header is of epoch");
    // The host has held back what the service should know: the counter does not take that.
    let mut earlier = first_report.clone();
    earlier["epoch"] = 0.into();
    earlier.as_object_mut().unwrap().remove("nonce");
    node.service.tell(&path(&node), earlier.clone());
    refused(&mut node, "the TPM's counter is at");
    node.disk.load(&current);
    is_carried_over(&mut node);

    // What a boot has left that was cut off before its report is the current disk, and the one before it is not.
    let kept = node.disk.save();
    let cut = node.boot_until(|| Err(Error::failure("the power goes")));
    assert!(cut.unwrap_err().to_string().contains("the power goes"));
    let copy = node.disk.save();
    node.disk.load(&kept);
    node.firmware = image(1);
    let before = node.disk.save();
    refused(&mut node, "rule G26: the header is of epoch");
    node.disk.load(&copy);
    is_carried_over(&mut node);
    node.disk.load(&before);
    refused(&mut node, "rule G26: the header is of epoch");
}

/// Whoever owns the TPM removes the record and puts another one there.
#[test]
fn a_record_that_another_system_put_there_is_one_that_is_gone() {
    let (mut node, _) = used(&SOURCES);
    let state = node.tpm.state();
    for spare in [false, true] {
        node.tpm.restore(&state);
        node.tpm.tool("tpm2_nvundefine", &["-C", "o", FIRST]);
        node.firmware = image(2);
        refused(&mut node, "the TPM does not remember this volume");
        // By a policy of its own, with our attributes; and what it wrote there can be read by nobody else.
        let other = if spare { SPARE } else { FIRST };
        plant(&node, other);
        for number in [2, 1] {
            node.firmware = image(number);
            let told = refused(&mut node, "the TPM's record that its header names is gone");
            assert!(told.contains("nightlatchctl nodes readmit"), "{told}");
        }
    }
    // An operator's word is for that.
    let (told, disk) = (reported(&node), node.disk.save());
    let mut word = told.clone();
    word["readmitted-s"] = 1_800_000_000.into();
    node.service.tell(&path(&node), word);
    let status = node.boot().unwrap();
    assert_eq!(said(&status), (Source::Service, Some("readmitted")));
    assert_eq!(said(&node.boot().unwrap()), (Source::Service, None));
    node.service.tell(&path(&node), told);
    node.disk.load(&disk);
    // The control: the record itself is still there.
    node.tpm.restore(&state);
    plant(&node, SPARE);
    node.firmware = image(2);
    is_carried_over(&mut node);
    assert_eq!(indices(&node), [COUNTER, SPARE]);
}

/// An index with the attributes of a record, under a policy that another system satisfies, and written by it.
fn plant(node: &Node, handle: &str) {
    let file = |name: &str, bytes: &[u8]| {
        let path = format!("/tmp/{name}");
        fs::write(&path, bytes).unwrap();
        path
    };
    let (session, policy) = ("/tmp/planted.session", "/tmp/planted.policy");
    let content = file("planted.content", &[7; 1008]);
    let start = |kind: &[&str]| {
        node.tpm
            .tool("tpm2_startauthsession", &[&["-S", session], kind].concat());
        node.tpm.tool(
            "tpm2_policypcr",
            &["-S", session, "-l", "sha256:0", "-L", policy],
        );
    };
    start(&[]);
    node.tpm.tool("tpm2_flushcontext", &[session]);
    let attributes = "policyread|policywrite|no_da";
    let define = [
        handle, "-C", "o", "-L", policy, "-s", "1008", "-a", attributes,
    ];
    node.tpm.tool("tpm2_nvdefine", &define);
    start(&["--policy-session"]);
    let auth = format!("session:{session}");
    let write = [handle, "-C", handle, "-P", &auth, "-i", &content];
    node.tpm.tool("tpm2_nvwrite", &write);
    node.tpm.tool("tpm2_flushcontext", &[session]);
}

/// The values of the next image are known before it boots, so another system on this TPM can seal a disk of its own to them.
#[test]
fn a_disk_that_another_system_sealed_to_the_next_image_is_not_opened_by_the_tpm() {
    let (mut node, _) = used(&["sources = [\"tpm\", \"service\"]"]);
    let genuine = node.disk.save();
    // Made under the values of image 2, and beside the anchor.
    node.firmware = image(2);
    run("blkdiscard", &["--zeroout", node.disk.as_str()], b"");
    node.lines = vec!["sources = [\"tpm\", \"generate\"]", "anchor = \"off\""];
    node.measure = "[measure]\ncluster = \"service\"";
    node.boot().unwrap();
    // The control: the TPM opens it where nothing is compared.
    assert_eq!(said(&node.boot().unwrap()), (Source::Tpm, None));
    node.lines = vec!["sources = [\"tpm\", \"service\"]"];
    refused(&mut node, "");
    node.disk.load(&genuine);
    is_carried_over(&mut node);
}

/// Anybody who may open the TPM's device removes the counter. An operator's word is the way back.
#[test]
fn a_counter_that_another_program_removed_takes_an_operators_word() {
    let (mut node, _) = used(&SOURCES);
    node.tpm.tool("tpm2_nvundefine", &["-C", "o", COUNTER]);
    let told = refused(&mut node, "somebody removed it");
    assert!(told.contains("nightlatchctl nodes readmit"), "{told}");
    let mut word = reported(&node);
    word["readmitted-s"] = 1_800_000_000.into();
    node.service.tell(&path(&node), word);
    let status = node.boot().unwrap();
    assert_eq!(said(&status), (Source::Service, Some("readmitted")));
    assert_eq!(said(&node.boot().unwrap()), (Source::Service, None));
    node.twist(Twist::Deny);
    assert_eq!(said(&node.boot().unwrap()), (Source::Tpm, None));
}
