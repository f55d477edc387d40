// SPDX-License-Identifier: Apache-2.0
//! What this boot left: the firmware's log and systemd's, what the PCRs hold, and which records are in the TPM.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use log::warn;

use crate::anchor::record::RECORD_LEN;
use crate::config::{self, Anchor, NvIndex};
use crate::ctl::input;
use crate::error::{Doing, Error, Exit, Result};
use crate::evidence::eventlog::{LOG_LEN_MAX, Log};
use crate::evidence::registers::Values;
use crate::measure::LOG_PATH;
use crate::pcr::{Bank, Pcr, PcrSet};
use crate::tpm::{Handles, Policy, Tpm};

/// The firmware's list of who may sign what it starts, as the kernel shows it (Linux, fs/efivarfs; UEFI, section 32.6.1).
const DB: &str = "sys/firmware/efi/efivars/db-d719b2cb-3d3a-4596-a3bc-dad00e67656f";
/// The longest such list that is read, in bytes. Firmware's variables have some tens of KiB.
const DB_LEN_MAX: usize = 1 << 20;

/// The machine that runs.
pub(super) struct Machine {
    /// Both logs.
    pub(super) log: Log,
    /// What the PCRs hold that say how the machine was started.
    pub(super) seen: Values,
    tpm: Tpm,
}

impl Machine {
    /// Reads both logs below `root`, and the TPM of the image's configuration.
    pub(super) fn read(root: &Path, tpm: &config::Tpm) -> Result<Self> {
        let firmware = root.join(tpm.tcti.firmware_log());
        let log = read(&firmware)
            .and_then(|bytes| Ok(Log::firmware(&bytes)?))
            .map_err(Error::unavailable)
            .doing(firmware.display())
            .doing("reading what this boot measured")?;
        let log = with_userspace(log, &root.join(LOG_PATH));
        let mut opened = Tpm::open(&tpm.tcti)?;
        let seen = seen(&mut opened, tpm.bank.into())?;
        Ok(Self {
            log,
            seen,
            tpm: opened,
        })
    }

    /// The values that PCRs had at the moment of this boot at which they satisfied the policy with this digest, if they ever did.
    pub(super) fn values_of(&self, policy: Policy, digest: &[u8; 32]) -> Option<Values> {
        let moments = self.log.moments(policy.bank).ok()?;
        moments.into_iter().find(|values| {
            let of_pcrs = policy
                .pcrs
                .iter()
                .filter_map(|pcr| values.get(&pcr.index()));
            policy.digest(of_pcrs.map(Vec::as_slice)) == *digest
        })
    }

    /// Whether a record of the anchor was made and written under the PCR policy with this digest.
    pub(super) fn has_record_of(&mut self, anchor: Anchor, digest: [u8; 32]) -> Result<bool> {
        for place in [anchor.index, anchor.index.spare()].map(NvIndex::handle) {
            if self.tpm.is_record_of(place, digest, RECORD_LEN)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the TPM has the counter of boots.
    pub(super) fn has_counter(&mut self, anchor: Anchor) -> Result<bool> {
        let at = Handles {
            record: anchor.index.handle(),
            counter: anchor.counter.handle(),
        };
        match self.tpm.count_anchor(at) {
            Ok(_) => Ok(true),
            Err(error) if error.exit() == Exit::Refused => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether the firmware's db has one of these certificates, DER, below `root`; nothing where it cannot be read. An entry has the
/// certificate as it is.
pub(super) fn is_in_db<'a>(
    root: &Path,
    mut certificates: impl Iterator<Item = &'a Vec<u8>>,
) -> Option<bool> {
    let db = input::read(&root.join(DB), DB_LEN_MAX).ok()?;
    let has = |der: &Vec<u8>| !der.is_empty() && db.windows(der.len()).any(|window| window == der);
    Some(certificates.any(has))
}

fn seen(tpm: &mut Tpm, bank: Bank) -> Result<Values> {
    let pcrs: Vec<Pcr> = PcrSet::STARTED.iter().collect();
    let read = tpm.read_all(&pcrs)?;
    let mut values = BTreeMap::new();
    for (pcr, digests) in pcrs.into_iter().zip(read) {
        let of_bank = digests.into_iter().find(|(other, _)| *other == bank);
        values.extend(of_bank.map(|(_, value)| (pcr.index(), value)));
    }
    Ok(values)
}

/// What systemd and this program measured after the firmware. Without it the values of this boot cannot be told apart, which costs no
/// verdict.
fn with_userspace(log: Log, path: &Path) -> Log {
    let mut both = log.clone();
    let appended = read(path).and_then(|bytes| Ok(both.append_userspace(&bytes)?));
    match appended.doing(path.display()) {
        Ok(()) => both,
        Err(error) => {
            warn!("{error}");
            log
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    match input::read(path, LOG_LEN_MAX) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Error::unavailable("there is none"))
        }
        read => Ok(read?),
    }
}
