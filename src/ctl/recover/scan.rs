// SPDX-License-Identifier: Apache-2.0
//! The list of addresses where nodes may wait.

use std::path::Path;

use crate::ctl::input;
use crate::error::{Doing, Error, Result};

/// The longest list that is read, in bytes.
const LIST_LEN_MAX: usize = 1 << 20;

/// How many addresses it may have: all of them are tried within minutes.
const ADDRESSES_MAX: usize = 4096;

pub(super) fn read(path: &Path) -> Result<Vec<String>> {
    let text = input::text(path, LIST_LEN_MAX);
    text.and_then(|text| parse(&text)).doing(path.display())
}

/// An address a line; empty lines and those that begin with `#` are none.
fn parse(text: &str) -> Result<Vec<String>> {
    let mut addresses: Vec<String> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let address = line.trim();
        if address.is_empty() || address.starts_with('#') {
            continue;
        }
        let is_address = |c: char| c.is_ascii_alphanumeric() || "-.:[]%_".contains(c);
        if !address.chars().all(is_address) {
            return Err(Error::config(format_args!(
                "line {}: expected one address, with a port where that is not 9999, and no network",
                index.saturating_add(1)
            )));
        }
        if !addresses.iter().any(|known| known == address) {
            addresses.push(address.to_owned());
        }
    }
    match addresses.len() {
        0 => Err(Error::config("expected an address a line, found none")),
        1..=ADDRESSES_MAX => Ok(addresses),
        many => Err(Error::config(format_args!(
            "expected {ADDRESSES_MAX} addresses at most, found {many}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_is_addresses_and_nothing_else() {
        let list = "# rack 4\n\n192.0.2.7\n node-8.example:9998 \n[2001:db8::9]:9999\n192.0.2.7\n";
        let read = ["192.0.2.7", "node-8.example:9998", "[2001:db8::9]:9999"];
        assert_eq!(parse(list).unwrap(), read);
        for wrong in ["192.0.2.0/24\n", "192.0.2.7 192.0.2.8\n", "\u{1b}[2J\n"] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.starts_with("line 1: expected one address"), "{error}");
        }
        assert!(parse("# none\n").is_err());
        let many = |count: usize| {
            let lines = (0..count).map(|number| format!("node-{number}\n"));
            parse(&lines.collect::<String>())
        };
        assert_eq!(many(ADDRESSES_MAX).unwrap().len(), ADDRESSES_MAX);
        assert!(many(ADDRESSES_MAX + 1).is_err());
    }
}
