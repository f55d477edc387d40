// SPDX-License-Identifier: Apache-2.0
//! What a boot that fails leaves behind.

use super::*;
use crate::boot::fixture::{Node, REQUIRED, text};
use crate::support::firmware::Firmware;

/// A whole boot.
fn boot(node: &Node) -> (Result<()>, crate::status::Status) {
    let record = Recorder::start();
    let result = run(&node.top, &record);
    let status = record.finish(&result);
    (result, status)
}

/// Its configuration is in its initrd, with the port that its TPM has now.
fn configured(node: &Node) -> FailurePlace {
    let text = text(REQUIRED, node.swtpm.port());
    node.write("etc/nightlatch/nightlatch.toml", text.as_bytes());
    FailurePlace::of(&Config::parse(&text).unwrap()).unwrap()
}

#[test]
fn the_sentence_of_a_boot_that_failed_is_there_after_the_reboot() {
    let mut node = Node::new();
    let place = configured(&node);
    assert_eq!(place.tell().unwrap(), None);
    let (result, status) = boot(&node);
    let error = result.unwrap_err();
    assert_eq!(status.failures.as_ref(), Some(&place));
    let told = place.tell().unwrap().unwrap();
    assert_eq!(told.starts, Some(0));
    assert_eq!(told.failure.exit, error.exit());
    let kept = told.failure.sentence.trim_end_matches("...").to_owned();
    assert!(
        error.to_string().starts_with(&kept) && kept.len() > 20,
        "{error}"
    );
    // After the reboot, and by a machine that another firmware has started.
    node.swtpm.reset();
    let place = configured(&node);
    let told = place.tell().unwrap().unwrap();
    assert_eq!(told.starts, Some(1));
    node.start(&Firmware::unsigned());
    let other = boot(&node).0.unwrap_err().to_string();
    let kept = place.tell().unwrap().unwrap().failure.sentence;
    assert!(other.starts_with(kept.trim_end_matches("...")), "{other}");
    assert_ne!(kept, told.failure.sentence);
}

#[test]
fn a_boot_whose_failure_cannot_be_kept_fails_with_its_own_sentence() {
    let node = Node::new();
    node.write("etc/nightlatch/nightlatch.toml", b"volume = []\n");
    assert_eq!(
        boot(&node).0.unwrap_err().exit(),
        crate::error::Exit::Config
    );
    let config = text(REQUIRED, node.swtpm.port()).replace("swtpm:port=", "swtpm:port=1 #");
    let config = config.replace("1 #", "1\" #");
    node.write("etc/nightlatch/nightlatch.toml", config.as_bytes());
    let error = boot(&node).0.unwrap_err().to_string();
    assert!(
        error.starts_with("preparing TPM: opening the TPM: "),
        "{error}"
    );
    let place = FailurePlace::of(&node.config).unwrap();
    assert_eq!(place.tell().unwrap(), None);
}
