// SPDX-License-Identifier: Apache-2.0
//! Which module may use what.

use std::fs;
use std::path::{Path, PathBuf};

/// How a crate is brought in, and the only places that do.
const ONLY_USERS: [(&str, &[&str]); 12] = [
    ("use tss_esapi::", &["src/tpm"]),
    ("use libcryptsetup_rs::", &["src/volume/luks.rs"]),
    (
        "use devicemapper::",
        &["src/volume/snapshot.rs", "src/volume/table.rs"],
    ),
    ("use zbus::", &["src/systemd"]),
    ("use rusqlite::", &["src/keyservice/store/sqlite.rs"]),
    ("use maud::", &["src/keyservice/http/page.rs"]),
    ("use axum::", &["src/keyservice/http"]),
    ("use qrcode::", &["src/ctl/recovery_key/shown.rs"]),
    // Compressions of an initrd, which no boot looks at.
    ("use flate2::", &["src/initrd/"]),
    ("use lzma_rust2::", &["src/initrd/"]),
    ("use ruzstd::", &["src/initrd/"]),
    // Never below the initrd's program, whose few words are read by hand.
    (
        "use clap::",
        &[
            "src/ctl.rs",
            "src/ctl/",
            "src/keyservice.rs",
            "src/keyservice/cli.rs",
        ],
    ),
];

fn sources(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| {
            if path.is_dir() {
                sources(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[test]
fn each_foreign_library_is_behind_one_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (library, places) in ONLY_USERS {
        let mut seen = false;
        for path in sources(&root.join("src")) {
            let code = fs::read_to_string(&path).unwrap();
            let named = code
                .lines()
                .any(|line| !line.trim_start().starts_with("//") && line.contains(library));
            let within = path.strip_prefix(root).unwrap().to_string_lossy();
            let within = places.iter().any(|place| within.starts_with(place));
            assert!(!named || within, "{library} in {}", path.display());
            seen |= named;
        }
        assert!(seen, "{library} is not used at all");
    }
}
