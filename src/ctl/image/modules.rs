// SPDX-License-Identifier: Apache-2.0
//! Modules of the kernel: those without which no volume opens, and whether anything drives a disk, a TPM and a network card.

use std::collections::BTreeSet;

use super::report::Report;
use crate::config::{Config, Role, RootMode};
use crate::ctl::needs;
use crate::initrd::{Node, Tree};

const PLACE: &str = "usr/lib/modules";
const PLACE_WITHOUT_USR: &str = "lib/modules";
/// How many modules are told, and how many things of one, that something is absent for.
const BROKEN_MAX: usize = 20;
/// Without one of them nothing of ours opens: what maps a volume and the crypto of it, as the kernel calls them. Other ciphers come
/// from libcryptsetup's own library.
const ALWAYS: [&str; 6] = [
    "dm-crypt",
    "dm-integrity",
    "authenc",
    "hmac",
    "sha256",
    "xts",
];
const OF_LOWER: &str = "dm-verity";
const OF_OVERLAY: &str = "overlay";
/// The sockets that DHCP is spoken over.
const OF_NETWORK: &str = "af_packet";
/// One of each has to be there; which, is the machine's.
const DISKS: (&str, [&str; 6]) = (
    "a disk",
    [
        "virtio_blk",
        "virtio_scsi",
        "nvme",
        "sd_mod",
        "hv_storvsc",
        "xen-blkfront",
    ],
);
const TPMS: (&str, [&str; 3]) = ("a TPM", ["tpm_crb", "tpm_tis", "tpm_svsm"]);
const CARDS: (&str, [&str; 7]) = (
    "a network card",
    [
        "virtio_net",
        "hv_netvsc",
        "ena",
        "gve",
        "mana",
        "vmxnet3",
        "e1000e",
    ],
);

/// Modules, of the kernel of `release` where that is known.
pub(super) fn check(tree: &Tree<'_>, config: &Config, release: Option<&str>, report: &mut Report) {
    let what = "modules";
    let Some(modules) = Modules::of(tree, release) else {
        let of = release.map_or_else(String::new, |release| format!(" of {release}"));
        return report.missing(
            what,
            format!("the initrd has no modules{of}: put those of the image's kernel into it"),
        );
    };
    let mut missing: Vec<String> = wanted(config)
        .into_iter()
        .filter(|name| !modules.has(name))
        .map(|name| format!("{name} is neither there nor built into the kernel: add the module"))
        .collect();
    missing.extend(modules.broken.iter().cloned());
    let mut drivers: Vec<(&str, &[&str])> = vec![(DISKS.0, &DISKS.1), (TPMS.0, &TPMS.1)];
    if config.needs_network() {
        drivers.push((CARDS.0, &CARDS.1));
    }
    let mut driven = Vec::new();
    for (thing, names) in drivers {
        let found: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| modules.has(name))
            .collect();
        if found.is_empty() {
            missing.push(format!(
                "nothing drives {thing}: add one of {}",
                names.join(", ")
            ));
        }
        driven.push(format!("{thing} by {}", found.join(", ")));
    }
    let count = modules.loadable.len();
    let good = format!("{count} of {}; {}", modules.release, driven.join("; "));
    report.all_or(what, missing, good);
}

fn wanted(config: &Config) -> BTreeSet<&'static str> {
    let mut names: BTreeSet<&str> = ALWAYS.into();
    names.extend(needs::file_systems(config));
    if config.volumes().any(|volume| volume.lower.is_some()) {
        names.insert(OF_LOWER);
    }
    let overlay = |volume: &crate::config::Volume| {
        volume.role == Role::Root && volume.mode == Some(RootMode::Overlay)
    };
    if config.volumes().any(overlay) {
        names.insert(OF_OVERLAY);
    }
    if config.needs_network() {
        names.insert(OF_NETWORK);
    }
    names
}

/// What the kernel can do with this initrd.
struct Modules {
    release: String,
    loadable: BTreeSet<String>,
    built_in: BTreeSet<String>,
    /// What another name of a module is: the crypto that it has.
    aliases: BTreeSet<String>,
    broken: Vec<String>,
}

impl Modules {
    fn of(tree: &Tree<'_>, release: Option<&str>) -> Option<Self> {
        let place = [PLACE, PLACE_WITHOUT_USR]
            .into_iter()
            .find(|it| tree.has(it))?;
        let mut releases = tree
            .below(place)
            .filter_map(|(path, _)| path.split('/').next());
        let found = match release {
            Some(release) => releases.find(|it| *it == release)?,
            None => releases.next()?,
        };
        let folder = format!("{place}/{found}");
        let mut modules = Self {
            release: found.to_owned(),
            loadable: BTreeSet::new(),
            built_in: BTreeSet::new(),
            aliases: BTreeSet::new(),
            broken: Vec::new(),
        };
        let files = tree
            .below(&folder)
            .filter(|(_, node)| matches!(node, Node::File { .. }));
        modules
            .loadable
            .extend(files.filter_map(|(path, _)| name(path)));
        modules.read(tree, &folder);
        Some(modules)
    }

    /// The lists that depmod makes (modules.dep(5)) and that the kernel's build does.
    fn read(&mut self, tree: &Tree<'_>, folder: &str) {
        let text = |list: &str| {
            let bytes = tree.file(&format!("{folder}/{list}")).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        self.built_in
            .extend(text("modules.builtin").lines().filter_map(name));
        // `module.alias=crypto-name`, each with a zero behind it.
        let of_built_in = text("modules.builtin.modinfo");
        let of_built_in = of_built_in
            .split('\0')
            .filter_map(|line| line.split_once(".alias="));
        self.aliases
            .extend(of_built_in.map(|(_, alias)| unified(alias)));
        for line in text("modules.alias").lines() {
            let mut words = line.split_whitespace().skip(1);
            if let (Some(alias), Some(module)) = (words.next(), words.next())
                && self.loadable.contains(&unified(module))
            {
                self.aliases.insert(unified(alias));
            }
        }
        let dependencies = text("modules.dep");
        if dependencies.is_empty() && !self.loadable.is_empty() {
            let why = "modules.dep is not there, without which none is loaded: run depmod";
            self.broken.push(format!("{folder}/{why}"));
        }
        for line in dependencies.lines() {
            if self.broken.len() >= BROKEN_MAX {
                break;
            }
            let Some((module, needed)) = line.split_once(':') else {
                continue;
            };
            if !tree.has(&format!("{folder}/{module}")) {
                continue;
            }
            let absent = needed.split_whitespace();
            let absent = absent.filter(|path| !tree.has(&format!("{folder}/{path}")));
            self.broken.extend(
                absent
                    .take(BROKEN_MAX)
                    .map(|path| format!("{module} needs {path}, which is not there")),
            );
        }
    }

    /// Whether it can be loaded or is built in, by its name, as its usual implementation, or as crypto of the kernel.
    fn has(&self, name: &str) -> bool {
        let name = unified(name);
        let names = [name.clone(), format!("{name}_generic")];
        let is_there = |name: &String| self.loadable.contains(name) || self.built_in.contains(name);
        names.iter().any(is_there) || self.aliases.contains(&format!("crypto_{name}"))
    }
}

/// The name of a module, from the path of its file, compressed or not.
fn name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, end) = file.split_once(".ko")?;
    matches!(end, "" | ".gz" | ".xz" | ".zst").then(|| unified(name))
}

/// A dash and an underscore are the same in names of modules (modprobe(8)).
fn unified(name: &str) -> String {
    name.replace('-', "_")
}
