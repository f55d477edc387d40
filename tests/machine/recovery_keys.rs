// SPDX-License-Identifier: Apache-2.0
//! Whole boots of a node whose operator adds recovery keys and takes them away: with real disks, a TPM of the case's own, the tool
//! that asks for them, and the stock programs that open the volume with them.

use std::fs;
use std::path::Path;

use nightlatch::config::Source;
use nightlatch::error::Error;
use nightlatch::header::{AREA_LEN, Area, Expect};
use nightlatch::status::Status;
use nightlatch::tpm::Handles;
use nightlatch::volume::How;
use serde_json::Value;

use crate::disk::{self, Disk, Saved, close, is_blank, run, try_run};
use crate::enrolment::SOURCES;
use crate::key_service::{KEY, Node, Twist};
use crate::tpm_private::Private;

pub(crate) const CTL: &str = "/payload/bin/nightlatchctl";
/// Where the configuration has the anchor by default.
const ANCHOR: Handles = Handles {
    record: 0x0180_4e10,
    counter: 0x0180_4e11,
};
/// Where requests are by default.
const REQUESTS: &str = "0x1804e13";
/// Where the key material of keyslots 4 and 5 is.
const PLACES: [u64; 2] = [1_572_864, 1_957_888];
const PLACE_LEN: usize = 385_024;

/// A boot that must succeed, whose record the tool reads.
pub(crate) fn boot(node: &mut Node) -> Status {
    let status = node.boot().unwrap();
    status.write(Path::new("/")).unwrap();
    status
}

fn recovery(status: &Status) -> Vec<u8> {
    status.volumes[0].recovery_keyslots.clone()
}

/// Asks for a key; returns the text that was kept.
pub(crate) fn add(file: &str) -> String {
    drop(fs::remove_file(file));
    run(
        CTL,
        &["recovery-key", "add", "case", "--confirm-file", file],
        b"",
    );
    fs::read_to_string(file).unwrap().trim_end().to_owned()
}

