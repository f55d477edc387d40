// SPDX-License-Identifier: Apache-2.0
//! The manuals: what they say of keys, verbs and exit codes is what the programs have.

use std::collections::BTreeSet;
use std::process::Command;

use nightlatch::config::Config;

use crate::config_keys;
use crate::docs::exits;
use crate::sources::{files, read};

/// A key as a manual of section 5 has it: `.It Cm KEY No = KIND Pq DEFAULT`.
#[derive(Debug)]
pub(crate) struct Key {
    /// With its table, if it is in one.
    pub(crate) name: String,
    kind: String,
    default: String,
}

impl Key {
    /// The words it may be set to, where the manual lists some.
    pub(crate) fn words(&self) -> Vec<&str> {
        let (_, words) = self.kind.rsplit_once("Cm ").unwrap_or_default();
        words.split(" | ").collect()
    }

    pub(crate) fn is_required(&self) -> bool {
        self.default == "required"
    }

    /// The default as TOML, where there is one value for it.
    pub(crate) fn value(&self) -> Option<String> {
        let default = self.default.strip_prefix("default ")?;
        match default.split_once(' ')? {
            ("Cm", word) => Some(format!("\"{word}\"")),
            ("Li", value) => Some(value.trim_matches('"').to_owned()),
            _ => None,
        }
    }
}

/// The keys that a manual has, in its order.
pub(crate) fn keys(page: &str) -> Vec<Key> {
    let mut table = String::new();
    let mut keys = Vec::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix(".Ss ") {
            table = match heading {
                "Top level" => String::new(),
                other => other.trim_matches(['[', ']']).to_owned() + ".",
            };
        } else if let Some((short, rest)) = line
            .strip_prefix(".It Cm ")
            .and_then(|line| line.split_once(" No = "))
        {
            let (kind, default) = rest.rsplit_once(" Pq ").expect(line);
            keys.push(Key {
                name: format!("{table}{short}"),
                kind: kind.to_owned(),
                default: default.to_owned(),
            });
        }
    }
    keys
}

/// The names of keys, sorted.
pub(crate) fn names(keys: &[Key]) -> Vec<String> {
    let mut names: Vec<String> = keys.iter().map(|key| key.name.clone()).collect();
    names.sort();
    names
}

/// The example of a manual.
pub(crate) fn example(page: &str) -> &str {
    let (_, example) = page.split_once(".Bd -literal -offset indent\n").unwrap();
    example.split_once("\n.Ed").unwrap().0
}

/// What may follow the name of a program, as the synopsis of its manual has it; its options as well.
pub(crate) fn commands(program: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let section = if program == "nightlatchctl" { 1 } else { 8 };
    let page = read(&format!("units/man/{program}.{section}"));
    let (_, synopsis) = page.split_once(".Sh SYNOPSIS\n").unwrap();
    let (synopsis, _) = synopsis.split_once("\n.Sh ").unwrap();
    let verbs = synopsis.split(".Nm\n").filter_map(|form| {
        let line = form.lines().next()?;
        let line = line.strip_prefix(".Op ").unwrap_or(line);
        Some(line.strip_prefix(".Cm ")?.to_owned())
    });
    let options = page
        .split("Fl -")
        .skip(1)
        .map(|rest| rest.split([' ', '\n']).next().unwrap().to_owned());
    (verbs.collect(), options.collect())
}

#[test]
fn the_manual_of_the_configuration_is_that_of_the_types() {
    let keys = keys(&read("units/man/nightlatch.toml.5"));
    let mut real = config_keys::all();
    real.sort();
    assert_eq!(names(&keys), real);
    for key in &keys {
        let name = key.name.as_str();
        if let Some(variants) = config_keys::variants(name) {
            assert_eq!(key.words(), variants, "values of {name}");
        }
        assert_eq!(config_keys::is_required(name), key.is_required(), "{name}");
        if let Some(value) = key.value() {
            let is_default = config_keys::is_default(name, &value);
            assert!(is_default, "{name} is not {value}");
        }
    }
}

#[test]
fn the_example_in_the_manual_of_the_configuration_parses() {
    Config::parse(example(&read("units/man/nightlatch.toml.5"))).unwrap();
}

#[test]
fn the_manuals_list_the_exit_codes() {
    let mut real = vec!["0".to_owned()];
    real.extend(exits().iter().map(|exit| exit.code().to_string()));
    for page in ["nightlatch.8", "nightlatchctl.1", "nightlatchd.8"] {
        let text = read(&format!("units/man/{page}"));
        let status = text.split(".Sh EXIT STATUS").nth(1).unwrap();
        let status = status.split("\n.Sh ").next().unwrap();
        let codes: Vec<&str> = status
            .lines()
            .filter_map(|line| line.strip_prefix(".It "))
            .collect();
        assert_eq!(codes, real, "{page}");
    }
}

#[test]
fn the_manuals_pass_mandocs_lint_and_name_only_manuals_of_ours_that_exist() {
    let pages = ["1", "5", "8"].map(|section| files("units/man", section));
    let pages = pages.concat();
    assert_eq!(pages.len(), 6, "{pages:?}");
    let output = Command::new("mandoc")
        .args(["-T", "lint", "-W", "warning"])
        .args(&pages)
        .output()
        .expect("mandoc is installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let name = |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let names: BTreeSet<String> = pages.iter().map(name).collect();
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap();
        for line in text
            .lines()
            .filter(|line| line.starts_with(".Xr nightlatch"))
        {
            let words: Vec<&str> = line.split(' ').collect();
            assert!(
                names.contains(&format!("{}.{}", words[1], words[2])),
                "{line}"
            );
        }
    }
}

#[test]
fn a_manual_is_read_key_by_key() {
    let page = ".Ss Top level\n.It Cm a No = Ar seconds Pq default Li 90\n.Ss [[t]]\n\
                .It Cm b No = Ar list of Cm x | y Pq required\n.It Cm c No = Cm x | y Pq default Cm y\n\
                .It Cm not-a-key\n.It Cm d No = Ar list Pq default Li \"[1, 2]\"\n";
    let keys = keys(page);
    assert_eq!(names(&keys), ["a", "t.b", "t.c", "t.d"]);
    assert_eq!(keys[0].value().unwrap(), "90");
    assert!(keys[1].is_required() && keys[1].value().is_none());
    assert_eq!(keys[1].words(), ["x", "y"]);
    assert_eq!(keys[2].value().unwrap(), "\"y\"");
    assert_eq!(keys[3].value().unwrap(), "[1, 2]");
    let (verbs, options) = commands("nightlatchctl");
    assert!(
        verbs.contains("config check") && options.contains("json"),
        "{verbs:?}"
    );
}
