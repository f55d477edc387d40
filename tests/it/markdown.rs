// SPDX-License-Identifier: Apache-2.0
//! What the tests read of the pages: sections, tables, blocks of code.

/// The text under `heading`, up to the next heading of the same or a higher level.
pub(crate) fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = format!("\n{heading}\n");
    let at = text
        .find(&start)
        .unwrap_or_else(|| panic!("no section {heading}"));
    let body = &text.get(at + start.len()..).unwrap();
    let level = heading.chars().take_while(|c| *c == '#').count();
    let mut end = body.len();
    for stop in 1..=level {
        let next = format!("\n{} ", "#".repeat(stop));
        end = end.min(body.find(&next).unwrap_or(end));
    }
    body.get(..end).unwrap()
}

/// The rows of all tables in `text`, cell by cell, without their heads.
pub(crate) fn rows(text: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let head = lines.peek().is_some_and(|next| next.starts_with("|--"));
        if line.starts_with('|') && !line.starts_with("|--") && !head {
            rows.push(cells(line));
        }
    }
    assert!(!rows.is_empty(), "no table");
    rows
}

/// The cells below `head`, of all tables in `text` that have such a column.
pub(crate) fn column(text: &str, head: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut place = None;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if !line.starts_with('|') {
            place = None;
        } else if lines.peek().is_some_and(|next| next.starts_with("|--")) {
            place = cells(line).iter().position(|cell| cell == head);
        } else if let Some(place) = place.filter(|_| !line.starts_with("|--")) {
            found.push(cells(line).swap_remove(place));
        }
    }
    found
}

fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
    inner
        .split('|')
        .map(|cell| cell.trim().to_owned())
        .collect()
}

/// What stands between back quotes, in order.
pub(crate) fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The fenced blocks of `language`, whatever stands behind it: see tests/README.md.
pub(crate) fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("\n```{language}");
    text.split(&fence)
        .skip(1)
        .filter(|rest| rest.starts_with(['\n', ' ']))
        .map(|rest| {
            let start = rest.find('\n').expect("the fence's own line");
            let block = rest.get(start + 1..).unwrap();
            let end = block.find("\n```").expect("a closed block");
            block.get(..=end).unwrap()
        })
        .collect()
}

#[test]
fn a_section_ends_where_the_next_of_its_level_starts() {
    let text = "\n## A\none\n### B\n| x | y |\n|---|---|\n| `1` | two |\n## C\nthree\n";
    assert_eq!(rows(section(text, "### B")), [["`1`", "two"]]);
    assert!(section(text, "## A").contains("two"));
    assert!(!section(text, "## A").contains("three"));
    assert_eq!(quoted("a `b c` d `e`"), ["b c", "e"]);
}

#[test]
fn a_block_is_of_its_language_whatever_is_said_behind_it() {
    let text = "\n```sh\none\n```\n```shell\nno\n```\n```sh not run: why\ntwo\n```\n";
    assert_eq!(blocks(text, "sh"), ["one\n", "two\n"]);
}
