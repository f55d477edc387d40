// SPDX-License-Identifier: Apache-2.0
//! The tables of the pages and the examples say what the programs do.

use std::collections::BTreeSet;
use std::fs;

use nightlatch::config::Config;
use nightlatch::error::Exit;

use crate::markdown::{blocks, column, quoted, rows, section};
use crate::pages::pages;
use crate::sources::{self, files, printed, read, top};

/// Where the tables are: the page for who administers a node, who judges the whole, who changes the code.
const NODE: &str = "units/doc/node.md";
const SECURITY: &str = "units/doc/security.md";
const INTERNALS: &str = "units/doc/internals.md";

#[test]
fn every_example_and_every_configuration_in_the_pages_parses() {
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
    let pages = pages();
    let shown: Vec<(&String, &str)> = pages
        .iter()
        .flat_map(|(page, text)| {
            blocks(text, "toml")
                .into_iter()
                .map(move |shown| (page, shown))
        })
        .collect();
    assert!(shown.len() > 4, "{shown:?}");
    for (page, text) in shown {
        parse(text).unwrap_or_else(|error| panic!("{page}: {error}:\n{text}"));
    }
}

/// Takes a configuration apart, whichever of the three files it is of; of the key service's and of a policy a part is shown.
fn parse(text: &str) -> nightlatch::error::Result<()> {
    match text.lines().next() {
        Some("[ek]") => {
            let image = "\n[[image]]\nname = \"2026-11\"\npcrs.7 = [\"";
            let whole = format!("{text}{image}{}\"]\n", "00".repeat(32));
            nightlatch::evidence::Policy::parse(&whole, |_| unreachable!()).map(drop)
        }
        Some("[admin]" | "[kms]") => {
            let whole = format!("[tls]\ncertificate = \"/c\"\nkey = \"/k\"\n{text}");
            nightlatch::keyservice::config::Config::parse(&whole).map(drop)
        }
        _ => Config::parse(text).map(drop),
    }
}

/// All verdicts. A new one does not compile until it is listed.
pub(crate) fn exits() -> Vec<Exit> {
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
    let page = read(NODE);
    let documented: Vec<(String, String)> = rows(section(&page, "### Exit codes"))
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
fn every_test_the_pages_name_exists() {
    let tests = sources::tests();
    let pages = pages();
    let named = pages.values().flat_map(|text| column(text, "shown by"));
    let named: Vec<String> = named.collect();
    assert!(named.len() > 50, "{named:?}");
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
    let page = read(NODE);
    let documented: BTreeSet<String> = rows(section(&page, "## status.json"))
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
    real.extend(
        ["own_secret", "enrolled", "rotated", "enroll"].map(|field| format!("volumes[].{field}")),
    );
    // One of a boot that knew where to leave its failure has these.
    real.extend(["tcti", "index"].map(|field| format!("failures.{field}")));
    // Nor has one of a boot that had all its volumes these.
    let away = ["name", "role", "device", "result", "exit", "error"];
    real.extend(away.map(|field| format!("away[].{field}")));
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
    let page = read(INTERNALS);
    let first = |rows: Vec<Vec<String>>| -> Vec<String> {
        rows.into_iter().map(|row| row[0].clone()).collect()
    };
    let source = read("src/header.rs").replace("//! |", "|");
    assert_eq!(
        first(rows(section(&page, "### The rules"))),
        first(rows(&source))
    );
}

/// The case in the machine compares each verdict with the same file.
#[test]
fn the_table_of_rollbacks_is_the_one_that_is_tested() {
    assert!(read(SECURITY).contains(&read("tests/fixtures/rollback.md")));
}

/// The test that judges the headers compares its counts with the same file.
#[test]
fn the_table_of_hostile_headers_is_the_one_that_is_tested() {
    let table = read("tests/fixtures/corpus.md");
    assert!(table.lines().count() > 10 && read(SECURITY).contains(&table));
}

#[test]
fn every_sentence_under_troubleshooting_is_one_the_programs_print() {
    let page = read(NODE);
    let printed = printed();
    for row in rows(section(&page, "### By message")) {
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
fn the_picture_is_one_file_of_plain_svg() {
    let picture = fs::read_to_string(top().join("units/man/boot.svg")).unwrap();
    assert!(picture.starts_with("<svg ") && picture.trim_end().ends_with("</svg>"));
    for outside in ["<script", "href=", "url(http", "@import"] {
        assert!(!picture.contains(outside), "{outside}");
    }
    assert!(read("README.md").contains("units/man/boot.svg"));
}
