// SPDX-License-Identifier: Apache-2.0
//! What a node tells of a boot before this one that failed.

use serde::{Deserialize, Serialize};

use crate::error::Exit;
use crate::logging::printable;

/// The longest sentence, in characters.
pub const SENTENCE_LEN_MAX: usize = 184;

/// The sentence of a boot before this one that failed, as the node's TPM has kept it. The node's word, which whatever runs there can
/// have written: nothing follows from it. Services of before do not read it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LastFailure {
    /// The exit code.
    pub exit: u8,
    /// The sentence.
    pub sentence: String,
    /// The TPM's count of resets in the first of the boots in a row that said so.
    pub reset_count: u32,
}

impl LastFailure {
    /// The same, short and of printable ASCII, as it may be shown.
    #[must_use]
    pub fn shown(&self) -> Self {
        let mut sentence = printable(&self.sentence);
        sentence.truncate(SENTENCE_LEN_MAX);
        Self {
            sentence,
            ..self.clone()
        }
    }

    /// The verdict's word.
    #[must_use]
    pub fn result(&self) -> &'static str {
        Exit::from_code(self.exit).map_or("unknown", Exit::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_is_shown_short_and_plain() {
        let told = |sentence: &str| LastFailure {
            exit: 77,
            sentence: sentence.into(),
            reset_count: 7,
        };
        let plain = told("volume state: its disk is older than its last boot");
        assert_eq!(plain.shown(), plain);
        assert_eq!(plain.result(), "refused");
        assert_eq!(told("a\u{1b}[2J\n\u{202e}b").shown().sentence, "a?[2J??b");
        let long = "é".repeat(400);
        assert_eq!(told(&long).shown().sentence, "?".repeat(184));
        assert_eq!(LastFailure { exit: 0, ..plain }.result(), "unknown");
    }
}
