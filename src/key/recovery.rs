// SPDX-License-Identifier: Apache-2.0
//! A recovery key: 32 bytes that a person keeps as text, in the form of systemd (`src/shared/recovery-key.c`).
//!
//! Each half of a byte is a letter of modhex, and eight groups of eight letters are joined by dashes. The text in this one
//! spelling is the passphrase of the keyslot, not the bytes.
//!
//! **Never:** a key quoted in an error: it says how many letters there are, and where one is wrong.

use zeroize::Zeroizing;

use super::Secret;
use crate::error::{Error, Result};

/// The sixteen letters, which are in the same place on most keyboards (systemd, `src/shared/recovery-key.c`,
/// `modhex_alphabet`).
const ALPHABET: &[u8; 16] = b"cbdefghijklnrtuv";

/// How many letters a key has (`RECOVERY_KEY_MODHEX_RAW_LENGTH`, in letters and not in bytes).
const LETTERS: usize = 64;
/// How many are in a group.
const GROUP_LETTERS: usize = 8;
/// How long the text is (`RECOVERY_KEY_MODHEX_FORMATTED_LENGTH`, without the zero at its end).
const TEXT_LEN: usize = LETTERS + LETTERS / GROUP_LETTERS - 1;

/// The key, in the spelling that is the passphrase.
#[derive(Debug)]
pub struct RecoveryKey(Secret);

impl RecoveryKey {
    /// Takes what a person typed or a file holds: 64 letters, in either case, with dashes and white space anywhere.
    pub fn parse(typed: &[u8]) -> Result<Self> {
        // As long as it gets, so that it is not moved: what is left behind would not be wiped.
        let mut text = Zeroizing::new(Vec::with_capacity(TEXT_LEN));
        let mut letters = 0_usize;
        for (at, byte) in typed.iter().enumerate() {
            let byte = byte.to_ascii_lowercase();
            if byte == b'-' || byte.is_ascii_whitespace() {
                continue;
            }
            if !ALPHABET.contains(&byte) {
                return Err(wrong(format_args!(
                    "character {} is none of them",
                    at.saturating_add(1)
                )));
            }
            if letters < LETTERS {
                if letters > 0 && letters.is_multiple_of(GROUP_LETTERS) {
                    text.push(b'-');
                }
                text.push(byte);
            }
            letters = letters.saturating_add(1);
        }
        if letters == LETTERS {
            Ok(Self(Secret::new(std::mem::take(&mut *text))))
        } else {
            Err(wrong(format_args!("found {letters}")))
        }
    }

    /// What opens the keyslot.
    #[must_use]
    pub fn passphrase(&self) -> &Secret {
        &self.0
    }
}

/// What a person opens a volume with, where none of its sources is.
#[derive(Debug)]
pub enum Brought {
    /// The volume's secret.
    Secret(Secret),
    /// A recovery key.
    RecoveryKey(RecoveryKey),
}

impl Brought {
    /// What opens the keyslot.
    #[must_use]
    pub fn passphrase(&self) -> &Secret {
        match self {
            Self::Secret(secret) => secret,
            Self::RecoveryKey(key) => key.passphrase(),
        }
    }
}

fn wrong(what: std::fmt::Arguments<'_>) -> Error {
    let alphabet = String::from_utf8_lossy(ALPHABET);
    Error::refused(format_args!(
        "a recovery key has {LETTERS} of the letters {alphabet}: {what}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `systemd-cryptenroll --recovery-key` prints, of the bytes 0 to 31.
    const TEXT: &str = "cccbcdce-cfcgchci-cjckclcn-crctcucv-bcbbbdbe-bfbgbhbi-bjbkblbn-brbtbubv";

    #[test]
    fn a_key_has_one_spelling_however_it_was_typed() {
        let raw = TEXT.replace('-', "");
        let spaced = TEXT.replace('-', " ");
        let upper = TEXT.to_uppercase();
        let lines = format!("  {}\n{}\r\n", &TEXT[..36], &TEXT[36..]);
        let letters: Vec<String> = raw.chars().map(String::from).collect();
        for typed in [TEXT, &raw, &spaced, &upper, &lines, &letters.join("-")] {
            let key = RecoveryKey::parse(typed.as_bytes()).unwrap();
            assert_eq!(key.passphrase().expose(), TEXT.as_bytes(), "{typed}");
        }
    }

    #[test]
    fn another_number_of_letters_or_another_letter_is_refused_without_being_quoted() {
        let (short, long) = (&TEXT[..70], format!("{TEXT}c"));
        let foreign = TEXT.replacen('v', "a", 1);
        for (typed, said) in [
            ("", "found 0"),
            (short, "found 63"),
            (&long, "found 65"),
            (&foreign, "character 35 is none of them"),
            ("correct horse", "character 2 is none of them"),
            ("c\u{e4}", "character 2 is none of them"),
        ] {
            let error = RecoveryKey::parse(typed.as_bytes()).unwrap_err();
            let expected = "a recovery key has 64 of the letters cbdefghijklnrtuv: ";
            assert_eq!(error.to_string(), format!("{expected}{said}"));
        }
    }
}
