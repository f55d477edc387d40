// SPDX-License-Identifier: Apache-2.0
//! Whether the initrd is closed to what the host says: `units/doc/closed-initrd.md`.

use std::path::Path;

use super::files::{UNIT_PLACES, first_there};
use super::report::Report;
use crate::config::Config;
use crate::initrd::Tree;

/// What `mkosi/close-initrd` reads.
const MASKED: &str = include_str!("../../../units/initrd/masked");
const MASKED_VOLUMES: &str = include_str!("../../../units/initrd/masked-volumes");
const WITHOUT_CREDENTIALS: &str = include_str!("../../../units/initrd/without-credentials");
const NO_IMPORTED: &str = include_str!("../../../units/initrd/no-imported-credentials.conf");
const NO_LOADED: &str = include_str!("../../../units/initrd/no-loaded-credentials.conf");
const NO_OPTIONS: &str = include_str!("../../../units/initrd/system.conf");

const GENERATORS: [&str; 4] = [
    "etc/systemd/system-generators",
    "usr/local/lib/systemd/system-generators",
    "usr/lib/systemd/system-generators",
    "lib/systemd/system-generators",
];
const RULES: [&str; 4] = [
    "etc/udev/rules.d",
    "usr/local/lib/udev/rules.d",
    "usr/lib/udev/rules.d",
    "lib/udev/rules.d",
];
/// A link to it is a mask (systemd.unit(5), systemd.generator(7), udev(7)).
const NOWHERE: &str = "/dev/null";
const DROP_IN: &str = "99-nightlatch-closed.conf";
/// What closes it, in every sentence about something that is open.
const CLOSE: &str =
    "close the initrd with mkosi/close-initrd, as mkosi/install and the dracut module do";

/// Masks and drop-ins.
pub(super) fn check(tree: &Tree<'_>, config: &Config, report: &mut Report) {
    let others = if config.boot.other_volumes {
        ""
    } else {
        MASKED_VOLUMES
    };
    let listed = names(MASKED).chain(names(others));
    let mut open: Vec<String> = listed
        .filter(|name| !is_shut(tree, name))
        .map(|name| format!("{name} is there and not masked, and listens to the host: {CLOSE}"))
        .collect();
    let mut drop_ins = vec![
        (
            format!("etc/systemd/system/service.d/{DROP_IN}"),
            NO_IMPORTED,
        ),
        (format!("etc/systemd/system.conf.d/{DROP_IN}"), NO_OPTIONS),
    ];
    let loading = names(WITHOUT_CREDENTIALS);
    drop_ins
        .extend(loading.map(|unit| (format!("etc/systemd/system/{unit}.d/{DROP_IN}"), NO_LOADED)));
    for (path, text) in drop_ins {
        if tree.file(&path) != Some(text.as_bytes()) {
            open.push(format!("/{path} is not what it has to be: {CLOSE}"));
        }
    }
    report.all_or(
        "closed",
        open,
        "what the host could say to units, generators and udev is masked",
    );
}

/// Whether a unit, a generator or a file of rules is masked, or not there at all.
fn is_shut(tree: &Tree<'_>, name: &str) -> bool {
    let places = if name.ends_with("-generator") {
        GENERATORS
    } else if Path::new(name)
        .extension()
        .is_some_and(|end| end == "rules")
    {
        RULES
    } else {
        UNIT_PLACES
    };
    first_there(tree, &places, name).is_none_or(|path| tree.link(&path) == Some(NOWHERE))
}

/// The lines of a list, without comments.
fn names(list: &'static str) -> impl Iterator<Item = &'static str> {
    let lines = list
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty())
}
