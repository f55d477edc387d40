// SPDX-License-Identifier: Apache-2.0
//! What a second boot, or systemd, would take for something else than what was meant.

use super::*;

#[test]
fn a_secret_that_is_kept_nowhere_is_for_a_volume_that_is_not_kept_either() {
    let alone = STATE.replace("\"tpm\", ", "");
    assert!(
        refusal(&alone).contains("is kept nowhere, so that the second boot is refused for ever")
    );
    let ephemeral = format!("{alone}ephemeral = true\n");
    assert!(refusal(&ephemeral).contains("ephemeral: expected anchor = \"off\""));
    let config = parse(&format!("{ephemeral}anchor = \"off\"\n")).unwrap();
    assert!(config.volumes().next().unwrap().ephemeral);
    let kept = format!("{STATE}ephemeral = true\nanchor = \"off\"\n");
    assert!(refusal(&kept).contains("ephemeral: expected sources = [\"generate\"]"));
}

#[test]
fn what_systemd_or_a_boot_would_take_for_something_else_is_refused() {
    for (from, to, said) in [
        (
            "/var/lib/state",
            "/sysroot/var",
            "mount: expected a directory of the final system",
        ),
        (
            "/var/lib/state",
            "/sys",
            "mount: expected a directory of the final system",
        ),
        (
            "[[volume]]",
            "device-timeout-s = 0\n[[volume]]",
            "systemd waits for ever where it is 0",
        ),
        (
            "[[volume]]",
            "device-timeout-s = 86401\n[[volume]]",
            "expected 1 to 86400",
        ),
        (
            "mount = \"/var/lib/state\"",
            "lower = \"/dev/disk/by-id/virtio-state\"",
            "lower: expected another device than device",
        ),
    ] {
        assert!(STATE.contains(from), "{from}");
        let text = STATE.replacen(from, to, 1);
        let error = refusal(&text);
        assert!(error.contains(said), "{to}: {error}");
    }
    parse(&STATE.replace("/var/lib/state", "/system")).unwrap();
}
