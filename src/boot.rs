// SPDX-License-Identifier: Apache-2.0
//! The boot, from start to end.

mod anchoring;
pub mod cli;
pub mod kernel;
mod measuring;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use log::{info, warn};

use crate::boot::anchoring::{allow_writes, count, hold, next_epoch, settle};
use crate::boot::measuring::{fence, give_up, measure_all};
use crate::sources::Sources;
use crate::sources::service::Desk;
use crate::sources::tpm::{Chip, lock};

use crate::anchor::Allowed;
use crate::anchor::checkpoint::Held;
use crate::config::{Config, Volume};
use crate::error::{Error, Result};
use crate::measure::EventLog;
use crate::parallel::{at_once, meanwhile};
use crate::retry::patiently;
use crate::status::{Recorder, VolumeStatus};
use crate::systemd::handoff;
use crate::volume::root;
use crate::volume::{self, Keyed};
use crate::{logging, memory};

/// Opens the volumes of this node, measures what it is, and hands over to systemd.
///
/// The order is the promise: nothing is measured before every volume's key is known to be right and what the TPM remembers
/// says that these are this node's volumes; nothing is mapped with a key before everything is measured; no header moves on
/// and no boot is counted before every file system has shown that it is as new as it must be, so that a disk that is refused
/// leaves the right one as good as it was; and nothing can be unsealed, and no key service asked, by whatever runs once the
/// boot has ended, well or not.
pub fn run(top: &Path, record: &Recorder) -> Result<()> {
    let config = record.step("reading configuration", None, || Config::load(top))?;
    with_volumes_open(top, &config, record, || handoff::hand_over(top, &config))
}

/// The same with a configuration that was read, and with `hand_over` for whoever takes the volumes over.
pub fn with_volumes_open(
    top: &Path,
    config: &Config,
    record: &Recorder,
    hand_over: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let log = EventLog::open(top);
    let Begun { desk, chip, keyed } = match begin(top, config, record) {
        Ok(begun) => begun,
        Err(error) => {
            give_up(config, &log, record);
            return Err(error);
        }
    };
    let bench = Bench {
        top,
        config,
        chip: &chip,
        desk: &desk,
        log: &log,
        record,
    };
    let done = measure_and_open(&bench, keyed).and_then(|held| {
        record.step("handing over", None, hand_over)?;
        // What is held is let go of when systemd has mounted it as well.
        remember(&bench, &held)
    });
    if done.is_err() {
        close_all(config);
    }
    let fenced = record.step("fencing", None, || {
        fence(config, &mut lock(&chip)?.tpm, &log, record)
    });
    done.and(fenced).map_err(Error::for_good)
}

/// A boot whose volumes all have their keys.
struct Begun<'a> {
    desk: Desk,
    chip: Mutex<Chip>,
    keyed: Vec<(&'a Volume, Keyed)>,
}

/// What can be tried again: nothing is measured yet.
fn begin<'a>(top: &Path, config: &'a Config, record: &Recorder) -> Result<Begun<'a>> {
    kernel::check(top, config)?;
    let desk = Desk::open(top, config)?;
    let (chip, keyed) = patiently(|| {
        let chip = record.step("preparing TPM", None, || Chip::ready(config, record))?;
        let chip = Mutex::new(chip);
        let volumes = config.volumes().map(|volume| (volume, ())).collect();
        let find = || record.step("finding the anchor", None, || lock(&chip)?.find(config));
        let (anchor, found) = meanwhile(find, || {
            at_once(volumes, |volume, ()| {
                record.step("examining", Some(volume), || volume::examine(volume))
            })
        });
        let found = found?;
        desk.attend(top, config, &chip, &found, record)?;
        // Not before the service was asked: another boot chain's anchor is another one, and then it is the service's log
        // that says what was booted instead.
        anchor?;
        let sources = Sources {
            config,
            chip: &chip,
            desk: &desk,
            record,
        };
        let keyed = at_once(found, |volume, found| {
            record.step("keying", Some(volume), || sources.key_of(volume, found))
        })?;
        Ok((chip, keyed))
    })?;
    Ok(Begun { desk, chip, keyed })
}

/// What a boot works with.
struct Bench<'a> {
    top: &'a Path,
    config: &'a Config,
    chip: &'a Mutex<Chip>,
    desk: &'a Desk,
    log: &'a EventLog,
    record: &'a Recorder,
}

/// What can be done once only: a measurement cannot be taken back.
fn measure_and_open<'a>(
    bench: &Bench<'_>,
    keyed: Vec<(&'a Volume, Keyed)>,
) -> Result<Vec<(&'a Volume, Held)>> {
    let Bench {
        config,
        chip,
        desk,
        log,
        record,
        ..
    } = *bench;
    require_distinct(&keyed)?;
    record.step("measuring", None, || {
        measure_all(config, chip, log, desk, &keyed, record)
    })?;
    let opened = at_once(keyed, |volume, keyed| {
        let next_epoch = next_epoch(chip, volume, &keyed)?;
        record.step("opening", Some(volume), || {
            volume::open(volume, keyed, next_epoch)
        })
    })?;
    let held = record.step("checking freshness", None, || hold(chip, &opened))?;
    let opened = record.step("counting", None, || count(chip, opened, record))?;
    allow_writes(&held)?;
    desk.take_down(&opened)?;
    for (volume, opened) in opened {
        let accepted = lock(chip)?.accepted(volume);
        record.volume(describe(config, volume, opened.keyed(), accepted));
    }
    record.step("preparing root", None, || root::check(config))?;
    Ok(held)
}

/// The boot has succeeded: what it found is what the next one is compared with, and what was accepted for it is used up.
fn remember(bench: &Bench<'_>, held: &[(&Volume, Held)]) -> Result<()> {
    let Bench {
        top,
        config,
        chip,
        desk,
        record,
        ..
    } = *bench;
    record.step("anchoring", None, || settle(top, config, chip, held))?;
    if config.service.is_some() {
        record.step("reporting to the key service", None, || desk.report())?;
    }
    Ok(())
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

/// What the record says of an open volume.
fn describe(
    config: &Config,
    volume: &Volume,
    keyed: &Keyed,
    accepted: Option<Allowed>,
) -> VolumeStatus {
    VolumeStatus {
        name: volume.name.to_string(),
        role: volume.role,
        device: volume.device.to_string(),
        uuid: keyed.uuid.clone(),
        profile: volume.profile,
        how: keyed.how,
        source: keyed.source,
        keyslot: keyed.keyslot,
        file_system: volume.file_system,
        anchor: volume.level(),
        accepted: accepted.map(|kind| kind.word().into()),
        own_secret: keyed.has_own_secret(),
        enrolled: keyed.enrolled,
        enroll: crate::sources::enroll::consent(config, volume, keyed),
        mapping: volume.name.mapping(),
        mount: volume.mount.as_ref().map(ToString::to_string),
    }
}

/// The program `nightlatch boot`.
#[must_use]
pub fn main() -> ExitCode {
    logging::init();
    memory::protect();
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
