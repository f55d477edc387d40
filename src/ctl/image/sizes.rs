// SPDX-License-Identifier: Apache-2.0
//! How large the parts of an image are.

use serde_json::{Value, json};

use crate::initrd::{Elf, Node, Part, Tree};

/// Where the kernel's modules are, below the root.
const MODULES: &str = "usr/lib/modules/";
const MODULES_WITHOUT_USR: &str = "lib/modules/";

/// The size of a part, in bytes.
#[derive(Debug, Default)]
pub(super) struct Size {
    part: String,
    files: Option<usize>,
    /// As it is in the image.
    bytes: Option<usize>,
    /// As it is in memory.
    unpacked_bytes: Option<usize>,
}

impl Size {
    /// A section of a unified kernel image.
    pub(super) fn section(name: String, bytes: usize) -> Self {
        Self {
            part: name,
            bytes: Some(bytes),
            ..Self::default()
        }
    }

    pub(super) fn row(&self) -> Vec<String> {
        let shown = |number: Option<usize>| number.map_or_else(String::new, |it| it.to_string());
        vec![
            self.part.clone(),
            shown(self.files),
            shown(self.bytes),
            shown(self.unpacked_bytes),
        ]
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "part": self.part,
            "files": self.files,
            "bytes": self.bytes,
            "unpacked-bytes": self.unpacked_bytes,
        })
    }
}

/// The archives of an initrd, and what is in all of them.
pub(super) fn of(parts: &[Part<'_>], tree: &Tree<'_>) -> Vec<Size> {
    let mut sizes: Vec<Size> = (1_usize..)
        .zip(parts)
        .map(|(number, part)| Size {
            part: format!("initrd, archive {number}, {}", part.compression.as_str()),
            files: None,
            bytes: Some(part.packed_len),
            unpacked_bytes: Some(part.unpacked.len()),
        })
        .collect();
    let mut kinds = ["modules", "libraries", "programs", "other files"].map(|name| Size {
        part: format!("initrd, {name}"),
        files: Some(0),
        bytes: None,
        unpacked_bytes: Some(0),
    });
    for (path, node) in tree.all() {
        let Node::File { bytes, .. } = node else {
            continue;
        };
        if let Some(size) = kinds.get_mut(kind(path, bytes)) {
            size.files = size.files.map(|files| files.saturating_add(1));
            size.unpacked_bytes = size
                .unpacked_bytes
                .map(|all| all.saturating_add(bytes.len()));
        }
    }
    sizes.extend(kinds);
    sizes
}

/// Which of the kinds a file is of.
fn kind(path: &str, bytes: &[u8]) -> usize {
    if path.starts_with(MODULES) || path.starts_with(MODULES_WITHOUT_USR) {
        return 0;
    }
    match Elf::parse(bytes) {
        Ok(Some(_)) if path.contains(".so") => 1,
        Ok(Some(_)) => 2,
        Ok(None) | Err(_) => 3,
    }
}
