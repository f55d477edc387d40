// SPDX-License-Identifier: Apache-2.0
//! systemd's log in user space, which [`crate::measure::EventLog`] writes too: JSON text sequences (RFC 7464).
//!
//! Records that are not about a PCR, such as those of NV indices, are passed over: they are not replayed.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::describe::CLUSTER_ID_EVENT;
use super::{Entry, Source};
use crate::evidence::registers;
use crate::evidence::{Check, Refusal};
use crate::pcr::Bank;

/// What starts a record (RFC 7464, section 2.2).
const RECORD_SEPARATOR: u8 = 0x1e;
/// The longest record. systemd's have some hundred bytes.
const RECORD_LEN_MAX: usize = 64 << 10;

/// One record. systemd adds fields to its content with time, so others are allowed.
#[derive(Deserialize)]
struct Record {
    pcr: Option<u8>,
    #[serde(default)]
    digests: Vec<Digest>,
    #[serde(default)]
    content: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Digest {
    hash_alg: String,
    digest: String,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Entry>, Refusal> {
    let mut records = bytes.split(|byte| *byte == RECORD_SEPARATOR);
    if records.next().is_some_and(|before| !before.is_empty()) {
        return Err(refusal("something comes before its first record"));
    }
    let mut entries = Vec::new();
    for (place, line) in records.enumerate() {
        if line.len() > RECORD_LEN_MAX {
            return Err(refusal(format_args!(
                "record {place}: {} bytes",
                line.len()
            )));
        }
        let record: Record = serde_json::from_slice(line)
            .map_err(|error| refusal(format_args!("record {place}: {error}")))?;
        if let Some(pcr) = record.pcr {
            let entry = entry(pcr, &record);
            entries.push(entry.map_err(|why| refusal(format_args!("record {place}: {why}")))?);
        }
    }
    Ok(entries)
}

fn entry(pcr: u8, record: &Record) -> Result<Entry, String> {
    if pcr >= registers::COUNT {
        return Err(format!("an event of PCR {pcr}"));
    }
    let text = |name: &str| record.content.get(name).and_then(Value::as_str);
    let kind = text("eventType").unwrap_or("unknown");
    // In any other event it would make text of bytes that are none.
    let cluster_id = text("clusterId").filter(|_| kind == CLUSTER_ID_EVENT);
    let preimage = match cluster_id {
        Some(digits) => Some(hex::decode(digits).map_err(|error| format!("clusterId: {error}"))?),
        None => text("string").map(|string| string.as_bytes().to_vec()),
    };
    Ok(Entry {
        pcr,
        digests: digests(&record.digests)?,
        source: Source::Userspace {
            kind: kind.to_owned(),
            text: cluster_id.or(text("string")).unwrap_or_default().to_owned(),
            preimage,
        },
    })
}

/// The digests of banks this program can compute, each once.
fn digests(written: &[Digest]) -> Result<Vec<(Bank, Vec<u8>)>, String> {
    let mut digests: Vec<(Bank, Vec<u8>)> = Vec::new();
    for Digest { hash_alg, digest } in written {
        let banks = [Bank::Sha1, Bank::Sha256, Bank::Sha384, Bank::Sha512];
        let Some(bank) = banks.into_iter().find(|bank| bank.as_str() == hash_alg) else {
            continue;
        };
        let bytes = hex::decode(digest).map_err(|error| format!("digest: {error}"))?;
        if bytes.len() != registers::len(bank) || digests.iter().any(|(other, _)| *other == bank) {
            return Err(format!("expected one digest of {bank}"));
        }
        digests.push((bank, bytes));
    }
    Ok(digests)
}

fn refusal(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(Check::UserspaceLog, format_args!("userspace log: {why}"))
}
