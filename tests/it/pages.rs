// SPDX-License-Identifier: Apache-2.0
//! The pages: short enough to be read, joined to each other, and with commands that the programs have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::manuals;
use crate::markdown::{blocks, quoted};
use crate::sources::{files, read, top};

/// Where everybody starts.
const FRONT: &str = "README.md";

/// How long the front page may be: it is read to its end, and all else has a page of its own.
const FRONT_LINES_MAX: usize = 200;
const FRONT_WORDS_MAX: usize = 1800;

/// The text of each page, by its path from the top.
pub(crate) fn pages() -> BTreeMap<String, String> {
    let mut paths: BTreeSet<String> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
        .into_iter()
        .chain(["tests/README.md"])
        .map(str::to_owned)
        .collect();
    let documents = files("units/doc", "md");
    assert!(documents.len() >= 6, "{documents:?}");
    paths.extend(documents.iter().map(|path| {
        let path = path.strip_prefix(top()).unwrap();
        path.to_string_lossy().into_owned()
    }));
    paths
        .into_iter()
        .map(|path| (path.clone(), read(&path)))
        .collect()
}

/// The text of a page without its fenced blocks, in which brackets are no links and `#` is no heading.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.starts_with("```");
        fenced ^= is_fence;
        !fenced && !is_fence
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Where the links of a page lead: a path from the top, and a heading's anchor, which may be empty. Not those out of the tree.
fn links(page: &str, text: &str) -> Vec<(String, String)> {
    let prose = prose(text);
    let targets = prose.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split(')').next());
    let pictures = text.split("src=\"").skip(1);
    let pictures = pictures.filter_map(|rest| rest.split('"').next());
    targets
        .chain(pictures)
        .filter(|target| !target.contains(':'))
        .map(|target| {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match path {
                "" => page.to_owned(),
                path => joined(Path::new(page).parent().unwrap(), path),
            };
            (path, anchor.to_owned())
        })
        .collect()
}

/// A path seen from a directory, without `..`.
fn joined(directory: &Path, path: &str) -> String {
    let mut joined = PathBuf::new();
    for part in directory.join(path).components() {
        if part == Component::ParentDir {
            assert!(joined.pop(), "{path} leads out of the tree");
        } else {
            joined.push(part);
        }
    }
    joined.to_string_lossy().into_owned()
}

/// The anchors of a page's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| slug(line.trim_start_matches('#').trim()))
        .collect()
}

/// The anchor of a heading.
fn slug(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// What is wrong with the links of a page.
fn broken(page: &str, text: &str, pages: &BTreeMap<String, String>) -> Vec<String> {
    let is_good = |(path, anchor): &(String, String)| {
        let is_there = top().join(path).exists();
        let heading = |text: &String| anchors(text).contains(anchor);
        is_there && (anchor.is_empty() || pages.get(path).is_some_and(heading))
    };
    let links = links(page, text).into_iter();
    let bad = links.filter(|link| !is_good(link));
    bad.map(|(path, anchor)| format!("{page}: {path}#{anchor}"))
        .collect()
}

/// All commands of `program` in a page: lines of its shell blocks, and what stands between back quotes.
fn commands(program: &str, text: &str) -> Vec<Vec<String>> {
    let blocks = blocks(text, "sh").into_iter().flat_map(|block| {
        let lines = block.replace("\\\n", " ");
        let lines: Vec<String> = lines.lines().map(str::to_owned).collect();
        lines
    });
    let prose = prose(text);
    let spans = quoted(&prose).into_iter();
    let spans = spans.filter(|span| span.starts_with(&format!("{program} ")));
    blocks
        .chain(spans.map(str::to_owned))
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let at = words.iter().position(|word| {
                *word == program || word.ends_with(&format!("/release/{program}"))
            })?;
            // To install it is not to call it.
            (words[0] != "install").then(|| {
                let words = words[at + 1..].iter().map(|word| (*word).to_owned());
                words.collect()
            })
        })
        .collect()
}

/// Whether the manual of `program` has what a command says: its verb, and its options.
fn is_known(program: &str, words: &[String]) -> bool {
    let (verbs, options) = manuals::commands(program);
    let said = words.join(" ") + " ";
    let has_verb = |verb: &String| said.starts_with(&format!("{verb} "));
    let has_no_verb = words.first().is_none_or(|word| word.starts_with("--"));
    let is_verb = has_no_verb || verbs.iter().any(has_verb);
    let named = words.iter().filter_map(|word| word.strip_prefix("--"));
    is_verb && named.into_iter().all(|option| options.contains(option))
}

