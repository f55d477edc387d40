// SPDX-License-Identifier: Apache-2.0
//! A recovery key: 256 random bits, as people write them down.
//!
//! Format and passphrase are those of `systemd-cryptenroll --recovery-key` (systemd 254, src/shared/recovery-key.c): modhex, whose
//! letters are in the same places of most keyboards, in eight groups of eight. The text in lower case with its dashes is the
//! passphrase of the keyslot.

use zeroize::Zeroizing;

use super::{KEY_LEN, Secret, modhex};
use crate::error::{Error, Result};

/// Bytes in a group of eight letters.
const GROUP_LEN: usize = 4;
/// Letters of a key.
const LETTERS: usize = 2 * KEY_LEN;
/// Characters of the text, dashes included.
pub const TEXT_LEN: usize = 71;

/// 32 random bytes that open a keyslot of their own.
#[derive(Debug)]
pub struct RecoveryKey(Secret);

impl RecoveryKey {
    /// A new one.
    pub fn random() -> Result<Self> {
        Secret::random().map(Self)
    }

    /// One from its bytes; none of another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == KEY_LEN).then(|| Self(Secret::new(bytes.to_vec())))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.expose()
    }

    /// Reads what somebody has typed: letters of either case, with dashes and blanks wherever they are.
    pub fn parse(typed: &[u8]) -> Result<Self> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_LEN));
        let (mut letters, mut high) = (0_usize, None);
        for (at, letter) in typed.iter().enumerate() {
            if *letter == b'-' || letter.is_ascii_whitespace() {
                continue;
            }
            let low = modhex::value(*letter).ok_or_else(|| wrong(at))?;
            letters = letters.saturating_add(1);
            match high.take() {
                None => high = Some(low),
                // What is too long does not grow, so that no shorter copy stays behind.
                Some(high) if bytes.len() < KEY_LEN => bytes.push(high << 4 | low),
                Some(_) => {}
            }
        }
        match Self::from_bytes(&bytes) {
            Some(key) if letters == LETTERS => Ok(key),
            _ => Err(Error::refused(format_args!(
                "expected a recovery key, 8 groups of 8 letters, found {letters} letters"
            ))),
        }
    }

    /// The text, which is the keyslot's passphrase.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        // Reserved at once, so that no shorter copy stays behind.
        let mut text = Zeroizing::new(String::with_capacity(TEXT_LEN));
        for (at, byte) in self.bytes().iter().enumerate() {
            if at > 0 && at.is_multiple_of(GROUP_LEN) {
                text.push('-');
            }
            for number in [byte >> 4, byte & 0xf] {
                text.push(
                    modhex::LETTERS
                        .get(usize::from(number))
                        .map_or('c', |letter| char::from(*letter)),
                );
            }
        }
        text
    }

    /// Whether it is the same key. It takes as long wherever the difference is.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let pairs = self.bytes().iter().zip(other.bytes());
        pairs.fold(0, |all, (a, b)| all | (a ^ b)) == 0
    }
}

/// The letter itself is not repeated: it may be part of a key.
fn wrong(at: usize) -> Error {
    let number = at.saturating_add(1);
    Error::refused(format_args!(
        "expected a recovery key: character {number} is not a letter of c b d e f g h i j k l n r t u v"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with the function of systemd 254 from the bytes 0 to 31.
    const TEXT: &str = "cccbcdce-cfcgchci-cjckclcn-crctcucv-bcbbbdbe-bfbgbhbi-bjbkblbn-brbtbubv";

    fn key() -> RecoveryKey {
        RecoveryKey::from_bytes(&(0..32).collect::<Vec<u8>>()).unwrap()
    }

    #[test]
    fn the_text_is_that_of_systemd_and_comes_back() {
        assert_eq!(key().text().as_str(), TEXT);
        assert_eq!(TEXT.len(), TEXT_LEN);
        let shouted = TEXT.to_uppercase();
        let bare = TEXT.replace('-', "");
        let line = format!("  {TEXT}\n");
        let spaced = TEXT.replace('-', " ");
        for typed in [TEXT, &shouted, &bare, &line, &spaced] {
            assert!(RecoveryKey::parse(typed.as_bytes()).unwrap().is(&key()));
        }
        let random = RecoveryKey::random().unwrap();
        let back = RecoveryKey::parse(random.text().as_bytes()).unwrap();
        assert!(back.is(&random) && !back.is(&key()));
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        let dash = TEXT.replacen('-', "c", 1);
        let letter = TEXT.replacen('b', "a", 1);
        let found = |letters: usize| {
            format!("expected a recovery key, 8 groups of 8 letters, found {letters} letters")
        };
        for (typed, expected) in [
            ("", found(0)),
            (&TEXT[..70], found(63)),
            (dash.as_str(), found(65)),
            (
                &letter,
                "expected a recovery key: character 4 is not a letter of c b d e f g h i j k l n r t u v".to_owned(),
            ),
            ("cc", found(2)),
            ("c", found(1)),
        ] {
            let error = RecoveryKey::parse(typed.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), expected, "{typed}");
        }
        assert!(RecoveryKey::from_bytes(&[0; 31]).is_none());
    }
}
