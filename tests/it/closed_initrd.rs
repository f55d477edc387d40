// SPDX-License-Identifier: Apache-2.0
//! What is masked in the initrd: the lists, the table that gives the reasons, and who reads the lists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use crate::markdown::{quoted, rows, section};
use crate::sources::{read, top};

const TABLE: &str = "units/doc/closed-initrd.md";

/// The lines of a list below `units/initrd`, without its comments.
fn list(name: &str) -> Vec<String> {
    let text = read(&format!("units/initrd/{name}"));
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap().trim());
    lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The rows of a table, as the names in the first cell and the words of the last.
fn verdicts(heading: &str) -> Vec<(Vec<String>, String)> {
    let text = read(TABLE);
    rows(section(&text, heading))
        .iter()
        .map(|row| {
            let names = quoted(&row[0]).into_iter().map(str::to_owned).collect();
            (names, row.last().unwrap().clone())
        })
        .collect()
}

#[test]
fn the_table_calls_masked_what_the_lists_mask() {
    let all = [verdicts("## Generators"), verdicts("## Units")].concat();
    assert!(all.len() > 40, "{all:?}");
    let masked = |word: fn(&str) -> bool| -> BTreeSet<String> {
        let rows = all.iter().filter(|(_, verdict)| word(verdict));
        rows.flat_map(|(names, _)| names.clone()).collect()
    };
    let always = masked(|verdict| verdict.starts_with("masked") && !verdict.contains("unless"));
    assert_eq!(always, list("masked").into_iter().collect());
    let volumes = masked(|verdict| verdict.starts_with("masked, unless"));
    let (generators, rules): (Vec<_>, Vec<_>) = list("masked-volumes")
        .into_iter()
        .partition(|name| name.ends_with("-generator"));
    assert_eq!(volumes, generators.into_iter().collect());
    assert!(rules.contains(&"64-btrfs.rules".to_owned()), "{rules:?}");
}

#[test]
fn every_row_says_what_could_happen_and_what_became_of_it() {
    const VERDICTS: [&str; 6] = [
        "masked",
        "kept",
        "measured",
        "final system",
        "given no credential",
        "replaced",
    ];
    let mut seen = BTreeSet::new();
    for (names, verdict) in [verdicts("## Generators"), verdicts("## Units")].concat() {
        assert!(!names.is_empty(), "{verdict}");
        assert!(
            VERDICTS.iter().any(|word| verdict.starts_with(word)),
            "{names:?}: {verdict}"
        );
        for name in names {
            assert!(seen.insert(name.clone()), "{name} is there twice");
        }
    }
    // It has to stay: without it a boot does not wait for its TPM.
    let generators = verdicts("## Generators");
    let kept = |(names, verdict): &(Vec<String>, String)| {
        names.contains(&"systemd-tpm2-generator".to_owned()) && verdict.starts_with("kept")
    };
    assert!(generators.iter().any(kept));
}

#[test]
fn a_list_names_nothing_twice_and_only_what_can_be_masked() {
    let all = [list("masked"), list("masked-volumes")].concat();
    let unique: BTreeSet<_> = all.iter().collect();
    assert_eq!(unique.len(), all.len());
    for name in all {
        let ends = ["-generator", ".service", ".socket", ".target", ".rules"];
        assert!(ends.iter().any(|end| name.ends_with(end)), "{name}");
    }
}

#[test]
fn every_way_to_make_an_initrd_closes_it() {
    for (file, call) in [
        (
            "mkosi/install",
            "\"$source/mkosi/close-initrd\" \"$source/units/initrd\" \"$tree\"",
        ),
        (
            "dracut/90nightlatch/module-setup.sh",
            "\"$moddir/close-initrd\" \"$moddir/closed\" \"$initdir\"",
        ),
        ("src/systemd/generator/closed.rs", "units/initrd/masked"),
    ] {
        assert!(read(file).contains(call), "{file}");
    }
}

/// By systemd's file (systemd(1), `/usr/lib/clock-epoch`), whose time a build that can be repeated says.
#[test]
fn a_closed_initrd_says_when_it_was_made() {
    let tree = Path::new(env!("CARGO_TARGET_TMPDIR")).join("closed-initrd");
    drop(fs::remove_dir_all(&tree));
    fs::create_dir_all(&tree).unwrap();
    let closed = Command::new(top().join("mkosi/close-initrd"))
        .args([&top().join("units/initrd"), &tree])
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()
        .unwrap();
    assert!(closed.status.success(), "{closed:?}");
    let file = fs::metadata(tree.join("usr/lib/clock-epoch")).unwrap();
    let made = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    assert_eq!(file.modified().unwrap(), made);
    fs::remove_dir_all(&tree).unwrap();
}
