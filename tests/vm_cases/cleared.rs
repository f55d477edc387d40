// SPDX-License-Identifier: Apache-2.0
//! A TPM that was cleared, and a key service that remembers what it forgot.

use nightlatch::config::Source;
use nightlatch::error::Exit;
use nightlatch::status::Status;
use nightlatch::volume::How;
use serde_json::json;

use crate::key_service::{Node, Twist, keep_endorsement_key};

/// `TPM2_Clear`, as firmware menus do it; the endorsement key stays the same.
fn clear(node: &mut Node) {
    node.tpm.reset();
    node.tpm.tool("tpm2_clear", &["-c", "p"]);
    keep_endorsement_key(&node.tpm);
}

fn accepted(status: &Status) -> (Source, Option<&str>, bool) {
    let volume = &status.volumes[0];
    assert_eq!(volume.how, How::Unlocked);
    (volume.source, volume.accepted.as_deref(), volume.enrolled)
}

#[test]
fn a_cleared_tpm_takes_the_services_word_for_the_current_disk_and_for_no_other() {
    let mut node = Node::new(&["sources = [\"service\", \"tpm\"]"]);
    let uuid = node.boot().unwrap().volumes[0].uuid.clone();
    let stale = node.disk.save();
    let before = node.boot().unwrap();
    let current = node.disk.save();

    // Put back while nobody remembers: but somebody does.
    clear(&mut node);
    node.disk.load(&stale);
    let refused = |node: &mut Node, expected: &str| {
        let error = node.boot().unwrap_err();
        assert_eq!(error.exit(), Exit::Refused, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    refused(&mut node, "rule G26: the header is of epoch");
    // Who has the key and cannot say which volume it was is no witness.
    node.disk.load(&current);
    let path = format!("/kbs/v0/nightlatch/volume/{uuid}");
    let told = node.service.body(&format!("POST {path}"));
    node.service.tell(&path, json!({"epoch": 0}));
    refused(&mut node, "the TPM does not remember this volume");
    node.service.tell(&path, told);

    let back = node.boot().unwrap();
    assert_eq!(
        accepted(&back),
        (Source::Service, Some("service-record"), false)
    );
    assert!(
        back.epoch > before.epoch,
        "{:?} {:?}",
        back.epoch,
        before.epoch
    );
    // As if nothing had been: it is remembered, counted, and sealed anew.
    let after = node.boot().unwrap();
    assert_eq!(accepted(&after), (Source::Service, None, false));
    node.twist(Twist::Deny);
    assert_eq!(accepted(&node.boot().unwrap()), (Source::Tpm, None, false));
    node.twist(Twist::Nothing);
    let disk = node.disk.save();
    node.disk.load(&current);
    refused(&mut node, "rule G26: the header is of epoch");
    node.disk.load(&disk);
    assert_eq!(node.opens(), (How::Unlocked, Source::Service));
}
