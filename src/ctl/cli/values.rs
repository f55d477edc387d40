// SPDX-License-Identifier: Apache-2.0
//! What options and arguments may be set to.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap_complete::Shell;
use uuid::Uuid;

use crate::anchor::record::Accepted;
use crate::config::{NvIndex, Profile, VolumeName};
use crate::evidence::registers::Registers;
use crate::pcr::Bank;
use crate::protocol::admin::is_ek;
use crate::protocol::recovery::Word;
use crate::rescue::{PREFIX, mapping_name};
use crate::sealed::floor::Floor;

/// What the service knows by its endorsement key, or by its UUID.
#[derive(Clone, Debug)]
pub(in crate::ctl) enum NodeOrVolume {
    Node(String),
    Volume(Uuid),
}

/// One of these words, each with its value, which help and completions then know.
fn one_of<T, const N: usize>(all: [(&'static str, T); N]) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    PossibleValuesParser::new(all.map(|(word, _)| word)).try_map(move |given| {
        let found = all.into_iter().find(|(word, _)| *word == given);
        let found = found.map(|(_, value)| value);
        found.ok_or("expected one of the words that it may be")
    })
}

pub(super) fn profile() -> impl TypedValueParser<Value = Profile> {
    one_of(Profile::ALL.map(|profile| (profile.as_str(), profile)))
}

pub(super) fn acceptance() -> impl TypedValueParser<Value = Accepted> {
    one_of([Accepted::Rollback, Accepted::New].map(|kind| (kind.as_str(), kind)))
}

/// What an operator can say of a volume that is refused.
pub(super) fn word() -> impl TypedValueParser<Value = Word> {
    one_of([Word::Readmit, Word::Rollback].map(|word| (word.as_str(), word)))
}

/// The shells that completions are made and looked at for.
pub(super) fn shell() -> impl TypedValueParser<Value = Shell> {
    one_of([
        ("bash", Shell::Bash),
        ("zsh", Shell::Zsh),
        ("fish", Shell::Fish),
    ])
}

/// A security version.
pub(super) fn floor(text: &str) -> Result<Floor, String> {
    let number: u32 = text
        .parse()
        .map_err(|error| format!("expected a number from 1 on: {error}"))?;
    Floor::try_from(number)
}

/// A handle, in hexadecimal digits.
pub(super) fn nv_index(text: &str) -> Result<NvIndex, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let handle = u32::from_str_radix(digits, 16);
    let handle = handle.map_err(|_error| "expected a handle such as 0x01804e15".to_owned())?;
    NvIndex::try_from(handle)
}

pub(super) fn volume(text: &str) -> Result<VolumeName, String> {
    VolumeName::try_from(text.to_owned())
}

/// A bank and its PCRs, as tpm2-tools write them: `sha256:7,11,12`.
pub(super) fn selection(text: &str) -> Result<(Bank, Registers), String> {
    selected(text).ok_or_else(|| "expected PCRs such as sha256:7,11,12".to_owned())
}

fn selected(text: &str) -> Option<(Bank, Registers)> {
    let (name, list) = text.split_once(':')?;
    let banks = [Bank::Sha256, Bank::Sha384, Bank::Sha512];
    let bank = banks.into_iter().find(|bank| bank.as_str() == name)?;
    let pcrs: Vec<u8> = list
        .split(',')
        .map(|pcr| pcr.parse().ok())
        .collect::<Option<_>>()?;
    Some((bank, Registers::of(&pcrs)?))
}

/// A UUID in the one spelling that the service has.
pub(super) fn uuid(text: &str) -> Result<Uuid, String> {
    match Uuid::try_parse(text) {
        Ok(uuid) if uuid.hyphenated().to_string() == text => Ok(uuid),
        Ok(_) | Err(_) => Err("expected the UUID of a volume in lower case".to_owned()),
    }
}

pub(super) fn node_or_volume(text: &str) -> Result<NodeOrVolume, String> {
    if is_ek(text) {
        return Ok(NodeOrVolume::Node(text.to_owned()));
    }
    uuid(text).map(NodeOrVolume::Volume).map_err(|_why| {
        "expected the 64 digits of a node or the UUID of a volume in lower case".to_owned()
    })
}

/// A digest in the key service's bank, which is SHA-256.
pub(super) fn digest(text: &str) -> Result<String, String> {
    let is_digest = hex::decode(text).is_ok_and(|bytes| bytes.len() == Bank::Sha256.zero().len());
    if is_digest {
        return Ok(text.to_owned());
    }
    Err("expected a SHA-256 digest, which is 64 hexadecimal digits".to_owned())
}

/// A bank that a policy of signed values can be of.
pub(super) fn signed_bank() -> impl TypedValueParser<Value = Bank> {
    one_of([Bank::Sha256, Bank::Sha384].map(|bank| (bank.as_str(), bank)))
}

/// The name of a mapping that `open` has made.
pub(super) fn mapping(text: &str) -> Result<String, String> {
    mapping_name(text)
}

/// What `open` calls a mapping, without what all of them begin with.
pub(super) fn rescue_name(text: &str) -> Result<String, String> {
    mapping_name(&format!("{PREFIX}{text}"))
        .map(|_| text.to_owned())
        .map_err(|_why| "expected lower-case letters, digits and dashes".to_owned())
}

/// A number of bytes, with one of the suffixes K, M and G, which are powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const LEN_MIN: u64 = 1 << 20;
    let bytes = sized(text).filter(|bytes| *bytes >= LEN_MIN && bytes.is_multiple_of(4096));
    bytes.ok_or_else(|| "expected a size such as 512M or 1G, from 1M on".to_owned())
}

fn sized(text: &str) -> Option<u64> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'K' => (text.strip_suffix('K')?, 1 << 10),
        b'M' => (text.strip_suffix('M')?, 1 << 20),
        b'G' => (text.strip_suffix('G')?, 1 << 30),
        _ => (text, 1),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse::<u64>().ok()?.checked_mul(unit))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_unit_or_none_and_is_of_whole_pages() {
        for (text, bytes) in [
            ("256M", 256 << 20),
            ("1G", 1 << 30),
            ("1048576", 1 << 20),
            ("2048K", 2 << 20),
        ] {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for text in [
            "",
            "M",
            "-1M",
            "+1M",
            "1.5G",
            "256m",
            "1048577",
            "512K",
            "99999999999G",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_for_a_mapping_cannot_lead_elsewhere() {
        assert_eq!(rescue_name("state-2").unwrap(), "state-2");
        for text in ["", "../state", "a/b", "A", "a b"] {
            assert!(rescue_name(text).is_err(), "{text}");
        }
    }
}
