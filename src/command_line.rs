// SPDX-License-Identifier: Apache-2.0
//! The kernel's command line: `/proc/cmdline`, which is measured, and not the EFI variable that systemd reads beside it.
//!
//! **Never:** a word from anywhere else is taken for one of the kernel's.

use std::fs;
use std::path::Path;

use crate::error::{Doing, Result};

/// Where the kernel shows it, below the root.
const PATH: &str = "proc/cmdline";

/// The words of the kernel's command line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CommandLine(Vec<String>);

impl CommandLine {
    /// Reads it below `root`, which is `/` outside of tests.
    pub fn load(root: &Path) -> Result<Self> {
        let path = root.join(PATH);
        let text = fs::read_to_string(&path).doing(format_args!("reading {}", path.display()))?;
        Ok(Self::parse(&text))
    }

    /// Splits it at white space outside of double quotes, which are left out (Linux, `lib/cmdline.c`, `next_arg`).
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut words = Vec::new();
        let (mut word, mut is_quoted) = (String::new(), false);
        for c in text.chars() {
            match c {
                '"' => is_quoted = !is_quoted,
                _ if c.is_ascii_whitespace() && !is_quoted => {
                    if !word.is_empty() {
                        words.push(std::mem::take(&mut word));
                    }
                }
                _ => word.push(c),
            }
        }
        if !word.is_empty() {
            words.push(word);
        }
        Self(words)
    }

    /// Whether the word stands there alone.
    #[must_use]
    pub fn has(&self, word: &str) -> bool {
        self.0.iter().any(|it| it == word)
    }

    /// What `key=` is set to: the last one counts, as for systemd.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        let mut values = self.0.iter().rev().filter_map(|word| word.split_once('='));
        values.find_map(|(name, value)| (name == key).then_some(value))
    }

    /// The words that the kernel takes for its own: those up to `--` (Linux, `init/main.c`, `parse_args`).
    pub fn of_kernel(&self) -> impl Iterator<Item = &str> {
        let words = self.0.iter().map(String::as_str);
        words.take_while(|word| *word != "--")
    }

    /// Whether it has the kernel leave the firmware's variables alone. `efi=` takes a list; `runtime` in one turns them on again
    /// (Linux, drivers/firmware/efi/efi.c).
    #[must_use]
    pub fn turns_variables_off(&self) -> bool {
        let lists = self
            .of_kernel()
            .filter_map(|word| word.strip_prefix("efi="));
        let options: Vec<&str> = lists.flat_map(|list| list.split(',')).collect();
        options.contains(&"noruntime") && !options.contains(&"runtime")
    }

    /// Whether it keeps a hibernation image of somebody else's from being resumed; `noresume` does not (Linux,
    /// kernel/power/hibernate.c).
    #[must_use]
    pub fn turns_hibernation_off(&self) -> bool {
        self.of_kernel().any(|word| word == "nohibernate")
    }

    /// Which of two words without a value comes last.
    #[must_use]
    pub fn last_of<'a>(&self, words: [&'a str; 2]) -> Option<&'a str> {
        let mut found = self.0.iter().rev();
        found.find_map(|word| words.into_iter().find(|it| it == word))
    }
}

#[cfg(test)]
mod tests {
    use crate::command_line::*;

    #[test]
    fn words_are_split_as_the_kernel_splits_them() {
        let line =
            CommandLine::parse("root=/dev/a  quiet ro\tx=\"a b\" \"y=c d\" rw root=/dev/b\n");
        assert_eq!(line.value("root"), Some("/dev/b"));
        assert_eq!(line.value("x"), Some("a b"));
        assert_eq!(line.value("y"), Some("c d"));
        assert_eq!(line.value("roo"), None);
        assert!(line.has("quiet") && !line.has("qui") && !line.has("root"));
        assert_eq!(line.last_of(["ro", "rw"]), Some("rw"));
        assert_eq!(line.last_of(["no", "yes"]), None);
        for text in ["", " \n", "\"\""] {
            assert_eq!(
                CommandLine::parse(text),
                CommandLine(Vec::new()),
                "{text:?}"
            );
        }
        assert!(CommandLine::parse("a=\"open").value("a") == Some("open"));
    }
}
