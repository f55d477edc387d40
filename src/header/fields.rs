// SPDX-License-Identifier: Apache-2.0
//! From JSON to typed values: every key is asked for by name, and a key nobody asked for is refused.

use std::collections::{BTreeMap, BTreeSet};

use base64ct::{Base64, Encoding};

use super::json::{self, Node};
use super::violation::{unexpected, violation};
use crate::error::{Error, Result};

/// Most objects of one kind, the limit libcryptsetup has (`LUKS2_KEYSLOTS_MAX`, `LUKS2_TOKENS_MAX`).
const MAX_IDS: u8 = 32;

/// A value, the path that leads to it and the rule it is checked under.
#[derive(Debug)]
pub(super) struct Field<'n, 'a> {
    pub(super) rule: &'static str,
    pub(super) path: String,
    node: &'n Node<'a>,
}

/// The keys of an object that were not asked for yet.
#[derive(Debug)]
pub(super) struct Fields<'n, 'a> {
    rule: &'static str,
    path: String,
    left: BTreeMap<&'a str, &'n Node<'a>>,
}

impl<'n, 'a> Field<'n, 'a> {
    /// The metadata as a whole.
    pub(super) fn root(rule: &'static str, node: &'n Node<'a>) -> Self {
        Self {
            rule,
            path: "metadata".into(),
            node,
        }
    }

    /// The same value under another rule.
    pub(super) fn under(mut self, rule: &'static str) -> Self {
        self.rule = rule;
        self
    }

