// SPDX-License-Identifier: Apache-2.0
//! The words that are our own: what `units/doc/internals.md` says of each is what its definition says.

use crate::markdown::{quoted, rows, section};
use crate::sources::read;

/// The first sentence of what stands above `item` in `text`; of the file itself where there is no item.
fn explained(text: &str, item: Option<&str>) -> String {
    let doc: Vec<&str> = match item {
        None => {
            let lines = text.lines().skip(1);
            lines.map_while(|line| line.strip_prefix("//! ")).collect()
        }
        Some(item) => {
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            let is_item = |line: &&str| {
                let after = line.strip_prefix(item).and_then(|rest| rest.chars().next());
                after.is_some_and(|c| c != '_' && !c.is_alphanumeric())
            };
            let at = lines.iter().position(is_item);
            let at = at.unwrap_or_else(|| panic!("no {item}"));
            let above = lines[..at].iter().rev();
            let above = above.take_while(|line| line.starts_with("///") || line.starts_with("#["));
            let mut doc: Vec<&str> = above.filter_map(|line| line.strip_prefix("/// ")).collect();
            doc.reverse();
            doc
        }
    };
    assert!(!doc.is_empty(), "{item:?} is not explained");
    let text = doc.join(" ");
    let end = text.find(". ").map_or(text.len(), |at| at + 1);
    text[..end].to_owned()
}

#[test]
fn each_word_of_our_own_is_explained_where_it_is_defined() {
    let internals = read("units/doc/internals.md");
    let words = rows(section(&internals, "## Words"));
    for row in &words {
        let [word, meaning, place] = &row[..] else {
            panic!("{row:?}")
        };
        let place = quoted(place);
        let defined = read(place[0]);
        assert_eq!(
            *meaning,
            explained(&defined, place.get(1).copied()),
            "{word}"
        );
    }
    let mut sorted: Vec<String> = words.iter().map(|row| row[0].to_lowercase()).collect();
    sorted.dedup();
    assert_eq!(sorted.len(), words.len(), "a word is there twice");
    assert!(sorted.is_sorted(), "{sorted:?}");
}

#[test]
fn an_explanation_ends_with_its_first_sentence() {
    let text = "// licence\n//! A room.\n//! It is small.\n\n/// A thing of\n/// two lines. More.\n#[derive(Debug)]\npub struct Thing;\n";
    assert_eq!(explained(text, None), "A room.");
    assert_eq!(
        explained(text, Some("pub struct Thing")),
        "A thing of two lines."
    );
}