/// What trying a key comes to: the exit code, and what is said.
fn try_key(file: &str) -> (i32, String) {
    let said = try_run(
        CTL,
        &["recovery-key", "test", "case", "--key-file", file],
        b"",
    );
    let text = [said.stdout, said.stderr].concat();
    (
        said.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

/// Whether the stock program of a rescue machine maps the volume with this key.
pub(crate) fn attaches(disk: &Disk, key: &str) -> bool {
    fs::write("/tmp/rescue.key", key).unwrap();
    let options = "headless=1,luks";
    let arguments = ["attach", "case", disk.as_str(), "/tmp/rescue.key", options];
    let attached = try_run("/usr/lib/systemd/systemd-cryptsetup", &arguments, b"");
    if attached.status.success() {
        disk::mount("btrfs");
    }
    close();
    attached.status.success()
}

/// Both copies of the header on the disk: keyslots, and the profile's word.
fn header(disk: &Disk) -> (Vec<u8>, &'static str) {
    disk.forget_reads();
    let area = Area::from_vec(disk.read(0, AREA_LEN)).unwrap();
    let header = area.header().unwrap();
    let checked = header
        .check(nightlatch::config::Profile::Nightlatch1, &Expect::default())
        .unwrap();
    (checked.keyslots.clone(), checked.profile_name())
}

pub(crate) fn has_requests(node: &Node) -> bool {
    let indices = node.tpm.tool("tpm2_getcap", &["handles-nv-index"]);
    let indices = String::from_utf8(indices).unwrap().to_lowercase();
    assert!(indices.contains("0x1804e10"), "{indices}");
    indices.contains(REQUESTS)
}

/// The disk of a boot that is cut off between its headers and the index, and the TPM as it is then.
pub(crate) fn cut_off_behind_the_headers(node: &mut Node) -> Saved {
    let before = node.tpm.state();
    node.boot().unwrap();
    let disk = node.disk.save();
    node.tpm.restore(&before);
    let mut tpm = node.tpm.open();
    if tpm.count_anchor(ANCHOR).unwrap().is_multiple_of(2) {
        tpm.raise_anchor(ANCHOR).unwrap();
    }
    disk
}

/// The running system goes on with a TPM that was started anew: what its boot left for it names the port of before.
fn reconnect(tpm: &Private) {
    let path = "/run/nightlatch/anchor.key";
    let mut file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    file["tcti"] = format!("swtpm:port={}", tpm.port()).into();
    fs::write(path, file.to_string()).unwrap();
}

#[test]
fn a_recovery_key_opens_the_volume_on_another_machine_until_it_is_removed() {
    let mut node = Node::new(&[SOURCES]);
    boot(&mut node);
    let first = boot(&mut node);
    assert_eq!(header(&node.disk), (vec![0, 1], "nightlatch-2"));
    let without_key = node.disk.save();

    let key = add("/tmp/recovery.key");
    assert!(has_requests(&node));
    let (exit, said) = try_key("/tmp/recovery.key");
    assert_eq!(exit, 75, "{said}");
    assert!(said.contains("not there yet"), "{said}");
    assert!(!attaches(&node.disk, &key));

    let made = boot(&mut node);
    assert_eq!(recovery(&made), [4]);
    assert_eq!(made.cluster_id, first.cluster_id);
    assert!(!has_requests(&node));
    assert_eq!(header(&node.disk), (vec![0, 1, 4], "nightlatch-2"));
    let before = node.disk.read(0, AREA_LEN);
    let (exit, said) = try_key("/tmp/recovery.key");
    assert_eq!(
        (exit, said.as_str()),
        (0, "volume case: the key opens keyslot 4\n")
    );
    assert!(attaches(&node.disk, &key));
    node.disk.forget_reads();
    assert!(node.disk.read(0, AREA_LEN) == before);
    // Of the stock programs' view: which keyslot is of which kind.
    let listed = run("systemd-cryptenroll", &[node.disk.as_str()], b"");
    let of_recovery = |line: &str| line.trim_start().starts_with('4') && line.contains("recovery");
    assert!(listed.lines().any(of_recovery), "{listed}");

    // A second one beside it, and no third.
    let second = add("/tmp/second.key");
    assert_eq!(recovery(&boot(&mut node)), [4, 5]);
    let third = [
        "recovery-key",
        "add",
        "case",
        "--confirm-file",
        "/tmp/third.key",
    ];
    assert_eq!(try_run(CTL, &third, b"").status.code(), Some(77));
    assert!(!Path::new("/tmp/third.key").exists());
    assert!(attaches(&node.disk, &key) && attaches(&node.disk, &second));
    assert_eq!(try_key("/tmp/second.key").0, 0);
    let with_both = node.disk.save();

    // The first one goes, and the disk of now opens with it no more. An older copy does, for who has it.
    run(
        CTL,
        &["recovery-key", "remove", "case", "--keyslot", "4", "--yes"],
        b"",
    );
    assert!(has_requests(&node));
    assert_eq!(recovery(&boot(&mut node)), [5]);
    assert_eq!(header(&node.disk), (vec![0, 1, 5], "nightlatch-2"));
    assert!(is_blank(&node.disk.read(PLACES[0], PLACE_LEN)));
    assert!(!attaches(&node.disk, &key) && attaches(&node.disk, &second));
    assert_eq!(try_key("/tmp/recovery.key").0, 77);
    let now = node.disk.save();
    node.disk.load(&with_both);
    assert!(attaches(&node.disk, &key));

    // This node does not open it, nor the one from before there was a key.
    for old in [&with_both, &without_key] {
        node.disk.load(old);
        let error = node.boot().unwrap_err().to_string();
        assert!(error.contains("rule G26"), "{error}");
    }
    node.disk.load(&now);
    assert_eq!(recovery(&boot(&mut node)), [5]);
    // Without any the pair is all there is again.
    run(CTL, &["recovery-key", "remove", "case", "--yes"], b"");
    assert!(recovery(&boot(&mut node)).is_empty());
    assert_eq!(header(&node.disk), (vec![0, 1], "nightlatch-2"));
    assert!(is_blank(&node.disk.read(PLACES[1], PLACE_LEN)));
    assert!(!attaches(&node.disk, &second));
}

#[test]
fn a_boot_that_is_cut_between_header_and_index_is_finished_by_the_next_one() {
    let mut node = Node::new(&[SOURCES]);
    boot(&mut node);
    boot(&mut node);
    let key = add("/tmp/recovery.key");
    let cut = cut_off_behind_the_headers(&mut node);
    node.disk.load(&cut);
    assert!(has_requests(&node));
    assert_eq!(header(&node.disk).0, [0, 1, 4]);
    // It has its keyslot and gets no other one. Asked for again after that was emptied it would be a way in again, so it is not.
    let asked = || {
        run(
            CTL,
            &["recovery-key", "remove", "case", "--keyslot", "4", "--yes"],
            b"",
        );
        run(CTL, &["recovery-key", "list"], b"")
    };
    let made = node.tpm.state();
    assert_eq!(recovery(&boot(&mut node)), [4]);
    let done = (node.tpm.state(), node.disk.save());
    node.tpm.restore(&made);
    reconnect(&node.tpm);
    let listed = asked();
    assert!(listed.contains("empties 4"), "{listed}");
    assert!(!listed.contains("makes"), "{listed}");
    node.tpm.restore(&done.0);
    reconnect(&node.tpm);
    node.disk.load(&done.1);
    assert!(!has_requests(&node));
    assert!(attaches(&node.disk, &key));

    // The same of one that goes while another comes: what comes does not take the place of what goes.
    run(CTL, &["recovery-key", "remove", "case", "--yes"], b"");
    let next = add("/tmp/next.key");
    let cut = cut_off_behind_the_headers(&mut node);
    node.disk.load(&cut);
    assert_eq!(header(&node.disk).0, [0, 1, 5]);
    assert_eq!(recovery(&boot(&mut node)), [5]);
    assert!(!has_requests(&node));
    assert!(attaches(&node.disk, &next) && !attaches(&node.disk, &key));

    // The power goes before the boot has come to its headers: the next one does all of it. Nobody was told of that boot.
    let late = add("/tmp/late.key");
    let before = node.disk.save();
    let state = node.tpm.state();
    let cut = node.boot_until(|| Err(Error::failure("the power goes")));
    assert!(cut.unwrap_err().to_string().contains("the power goes"));
    node.tpm.restore(&state);
    node.disk.load(&before);
    assert!(has_requests(&node));
    assert_eq!(recovery(&boot(&mut node)), [4, 5]);
    assert!(attaches(&node.disk, &late));
}

#[test]
fn a_change_of_the_secret_leaves_recovery_keys_as_they_are() {
    let mut node = Node::new(&[SOURCES]);
    node.twist(Twist::Deny);
    assert_eq!(boot(&mut node).volumes[0].how, How::Formatted);
    boot(&mut node);
    let key = add("/tmp/recovery.key");
    assert_eq!(recovery(&boot(&mut node)), [4]);
    let place = node.disk.read(PLACES[0], PLACE_LEN);
    // Another key is asked for in the boot that changes the secret.
    let second = add("/tmp/second.key");
    node.twist(Twist::Nothing);
    let enrolled = boot(&mut node);
    assert!(enrolled.volumes[0].enrolled);
    assert_eq!(recovery(&enrolled), [4, 5]);
    assert_eq!(header(&node.disk), (vec![2, 3, 4, 5], "nightlatch-2"));
    assert!(node.disk.read(PLACES[0], PLACE_LEN) == place);
    assert!(attaches(&node.disk, &key) && attaches(&node.disk, &second));
    assert_eq!(boot(&mut node).volumes[0].source, Source::Service);
    // Beside the second pair one comes and goes as well.
    run(
        CTL,
        &["recovery-key", "remove", "case", "--keyslot", "4", "--yes"],
        b"",
    );
    assert_eq!(recovery(&boot(&mut node)), [5]);
    assert_eq!(header(&node.disk).0, [2, 3, 5]);
    let again = add("/tmp/again.key");
    assert_eq!(recovery(&boot(&mut node)), [4, 5]);
    assert!(attaches(&node.disk, &again) && !attaches(&node.disk, &key));
    // With no word of an enrolment: what was made is not taken for one.
    let last = boot(&mut node);
    assert!(!last.volumes[0].enrolled);
    assert!(attaches(&node.disk, &second));
    let opens = ["open", "--test-passphrase", "--key-file=-", "--key-slot=2"];
    let opens = [&opens[..], &[node.disk.as_str()]].concat();
    assert!(try_run("cryptsetup", &opens, &KEY).status.success());
}

/// Whatever else runs on the TPM as its owner: its index is no request, no boot fails for it, and the tool says so.
#[test]
fn an_index_that_another_system_left_brings_no_key_into_a_header() {
    let mut node = Node::new(&[SOURCES]);
    boot(&mut node);
    boot(&mut node);
    add("/tmp/recovery.key");
    let value = ["-P", "hex:00"];
    node.tpm.tool("tpm2_nvundefine", &[REQUESTS, "-C", "o"]);
    let define = [REQUESTS, "-C", "o", "-s", "496", "-p", "hex:00"];
    let define = [&define[..], &["-a", "authread|authwrite|no_da"]].concat();
    node.tpm.tool("tpm2_nvdefine", &define);
    fs::write("/tmp/requests", [1; 496]).unwrap();
    let write = [&[REQUESTS, "-i", "/tmp/requests"][..], &value].concat();
    node.tpm.tool("tpm2_nvwrite", &write);
    let words = [
        "recovery-key",
        "add",
        "case",
        "--confirm-file",
        "/tmp/none.key",
    ];
    let refused = try_run(CTL, &words, b"");
    assert_eq!(refused.status.code(), Some(77));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.contains("does not answer to this node's record"),
        "{said}"
    );
    assert!(!Path::new("/tmp/none.key").exists());
    // The way back: the next boot takes nothing out of it, and removes it.
    let status = boot(&mut node);
    assert!(recovery(&status).is_empty());
    assert!(!has_requests(&node));
    let key = add("/tmp/recovery.key");
    assert_eq!(recovery(&boot(&mut node)), [4]);
    assert!(attaches(&node.disk, &key));
}
