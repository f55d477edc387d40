// SPDX-License-Identifier: Apache-2.0
//! How a broken rule is told: rule, field, what was expected, what was found.
//!
//! Rules are numbered as in the documentation of [`header`](super); a letter names the group, the number is unique.

use std::fmt::{Debug, Display};
use std::ops::RangeInclusive;

use crate::error::{Error, Result};

/// Longest piece of a disk's content that is repeated in a message.
const SHOWN_CHARS: usize = 72;

/// A refusal: `rule C10: segments.0.encryption: <what>`.
pub(super) fn violation(rule: &str, field: impl Display, what: impl Display) -> Error {
    Error::refused(format_args!("rule {rule}: {field}: {what}"))
}

/// A refusal that says what was expected and what was found.
pub(super) fn unexpected(
    rule: &str,
    field: impl Display,
    expected: impl Display,
    found: impl Debug,
) -> Error {
    violation(
        rule,
        field,
        format_args!("expected {expected}, found {}", shown(found)),
    )
}

/// Refuses a value that is not the one the template has.
pub(super) fn equal<T: Debug + PartialEq>(
    rule: &str,
    field: impl Display,
    found: T,
    expected: T,
) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let expected = shown(expected);
    Err(unexpected(rule, field, expected, found))
}

/// Refuses a word that is not in the list.
pub(super) fn one_of(
    rule: &str,
    field: impl Display,
    found: &str,
    expected: &[&str],
) -> Result<()> {
    if expected.contains(&found) {
        return Ok(());
    }
    let words: Vec<String> = expected.iter().map(|word| format!("{word:?}")).collect();
    Err(unexpected(rule, field, words.join(" or "), found))
}

/// Refuses a number out of bounds.
pub(super) fn within(
    rule: &str,
    field: impl Display,
    found: u64,
    bounds: &RangeInclusive<u64>,
) -> Result<()> {
    let (least, most) = (bounds.start(), bounds.end());
    if bounds.contains(&found) {
        return Ok(());
    }
    let expected = if least == most {
        least.to_string()
    } else {
        format!("{least} to {most}")
    };
    Err(unexpected(rule, field, expected, found))
}

/// A value as it may appear in a log line: escaped and cut.
fn shown(value: impl Debug) -> String {
    let mut text = format!("{value:?}");
    if let Some((end, _)) = text.char_indices().nth(SHOWN_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}
