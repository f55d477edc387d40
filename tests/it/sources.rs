// SPDX-License-Identifier: Apache-2.0
//! The text of the tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The top of the tree.
pub(crate) fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file's text, by its path from the top.
pub(crate) fn read(path: &str) -> String {
    let path = top().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below `directory` that end in `.extension`.
pub(crate) fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![top().join(directory)];
    while let Some(directory) = left.pop() {
        let hidden = |path: &Path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with('.'))
        };
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !hidden(&path) {
                left.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The text of all files below `directories` that end in `.extension`, as one.
pub(crate) fn text(directories: &[&str], extension: &str) -> String {
    directories
        .iter()
        .flat_map(|directory| files(directory, extension))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

/// The names of all tests: functions marked as one, and cases of whole boots, where what varies in a name is a gap.
pub(crate) fn tests() -> BTreeSet<String> {
    let (rust, python) = (text(&["src", "tests"], "rs"), text(&["tests/boots"], "py"));
    let functions = rust.split("#[test]\n").skip(1).map(|after| {
        let (_, name) = after.split_once("fn ").unwrap();
        name.split('(').next().unwrap().to_owned()
    });
    let cases = python.split("outcome.case(").skip(1).map(|after| {
        let (_, name) = after.split_once('"').unwrap();
        gaps(name.split('"').next().unwrap())
    });
    functions.chain(cases).collect()
}

/// The text of a formatted string of Python.
fn gaps(name: &str) -> String {
    let mut parts = name.split('{');
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |name, part| {
        let (_, after) = part.split_once('}').unwrap();
        name + "…" + after
    })
}

/// The program's sources with string literals as they print: continued lines joined, quotes not escaped.
pub(crate) fn printed() -> String {
    let mut printed = String::new();
    let sources = text(&["src"], "rs");
    let mut rest = sources.as_str();
    while let Some(at) = rest.find("\\\n") {
        printed.push_str(rest.get(..at).unwrap());
        rest = rest.get(at + 2..).unwrap().trim_start();
    }
    printed.push_str(rest);
    printed.replace("\\\"", "\"")
}
