// SPDX-License-Identifier: Apache-2.0
//! Event logs: a byte, the length of the firmware's log (two bytes, little-endian), that log, then systemd's.
//!
//! The byte's lowest bit: the digests of the firmware's log are left as they are. Otherwise those of SHA-256 are made those of
//! the event's data: a fuzzer does not find one by itself, and without them no log would prove anything.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nightlatch::evidence::eventlog::{Event, Log, What};
use nightlatch::evidence::start::{Expected, First, prove};
use nightlatch::evidence::{Check, Registers};
use nightlatch::pcr::{Bank, Pcr, PcrSet};

const BANKS: [Bank; 4] = [Bank::Sha1, Bank::Sha256, Bank::Sha384, Bank::Sha512];

fuzz_target!(|input: &[u8]| {
    let Some(([how, len @ ..], input)) = input.split_first_chunk::<3>() else {
        return;
    };
    let len = usize::from(u16::from_le_bytes(*len)).min(input.len());
    let (firmware, userspace) = input.split_at(len);
    let mut firmware = firmware.to_vec();
    if how & 1 == 0 {
        seal(&mut firmware);
    }
    let some = |log: &[u8]| (!log.is_empty()).then(|| log.to_vec());
    let (firmware, userspace) = (some(&firmware), some(userspace));
    match Log::of(firmware.as_deref(), userspace.as_deref()) {
        Ok(log) => BANKS.into_iter().for_each(|bank| {
            replay(&log, bank);
            start(&log, bank);
        }),
        Err(refusal) => assert!(
            matches!(refusal.check, Check::FirmwareLog | Check::UserspaceLog),
            "{refusal}"
        ),
    }
});

fn replay(log: &Log, bank: Bank) {
    let events = log.events(bank, Registers::ALL);
    for event in &events {
        assert!(event.pcr < 24 && !event.to_string().is_empty());
        assert!(proves(bank, event), "{bank}: {event}");
    }
    let moments = match log.moments(bank) {
        Ok(moments) => moments,
        Err(refusal) => return assert_eq!(refusal.check, Check::EventLog),
    };
    assert_eq!(moments.last(), log.replay(bank).ok().as_ref());
    assert_eq!(&log.until(moments.len() - 1), log);
}

/// A start by whoever vouched, with what was added: whatever is proven of it is proven by its PCRs.
fn start(log: &Log, bank: Bank) {
    let Ok(mut values) = log.replay(bank) else {
        return;
    };
    let events = log.events(bank, Registers::ALL);
    let vouched = events.iter().filter_map(|event| match &event.what {
        What::Authority(entry) if event.pcr == 7 => Some(entry.clone()),
        _ => None,
    });
    let vouched: Vec<Vec<u8>> = vouched.collect();
    let added = [Pcr::KERNEL_CONFIG, Pcr::SYSTEM_EXTENSIONS];
    let mut expected = Expected {
        bank,
        authorities: Some(&vouched),
        first: First::Loader,
        sealed: PcrSet::of(&[Pcr::BOOT_PROGRAMS, Pcr::SECURE_BOOT]),
        added: added.map(|pcr| (pcr, values[&pcr.index()].clone())),
        firmware: None,
    };
    match prove(log, &values, &expected) {
        Ok(start) => {
            assert!(!start.programs.is_empty() && !vouched.is_empty());
            let mut others = vouched.clone();
            others.retain(|entry| *entry != vouched[0]);
            let by_others = Expected {
                authorities: Some(&others),
                ..expected.clone()
            };
            assert!(prove(log, &values, &by_others).is_err());
        }
        Err(unmet) => assert!(!unmet.to_string().is_empty()),
    }
    expected.authorities = None;
    if prove(log, &values, &expected).is_ok() {
        values.insert(4, bank.hash(b"another value"));
        assert!(prove(log, &values, &expected).is_err());
    }
}

/// Whether what is said to be proven is what the digest is of.
fn proves(bank: Bank, Event { digest, what, .. }: &Event) -> bool {
    let wide = |text: &str, end: &[u16]| -> Vec<u8> {
        let units = text.encode_utf16().chain(end.iter().copied());
        units.flat_map(u16::to_le_bytes).collect()
    };
    let is_of = |bytes: &[u8]| bank.hash(bytes) == *digest;
    match what {
        What::CommandLine(text) => is_of(&wide(text, &[0])) || is_of(&wide(text, &[])),
        // A section's name is measured with its zero.
        What::Text { text, .. } => [text.as_bytes(), format!("{text}\0").as_bytes()]
            .into_iter()
            .any(is_of),
        What::ClusterId(digits) => hex(digits).is_some_and(|id| is_of(&id)),
        What::Separator => is_of(&[0; 4]) || is_of(&[0xff; 4]),
        // Of these the digest is over more than what is shown.
        What::SecureBoot(_) | What::Variable(_) | What::Authority(_) => true,
        What::Program { .. } | What::Driver { .. } | What::Section(_) => true,
        What::PartitionTable => true,
        What::Tagged { .. } | What::Said { .. } => true,
    }
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(pair).collect()
}

/// Makes each SHA-256 digest that of its event's data, as far as the log can be read.
fn seal(log: &mut [u8]) {
    let mut at = 0;
    // The first event is of the older format, with one digest of 20 bytes.
    let Some(len) = number(log, 28) else { return };
    at += 32 + len;
    while let Some(count) = number(log, at + 8).filter(|count| *count <= 16) {
        at += 12;
        let mut place = None;
        for _ in 0..count {
            let Some(id) = log
                .get(at..at + 2)
                .map(|id| u16::from_le_bytes([id[0], id[1]]))
            else {
                return;
            };
            at += 2;
            let Some(bank) = nightlatch::evidence::registers::bank(id) else {
                return;
            };
            if bank == Bank::Sha256 {
                place = Some(at);
            }
            at += nightlatch::evidence::registers::len(bank);
        }
        let Some(len) = number(log, at) else { return };
        at += 4;
        let Some(data) = log.get(at..at + len) else {
            return;
        };
        let digest = Bank::Sha256.hash(data);
        if let Some(place) = place {
            log[place..place + 32].copy_from_slice(&digest);
        }
        at += len;
    }
}

fn number(log: &[u8], at: usize) -> Option<usize> {
    let bytes = log.get(at..at.checked_add(4)?)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}