#[test]
fn the_front_page_is_read_in_ten_minutes() {
    let front = read(FRONT);
    let (lines, words) = (front.lines().count(), front.split_whitespace().count());
    assert!(lines <= FRONT_LINES_MAX, "{lines} lines");
    assert!(words <= FRONT_WORDS_MAX, "{words} words");
}

#[test]
fn every_page_and_every_manual_is_reached_from_the_front_page() {
    let pages = pages();
    let mut seen = BTreeSet::new();
    let mut left = vec![FRONT.to_owned()];
    while let Some(page) = left.pop() {
        if !seen.insert(page.clone()) {
            continue;
        }
        if let Some(text) = pages.get(&page) {
            left.extend(links(&page, text).into_iter().map(|(path, _)| path));
        }
    }
    for page in pages.keys() {
        assert!(seen.contains(page), "no way leads to {page}");
    }
    for manual in ["1", "5", "8"]
        .map(|section| files("units/man", section))
        .concat()
    {
        let path = manual.strip_prefix(top()).unwrap().to_string_lossy();
        assert!(seen.contains(path.as_ref()), "no way leads to {path}");
    }
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let pages = pages();
    let all = pages
        .iter()
        .flat_map(|(page, text)| broken(page, text, &pages));
    assert_eq!(all.collect::<Vec<_>>(), [""; 0]);
}

/// A page with more sections than this begins with links to all of them.
const SECTIONS_WITHOUT_LINKS_MAX: usize = 5;

#[test]
fn a_long_page_begins_with_a_link_to_each_section() {
    let mut seen = 0;
    for (page, text) in pages() {
        let mut parts = text.split("\n## ");
        let start = parts.next().unwrap();
        let sections: Vec<&str> = parts.filter_map(|part| part.lines().next()).collect();
        if page == FRONT || sections.len() <= SECTIONS_WITHOUT_LINKS_MAX {
            continue;
        }
        seen += 1;
        let linked: Vec<String> = links(&page, start)
            .into_iter()
            .filter_map(|(path, anchor)| (path == page).then_some(anchor))
            .collect();
        let sections: Vec<String> = sections.into_iter().map(slug).collect();
        assert_eq!(linked, sections, "{page}");
    }
    assert!(seen >= 4, "{seen}");
}

#[test]
fn every_command_in_the_pages_is_one_of_the_manual() {
    let mut seen = 0;
    for (page, text) in pages() {
        for program in ["nightlatchctl", "nightlatchd"] {
            for words in commands(program, &text) {
                seen += 1;
                assert!(
                    is_known(program, &words),
                    "{page}: {program} {}",
                    words.join(" ")
                );
            }
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn a_broken_link_a_missing_heading_and_a_verb_that_is_none_are_found() {
    let pages = pages();
    let good =
        "[a](image.md#mkosi) [b](#here) [c](../../README.md) [d](https://nowhere)\n## Here\n";
    assert_eq!(
        broken("units/doc/node.md", good, &with(&pages, good)),
        [""; 0]
    );
    for bad in [
        "[a](nowhere.md)",
        "[a](image.md#nowhere)",
        "[a](#nowhere)",
        "[a](README.md)",
    ] {
        let found = broken("units/doc/node.md", bad, &with(&pages, bad));
        assert_eq!(found.len(), 1, "{bad}: {found:?}");
    }
    let fenced = "```\n[a](nowhere.md)\n# nothing\n```\n";
    assert!(links(FRONT, fenced).is_empty() && anchors(fenced).is_empty());
    let words = |text: &str| commands("nightlatchctl", text).remove(0);
    assert!(is_known(
        "nightlatchctl",
        &words("\n```sh\ncd a && nightlatchctl config check FILE\n```\n")
    ));
    assert!(is_known(
        "nightlatchctl",
        &words("`nightlatchctl nodes show ID --json`")
    ));
    for bad in [
        "`nightlatchctl config chek FILE`",
        "`nightlatchctl status --jso`",
    ] {
        assert!(!is_known("nightlatchctl", &words(bad)), "{bad}");
    }
}

/// The pages with another text of the page for nodes.
fn with(pages: &BTreeMap<String, String>, text: &str) -> BTreeMap<String, String> {
    let mut pages = pages.clone();
    pages.insert("units/doc/node.md".to_owned(), text.to_owned());
    pages
}
