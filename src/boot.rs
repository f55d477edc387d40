// SPDX-License-Identifier: Apache-2.0
//! The boot, from start to end.

mod measuring;
mod pace;

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard};

use log::{info, warn};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;

use measuring::{fence, measure_all};
use pace::{at_once, patiently};

use crate::config::{Config, Volume};
use crate::error::{Error, Result};
use crate::measure::EventLog;
use crate::status::{Recorder, VolumeStatus};
use crate::tpm::{Policy, Tpm};
use crate::volume::{self, Found, Keyed, Opened, Witness};
use crate::{handoff, logging, root};

/// Opens the volumes of this node, measures what it is, and hands over to systemd.
///
/// The order is the promise: nothing is measured before every volume's key is known to be right, nothing is mapped with a
/// key before everything is measured, and nothing can be unsealed once that has begun and ended, well or not.
pub fn run(top: &Path, record: &Recorder) -> Result<()> {
    let config = record.step("reading configuration", None, || Config::load(top))?;
    let log = EventLog::open(top);
    let (tpm, keyed) = patiently(|| {
        let tpm = record.step("preparing TPM", None, || ready_tpm(&config, record))?;
        let tpm = Mutex::new(tpm);
        let volumes = config.volumes().map(|volume| (volume, ())).collect();
        let keyed = at_once(volumes, |volume, ()| {
            let found = record.step("examining", Some(volume), || volume::examine(volume))?;
            record.step("keying", Some(volume), || {
                obtain_key(&config, &tpm, volume, found)
            })
        })?;
        Ok((tpm, keyed))
    })?;
    let done = measure_and_open(top, &config, &tpm, &log, keyed, record);
    if done.is_err() {
        close_all(&config);
    }
    let fenced = record.step("fencing", None, || fence(&config, &tpm, &log, record));
    done.and(fenced).map_err(Error::for_good)
}

/// What can be done once only: a measurement cannot be taken back.
fn measure_and_open(
    top: &Path,
    config: &Config,
    tpm: &Mutex<Tpm>,
    log: &EventLog,
    keyed: Vec<(&Volume, Keyed)>,
    record: &Recorder,
) -> Result<()> {
    require_distinct(&keyed)?;
    record.step("measuring", None, || {
        measure_all(config, tpm, log, &keyed, record)
    })?;
    let opened = at_once(keyed, |volume, keyed| {
        record.step("opening", Some(volume), || volume::open(volume, keyed))
    })?;
    for (volume, opened) in opened {
        record.volume(describe(volume, opened));
    }
    record.step("preparing root", None, || root::check(config))?;
    record.step("handing over", None, || handoff::hand_over(top, config))
}

/// Two devices that hold the same volume are one volume and a copy of it.
fn require_distinct(keyed: &[(&Volume, Keyed)]) -> Result<()> {
    for (index, (volume, this)) in keyed.iter().enumerate() {
        let mut before = keyed.iter().take(index);
        if let Some((other, _)) = before.find(|(_, other)| other.uuid == this.uuid) {
            return Err(Error::refused(format_args!(
                "volume {} has the UUID of volume {}: one of them is a copy",
                volume.name, other.name
            )));
        }
    }
    Ok(())
}

/// After a failure nothing stays open.
fn close_all(config: &Config) {
    for volume in config.volumes() {
        if let Err(error) = volume::close(volume) {
            warn!(volume = volume.name.as_str(); "closing: {error}");
        }
    }
}

/// The TPM, and proof that this boot has not been given an identity yet.
fn ready_tpm(config: &Config, record: &Recorder) -> Result<Tpm> {
    let mut tpm = Tpm::open(&config.tpm.tcti)?;
    let pcr = config.measure.cluster_pcr;
    tpm.require_zero(pcr)?;
    let zero = tpm
        .banks()?
        .into_iter()
        .map(|bank| (bank, bank.zero()))
        .collect();
    record.pcr_before(pcr, &zero);
    Ok(tpm)
}

/// Gets or makes the volume's key. Nothing is mapped with it yet.
fn obtain_key(config: &Config, tpm: &Mutex<Tpm>, volume: &Volume, found: Found) -> Result<Keyed> {
    let policy = Policy {
        pcrs: config.tpm.pcrs,
        bank: config.tpm.bank.into(),
    };
    match found {
        Found::New(new) => new.prepare(
            volume,
            &config.tpm,
            |secret| lock(tpm)?.seal(secret, policy),
            Witness::none(0),
        ),
        Found::Existing(existing) => existing.unlock(volume, &config.tpm, |sealed| {
            lock(tpm)?.unseal(sealed, policy)
        }),
    }
}

/// What the record says of an open volume.
fn describe(volume: &Volume, opened: Opened) -> VolumeStatus {
    VolumeStatus {
        name: volume.name.to_string(),
        role: volume.role,
        device: volume.device.to_string(),
        uuid: opened.uuid,
        profile: volume.profile,
        how: opened.how,
        source: opened.source,
        keyslot: opened.keyslot,
        file_system: volume.file_system,
        mapping: volume.name.mapping(),
        mount: volume.mount.as_ref().map(ToString::to_string),
    }
}

fn lock(tpm: &Mutex<Tpm>) -> Result<MutexGuard<'_, Tpm>> {
    tpm.lock()
        .map_err(|error| Error::failure(format_args!("TPM: {error}")))
}

/// The program `nightlatch boot`.
#[must_use]
pub fn main() -> ExitCode {
    logging::init();
    protect_memory();
    let top = Path::new("/");
    let record = Recorder::start();
    let result = run(top, &record);
    if let Err(error) = record.finish(&result).write(top) {
        warn!("writing the boot record: {error}");
    }
    match result {
        Ok(()) => {
            info!("the volumes are open and handed over to systemd");
            logging::progress("done");
            ExitCode::SUCCESS
        }
        Err(error) => {
            logging::last_word(&error);
            ExitCode::from(error.exit().code())
        }
    }
}

/// Keeps secrets out of swap and core files. An initrd has neither by default, so a refusal is not fatal.
pub fn protect_memory() {
    if let Err(error) = prctl::set_dumpable(false) {
        warn!("forbidding core dumps: {}", error.desc());
    }
    // On fault: stacks and arenas are mostly never touched, and memory is scarce.
    let on_fault = MlockAllFlags::from_bits_retain(nix::libc::MCL_ONFAULT);
    let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault;
    if let Err(error) = mlockall(flags) {
        warn!("locking memory: {}", error.desc());
    }
}