    pub(super) fn text(&self) -> Result<&'a str> {
        match self.node {
            Node::Text(text) => Ok(text),
            Node::Object(_) | Node::Array(_) | Node::Number(_) | Node::Bool(_) => {
                Err(self.expected("a string"))
            }
        }
    }

    /// A text, if it is exactly `expected`.
    pub(super) fn literal(&self, expected: &str) -> Result<()> {
        match self.text()? {
            text if text == expected => Ok(()),
            _ => Err(self.expected(format_args!("{expected:?}"))),
        }
    }

    pub(super) fn number(&self) -> Result<u64> {
        match self.node {
            Node::Number(number) => Ok(*number),
            Node::Object(_) | Node::Array(_) | Node::Text(_) | Node::Bool(_) => {
                Err(self.expected("a whole number"))
            }
        }
    }

    pub(super) fn boolean(&self) -> Result<bool> {
        match self.node {
            Node::Bool(value) => Ok(*value),
            Node::Object(_) | Node::Array(_) | Node::Text(_) | Node::Number(_) => {
                Err(self.expected("true or false"))
            }
        }
    }

    /// A number in a string, which is how LUKS2 writes 64-bit ones.
    pub(super) fn decimal(&self) -> Result<u64> {
        json::canonical(self.text()?).ok_or_else(|| {
            self.expected("a whole number in a string, without sign or leading zeros")
        })
    }

    /// Base64 with padding, in its only spelling.
    pub(super) fn base64(&self) -> Result<Vec<u8>> {
        let text = self.text()?;
        Base64::decode_vec(text)
            .ok()
            .filter(|bytes| Base64::encode_string(bytes) == text)
            .ok_or_else(|| self.expected("canonical base64"))
    }

    /// Base64 of exactly `N` bytes.
    pub(super) fn base64_array<const N: usize>(&self) -> Result<[u8; N]> {
        self.base64()?
            .try_into()
            .map_err(|bytes: Vec<u8>| self.sized(N, bytes.len()))
    }

    /// Lower-case hexadecimal of exactly `N` bytes.
    pub(super) fn hex_array<const N: usize>(&self) -> Result<[u8; N]> {
        let text = self.text()?;
        hex::decode(text)
            .ok()
            .filter(|bytes| hex::encode(bytes) == text)
            .ok_or_else(|| self.expected("lower-case hexadecimal"))?
            .try_into()
            .map_err(|bytes: Vec<u8>| self.sized(N, bytes.len()))
    }

    pub(super) fn array(&self) -> Result<Vec<Field<'n, 'a>>> {
        let Node::Array(items) = self.node else {
            return Err(self.expected("an array"));
        };
        let item = |(index, node)| Field {
            rule: self.rule,
            path: format!("{}.{index}", self.path),
            node,
        };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// An array of ids: strings "0" to "31", each once.
    pub(super) fn ids(&self) -> Result<BTreeSet<u8>> {
        let mut ids = BTreeSet::new();
        for item in self.array()? {
            let id = item.text().ok().and_then(id);
            if !id.is_some_and(|id| ids.insert(id)) {
                return Err(item.expected("an id from \"0\" to \"31\", once"));
            }
        }
        Ok(ids)
    }

    /// An object whose keys are names.
    pub(super) fn fields(self) -> Result<Fields<'n, 'a>> {
        let Node::Object(entries) = self.node else {
            return Err(self.expected("an object"));
        };
        Ok(Fields {
            rule: self.rule,
            left: entries.iter().map(|(key, node)| (*key, node)).collect(),
            path: match self.path.as_str() {
                "metadata" => String::new(),
                path => format!("{path}."),
            },
        })
    }

    /// An object whose keys are ids.
    pub(super) fn map(self) -> Result<Vec<(u8, Field<'n, 'a>)>> {
        let Node::Object(entries) = self.node else {
            return Err(self.expected("an object"));
        };
        let entry = |(key, node): &'n (&'a str, Node<'a>)| {
            let path = format!("{}.{key}", self.path);
            match id(key) {
                Some(id) => Ok((
                    id,
                    Field {
                        rule: self.rule,
                        path,
                        node,
                    },
                )),
                None => Err(unexpected(
                    self.rule,
                    &self.path,
                    "ids from \"0\" to \"31\"",
                    key,
                )),
            }
        };
        entries.iter().map(entry).collect()
    }

    /// The refusal of this value where something else was expected.
    pub(super) fn expected(&self, what: impl std::fmt::Display) -> Error {
        match self.node {
            Node::Text(text) => unexpected(self.rule, &self.path, what, text),
            Node::Number(number) => unexpected(self.rule, &self.path, what, number),
            Node::Bool(value) => unexpected(self.rule, &self.path, what, value),
            Node::Array(_) => self.other(what, "an array"),
            Node::Object(_) => self.other(what, "an object"),
        }
    }

    fn other(&self, what: impl std::fmt::Display, found: &str) -> Error {
        violation(
            self.rule,
            &self.path,
            format_args!("expected {what}, found {found}"),
        )
    }

    fn sized(&self, expected: usize, found: usize) -> Error {
        violation(
            self.rule,
            &self.path,
            format_args!("expected {expected} bytes, found {found}"),
        )
    }
}

impl<'n, 'a> Fields<'n, 'a> {
    /// The value of a key that must be there.
    pub(super) fn take(&mut self, key: &str) -> Result<Field<'n, 'a>> {
        self.take_if_there(key).ok_or_else(|| {
            violation(
                self.rule,
                format_args!("{}{key}", self.path),
                "expected this key, found none",
            )
        })
    }

    /// The value of a key that may be there.
    pub(super) fn take_if_there(&mut self, key: &str) -> Option<Field<'n, 'a>> {
        let node = self.left.remove(key)?;
        Some(Field {
            rule: self.rule,
            path: format!("{}{key}", self.path),
            node,
        })
    }

    /// Refuses what is left.
    pub(super) fn finish(self) -> Result<()> {
        match self.left.first_key_value() {
            None => Ok(()),
            Some((key, _)) => Err(violation(
                self.rule,
                format_args!("{}{key}", self.path),
                "expected no such key, found one",
            )),
        }
    }
}

/// An id of a keyslot, token, segment or digest.
fn id(text: &str) -> Option<u8> {
    let number = json::canonical(text)?;
    u8::try_from(number).ok().filter(|id| *id < MAX_IDS)
}
