// SPDX-License-Identifier: Apache-2.0
//! What the parser says, in the words of a configuration and not of its types.

use super::keys::{Keys, meant as nearest};

/// The longest part of a configuration that is repeated in a message, in characters.
const SHOWN_MAX: usize = 240;

/// What is said of the key at `path`.
pub(super) fn said(path: &str, message: &str, keys: &Keys) -> String {
    let (table, key) = path.rsplit_once('.').unwrap_or(("", path));
    if message.starts_with("unknown field ") {
        return unknown(table, key, keys);
    }
    if let Some(name) = missing(message) {
        return match name.as_str() {
            "volume" => "expected at least one [[volume]]".to_owned(),
            _ => "it is missing".to_owned(),
        };
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        return variant(rest);
    }
    if message == "wanted string or table" {
        return "expected a word in quotes".to_owned();
    }
    let rest = message.strip_prefix("invalid type: ");
    let rest = rest.or_else(|| message.strip_prefix("invalid value: "));
    match rest.and_then(|rest| rest.split_once(", expected ")) {
        Some(("map", _)) if path == "volume" => {
            "[volume] is one table, and volumes are a list: write [[volume]]".to_owned()
        }
        Some((found, expected)) => {
            format!("expected {}, found {}", wanted(expected), shown(found))
        }
        None => bounded(message),
    }
}

/// The key that a message says is missing.
pub(super) fn missing(message: &str) -> Option<String> {
    let rest = message.strip_prefix("missing field `")?;
    rest.split('`').next().map(str::to_owned)
}

/// The key that was meant, where the sentence of [`said`] names one.
pub(super) fn meant(said: &str) -> Option<String> {
    let (_, rest) = said.split_once("did you mean \"")?;
    rest.split('"').next().map(str::to_owned)
}

/// What is wrong with the text itself.
pub(super) fn slip(text: &str, at: usize, message: &str) -> String {
    let start = text.get(..at).and_then(|before| before.rfind('\n'));
    let line = text.get(start.map_or(0, |at| at.saturating_add(1))..);
    let line = line
        .and_then(|line| line.lines().next())
        .unwrap_or_default();
    if line.trim() == "[volume]" {
        return "[volume] is one table, and volumes are a list: write [[volume]] for each"
            .to_owned();
    }
    if message.contains("duplicate key") {
        return "it is there twice".to_owned();
    }
    bounded(message)
}

fn unknown(table: &str, key: &str, keys: &Keys) -> String {
    let place = |table: &str| match table {
        "" => "the top level".to_owned(),
        "volume" => "[[volume]]".to_owned(),
        table => format!("[{table}]"),
    };
    if let Some(home) = keys.home(key) {
        return format!(
            "{} has no such key: it belongs to {}",
            place(table),
            place(home)
        );
    }
    match nearest(key, keys.of(table)) {
        Some(known) => format!(
            "{} has no such key; did you mean \"{known}\"?",
            place(table)
        ),
        None => format!(
            "{} has no such key, but {}",
            place(table),
            keys.of(table).join(", ")
        ),
    }
}

/// Of `` `x`, expected one of `a`, `b` ``.
fn variant(rest: &str) -> String {
    let mut quoted = rest.split('`').skip(1).step_by(2).map(str::to_owned);
    let found = quoted.next().unwrap_or_default();
    let known: Vec<String> = quoted.collect();
    let all: Vec<String> = known.iter().map(|word| format!("\"{word}\"")).collect();
    let all = match all.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => all.concat(),
    };
    let hint = nearest(&found, &known);
    let hint = hint.map_or_else(String::new, |word| format!("; did you mean \"{word}\"?"));
    format!("expected {all}, found \"{}\"{hint}", bounded(&found))
}

/// What a type is called by who writes it.
fn wanted(expected: &str) -> String {
    let words = match expected {
        "u8" | "u16" | "u32" | "u64" | "i64" | "usize" => "a whole number that is not too large",
        "a boolean" => "true or false",
        "a string" => "a text in quotes",
        "a sequence" => "a list in brackets",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other if other.starts_with("enum ") => "a word in quotes",
        other => other,
    };
    words.to_owned()
}

/// What was found: serde names the type, and the value where it is short.
fn shown(found: &str) -> String {
    let value = |rest: &str| bounded(rest.trim_matches('`'));
    if let Some(rest) = found.strip_prefix("string ") {
        return format!("the text {}", bounded(rest));
    }
    for kind in ["integer ", "boolean ", "floating point "] {
        if let Some(rest) = found.strip_prefix(kind) {
            return value(rest);
        }
    }
    match found {
        "map" => "a table".to_owned(),
        "sequence" => "a list".to_owned(),
        other => bounded(other),
    }
}

fn bounded(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
