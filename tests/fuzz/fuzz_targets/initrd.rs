// SPDX-License-Identifier: Apache-2.0
//! Initrds. Whatever the file is, it is unpacked within its limit or refused; every path that is there is found.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nightlatch::initrd::{Elf, Node, Part, Tree};

/// What a run may take of memory is the limit here.
const UNPACKED_LEN_MAX: u64 = 1 << 24;

fuzz_target!(|data: &[u8]| {
    let Ok(parts) = Part::within(data, UNPACKED_LEN_MAX) else {
        return;
    };
    let lens = parts.iter().map(|part| part.unpacked.len() as u64);
    assert!(lens.sum::<u64>() <= UNPACKED_LEN_MAX);
    let Ok(tree) = Tree::of(&parts) else {
        return;
    };
    for (path, node) in tree.all() {
        match node {
            Node::Link(_) => {
                let _leads_to = tree.find(path);
            }
            Node::File { bytes, .. } => {
                if let Ok(Some(elf)) = Elf::parse(bytes) {
                    assert!(elf.needed.iter().all(|name| !name.contains('\0')));
                }
            }
            Node::Directory | Node::Special => {}
        }
    }
});
