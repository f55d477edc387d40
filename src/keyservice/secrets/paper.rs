// SPDX-License-Identifier: Apache-2.0
//! The secrets of a fleet on paper: lines that a person copies and types back, each with a check word.
//!
//! The bytes are those of the version, of the number of generations of the master secret, of key and salt with their lengths in front,
//! and of the measurement salt. 16 of them are a line: its number, letters of modhex, whose places are the same on most keyboards, in
//! groups of eight, and the check word, a CRC of number and bytes. The last line has four bytes of the hash of all. Lines that begin
//! with `#` are for people.

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::key::modhex;
use crate::key::{KEY_LEN, Secret};

/// The version of the form.
const VERSION: u8 = 1;
/// How many generations of a master secret there are, the first one.
const GENERATIONS: u8 = 1;
/// Bytes of a line.
const LINE_LEN: usize = 16;
/// Bytes of a check word, and of that of the last line.
const CHECK_LEN: usize = 2;
const CHECK_OF_ALL_LEN: usize = 4;
/// Letters of a group.
const GROUP_LEN: usize = 8;
/// What the last line begins with.
const END: &str = "end";
/// What the hash begins with, so that the last check word is one of this form.
const DOMAIN: &[u8] = b"nightlatch paper 1";

/// All that a service needs to derive each key of a fleet.
#[derive(Debug)]
pub struct Paper {
    pub(crate) key: Secret,
    pub(crate) salt: Secret,
    pub(crate) measurement_salt: Secret,
}

impl Paper {
    /// What is to be written down.
    pub fn text(&self) -> Result<Zeroizing<String>> {
        let bytes = self.bytes()?;
        let mut text = Zeroizing::new(String::with_capacity(1024));
        text.push_str(
            "# nightlatch: the secrets of a fleet. Whoever has them opens each of its volumes.\n",
        );
        let generations = GENERATIONS.to_string();
        text.push_str(&["# generations of the master secret: ", &generations, "\n"].concat());
        for (number, line) in (1_u8..).zip(bytes.chunks(LINE_LEN)) {
            let letters = Zeroizing::new(modhex::text(line));
            text.push_str(&number.to_string());
            for group in letters.as_bytes().chunks(GROUP_LEN) {
                text.push(' ');
                text.extend(group.iter().map(|letter| char::from(*letter)));
            }
            text.push_str(&["  ", &check(number, line), "\n"].concat());
        }
        text.push_str(&[END, " ", &check_of_all(&bytes), "\n"].concat());
        Ok(text)
    }

    /// Reads what somebody has typed. What is wrong is told with its line, and never repeated.
    pub fn parse(typed: &str) -> Result<Self> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(512));
        let mut expected = 1_u8;
        let mut lines = typed.lines().map(str::trim);
        let lines = lines
            .by_ref()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let (number, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            if number == END {
                if same(rest, &check_of_all(&bytes)) {
                    return Self::of(&bytes);
                }
                return Err(wrong(
                    "the last line: its check word is not that of the lines before: one of them is missing, or of another paper",
                ));
            }
            if number.parse() != Ok(expected) {
                return Err(wrong(&format!(
                    "expected line {expected}, and after the last one that which begins with \"{END}\""
                )));
            }
            bytes.extend_from_slice(&read_line(expected, rest)?);
            expected = expected
                .checked_add(1)
                .ok_or_else(|| wrong("it has too many lines"))?;
        }
        Err(wrong(&format!(
            "line {expected}, or that which begins with \"{END}\", is missing"
        )))
    }

    fn bytes(&self) -> Result<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(512));
        bytes.extend([VERSION, GENERATIONS]);
        for secret in [&self.key, &self.salt] {
            let secret = secret.expose();
            let len = u8::try_from(secret.len());
            bytes.push(
                len.map_err(|_error| wrong("a secret of more than 255 bytes has no place on it"))?,
            );
            bytes.extend_from_slice(secret);
        }
        bytes.extend_from_slice(self.measurement_salt.expose());
        Ok(bytes)
    }

    fn of(bytes: &[u8]) -> Result<Self> {
        let broken = || wrong("it does not hold what it has to");
        let [version, generations, rest @ ..] = bytes else {
            return Err(broken());
        };
        if *version != VERSION {
            return Err(wrong(&format!(
                "expected version {VERSION} of the form, found {version}: a newer nightlatchd reads it"
            )));
        }
        if *generations != GENERATIONS {
            return Err(wrong(&format!(
                "it has {generations} generations of the master secret, and this version of nightlatchd knows {GENERATIONS}"
            )));
        }
        let (key, rest) = sized(rest).ok_or_else(broken)?;
        let (salt, rest) = sized(rest).ok_or_else(broken)?;
        if key.is_empty() || salt.is_empty() || rest.len() != KEY_LEN {
            return Err(broken());
        }
        Ok(Self {
            key: Secret::new(key.to_vec()),
            salt: Secret::new(salt.to_vec()),
            measurement_salt: Secret::new(rest.to_vec()),
        })
    }
}

/// Bytes with their length in front, and what follows.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*len))
}

/// The bytes of a line, without its number.
fn read_line(number: u8, typed: &str) -> Result<Zeroizing<Vec<u8>>> {
    let of_line = |why: &str| wrong(&format!("line {number}: {why}"));
    let typed: Zeroizing<String> =
        Zeroizing::new(typed.chars().filter(|c| !c.is_whitespace()).collect());
    let bytes = modhex::parse(&typed).map(Zeroizing::new);
    let bytes = bytes
        .ok_or_else(|| of_line("expected pairs of the letters c b d e f g h i j k l n r t u v"))?;
    let len = bytes
        .len()
        .checked_sub(CHECK_LEN)
        .filter(|len| (1..=LINE_LEN).contains(len));
    let len = len.ok_or_else(|| of_line("a part of it is missing, or it has too much"))?;
    let (line, word) = bytes.split_at(len);
    if same(&modhex::text(word), &check(number, line)) {
        Ok(Zeroizing::new(line.to_vec()))
    } else {
        Err(of_line(
            "its check word does not fit: compare it with the paper, letter by letter",
        ))
    }
}

