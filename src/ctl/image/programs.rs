// SPDX-License-Identifier: Apache-2.0
//! Programs that a boot runs, and the libraries that they need, those that are loaded at run time too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::report::Report;
use crate::config::Config;
use crate::ctl::needs;
use crate::initrd::{Elf, Machine, Node, Tree};

/// Where systemd and udev look for programs.
const PATH: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];
/// PID 1, and what units of the boot run whatever the configuration says.
const ALWAYS: [&str; 2] = ["/init", "modprobe"];
/// What brings the network up.
const OF_NETWORK: [&str; 2] = [
    "/usr/lib/systemd/systemd-networkd",
    "/usr/lib/systemd/systemd-networkd-wait-online",
];
/// What maps a verified image below an overlay.
const OF_LOWER: &str = "/usr/lib/systemd/systemd-veritysetup";
/// Loaded at run time, by libtss2-tctildr and by systemd's measuring of phases, so that no dependency names them.
const LOADED: [(&str, &str); 2] = [
    (
        "libtss2-tcti-device.so.0",
        "libtss2-tctildr loads it to reach the TPM",
    ),
    (
        "libtss2-rc.so.0",
        "systemd loads it, and measures no phase of the boot without it",
    ),
];
/// The most places of its own that a file has its libraries looked for in.
const PLACES_MAX: usize = 64;
/// Where the dynamic loader looks by itself (ld.so(8)), after the directories of the machine's own.
const USUAL: [&str; 4] = ["usr/lib64", "lib64", "usr/lib", "lib"];
const OF_X86: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
const OF_ARM: [&str; 2] = ["usr/lib/aarch64-linux-gnu", "lib/aarch64-linux-gnu"];

/// Programs and libraries.
pub(super) fn check(tree: &Tree<'_>, config: &Config, report: &mut Report) {
    let mut missing = Vec::new();
    let mut libraries = Libraries::new(tree);
    let names = programs(config);
    for name in &names {
        match find(tree, name) {
            Some(path) => libraries.follow(&path),
            None => missing.push(format!(
                "{name} is not there: install its package into the initrd"
            )),
        }
    }
    report.all_or("programs", missing, names.join(", "));
    for (name, why) in LOADED {
        libraries.want(name, why);
    }
    let found = format!(
        "{} found, with those that are loaded at run time",
        libraries.found.len()
    );
    report.all_or("libraries", libraries.missing(), found);
}

fn programs(config: &Config) -> Vec<String> {
    let mut names: Vec<String> = ALWAYS.map(str::to_owned).to_vec();
    names.extend(needs::programs(config));
    if config.needs_network() {
        names.extend(OF_NETWORK.map(str::to_owned));
    }
    if config.volumes().any(|volume| volume.lower.is_some()) {
        names.push(OF_LOWER.to_owned());
    }
    names
}

/// The path of a program that can be run.
fn find(tree: &Tree<'_>, name: &str) -> Option<String> {
    let paths = if name.starts_with('/') {
        vec![name.to_owned()]
    } else {
        PATH.map(|place| format!("{place}/{name}")).to_vec()
    };
    paths.iter().find_map(|path| match tree.find(path)? {
        (
            place,
            Node::File {
                is_executable: true,
                ..
            },
        ) => Some(place),
        _ => None,
    })
}

/// The libraries that programs and libraries name.
struct Libraries<'t, 'a> {
    tree: &'t Tree<'a>,
    /// Paths that were looked at.
    found: BTreeSet<String>,
    /// Names without a file, and why they are wanted.
    absent: BTreeMap<String, String>,
    unreadable: Vec<String>,
    usual: Vec<&'static str>,
}

impl<'t, 'a> Libraries<'t, 'a> {
    fn new(tree: &'t Tree<'a>) -> Self {
        let usual = USUAL.iter().chain(&OF_X86).chain(&OF_ARM);
        Self {
            tree,
            found: BTreeSet::new(),
            absent: BTreeMap::new(),
            unreadable: Vec::new(),
            usual: usual.copied().collect(),
        }
    }

    /// Looks for all that the file at `path` needs, and for what that needs, in the order in which they are loaded: what was
    /// found for one is there for those after it, wherever they would look themselves.
    fn follow(&mut self, path: &str) {
        let mut pending = VecDeque::from([path.to_owned()]);
        let mut loaded = BTreeSet::new();
        while let Some(path) = pending.pop_front() {
            let elf = match Elf::parse(self.tree.file(&path).unwrap_or_default()) {
                Ok(Some(elf)) => elf,
                // A script.
                Ok(None) => continue,
                Err(error) => {
                    self.unreadable.push(format!("/{path}: {error}"));
                    continue;
                }
            };
            let places = places(&elf, &path);
            for name in elf.interpreter.iter().chain(&elf.needed) {
                if !loaded.insert((*name).to_owned()) {
                    continue;
                }
                if let Some(found) = self.find(name, &places) {
                    self.found.insert(found.clone());
                    pending.push_back(found);
                } else {
                    let why = format!("/{path} needs it");
                    self.absent.entry((*name).to_owned()).or_insert(why);
                }
            }
        }
    }

    /// A library that no file names.
    fn want(&mut self, name: &str, why: &str) {
        let places: Vec<String> = self.usual.iter().map(ToString::to_string).collect();
        match self.find(name, &places) {
            Some(found) => {
                self.found.insert(found.clone());
                self.follow(&found);
            }
            None => {
                self.absent.insert(name.to_owned(), why.to_owned());
            }
        }
    }

    fn find(&self, name: &str, places: &[String]) -> Option<String> {
        let paths = match name.strip_prefix('/') {
            Some(path) => vec![path.to_owned()],
            None => places
                .iter()
                .map(|place| format!("{place}/{name}"))
                .collect(),
        };
        paths.iter().find_map(|path| match self.tree.find(path)? {
            (place, Node::File { .. }) => Some(place),
            (_, Node::Directory | Node::Link(_) | Node::Special) => None,
        })
    }

    fn missing(&self) -> Vec<String> {
        let absent = self.absent.iter();
        let absent = absent.map(|(name, why)| format!("{name} is not there: {why}"));
        absent.chain(self.unreadable.iter().cloned()).collect()
    }
}

/// Where a file's libraries are looked for, in order.
fn places(elf: &Elf<'_>, path: &str) -> Vec<String> {
    let origin = path.rsplit_once('/').map_or("", |(place, _)| place);
    let own = elf.search.iter().flat_map(|list| list.split(':'));
    let own = own.take(PLACES_MAX);
    let own = own.map(|place| {
        place
            .replace("$ORIGIN", origin)
            .replace("${ORIGIN}", origin)
    });
    let of_machine: &[&str] = match elf.machine {
        Machine::X86 => &OF_X86,
        Machine::Arm => &OF_ARM,
        Machine::Other => &[],
    };
    let usual = of_machine.iter().chain(&USUAL).map(ToString::to_string);
    own.chain(usual).collect()
}
