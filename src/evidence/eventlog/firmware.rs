// SPDX-License-Identifier: Apache-2.0
//! The firmware's log (TCG PC Client Platform Firmware Profile, section 10).

use super::{Entry, Source};
use crate::evidence::bytes::Bytes;
use crate::evidence::registers;
use crate::evidence::{Check, Refusal};
use crate::pcr::Bank;

/// An entry that was not measured (section 10.4.1); so is the specification's.
pub(super) const EV_NO_ACTION: u32 = 0x0000_0003;
/// How the first entry's data starts in a crypto-agile log (section 10.4.5.1).
const SPEC_ID: &[u8; 16] = b"Spec ID Event03\0";
/// How the entry that tells the start-up locality starts (section 10.4.5.3).
const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";
/// Bytes of the digest in the first entry, which is of the older format.
const SHA1_LEN: usize = 20;
/// The most algorithms a log has.
const ALGORITHMS_MAX: u32 = 16;
/// Localities there are.
const LOCALITY_MAX: u8 = 4;

/// An algorithm of the log, and the bytes of its digests.
struct Algorithm {
    id: u16,
    len: u16,
}

/// The entries that were measured, and the start-up locality.
pub(super) fn parse(bytes: &[u8]) -> Result<(Vec<Entry>, u8), Refusal> {
    let mut bytes = Bytes::new(bytes, "firmware log", Check::FirmwareLog);
    let algorithms = specification(&mut bytes)?;
    let mut entries: Vec<Entry> = Vec::new();
    let mut locality = None;
    while !bytes.is_empty() {
        let (pcr, kind) = (bytes.le32()?, bytes.le32()?);
        let digests = digests(&mut bytes, &algorithms)?;
        let len = bytes.le32()?;
        let data = bytes.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        if kind == EV_NO_ACTION {
            if let Some(rest) = data.strip_prefix(STARTUP_LOCALITY) {
                let late = entries.iter().any(|entry| entry.pcr == 0);
                if late || locality.is_some() {
                    return Err(bytes.refusal("the start-up locality comes late or twice"));
                }
                locality = Some(startup_locality(rest, &bytes)?);
            }
            continue;
        }
        let pcr = u8::try_from(pcr)
            .ok()
            .filter(|pcr| *pcr < registers::COUNT)
            .ok_or_else(|| bytes.refusal(format_args!("an event of PCR {pcr}")))?;
        entries.push(Entry {
            pcr,
            digests,
            source: Source::Firmware {
                kind,
                data: data.to_vec(),
            },
        });
    }
    Ok((entries, locality.unwrap_or_default()))
}

/// The first entry: which algorithms the log is in.
fn specification(bytes: &mut Bytes<'_>) -> Result<Vec<Algorithm>, Refusal> {
    let (_pcr, kind) = (bytes.le32()?, bytes.le32()?);
    bytes.take(SHA1_LEN)?;
    let len = bytes.le32()?;
    let data = bytes.take(usize::try_from(len).unwrap_or(usize::MAX))?;
    let mut data = Bytes::new(data, "start of the firmware log", Check::FirmwareLog);
    if kind != EV_NO_ACTION || data.take(SPEC_ID.len())? != SPEC_ID {
        return Err(data.refusal(
            "expected a log of the crypto-agile format: use UEFI firmware with a log of TPM 2.0",
        ));
    }
    // Platform class, version, errata and the size of a pointer change nothing about the format.
    data.take(8)?;
    let count = data.le32()?;
    if !(1..=ALGORITHMS_MAX).contains(&count) {
        return Err(data.refusal(format_args!("{count} algorithms")));
    }
    let mut algorithms: Vec<Algorithm> = Vec::new();
    for _ in 0..count {
        let (id, len) = (data.le16()?, data.le16()?);
        let bank = registers::bank(id);
        let is_known = bank.is_none_or(|bank| registers::len(bank) == usize::from(len));
        if !is_known || algorithms.iter().any(|other| other.id == id) {
            return Err(data.refusal(format_args!("algorithm {id:#06x} with {len} bytes")));
        }
        algorithms.push(Algorithm { id, len });
    }
    let vendor_len = data.u8()?;
    data.take(usize::from(vendor_len))?;
    data.finish()?;
    Ok(algorithms)
}

/// The digests of one entry, of banks this program can compute.
fn digests(
    bytes: &mut Bytes<'_>,
    algorithms: &[Algorithm],
) -> Result<Vec<(Bank, Vec<u8>)>, Refusal> {
    let count = bytes.le32()?;
    if count > ALGORITHMS_MAX {
        return Err(bytes.refusal(format_args!("an event with {count} digests")));
    }
    let mut digests: Vec<(Bank, Vec<u8>)> = Vec::new();
    for _ in 0..count {
        let id = bytes.le16()?;
        let Some(algorithm) = algorithms.iter().find(|algorithm| algorithm.id == id) else {
            return Err(bytes.refusal(format_args!("an event with algorithm {id:#06x}")));
        };
        let digest = bytes.take(usize::from(algorithm.len))?;
        if let Some(bank) = registers::bank(id) {
            if digests.iter().any(|(other, _)| *other == bank) {
                return Err(bytes.refusal(format_args!("an event with two digests of {bank}")));
            }
            digests.push((bank, digest.to_vec()));
        }
    }
    Ok(digests)
}

fn startup_locality(data: &[u8], bytes: &Bytes<'_>) -> Result<u8, Refusal> {
    match data {
        [locality @ 0..=LOCALITY_MAX] => Ok(*locality),
        _ => Err(bytes.refusal("expected a start-up locality from 0 to 4")),
    }
}
