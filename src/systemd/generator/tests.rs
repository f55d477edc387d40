// SPDX-License-Identifier: Apache-2.0
//! Each directory of `tests/fixtures/generator` is a case: `root`, a tree that looks like `/`, and what must come of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A directory that is gone after the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nightlatch-generator-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Paths below `directory`, with what is in each file or behind each link.
fn tree(directory: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(directory).unwrap().display().to_string();
            if path.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                found.insert(name, format!("-> {}", target.display()));
            } else if path.is_dir() {
                open.push(path);
            } else {
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/generator")
        .join(name)
}

fn run(root: &Path, out: &Path) -> Result<()> {
    for directory in ["normal", "early"] {
        fs::create_dir_all(out.join(directory)).unwrap();
    }
    generate(root, &out.join("normal"), &out.join("early"))
}

#[test]
fn each_configuration_gives_exactly_the_expected_files() {
    for case in ["state", "overlay", "plain", "service"] {
        let out = Scratch::new();
        run(&fixture(case).join("root"), &out.0).unwrap();
        assert_eq!(
            tree(&out.0),
            tree(&fixture(case).join("expected")),
            "{case}"
        );
    }
}

#[test]
fn outside_of_an_initrd_nothing_is_written() {
    let root = Scratch::new();
    let configuration = root.0.join(crate::config::CONFIG_PATH);
    fs::create_dir_all(configuration.parent().unwrap()).unwrap();
    fs::copy(
        fixture("state")
            .join("root")
            .join(crate::config::CONFIG_PATH),
        &configuration,
    )
    .unwrap();

    fs::create_dir_all(root.0.join("proc")).unwrap();
    fs::write(root.0.join("proc/cmdline"), "roothash=f00d\n").unwrap();
    let out = Scratch::new();
    run(&root.0, &out.0).unwrap();
    assert!(tree(&out.0).is_empty());

    // The control: the same tree as an initrd.
    fs::write(root.0.join(IN_INITRD), "").unwrap();
    run(&root.0, &out.0).unwrap();
    assert!(tree(&out.0).contains_key("normal/sysroot-var-lib-state.mount"));
}

#[test]
fn a_broken_configuration_is_an_error_and_still_leaves_no_shell() {
    let root = Scratch::new();
    fs::create_dir_all(root.0.join("etc/nightlatch")).unwrap();
    fs::write(root.0.join(IN_INITRD), "").unwrap();
    let configuration = root.0.join(crate::config::CONFIG_PATH);
    fs::write(&configuration, "volume = []").unwrap();

    let out = Scratch::new();
    let error = run(&root.0, &out.0).unwrap_err();
    assert_eq!(error.exit(), Exit::Config);
    assert_eq!(
        error.to_string(),
        format!(
            "reading the configuration: {}: line 1: volume: expected at least one [[volume]]",
            configuration.display()
        )
    );
    // What any configuration gives, but for the mount of a root.
    let mut closed = tree(&fixture("state").join("expected/early"));
    closed.retain(|path, _| {
        !path.ends_with("sysroot.mount") && !path.starts_with("systemd-cryptsetup@")
    });
    assert_eq!(tree(&out.0.join("early")), closed);
    assert!(tree(&out.0.join("normal")).is_empty());
}

#[test]
fn whatever_leads_to_a_shell_leads_to_a_reboot() {
    let out = Scratch::new();
    run(&fixture("state").join("root"), &out.0).unwrap();
    let files = tree(&out.0.join("early"));
    for unit in ["emergency", "rescue", "dracut-emergency"] {
        let text = &files[&format!("{unit}.service")];
        assert!(text.contains("Wants=nightlatch-reboot.timer"), "{unit}");
        assert!(!text.contains("tty"), "{unit}");
    }
    // A mask would let dracut go on as if the shell had been left.
    assert!(files["dracut-emergency.service"].contains(" emergency.target\n"));
    assert_eq!(files["debug-shell.service"], "-> /dev/null");
}

