// SPDX-License-Identifier: Apache-2.0
//! `tests/scenarios.tsv`: nothing that is tested may go untested for long. tests/README.md says how the table is used.

use crate::sources::read;

/// A number in `tests/boots/harness/planner.py`, so that there is one place for it.
fn slices_at_most() -> u32 {
    let source = read("tests/boots/harness/planner.py");
    let (_, after) = source.split_once("\nSLICES_AT_MOST = ").unwrap();
    after.lines().next().unwrap().parse().unwrap()
}

/// The scenarios of a table whose landing lies more than `most` behind the last one.
fn behind(table: &str, most: u32) -> Vec<&str> {
    let lines: Vec<(&str, u32)> = table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let [name, _paths, _digest, landing, _seconds] =
                line.split('\t').collect::<Vec<_>>()[..]
            else {
                panic!("not five columns: {line:?}");
            };
            (name, landing.parse().unwrap())
        })
        .collect();
    let last = lines.iter().map(|line| line.1).max().unwrap();
    let late = lines.iter().filter(|line| last - line.1 > most);
    late.map(|line| line.0).collect()
}

#[test]
fn no_scenario_was_left_out_for_more_landings_than_there_are_slices() {
    let most = slices_at_most();
    assert!((2..=10).contains(&most), "{most}");
    assert_eq!(
        behind(&read("tests/scenarios.tsv"), most),
        [""; 0],
        "run these with tests/run and commit the table"
    );
}

#[test]
fn a_scenario_that_was_left_out_is_found_and_one_at_the_limit_is_not() {
    let table = "# head\na\tsrc\t00\t9\t5\nb\tsrc\t00\t3\t5\nc\tsrc\t00\t2\t5\n";
    assert_eq!(behind(table, 6), ["c"]);
}
