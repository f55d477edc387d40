// SPDX-License-Identifier: Apache-2.0
//! Modhex: hexadecimal digits as letters that are in the same places of most keyboards (Yubico; systemd, src/shared/recovery-key.c).

/// The letters for 0 to 15.
pub(super) const LETTERS: &[u8; 16] = b"cbdefghijklnrtuv";

/// Bytes as letters, two for each.
#[must_use]
#[cfg(feature = "daemon")]
pub(crate) fn text(bytes: &[u8]) -> String {
    // Reserved at once, so that no shorter copy stays behind.
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        for number in [byte >> 4, byte & 0xf] {
            let letter = LETTERS.get(usize::from(number));
            text.push(letter.map_or('c', |letter| char::from(*letter)));
        }
    }
    text
}

/// The bytes of pairs of letters of either case; none where there is something else.
#[must_use]
#[cfg(feature = "daemon")]
pub(crate) fn parse(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut letters = text.bytes();
    while let Some(high) = letters.next() {
        bytes.push(value(high)? << 4 | value(letters.next()?)?);
    }
    Some(bytes)
}

/// What a letter stands for.
pub(super) fn value(letter: u8) -> Option<u8> {
    let place = LETTERS
        .iter()
        .position(|known| *known == letter.to_ascii_lowercase());
    place.and_then(|place| u8::try_from(place).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_stand_for_digits_and_nothing_else_does() {
        assert_eq!(text(&[0x01, 0x23, 0xef]), "cbdeuv");
        assert_eq!(parse("cbdeuv"), Some(vec![0x01, 0x23, 0xef]));
        assert_eq!(parse("CbDeUv"), parse("cbdeuv"));
        assert_eq!(parse(""), Some(Vec::new()));
        for wrong in ["c", "ca", "0c", "c c", "cbd", "\u{e9}"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(parse(&text(&all)), Some(all));
    }
}