#[test]
fn other_volumes_are_opened_in_the_initrd_only_where_the_configuration_says_so() {
    let path = "systemd-cryptsetup@.service.d/99-nightlatch-closed.conf";
    for (line, is_closed) in [("", true), ("other-volumes = true\n", false)] {
        let root = Scratch::new();
        let state = fixture("state").join("root");
        for name in [
            "etc/initrd-release",
            "proc/cmdline",
            crate::config::CONFIG_PATH,
        ] {
            let to = root.0.join(name);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(state.join(name), to).unwrap();
        }
        let configuration = root.0.join(crate::config::CONFIG_PATH);
        let text = fs::read_to_string(&configuration).unwrap();
        let heading = "[boot]\n";
        assert!(text.contains(heading));
        let text = text.replace(heading, &format!("{heading}{line}"));
        fs::write(&configuration, text).unwrap();
        let out = Scratch::new();
        run(&root.0, &out.0).unwrap();
        assert_eq!(
            tree(&out.0.join("early")).contains_key(path),
            is_closed,
            "{line}"
        );
    }
}

/// Its mount is there for the hand-over to start, and nothing pulls it in; its disk has a time of its own.
#[test]
fn a_volume_that_need_not_be_there_is_not_waited_for_longer_than_it_says() {
    let root = Scratch::new();
    let overlay = fixture("overlay").join("root");
    for name in ["etc/initrd-release", crate::config::CONFIG_PATH] {
        let to = root.0.join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(overlay.join(name), to).unwrap();
    }
    let configuration = root.0.join(crate::config::CONFIG_PATH);
    let text = fs::read_to_string(&configuration).unwrap();
    let optional = "name = \"state\"\nrequired = false\nwait-s = 7\n";
    let text = text.replace("name = \"state\"\n", optional);
    let text = ["measure.cluster-volume = \"system\"\n", &text].concat();
    fs::write(&configuration, text).unwrap();
    let out = Scratch::new();
    run(&root.0, &out.0).unwrap();
    let files = tree(&out.0);
    let device = |name: &str| {
        let path = format!("normal/dev-disk-by\\x2did-virtio\\x2d{name}.device.d/50-timeout.conf");
        files[&path].clone()
    };
    assert!(device("state").contains("JobRunningTimeoutSec=7\n"));
    assert!(device("system").contains("JobRunningTimeoutSec=90\n"));
    assert!(files.contains_key("normal/sysroot-var-lib-state.mount"));
    let target = &files["normal/nightlatch-volumes.target.d/50-mounts.conf"];
    assert!(!target.contains("var-lib-state"), "{target}");
    assert!(
        target.contains("Requires=run-nightlatch-lower.mount"),
        "{target}"
    );
    let service = &files["normal/nightlatch.service.d/50-devices.conf"];
    assert!(service.contains("x2dstate.device"), "{service}");
}

#[test]
fn the_tpm_waited_for_is_the_resource_managers_node() {
    let unit = |text: &str| tpm_device(&Tcti::try_from(text.to_owned()).unwrap());
    assert_eq!(unit("auto").as_deref(), Some("dev-tpmrm0.device"));
    assert_eq!(
        unit("device:/dev/tpm1").as_deref(),
        Some("dev-tpmrm1.device")
    );
    assert_eq!(
        unit("device:/dev/tpmrm1").as_deref(),
        Some("dev-tpmrm1.device")
    );
    assert_eq!(unit("device:/dev/vtpm").as_deref(), None);
    assert_eq!(unit("swtpm:port=2321"), None);
}

/// An operator reaches the node by the network, as the node does a key service.
#[test]
fn a_node_that_may_wait_for_an_operator_has_the_network_and_another_has_not() {
    let operator = include_str!("../../../tests/fixtures/openssh/operator.pub");
    let table = format!("[recovery]\noperators = [{:?}]\n", operator.trim());
    for (table, sources, has_network) in [
        (table.as_str(), "\"tpm\", \"recovery\"", true),
        ("", "\"tpm\"", false),
    ] {
        let config = Config::parse(&format!(
            "boot.authorities = [\"/authority.der\"]\n{table}[[volume]]\nname = \"state\"\ndevice = \"/dev/vdb\"\n\
             role = \"state\"\nmount = \"/state\"\nsources = [{sources}]\n"
        ))
        .unwrap();
        let files = waits(&config);
        let found = files
            .iter()
            .any(|file| file.path.ends_with("50-network.conf"));
        assert_eq!(found, has_network);
    }
}
