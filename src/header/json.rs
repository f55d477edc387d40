// SPDX-License-Identifier: Apache-2.0
//! The JSON of LUKS2 metadata, in the one spelling libcryptsetup writes.
//!
//! json-c, which libcryptsetup reads with, accepts comments, single quotes, escapes and duplicate keys (the last one
//! wins), so two parsers can see two headers in the same bytes. This grammar is a small part of RFC 8259 in which that
//! cannot happen: no white space, no escapes, printable ASCII only, no duplicate keys, no null, no numbers but
//! non-negative integers. Whatever it accepts, every JSON parser reads the same way.

use super::reader::first_nonzero;
use super::violation::violation;
use crate::error::{Error, Result};

/// Deepest nesting accepted. LUKS2 needs 5: metadata, `segments`, `"0"`, `integrity` and a value.
const MAX_DEPTH: u8 = 8;

/// A JSON value. Strings borrow from the header: without escapes there is nothing to decode.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Node<'a> {
    Object(Vec<(&'a str, Node<'a>)>),
    Array(Vec<Node<'a>>),
    Text(&'a str),
    Number(u64),
    Bool(bool),
}

/// Parses a JSON area: one object, then nothing but zeros.
pub(super) fn parse(area: &[u8]) -> Result<Node<'_>> {
    let end = area
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(area.len());
    let (text, padding) = area.split_at_checked(end).unwrap_or((area, &[]));
    if let Some(offset) = first_nonzero(padding) {
        return Err(violation(
            "C8",
            "metadata",
            format_args!(
                "expected zeros after the JSON, found something at byte {}",
                end.saturating_add(offset)
            ),
        ));
    }
    let mut parser = Parser { text, at: 0 };
    let node = parser.value(0)?;
    if parser.at < text.len() {
        return Err(parser.expected("the end of the JSON"));
    }
    Ok(node)
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Parser<'a> {
    fn value(&mut self, depth: u8) -> Result<Node<'a>> {
        if depth >= MAX_DEPTH {
            return Err(self.expected(format_args!("at most {MAX_DEPTH} levels")));
        }
        let deeper = depth.saturating_add(1);
        match self.peek() {
            Some(b'{') => self.object(deeper),
            Some(b'[') => self.array(deeper),
            Some(b'"') => self.text().map(Node::Text),
            Some(b'0'..=b'9') => self.number(),
            _ if self.skip(b"true") => Ok(Node::Bool(true)),
            _ if self.skip(b"false") => Ok(Node::Bool(false)),
            _ => Err(self.expected("an object, an array, a string, a whole number or a boolean")),
        }
    }

    fn object(&mut self, depth: u8) -> Result<Node<'a>> {
        let mut entries: Vec<(&str, Node<'_>)> = Vec::new();
        self.require(b"{")?;
        if self.skip(b"}") {
            return Ok(Node::Object(entries));
        }
        loop {
            let start = self.at;
            let key = self.text()?;
            if entries.iter().any(|(other, _)| *other == key) {
                self.at = start;
                return Err(self.expected(format_args!("the key {key:?} only once")));
            }
            self.require(b":")?;
            entries.push((key, self.value(depth)?));
            if self.skip(b"}") {
                return Ok(Node::Object(entries));
            }
            self.require(b",")?;
        }
    }

    fn array(&mut self, depth: u8) -> Result<Node<'a>> {
        let mut items = Vec::new();
        self.require(b"[")?;
        if self.skip(b"]") {
            return Ok(Node::Array(items));
        }
        loop {
            items.push(self.value(depth)?);
            if self.skip(b"]") {
                return Ok(Node::Array(items));
            }
            self.require(b",")?;
        }
    }

    fn text(&mut self) -> Result<&'a str> {
        self.require(b"\"")?;
        let rest = self.text.get(self.at..).unwrap_or_default();
        let len = rest
            .iter()
            .position(|byte| !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\'))
            .unwrap_or(rest.len());
        let text = rest.get(..len).and_then(|text| str::from_utf8(text).ok());
        self.at = self.at.saturating_add(len);
        if !self.skip(b"\"") {
            return Err(self.expected("a printable ASCII character without escapes"));
        }
        text.ok_or_else(|| self.expected("ASCII"))
    }

    fn number(&mut self) -> Result<Node<'a>> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let len = rest
            .iter()
            .position(|byte| !byte.is_ascii_digit())
            .unwrap_or(rest.len());
        let digits = rest.get(..len).and_then(|text| str::from_utf8(text).ok());
        match digits.and_then(canonical) {
            Some(number) => {
                self.at = self.at.saturating_add(len);
                Ok(Node::Number(number))
            }
            None => Err(self.expected("a number below 2^63 without leading zeros")),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip(&mut self, word: &[u8]) -> bool {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let found = rest.starts_with(word);
        if found {
            self.at = self.at.saturating_add(word.len());
        }
        found
    }

    fn require(&mut self, word: &[u8]) -> Result<()> {
        if self.skip(word) {
            return Ok(());
        }
        Err(self.expected(format_args!("'{}'", String::from_utf8_lossy(word))))
    }

    fn expected(&self, what: impl std::fmt::Display) -> Error {
        let found = match self.peek() {
            Some(byte @ b' '..=b'~') => format!("'{}'", char::from(byte)),
            Some(byte) => format!("byte 0x{byte:02x}"),
            None => "the end".into(),
        };
        violation(
            "C8",
            format_args!("metadata byte {}", self.at),
            format_args!("expected {what}, found {found}"),
        )
    }
}

/// A whole number in its only spelling. json-c keeps numbers in an `int64_t`.
pub(super) fn canonical(digits: &str) -> Option<u64> {
    let number = digits.parse::<u64>().ok()?;
    let same = number.to_string() == digits;
    (same && i64::try_from(number).is_ok()).then_some(number)
}
