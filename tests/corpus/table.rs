// SPDX-License-Identifier: Apache-2.0
//! The table the corpus ends in, and the one it is compared with.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::hostile::Kind;
use crate::stock::Answer;

/// The table as it was when it was last looked at.
const RECORDED: &str = include_str!("../fixtures/corpus.md");
/// How many columns are about this program; the others depend on the version of cryptsetup.
const OUR_COLUMNS: usize = 4;
/// Where a row says how many headers cryptsetup opens; how many it is stopped at follows.
const OPENS_COLUMN: usize = 5;

/// Counts for one kind of mutation.
#[derive(Clone, Copy, Default)]
pub(crate) struct Row {
    headers: usize,
    by_template: usize,
    by_mac: usize,
    reads: usize,
    opens: usize,
    runs_on: usize,
    crashes: usize,
    rewrites: usize,
}

impl Row {
    pub(crate) fn add(&mut self, by_mac: bool, (stock, rewritten): (Answer, bool)) {
        self.headers += 1;
        self.by_template += usize::from(!by_mac);
        self.by_mac += usize::from(by_mac);
        self.reads += usize::from(stock.reads);
        self.opens += usize::from(stock.opens);
        self.runs_on += usize::from(stock.runs_on);
        self.crashes += usize::from(stock.crashes);
        self.rewrites += usize::from(rewritten);
    }

    fn plus(self, other: Self) -> Self {
        Self {
            headers: self.headers + other.headers,
            by_template: self.by_template + other.by_template,
            by_mac: self.by_mac + other.by_mac,
            reads: self.reads + other.reads,
            opens: self.opens + other.opens,
            runs_on: self.runs_on + other.runs_on,
            crashes: self.crashes + other.crashes,
            rewrites: self.rewrites + other.rewrites,
        }
    }

    fn cells(self) -> [usize; 8] {
        [
            self.headers,
            self.by_template,
            self.by_mac,
            self.reads,
            self.opens,
            self.runs_on,
            self.crashes,
            self.rewrites,
        ]
    }
}

/// The table, in Markdown.
pub(crate) fn draw(rows: &BTreeMap<Kind, Row>, version: &str) -> String {
    let mut table = format!(
        "| what is changed | headers | refused before the key is known | refused by the MAC \
         | cryptsetup {version} reads it | opens it | is stopped after 1 s of CPU | crashes | writes to the disk |\n\
         |---|---|---|---|---|---|---|---|---|\n"
    );
    let total = rows
        .values()
        .fold(Row::default(), |sum, row| sum.plus(*row));
    let named = rows.iter().map(|(kind, row)| (kind.name(), *row));
    for (name, row) in named.chain([("all", total)]) {
        let cells = row.cells().map(|cell| cell.to_string()).join(" | ");
        writeln!(table, "| {name} | {cells} |").unwrap();
    }
    table
}

/// Compares a table with the recorded one. What another version of cryptsetup says is printed and no more.
pub(crate) fn compare(table: &str, rows: &BTreeMap<Kind, Row>, version: &str) {
    assert_eq!(
        rows.values()
            .map(|row| row.by_template + row.by_mac)
            .sum::<usize>(),
        rows.values().map(|row| row.headers).sum::<usize>()
    );
    if RECORDED.contains(&format!("| cryptsetup {version} reads it ")) {
        compare_stock(table);
    } else {
        println!("cryptsetup {version} is not the recorded version: its columns are not compared");
        assert_eq!(
            ours(table),
            ours(RECORDED),
            "tests/fixtures/corpus.md is not what was found"
        );
    }
}

/// A faster machine opens within the second what a slower one is stopped at, so these two columns may move, into each other.
fn compare_stock(table: &str) {
    let split = |table: &str| -> Vec<(Vec<String>, [usize; 2])> {
        table
            .lines()
            .skip(2)
            .map(|line| {
                let mut cells: Vec<String> = line.split(" | ").map(str::to_owned).collect();
                let moving = cells.drain(OPENS_COLUMN..OPENS_COLUMN + 2);
                let moving: Vec<usize> = moving.map(|cell| cell.parse().unwrap()).collect();
                (cells, [moving[0], moving[1]])
            })
            .collect()
    };
    let (found, recorded) = (split(table), split(RECORDED));
    assert_eq!(found.len(), recorded.len());
    for ((cells, [opens, stopped]), (expected, [then_opened, then_stopped])) in
        found.into_iter().zip(recorded)
    {
        assert_eq!(
            cells, expected,
            "tests/fixtures/corpus.md is not what was found"
        );
        assert!(
            opens + stopped >= then_opened && opens <= then_opened + then_stopped,
            "tests/fixtures/corpus.md is not what was found: {cells:?}: opens {opens}, stopped {stopped}"
        );
    }
}

fn ours(table: &str) -> Vec<Vec<&str>> {
    table
        .lines()
        .map(|line| line.split('|').skip(1).take(OUR_COLUMNS).collect())
        .collect()
}
