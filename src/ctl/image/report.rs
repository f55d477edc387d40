// SPDX-License-Identifier: Apache-2.0
//! What was found in an image: a line for each check, and a table of sizes.

use std::path::Path;

use serde_json::{Value, json};

use super::sizes::Size;
use crate::ctl::Answer;
use crate::ctl::table::{section, table};
use crate::error::Exit;

/// What a check came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Good,
    /// The image would not boot as it has to, or is open.
    Missing,
    /// Good enough, and to be known.
    Note,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Missing => "missing",
            Self::Note => "note",
        }
    }
}

#[derive(Debug)]
struct Check {
    what: &'static str,
    verdict: Verdict,
    text: String,
}

/// All checks and sizes of an image.
#[derive(Debug, Default)]
pub(super) struct Report {
    checks: Vec<Check>,
    sizes: Vec<Size>,
    is_config_wrong: bool,
}

impl Report {
    pub(super) fn good(&mut self, what: &'static str, text: impl Into<String>) {
        self.add(what, Verdict::Good, &text.into());
    }

    pub(super) fn missing(&mut self, what: &'static str, text: impl Into<String>) {
        self.add(what, Verdict::Missing, &text.into());
    }

    pub(super) fn note(&mut self, what: &'static str, text: impl Into<String>) {
        self.add(what, Verdict::Note, &text.into());
    }

    /// The configuration in it is wrong, which is another exit code.
    pub(super) fn config_wrong(&mut self, what: &'static str, text: impl Into<String>) {
        self.is_config_wrong = true;
        self.missing(what, text);
    }

    pub(super) fn size(&mut self, size: Size) {
        self.sizes.push(size);
    }

    /// A line for each thing that is missing, or else one that says that all is there.
    pub(super) fn all_or(
        &mut self,
        what: &'static str,
        missing: Vec<String>,
        good: impl Into<String>,
    ) {
        if missing.is_empty() {
            self.good(what, good);
        }
        for text in missing {
            self.missing(what, text);
        }
    }

    /// Names in an initrd are its maker's: nothing of them ends a line or is a terminal's command.
    fn add(&mut self, what: &'static str, verdict: Verdict, text: &str) {
        let text = text.replace(char::is_control, "\u{fffd}");
        self.checks.push(Check {
            what,
            verdict,
            text,
        });
    }

    fn exit(&self) -> Option<Exit> {
        let is_missing = |check: &Check| check.verdict == Verdict::Missing;
        let exit = if self.is_config_wrong {
            Exit::Config
        } else {
            Exit::Refused
        };
        self.checks.iter().any(is_missing).then_some(exit)
    }

    /// All that is missing, and the exit code of that.
    pub(super) fn missing_ones(&self) -> Option<(Exit, Vec<String>)> {
        let checks = self.checks.iter();
        let missing = checks.filter(|check| check.verdict == Verdict::Missing);
        let missing = missing.map(|check| format!("{}: {}", check.what, check.text));
        self.exit().map(|exit| (exit, missing.collect()))
    }

    pub(super) fn answer(&self, path: &Path) -> Answer {
        let checks = self.checks.iter().map(|check| {
            let (what, verdict) = (check.what, check.verdict.as_str());
            format!("{verdict:7}  {what}: {}\n", check.text)
        });
        let sizes = table(
            &["PART", "FILES", "BYTES", "UNPACKED"],
            self.sizes.iter().map(Size::row),
        );
        let text = checks.collect::<String>() + &section(&sizes);
        let json = self.json(path);
        match self.exit() {
            None => Answer::new(text, json),
            Some(exit) => Answer::refused(exit, text, json),
        }
    }

    fn json(&self, path: &Path) -> Value {
        let checks = self.checks.iter().map(|check| {
            json!({"check": check.what, "result": check.verdict.as_str(), "text": check.text})
        });
        let sizes: Vec<Value> = self.sizes.iter().map(Size::json).collect();
        let mut json = json!({
            "result": "complete",
            "file": path.display().to_string(),
            "checks": checks.collect::<Vec<_>>(),
            "sizes": sizes,
        });
        let mut missing = self.checks.iter();
        let first = missing.find(|check| check.verdict == Verdict::Missing);
        if let (Some(map), Some(exit), Some(first)) = (json.as_object_mut(), self.exit(), first) {
            map.insert("result".into(), exit.as_str().into());
            map.insert("exit".into(), exit.code().into());
            let error = format!("{}: {}: {}", path.display(), first.what, first.text);
            map.insert("error".into(), error.into());
        }
        json
    }
}
