// SPDX-License-Identifier: Apache-2.0
//! Who may open the TPM where our files are installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sources::read;

const RULES: &str = "90-nightlatch-tpm.rules";
/// What Debian's tpm-udev gives the TPM to a group with.
const DEBIAN_RULES: &str = "60-tpm-udev.rules";

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// The rules that `mkosi/install` puts into a tree of this kind; the programs are empty files.
fn installed(scratch: &Path, kind: &str) -> String {
    let programs = scratch.join("programs");
    std::fs::create_dir_all(&programs).unwrap();
    for name in ["nightlatch", "nightlatchctl"] {
        std::fs::write(programs.join(name), b"").unwrap();
    }
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tree = scratch.join(kind);
    let status = Command::new(top.join("mkosi/install"))
        .arg(kind)
        .args([&tree, &programs])
        .status()
        .unwrap();
    assert!(status.success(), "{kind}");
    let rules = tree.join("usr/lib/udev/rules.d").join(RULES);
    std::fs::read_to_string(&rules).unwrap_or_else(|error| panic!("{kind}: {error}"))
}

#[test]
fn the_tpm_belongs_to_root_alone_in_every_tree() {
    let name = format!("nightlatch-device-nodes-{}", std::process::id());
    let scratch = Scratch(std::env::temp_dir().join(name));
    let rules = read(&format!("units/{RULES}"));
    for subsystem in ["tpm", "tpmrm"] {
        let line =
            format!(r#"SUBSYSTEM=="{subsystem}", OWNER:="root", GROUP:="root", MODE:="0600""#);
        assert!(rules.lines().any(|has| has == line), "{line}");
    }
    for kind in ["initrd", "initrd-other-volumes", "system", "tools"] {
        assert_eq!(installed(&scratch.0, kind), rules, "{kind}");
    }
    assert!(read("dracut/90nightlatch/module-setup.sh").contains(RULES));
    // udev reads them in the order of their names, and a later one wins unless the earlier was final.
    assert!(RULES > DEBIAN_RULES);
}