fn check(number: u8, line: &[u8]) -> String {
    let word = crc(std::iter::once(&number).chain(line));
    modhex::text(&word.to_be_bytes())
}

/// CRC-16/IBM-3740. Unlike a hash of its length it finds each change of one letter, and of two beside each other.
fn crc<'b>(bytes: impl Iterator<Item = &'b u8>) -> u16 {
    let mut crc = 0xffff_u16;
    for byte in bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            let is_set = crc & 0x8000 != 0;
            crc = (crc << 1) ^ if is_set { 0x1021 } else { 0 };
        }
    }
    crc
}

fn check_of_all(bytes: &[u8]) -> String {
    let digest = Sha256::new().chain_update(DOMAIN);
    let digest = digest.chain_update(bytes).finalize();
    modhex::text(digest.get(..CHECK_OF_ALL_LEN).unwrap_or_default())
}

/// Whether a word is what was typed, in letters of either case.
fn same(typed: &str, word: &str) -> bool {
    typed.trim().eq_ignore_ascii_case(word)
}

fn wrong(why: &str) -> Error {
    Error::refused(format_args!("the paper: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paper() -> Paper {
        Paper {
            key: Secret::new((0..32).collect()),
            salt: Secret::new((32..64).collect()),
            measurement_salt: Secret::new((64..96).collect()),
        }
    }

    /// The value that catalogues of CRCs have for it.
    #[test]
    fn a_check_word_is_the_crc_it_says() {
        assert_eq!(crc(b"123456789".iter()), 0x29b1);
    }

    #[test]
    fn what_is_on_the_paper_comes_back() {
        let text = paper().text().unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines.len(), 8, "{}", *text);
        assert!(lines[0].starts_with("1 cbcbdccc cbcdcecf "), "{}", lines[0]);
        assert!(text.contains("# generations of the master secret: 1\n"));
        let shouted = text.to_uppercase().replace("END", "end");
        for typed in [
            text.as_str(),
            &shouted,
            &text.replace("  ", "\t").replace('\n', "\r\n\n"),
        ] {
            let back = Paper::parse(typed).unwrap();
            assert_eq!(back.bytes().unwrap(), paper().bytes().unwrap());
        }
    }

    #[test]
    fn each_letter_that_is_wrong_is_told_with_its_line() {
        let text = paper().text().unwrap();
        let refusal = |typed: &str| Paper::parse(typed).unwrap_err().to_string();
        let mut number = 0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            number += 1;
            let Some((_, letters)) = line.split_once(' ') else {
                panic!("{line}");
            };
            for (at, letter) in letters.char_indices().filter(|(_, c)| *c != ' ') {
                let other = if letter == 'c' { "v" } else { "c" };
                let mut changed = letters.to_owned();
                changed.replace_range(at..=at, other);
                let said = refusal(&text.replace(letters, &changed));
                let expected = match number {
                    8 => "the paper: the last line: its check word is not".to_owned(),
                    _ => format!("the paper: line {number}: its check word does not fit"),
                };
                assert!(said.starts_with(&expected), "{said}");
            }
        }
        assert_eq!(number, 8);
    }

    #[test]
    fn lines_that_are_missing_or_have_changed_places_are_told() {
        let text = paper().text().unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let refusal = |lines: &[&str]| Paper::parse(&lines.join("\n")).unwrap_err().to_string();
        Paper::parse(&lines.join("\n")).unwrap();
        assert!(refusal(&lines[..7]).contains("line 8, or that which begins"));
        assert!(refusal(&lines[1..]).contains("expected line 1"));
        let mut swapped = lines.clone();
        swapped.swap(2, 3);
        assert!(refusal(&swapped).contains("expected line 3"));
        // A line under another one's number.
        let mut moved = lines.clone();
        let third = format!("2{}", &lines[2][1..]);
        moved[1] = &third;
        assert!(refusal(&moved).contains("line 2: its check word does not fit"));
        // A whole line less, with the numbers put right and their words made anew, is another paper.
        let without = [&lines[..6], &lines[7..]].concat();
        assert!(refusal(&without).contains("the last line"));
        for wrong in [
            "",
            "1\n",
            "1 x\n",
            "1 c\n",
            "end\n",
            "256 cc\n",
            "\u{1b}[2J\n",
        ] {
            assert!(Paper::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn more_generations_and_another_form_are_refused_by_name() {
        let of = |change: fn(&mut Vec<u8>)| {
            let mut bytes = paper().bytes().unwrap().to_vec();
            change(&mut bytes);
            Paper::of(&bytes)
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        assert_eq!(of(|_| ()), Ok(()));
        let said = of(|bytes| bytes[1] = 2).unwrap_err();
        assert!(said.contains("it has 2 generations"), "{said}");
        let said = of(|bytes| bytes[0] = 2).unwrap_err();
        assert!(
            said.contains("expected version 1 of the form, found 2"),
            "{said}"
        );
        for change in [
            |bytes: &mut Vec<u8>| bytes.truncate(99),
            |bytes: &mut Vec<u8>| bytes.push(0),
            |bytes: &mut Vec<u8>| bytes[2] = 255,
            |bytes: &mut Vec<u8>| bytes.clear(),
        ] {
            assert!(of(change).is_err());
        }
    }
}
