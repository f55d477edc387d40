// SPDX-License-Identifier: Apache-2.0
//! What puts us into initrds asks `nightlatchctl` what a configuration needs, and leaves it outside.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::sources::{read, top};

const CONTROL: &str = env!("CARGO_BIN_EXE_nightlatchctl");

/// What dracut gives a module, each saying what it was asked for.
const DRACUT: &str = r#"
dfatal() { echo "fatal $*"; }
inst_simple() { echo "file $1"; }
inst_multiple() { [ "$1" = -o ] || echo "programs $*"; }
instmods() { echo "modules $*"; }
ln_r() { :; }
inst_libdir_file() { :; }
inst_rules() { :; }
SYSTEMCTL=true systemutildir=/s systemdsystemunitdir=/u initdir=/i
"#;

/// A directory that is gone after the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Runs functions of the dracut module for the machine below `root`.
fn dracut(scratch: &Scratch, root: &Path, functions: &str) -> Output {
    let module = top().join("dracut/90nightlatch/module-setup.sh");
    let programs = Path::new(CONTROL).parent().unwrap();
    let script = format!(
        "{DRACUT}\nPATH={}:$PATH moddir={} dracutsysrootdir={}\n. {}\n{functions}",
        programs.display(),
        scratch.0.display(),
        root.display(),
        module.display()
    );
    Command::new("bash").args(["-c", &script]).output().unwrap()
}

fn lines(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_dracut_module_installs_what_the_configuration_needs() {
    let scratch = Scratch::new("dracut");
    scratch.program("close-initrd", "#!/bin/sh\necho \"close $3\"\n");
    let root = |name: &str| top().join(format!("tests/fixtures/generator/{name}/root"));
    let all = "depends; installkernel; install";
    let with = dracut(&scratch, &root("service"), all);
    assert!(with.status.success(), "{with:?}");
    let with = lines(&with);
    let has = |lines: &[String], line: &str| lines.iter().any(|it| it == line);
    for line in [
        "systemd-networkd",
        "programs /usr/lib/nightlatch/nightlatch udevadm mkfs.btrfs mkfs.xfs",
        "file /etc/nightlatch/nightlatch.toml",
        "file /etc/nightlatch/authority.pem",
        "file /etc/nightlatch/service-ca.pem",
        "close ",
    ] {
        assert!(has(&with, line), "{line}: {with:#?}");
    }
    let modules = |lines: &[String]| {
        let found = lines.iter().find(|line| line.starts_with("modules "));
        found.unwrap().clone()
    };
    for name in ["dm-integrity", "btrfs", "xfs", "virtio_net"] {
        assert!(
            modules(&with).contains(&format!(" {name}")),
            "{name}: {with:#?}"
        );
    }
    let without = lines(&dracut(&scratch, &root("state"), all));
    assert!(!has(&without, "systemd-networkd") && !modules(&without).contains("virtio_net"));

    let none = dracut(&scratch, Path::new("/nonexistent"), "install");
    assert_eq!(none.status.code(), Some(1), "{none:?}");
    let bad = scratch.0.join("root/etc/nightlatch");
    fs::create_dir_all(&bad).unwrap();
    fs::write(bad.join("nightlatch.toml"), "[tmp]\n").unwrap();
    let bad = dracut(&scratch, &scratch.0.join("root"), "install");
    assert_eq!(bad.status.code(), Some(1), "{bad:?}");
    let said = String::from_utf8_lossy(&bad.stderr);
    assert!(
        said.contains("line 1, column 2: tmp: ") && said.contains("\"tpm\""),
        "{said}"
    );
}

#[test]
fn an_initrds_tree_gets_no_nightlatchctl_and_no_wrong_configuration() {
    let scratch = Scratch::new("install");
    scratch.program("nightlatch", "");
    symlink(CONTROL, scratch.0.join("nightlatchctl")).unwrap();
    let install = |kind: &str, tree: &str| {
        Command::new(top().join("mkosi/install"))
            .args([kind, tree, scratch.0.to_str().unwrap()])
            .output()
            .unwrap()
    };
    let tree = scratch.0.join("tree");
    let at = tree.to_str().unwrap();
    let config = tree.join("etc/nightlatch/nightlatch.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::copy(top().join("units/examples/state.toml"), &config).unwrap();
    let done = install("initrd", at);
    assert!(done.status.success(), "{done:?}");
    assert!(tree.join("usr/lib/nightlatch/nightlatch").exists());
    assert!(!tree.join("usr/bin/nightlatchctl").exists());
    // What is valid and will hurt is told, and ends no build.
    assert!(!String::from_utf8_lossy(&done.stdout).contains("warning: "));
    let service = "\n[service]\nurls = [\"https://192.0.2.1:8443\"]\nca = \"/etc/nightlatch/service-ca.pem\"\n";
    let text = read("units/examples/state.toml").replace("[\"tpm\", ", "[\"service\", \"tpm\", ");
    fs::write(&config, text + service).unwrap();
    let done = install("initrd", at);
    assert!(done.status.success(), "{done:?}");
    let told = String::from_utf8_lossy(&done.stdout);
    assert_eq!(told.matches(": volume.sources: ").count(), 2, "{told}");
    fs::write(&config, "volume = []\n").unwrap();
    assert_eq!(install("initrd", at).status.code(), Some(78));
    // The final system's tree gets it.
    assert!(install("tools", at).status.success());
    assert!(tree.join("usr/bin/nightlatchctl").exists());
}
