// SPDX-License-Identifier: Apache-2.0
//! `README.md`, the man pages and the examples say what the programs do.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use nightlatch::config::Config;
use nightlatch::error::Exit;

use crate::config_keys::{self, TABLES};
use crate::markdown::{blocks, column, quoted, rows, section};
use crate::sources::{self, files, printed, read, top};

#[test]
fn the_configuration_table_is_that_of_the_types() {
    let readme = read("README.md");
    let rows = rows(section(&readme, "### Every key"));
    let keys: Vec<&str> = rows.iter().map(|row| quoted(&row[0])[0]).collect();
    let mut documented: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let mut real = config_keys::all();
    documented.sort();
    real.sort();
    assert_eq!(documented, real);
    for row in &rows {
        let [key, values, default, _meaning] = row.as_slice() else {
            panic!("not four cells: {row:?}");
        };
        let key = quoted(key)[0];
        if let Some(variants) = config_keys::variants(key) {
            assert_eq!(quoted(values), variants, "values of {key}");
        }
        assert_eq!(
            config_keys::is_required(key),
            default == "required",
            "{key}"
        );
        if let [value] = quoted(default)[..] {
            assert!(config_keys::is_default(key, value), "{key} is not {value}");
        }
    }
}

#[test]
fn every_example_and_every_configuration_in_the_readme_parses() {
    let examples = files("units/examples", "toml");
    assert!(examples.len() >= 4, "{examples:?}");
    for path in examples {
        let name = path.file_name().unwrap().to_string_lossy();
        match name.as_ref() {
            "nightlatchd.toml" => {
                nightlatch::keyservice::config::Config::load(&path).unwrap();
            }
            "policy.toml" => {
                nightlatch::evidence::Policy::load(&path).unwrap();
            }
            _ => {
                Config::load_file(&path).unwrap();
            }
        }
    }
    let readme = read("README.md");
    let shown = blocks(&readme, "toml");
    assert!(!shown.is_empty());
    for text in shown {
        Config::parse(text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    }
}

#[test]
fn the_example_in_the_manual_of_the_configuration_parses() {
    let page = read("units/man/nightlatch.toml.5");
    let (_, example) = page.split_once(".Bd -literal -offset indent\n").unwrap();
    let (example, _) = example.split_once("\n.Ed").unwrap();
    Config::parse(example).unwrap();
}

/// All verdicts. A new one does not compile until it is listed.
fn exits() -> Vec<Exit> {
    let next = |exit| match exit {
        Exit::Failure => Some(Exit::Usage),
        Exit::Usage => Some(Exit::Unavailable),
        Exit::Unavailable => Some(Exit::Temporary),
        Exit::Temporary => Some(Exit::Refused),
        Exit::Refused => Some(Exit::Config),
        Exit::Config => None,
    };
    std::iter::successors(Some(Exit::Failure), |exit| next(*exit)).collect()
}

#[test]
fn the_table_of_exit_codes_is_that_of_the_verdicts() {
    let readme = read("README.md");
    let documented: Vec<(String, String)> = rows(section(&readme, "### Exit codes"))
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let mut real = vec![("0".to_owned(), "`done`".to_owned())];
    real.extend(exits().iter().map(|exit| {
        let word = format!("`{}`", exit.as_str());
        (exit.code().to_string(), word)
    }));
    assert_eq!(documented, real);
}

#[test]
fn every_test_the_readme_names_exists() {
    let tests = sources::tests();
    let named = column(&read("README.md"), "shown by");
    assert!(named.len() > 30, "{named:?}");
    for cell in named {
        for name in quoted(&cell) {
            let exists = tests.iter().any(|test| is_named(test, name));
            assert!(exists, "there is no test {name}");
        }
    }
}

/// Whether `name` is all of the name of `test`. One that is made in a loop has gaps where it varies; in the page a gap may
/// stand for more.
fn is_named(test: &str, name: &str) -> bool {
    match name.split_once('…') {
        None => test == name,
        Some((start, end)) => {
            let rest = test.strip_prefix(start);
            rest.is_some_and(|rest| rest.strip_suffix(end).is_some())
        }
    }
}

#[test]
fn a_part_of_a_tests_name_is_not_its_name() {
    assert!(is_named(
        "kills::chain_…_node_…_survives",
        "kills::…_survives"
    ));
    assert!(is_named("a_pcr_is_refused", "a_pcr_is_refused"));
    for name in ["a_pcr", "pcr_is_refused", "a_pcr_…_not_refused", "…_is", ""] {
        assert!(!is_named("a_pcr_is_refused", name), "{name}");
    }
    let tests = sources::tests();
    // A test, a case in a machine, one of a whole boot, one made in a loop; and a function that is none of them.
    for name in [
        "a_part_of_a_tests_name_is_not_its_name",
        "a_btrfs_volume_keeps_its_files",
        "refusals::no_tpm",
        "kills::chain_…_node_…_survives_every_cut",
    ] {
        assert!(tests.contains(name), "{name}");
    }
    assert!(!tests.contains("is_named"));
}

#[test]
fn the_table_of_the_boot_record_has_every_field_and_no_other() {
    let readme = read("README.md");
    let documented: BTreeSet<String> = rows(section(&readme, "### status.json"))
        .iter()
        .map(|row| quoted(&row[0])[0].to_owned())
        .collect();
    let record = read("tests/fixtures/status/boot.json");
    let mut real = BTreeSet::new();
    fields("", &serde_json::from_str(&record).unwrap(), &mut real);
    // A record of a boot that went well has neither.
    real.extend(["error", "steps[].failed"].map(str::to_owned));
    // Nor has one without a key service these.
    real.extend(["service.url", "service.took_us"].map(str::to_owned));
    real.extend(["own_secret", "enrolled", "enroll"].map(|field| format!("volumes[].{field}")));
    assert_eq!(documented, real);
}

/// The paths of all fields below `value`. PCR values are one field: what is in them depends on the TPM.
fn fields(path: &str, value: &serde_json::Value, found: &mut BTreeSet<String>) {
    let map = value.as_object().filter(|_| !path.starts_with("pcrs."));
    if let Some(entries) = map {
        let dot = if path.is_empty() { "" } else { "." };
        for (key, value) in entries {
            fields(&format!("{path}{dot}{key}"), value, found);
        }
    } else if let Some(items) = value.as_array() {
        for item in items {
            fields(&format!("{path}[]"), item, found);
        }
    } else {
        found.insert(path.to_owned());
    }
}

#[test]
fn the_table_of_rules_is_that_of_the_module_that_checks_them() {
    let readme = read("README.md");
    let first = |rows: Vec<Vec<String>>| -> Vec<String> {
        rows.into_iter().map(|row| row[0].clone()).collect()
    };
    let source = read("src/header.rs").replace("//! |", "|");
    assert_eq!(
        first(rows(section(&readme, "### The rules"))),
        first(rows(&source))
    );
}

/// The case in the machine compares each verdict with the same file.
#[test]
fn the_table_of_rollbacks_is_the_one_that_is_tested() {
    assert!(read("README.md").contains(&read("tests/fixtures/rollback.md")));
}

/// The test that judges the headers compares its counts with the same file.
#[test]
fn the_table_of_hostile_headers_is_the_one_that_is_tested() {
    let table = read("tests/fixtures/corpus.md");
    assert!(table.lines().count() > 10 && read("README.md").contains(&table));
}

#[test]
fn every_sentence_under_troubleshooting_is_one_the_programs_print() {
    let readme = read("README.md");
    let printed = printed();
    for row in rows(section(&readme, "### By message")) {
        let sentences = quoted(&row[0]);
        assert!(!sentences.is_empty(), "{row:?}");
        for sentence in sentences {
            for piece in sentence.split('…').map(str::trim) {
                assert!(printed.contains(piece), "nothing prints: {piece}");
            }
        }
    }
}

#[test]
fn every_file_the_readme_points_to_is_there() {
    let readme = read("README.md");
    let targets = readme
        .split("](")
        .skip(1)
        .map(|rest| rest.split(')').next());
    for target in targets.flatten().filter(|target| !target.contains(':')) {
        let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
        assert!(top().join(path).exists(), "{target}");
        let heading = |line: &str| slug(line.trim_start_matches('#').trim());
        let anchors = || readme.lines().filter(|line| line.starts_with('#'));
        assert!(
            anchor.is_empty() || anchors().any(|line| heading(line) == anchor),
            "{target}"
        );
    }
}

/// The anchor of a heading.
fn slug(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn the_manual_of_the_configuration_has_every_key() {
    let page = read("units/man/nightlatch.toml.5");
    let mut table = None;
    let mut documented = Vec::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix(".Ss ") {
            table = TABLES.into_iter().find(|table| {
                heading.trim_matches(['[', ']']) == *table
                    || (table.is_empty() && heading == "Top level")
            });
        } else if let (Some(table), Some(key)) = (table, line.strip_prefix(".It Cm ")) {
            let dot = if table.is_empty() { "" } else { "." };
            documented.push(format!("{table}{dot}{key}"));
        }
    }
    let mut real = config_keys::all();
    documented.sort();
    real.sort();
    assert_eq!(documented, real);
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
fn the_manuals_pass_mandocs_lint() {
    let pages = ["1", "5", "8"].map(|section| files("units/man", section));
    let pages = pages.concat();
    assert_eq!(pages.len(), 5, "{pages:?}");
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
}

#[test]
fn the_picture_is_one_file_of_plain_svg() {
    let picture = fs::read_to_string(top().join("units/man/boot.svg")).unwrap();
    assert!(picture.starts_with("<svg ") && picture.trim_end().ends_with("</svg>"));
    for outside in ["<script", "href=", "url(http", "@import"] {
        assert!(!picture.contains(outside), "{outside}");
    }
    assert!(read("README.md").contains("units/man/boot.svg"));
}
