// SPDX-License-Identifier: Apache-2.0
//! Everything that is wrong with a configuration, found by the parser of a boot: what it stumbles over is noted and taken
//! out, until it goes through.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::keys::Keys;
use super::words;
use crate::config::{Broken, Config};

/// How often something is taken out. Who has that many errors has seen enough.
const FINDINGS_MAX: usize = 100;

/// Something to say of a place in a configuration.
#[derive(Debug)]
pub(super) struct Finding {
    line: usize,
    column: usize,
    key: Option<String>,
    message: String,
}

impl Finding {
    pub(super) fn at(text: &str, offset: usize, key: Option<String>, message: &str) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
        let column = before.get(start..).unwrap_or_default().chars().count();
        Self {
            line: before.matches('\n').count().saturating_add(1),
            column: column.saturating_add(1),
            key,
            message: message.trim_end().replace('\n', "; "),
        }
    }

    /// One line for people.
    pub(super) fn text(&self, path: &Path) -> String {
        let (line, column) = (self.line, self.column);
        let key = match &self.key {
            // Some sentences begin with the key.
            Some(key) if !self.message.starts_with(key.as_str()) => format!("{key}: "),
            _ => String::new(),
        };
        let path = path.display();
        format!(
            "{path}: line {line}, column {column}: {key}{}",
            self.message
        )
    }

    /// The same for machines; what is said is called `what`.
    pub(super) fn json(&self, path: &Path, what: &str) -> Value {
        json!({
            "file": path.display().to_string(),
            "line": self.line,
            "column": self.column,
            "key": self.key,
            what: self.message,
        })
    }
}

/// What was taken out.
struct Taken {
    /// The table and the key, such as `tpm.pcrs`.
    path: String,
    /// Where it is.
    at: usize,
}

/// The configuration, or all that is wrong with it, from the top down.
pub(super) fn findings(text: &str) -> Result<Config, Vec<Finding>> {
    let (mut table, slips) = DeTable::parse_recoverable(text);
    if !slips.is_empty() {
        // What could be recovered is not what was meant.
        let slips = slips.iter().map(|slip| {
            let at = slip.span().unwrap_or_default().start;
            Finding::at(text, at, None, &words::slip(text, at, slip.message()))
        });
        return Err(slips.collect());
    }
    let whole = table.clone();
    let keys = Keys::probed();
    let mut found = Vec::new();
    let mut gone = BTreeSet::new();
    while found.len() < FINDINGS_MAX {
        let error = match Config::of_table(table.clone()) {
            Ok(config) => {
                let broken = config.broken();
                found.extend(
                    broken.filter_map(|it| of_rule(text, whole.get_ref(), &keys, &gone, &it)),
                );
                if found.is_empty() {
                    return Ok(config);
                }
                break;
            }
            Err(error) => error,
        };
        let span = error.span().unwrap_or_default();
        let message = error.message();
        let Some(taken) = take(table.get_mut(), &span, "") else {
            // It is about the whole: a table that is missing.
            if !gone
                .iter()
                .any(|name| message.contains(&format!("`{name}`")))
            {
                let key = words::missing(message);
                found.push(Finding::at(text, 0, key, &words::said("", message, &keys)));
            }
            break;
        };
        // What was taken out before is not missing, and what was meant by a slip is not either.
        let missing = words::missing(message);
        if missing.as_ref().is_none_or(|name| !gone.contains(name)) {
            let said = words::said(&taken.path, message, &keys);
            gone.extend(words::meant(&said));
            let key = match missing {
                Some(name) => format!("{}.{name}", taken.path),
                None => taken.path.clone(),
            };
            found.push(Finding::at(text, taken.at, Some(key), &said));
        }
        let (_, name) = taken.path.rsplit_once('.').unwrap_or(("", &taken.path));
        gone.insert(name.to_owned());
    }
    found.sort_by_key(|finding| (finding.line, finding.column));
    Err(found)
}

