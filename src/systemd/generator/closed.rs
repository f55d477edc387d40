// SPDX-License-Identifier: Apache-2.0
//! What is masked in the initrd, repeated by the generator.
//!
//! `mkosi/close-initrd` masks the same names below `/etc` when an initrd is built. Here they are masked once more, for an
//! initrd that was put together in another way: units, because what other generators do is done beside this one.

use super::{Content, File, NAME, Priority, masked};
use crate::config::Config;

/// What `mkosi/close-initrd` reads.
const MASKED: &str = include_str!("../../../units/initrd/masked");
const WITHOUT_CREDENTIALS: &str = include_str!("../../../units/initrd/without-credentials");
const NO_IMPORTED: &str = include_str!("../../../units/initrd/no-imported-credentials.conf");
const NO_LOADED: &str = include_str!("../../../units/initrd/no-loaded-credentials.conf");

/// The masks of units, and the drop-ins that keep credentials of the host from services.
pub(super) fn files() -> Vec<File> {
    let units = names(MASKED).filter(|name| !name.ends_with("-generator"));
    let masks = units.map(|unit| masked(unit.to_owned()));
    let loaded = names(WITHOUT_CREDENTIALS).map(|unit| drop_in(unit, NO_LOADED));
    masks
        .chain(loaded)
        .chain([drop_in("service", NO_IMPORTED)])
        .collect()
}

/// No LUKS volume but the configured ones is opened in the initrd, unless the configuration says so.
///
/// systemd-cryptsetup-generator makes an instance for each; a drop-in of the template is one of all of them.
pub(super) fn to_other_volumes(config: &Config) -> Vec<File> {
    if config.boot.other_volumes {
        return Vec::new();
    }
    let never = format!("# Made by {NAME}\n\n[Unit]\nConditionPathExists=!/etc/initrd-release\n");
    vec![File {
        priority: Priority::Early,
        path: "systemd-cryptsetup@.service.d/99-nightlatch-closed.conf".into(),
        content: Content::Text(never),
    }]
}

/// The lines of a list, without its comments.
fn names(list: &str) -> impl Iterator<Item = &str> {
    let lines = list
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""));
    lines.map(str::trim).filter(|line| !line.is_empty())
}

fn drop_in(unit: &str, text: &str) -> File {
    let (_, section) = text.split_once("\n\n").unwrap_or(("", text));
    File {
        priority: Priority::Early,
        path: format!("{unit}.d/99-nightlatch-closed.conf"),
        content: Content::Text(format!("# Made by {NAME}\n\n{section}")),
    }
}
