// SPDX-License-Identifier: Apache-2.0
//! A node that nobody else opens is given its key by an operator, in the place of the service, and is alone again afterwards.

mod operator;

use std::thread;

use nightlatch::config::Source;
use nightlatch::error::{Error, Exit};
use nightlatch::protocol::recovery::{Need, Word};
use nightlatch::status::Status;

use self::operator::push;
use crate::disk::Saved;
use crate::key_service::{KEY, Node, Twist, WRONG, keep_endorsement_key};
use crate::stale::image;

const SOURCES: [&str; 1] = ["sources = [\"service\", \"tpm\", \"recovery\"]"];
/// How long nodes wait that are recovered; no case does.
const LONG_S: u32 = 600;

/// A node whose first image has booted twice, its disk before that, and its service gone.
fn lost(wait_s: u32) -> (Node, Saved) {
    let mut node = Node::new(&SOURCES);
    node.terms = operator::table(wait_s);
    node.firmware = image(1);
    node.boot().unwrap();
    let old = node.disk.save();
    node.boot().unwrap();
    node.twist(Twist::Deny);
    (node, old)
}

/// A boot with an operator beside it.
fn beside(node: &mut Node, operator: impl FnOnce() + Send) -> Result<Status, Error> {
    thread::scope(|scope| {
        let operator = scope.spawn(operator);
        let booted = node.boot();
        operator.join().unwrap();
        booted
    })
}

/// Where its secret came from, and what was accepted.
fn said(status: &Status) -> (Source, Option<&str>) {
    let volume = &status.volumes[0];
    (volume.source, volume.accepted.as_deref())
}

fn is_wrong(
    given: (Vec<Need>, nightlatch::protocol::recovery::Verdicts),
    needs: &[Need],
    why: &str,
) {
    let (needed, verdicts) = given;
    assert_eq!(needed, needs);
    assert!(!verdicts.goes_on);
    let wrong = verdicts.volumes[0].wrong.as_deref().unwrap();
    assert!(wrong.contains(why), "{wrong}");
}

fn is_right(given: (Vec<Need>, nightlatch::protocol::recovery::Verdicts), needs: &[Need]) {
    let (needed, verdicts) = given;
    assert_eq!(needed, needs);
    assert!(verdicts.goes_on, "{verdicts:?}");
}

/// It opens without an operator and without the service.
fn is_alone(node: &mut Node) {
    assert_eq!(said(&node.boot().unwrap()), (Source::Tpm, None));
}

/// A boot that waits in vain: nothing of the disk has changed.
fn is_refused(node: &mut Node, why: &str) {
    node.terms = operator::table(2);
    let before = node.disk.contents();
    let error = node.boot().unwrap_err();
    assert_eq!(error.exit(), Exit::Refused, "{error}");
    assert!(error.to_string().contains(why), "{error}");
    node.disk.forget_reads();
    assert!(node.disk.contents() == before, "the disk has changed");
    node.terms = operator::table(LONG_S);
}

#[test]
fn a_pushed_key_carries_a_node_to_another_image_whose_service_is_gone() {
    let (mut node, _) = lost(LONG_S);
    node.firmware = image(2);
    is_refused(&mut node, "no operator within 2 s");
    let status = beside(&mut node, || {
        is_wrong(
            push(Some(WRONG), &[]),
            &[Need::Key],
            "the secret does not open it",
        );
        is_right(push(Some(KEY), &[]), &[Need::Key]);
    });
    assert_eq!(said(&status.unwrap()), (Source::Recovery, Some("stale")));
    is_alone(&mut node);
    is_alone(&mut node);
}

#[test]
fn a_node_that_lost_its_tpm_takes_an_operators_word_besides() {
    let (mut node, _) = lost(LONG_S);
    node.tpm.reset();
    node.tpm.tool("tpm2_clear", &["-c", "p"]);
    keep_endorsement_key(&node.tpm);
    let needs = [Need::Key, Need::Readmit];
    is_refused(&mut node, "no operator within 2 s");
    let status = beside(&mut node, || {
        is_wrong(push(Some(KEY), &[]), &needs, "--word readmit");
        is_wrong(push(Some(KEY), &[Word::Rollback]), &needs, "--word readmit");
        is_right(push(Some(KEY), &[Word::Readmit]), &needs);
    });
    assert_eq!(
        said(&status.unwrap()),
        (Source::Recovery, Some("readmitted"))
    );
    is_alone(&mut node);
}

#[test]
fn a_disk_that_was_put_back_takes_the_word_for_it_each_time() {
    let (mut node, old) = lost(LONG_S);
    // The TPM opens it, and its record says how old it is.
    node.disk.load(&old);
    is_refused(&mut node, "rule G26");
    let status = beside(&mut node, || {
        is_right(push(None, &[Word::Rollback]), &[Need::Rollback]);
    });
    assert_eq!(said(&status.unwrap()), (Source::Tpm, Some("rollback")));
    is_alone(&mut node);
    node.disk.load(&old);
    is_refused(&mut node, "rule G26");
    // Under another image the counter alone says it.
    node.firmware = image(2);
    let status = beside(&mut node, || {
        is_wrong(push(Some(KEY), &[]), &[Need::Key], "rule G26");
        let needs = [Need::Key, Need::Rollback];
        is_wrong(push(Some(KEY), &[Word::Readmit]), &needs, "rule G26");
        is_right(push(Some(KEY), &[Word::Rollback]), &needs);
    });
    assert_eq!(said(&status.unwrap()), (Source::Recovery, Some("rollback")));
    is_alone(&mut node);
}
