// SPDX-License-Identifier: Apache-2.0
//! Whose initrd it is, and whether nightlatch, its configuration and what that names are in it.

use super::report::Report;
use crate::config::{CONFIG_PATH, Config, FilePath};
use crate::evidence::start::certificates;
use crate::initrd::{Node, Tree};
use crate::key::pcr::PcrPublicKey;

/// What the kernel starts.
const INIT: &str = "init";
/// What systemd takes an initrd for one by (os-release(5)).
const RELEASE: &str = "etc/initrd-release";
/// What initramfs-tools puts into each initrd (initramfs-tools(7)).
const OF_INITRAMFS_TOOLS: [&str; 2] = ["scripts/functions", "conf/initramfs.conf"];

const PROGRAM: &str = "usr/lib/nightlatch/nightlatch";
const GENERATOR: &str = "usr/lib/systemd/system-generators/nightlatch-generator";
const UNITS: [&str; 4] = [
    "nightlatch.service",
    "nightlatch-volumes.target",
    "nightlatch-reboot.service",
    "nightlatch-reboot.timer",
];
/// Where units are (systemd.unit(5)).
pub(super) const UNIT_PLACES: [&str; 4] = [
    "etc/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];
/// What starts nightlatch.
const WANTED: &str = "initrd-root-fs.target.requires/nightlatch.service";
const RULES_PLACES: [&str; 3] = [
    "etc/udev/rules.d",
    "usr/lib/udev/rules.d",
    "lib/udev/rules.d",
];
/// Ours, and those of device-mapper that answer whoever makes a mapping.
const RULES: [&str; 3] = [
    "90-nightlatch.rules",
    "90-nightlatch-tpm.rules",
    "95-dm-notify.rules",
];
/// What puts it there, in every sentence about a part of nightlatch that is not.
const INSTALL: &str = "mkosi/install initrd puts it there, and the dracut module 90nightlatch does";

/// What DHCP in the initrd needs.
const NETWORK_PLACES: [&str; 2] = ["etc/systemd/network/", "usr/lib/systemd/network/"];
const NETWORK: &str = "80-nightlatch.network";
const NETWORK_UNITS: [&str; 3] = [
    "systemd-networkd.service",
    "systemd-networkd-wait-online.service",
    "network-online.target",
];

/// The path of a name in the first of these places that has it, a link that leads nowhere too: the one that counts.
pub(super) fn first_there(tree: &Tree<'_>, places: &[&str], name: &str) -> Option<String> {
    let paths = places.iter().map(|place| format!("{place}/{name}"));
    paths.into_iter().find(|path| tree.has(path))
}

/// Whether systemd is PID 1 in it.
pub(super) fn is_of_systemd(tree: &Tree<'_>, report: &mut Report) -> bool {
    if OF_INITRAMFS_TOOLS.iter().any(|path| tree.has(path)) {
        report.missing(
            "initrd",
            "initramfs-tools made it, and nightlatch does not run there: PID 1 is a shell script, without units that start \
             nightlatch and without anybody to hand over to; make it with dracut or mkosi, image.md says how",
        );
        return false;
    }
    let systemd = tree
        .find(INIT)
        .filter(|(_, node)| matches!(node, Node::File { .. }));
    let name = systemd.map(|(place, _)| place).unwrap_or_default();
    if !name.ends_with("/systemd") {
        let found = if name.is_empty() { "nothing" } else { &name };
        report.missing(
            "initrd",
            format!("expected systemd as /init, which starts nightlatch, found {found}: make it with dracut or mkosi"),
        );
        return false;
    }
    if tree.find(RELEASE).is_some() {
        report.good("initrd", format!("/init is /{name}"));
    } else {
        report.missing(
            "initrd",
            format!(
                "/{RELEASE} is not there, without which systemd and nightlatch do not take it for an initrd"
            ),
        );
    }
    true
}

/// The program, what starts it, and the rules of udev.
pub(super) fn of_nightlatch(tree: &Tree<'_>, report: &mut Report) {
    let mut missing = Vec::new();
    match tree.find(PROGRAM) {
        Some((
            _,
            Node::File {
                is_executable: true,
                ..
            },
        )) => {}
        _ => missing.push(format!("/{PROGRAM}, a program, is not there: {INSTALL}")),
    }
    if tree.find(GENERATOR).map(|(place, _)| place).as_deref() != Some(PROGRAM) {
        missing.push(format!(
            "/{GENERATOR} is no link to it, so no volume is waited for: {INSTALL}"
        ));
    }
    let absent = |places: &[&str], name: &str| {
        let paths = places.iter().map(|place| format!("{place}/{name}"));
        let is_there = paths.into_iter().any(|path| tree.file(&path).is_some());
        (!is_there).then(|| format!("{name} is not there: {INSTALL}"))
    };
    missing.extend(UNITS.iter().filter_map(|name| absent(&UNIT_PLACES, name)));
    missing.extend(RULES.iter().filter_map(|name| absent(&RULES_PLACES, name)));
    if first_there(tree, &UNIT_PLACES, WANTED).is_none() {
        missing.push(format!(
            "{WANTED} is not there, so nothing starts nightlatch: {INSTALL}"
        ));
    }
    report.all_or(
        "nightlatch",
        missing,
        "the program, its generator, its units and its rules",
    );
}

/// The configuration, if a boot would take it.
pub(super) fn config(tree: &Tree<'_>, report: &mut Report) -> Option<Config> {
    let what = "configuration";
    let Some(bytes) = tree.file(CONFIG_PATH) else {
        report.config_wrong(
            what,
            format!("/{CONFIG_PATH} is not there: nothing would be opened"),
        );
        return None;
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        report.config_wrong(what, format!("/{CONFIG_PATH} is no text"));
        return None;
    };
    match Config::parse(text) {
        Ok(config) => {
            let names: Vec<&str> = config.volumes().map(|it| it.name.as_str()).collect();
            report.good(
                what,
                format!("/{CONFIG_PATH}: volumes {}", names.join(", ")),
            );
            Some(config)
        }
        Err(error) => {
            report.config_wrong(
                what,
                format!(
                    "/{CONFIG_PATH}: {error}; nightlatchctl config check says all that is wrong"
                ),
            );
            None
        }
    }
}

/// The files that the configuration names.
pub(super) fn named(tree: &Tree<'_>, config: &Config, report: &mut Report) {
    let names: Vec<&str> = config.files().map(FilePath::as_str).collect();
    let signed = config.tpm.signed.iter().flat_map(|signed| &signed.keys);
    let keys: Vec<&str> = signed.map(FilePath::as_str).collect();
    let missing = names.iter().filter_map(|name| {
        let Some(bytes) = tree.file(name) else {
            return Some(format!(
                "{name} is not there, and the configuration names it"
            ));
        };
        let error = if keys.contains(name) {
            PcrPublicKey::from_pem(bytes).err()?
        } else {
            certificates(bytes).err()?.into()
        };
        Some(format!("{name}: {error}"))
    });
    let good = if names.is_empty() {
        "the configuration names none".to_owned()
    } else {
        names.join(", ")
    };
    report.all_or("certificates", missing.collect(), good);
}

/// What brings the network up, where a source needs it.
pub(super) fn network(tree: &Tree<'_>, config: &Config, report: &mut Report) {
    if !config.needs_network() {
        return report.good("network", "the configuration needs none");
    }
    let mut missing: Vec<String> = NETWORK_UNITS
        .iter()
        .filter(|unit| first_there(tree, &UNIT_PLACES, unit).is_none())
        .map(|unit| format!("{unit} is not there: the key service cannot be reached"))
        .collect();
    let own = tree.below(NETWORK_PLACES[0]).map(|(path, _)| path);
    let has_own = own.into_iter().any(|path| path.ends_with(".network"));
    if !has_own && !tree.has(&format!("{}{NETWORK}", NETWORK_PLACES[1])) {
        missing.push(format!(
            "no card is configured: {NETWORK}, which mkosi/initrd/network and the dracut module bring, or a file of your own below \
             /{}",
            NETWORK_PLACES[0]
        ));
    }
    report.all_or(
        "network",
        missing,
        "systemd-networkd and a card's configuration",
    );
}