/// Takes out what an error at `span` is about: an entry, or the table that lacks one.
fn take(table: &mut DeTable<'_>, span: &Range<usize>, path: &str) -> Option<Taken> {
    let mut wrong = None;
    for (key, value) in table.iter_mut() {
        let name = match path {
            "" => key.get_ref().to_string(),
            path => format!("{path}.{}", key.get_ref()),
        };
        let (key_span, value_span) = (key.span(), value.span());
        let below = match value.get_mut() {
            DeValue::Table(table) => take(table, span, &name),
            DeValue::Array(array) => take_of(array, span, &name),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => None,
        };
        if below.is_some() {
            return below;
        }
        if key_span == *span || (value_span.start <= span.start && span.end <= value_span.end) {
            wrong = Some((key.get_ref().to_string(), name, key_span.start));
            break;
        }
    }
    let (key, path, at) = wrong?;
    table.remove(key.as_str());
    Some(Taken { path, at })
}

/// The same of a list of tables. An element of another list goes with its list.
fn take_of(array: &mut DeArray<'_>, span: &Range<usize>, path: &str) -> Option<Taken> {
    let mut wrong = None;
    for (index, element) in array.iter_mut().enumerate() {
        let whole = element.span();
        let DeValue::Table(table) = element.get_mut() else {
            return None;
        };
        if let Some(taken) = take(table, span, path) {
            return Some(taken);
        }
        if whole == *span {
            wrong = Some((index, whole.start));
        }
    }
    let (wrong, at) = wrong?;
    let mut left = DeArray::new();
    for (index, element) in array.iter().enumerate() {
        if index != wrong {
            left.push(element.clone());
        }
    }
    *array = left;
    let path = path.to_owned();
    Some(Taken { path, at })
}

/// What a rule says that no single value shows, at the key that it names first. Not what follows from something taken out.
fn of_rule(
    text: &str,
    whole: &DeTable<'_>,
    keys: &Keys,
    gone: &BTreeSet<String>,
    broken: &Broken,
) -> Option<Finding> {
    let message = &broken.message;
    let words = || {
        let is_word = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        message
            .split(move |c| !is_word(c))
            .filter(|word| !word.is_empty())
    };
    if words().any(|word| word.split('.').any(|part| gone.contains(part))) {
        return None;
    }
    if broken.span.is_empty() {
        let key = words().find(|word| keys.has_path(word));
        let at = key.map_or(0, |key| offset(whole, key));
        return Some(Finding::at(text, at, key.map(str::to_owned), message));
    }
    let volumes = whole
        .get("volume")
        .and_then(|volumes| volumes.get_ref().as_array());
    let volume = volumes
        .into_iter()
        .flat_map(|volumes| volumes.iter())
        .find(|volume| volume.span() == broken.span);
    let volume = volume.and_then(|volume| volume.get_ref().as_table());
    // The first two words are "volume" and its name.
    let key = words().skip(2).find(|word| keys.has("volume", word));
    let entry = key.and_then(|key| volume?.get_key_value(key));
    let at = entry.map_or(broken.span.start, |(key, _)| key.span().start);
    let key = key.map(|key| format!("volume.{key}"));
    Some(Finding::at(text, at, key, message))
}

/// Where a key is, or else its table, or else the top.
fn offset(whole: &DeTable<'_>, path: &str) -> usize {
    let (table, key) = path.split_once('.').unwrap_or((path, ""));
    let Some((name, value)) = whole.get_key_value(table) else {
        return 0;
    };
    let below = value.get_ref().as_table();
    let below = below.and_then(|below| below.get_key_value(key));
    below.map_or_else(|| name.span().start, |(key, _)| key.span().start)
}

/// Where a key of the volume of this number is, for those who judge values.
pub(super) fn offset_in_volume(whole: &Spanned<DeTable<'_>>, number: usize, key: &str) -> usize {
    let volumes = whole.get_ref().get("volume");
    let volumes = volumes.and_then(|volumes| volumes.get_ref().as_array());
    let Some(volume) = volumes.and_then(|volumes| volumes.get(number)) else {
        return 0;
    };
    let table = volume.get_ref().as_table();
    let entry = table.and_then(|table| table.get_key_value(key));
    entry.map_or(volume.span().start, |(key, _)| key.span().start)
}

/// Where a key of a table is.
pub(super) fn offset_of(whole: &Spanned<DeTable<'_>>, path: &str) -> usize {
    offset(whole.get_ref(), path)
}
