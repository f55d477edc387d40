// SPDX-License-Identifier: Apache-2.0
//! The fleet's list: which volumes belong to which endorsement key.

use std::collections::BTreeMap;
use std::path::Path;

use crate::ctl::input;
use crate::error::{Doing, Error, Result};
use crate::protocol::admin::is_ek;

/// The longest list that is read, in bytes: some ten thousand volumes.
const LIST_LEN_MAX: usize = 1 << 20;

/// Endorsement keys by volume.
#[derive(Debug)]
pub(super) struct Expected(BTreeMap<String, String>);

impl Expected {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = input::text(path, LIST_LEN_MAX);
        text.and_then(|text| Self::parse(&text))
            .doing(path.display())
    }

    /// A pair a line; empty lines and those that begin with `#` are none.
    fn parse(text: &str) -> Result<Self> {
        let mut owners = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: &str| {
                Error::config(format_args!(
                    "line {}: expected the 64 digits of an endorsement key and the UUID of a volume in lower case: {why}",
                    index.saturating_add(1)
                ))
            };
            let words: Vec<&str> = line.split_whitespace().collect();
            let [ek, uuid] = words[..] else {
                return Err(wrong("there are not two words"));
            };
            let is_uuid = uuid::Uuid::try_parse(uuid).is_ok_and(|it| it.to_string() == uuid);
            if !is_ek(ek) || !is_uuid {
                return Err(wrong("they are something else"));
            }
            if owners.insert(uuid.to_owned(), ek.to_owned()).is_some() {
                return Err(wrong("the volume is there twice"));
            }
        }
        Ok(Self(owners))
    }

    /// Whose the volume is.
    pub(super) fn owner(&self, uuid: &str) -> Option<&str> {
        self.0.get(uuid).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_pairs_and_nothing_else() {
        let (ek, uuid) = ("0f".repeat(32), "a6c7535f-0a9f-4c23-9524-fed431126906");
        let list = Expected::parse(&format!("# fleet\n\n{ek}  {uuid}\n")).unwrap();
        assert_eq!(list.owner(uuid), Some(ek.as_str()));
        assert_eq!(list.owner("a6c7535f-0a9f-4c23-9524-fed431126907"), None);
        for wrong in [
            format!("{ek}\n"),
            format!("{uuid} {ek}\n"),
            format!("{ek} {}\n", uuid.to_uppercase()),
            format!("{ek} {uuid} more\n"),
            format!("{ek} {uuid}\n{ek} {uuid}\n"),
        ] {
            let error = Expected::parse(&wrong).unwrap_err().to_string();
            assert!(error.starts_with("line "), "{error}");
        }
    }
}
