// SPDX-License-Identifier: Apache-2.0
//! The boot, from start to end: `nightlatch`.
//!
//! It alone knows the order of its steps, and the order is its promise: [`run`] says which. Each step takes values and
//! returns values; only here is the configuration read and decided what comes next. Start reading at [`run`].
//!
//! **Never:** a mapping before everything is measured, a format because of an error, a question at the console.
//!
//! # A boot
//!
//! 1. [`cli::main`] reads the command line, [`run`] the [`Config`], and [`with_volumes_open`] goes on with it.
//! 2. `prepare`: [`requirements`] say whether this boot may have keys; [`ServiceSession::open`] reads what it needs.
//! 3. [`NodeTpm::open`] takes the TPM; [`NodeTpm::locate_anchor`] finds the anchor while [`volume::examine`] reads.
//! 4. [`ServiceSession::ask_early`] asks the key service, where a volume that was found needs it for certain.
//! 5. [`Sources::key_of`] makes of each [`Found`](volume::Found) a [`Keyed`]: compared with anchor and service.
//! 6. `measure_all` measures the clusterID, what an operator accepted, and the volumes that nothing else measures.
//! 7. [`volume::open`] maps each [`Keyed`]: an [`Opened`](volume::Opened), whose live table is the one that was meant.
//! 8. `verify_freshness` pins file systems that are new enough; `count` moves headers, then the counter, on.
//! 9. [`root::check`] looks at the image below the root, and [`handoff::hand_over`] has systemd mount what is open.
//! 10. `commit` has the anchor and the service remember it, `fence` closes what was sealed, and [`main`] leaves the record.
//!
//! A volume that need not be there leaves this way at whichever step it fails: [`Away`] has it, and why.

mod anchor;
mod away;
pub mod cli;
mod describe;
#[cfg(test)]
mod fixture;
mod keying;
mod measure;
mod mounting;
pub mod requirements;

pub use away::Away;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use log::{info, warn};

use crate::anchor::checkpoint::PinnedMount;
use crate::anchor::failure::FailurePlace;
use crate::boot::anchor::{allow_writes, commit_anchor, count, next_stamp, verify_freshness};
use crate::boot::away::present;
use crate::boot::describe::describe;
use crate::boot::keying::key_all;
use crate::boot::measure::{fence, fence_after_failure, measure_all, measure_away};
use crate::config::{Config, Level, Volume};
use crate::error::{Error, Result};
use crate::measure::EventLog;
use crate::parallel::{each_volume, join};
use crate::retry;
use crate::sources::Sources;
use crate::sources::recovery::{OperatorSession, Waiting};
use crate::sources::service::ServiceSession;
use crate::sources::tpm::{NodeTpm, SignedPcr, lock};
use crate::status::Recorder;
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
/// boot has ended, well or not. A boot that fails leaves its sentence for the next one to show.
pub fn run(top: &Path, record: &Recorder) -> Result<()> {
    let config = record.step("reading configuration", None, || Config::load(top))?;
    let kept = FailurePlace::of(&config);
    record.keeps_failures(kept.clone());
    let done = open_and_hand_over(top, &config, record);
    if let (Err(error), Some(place)) = (&done, kept)
        && let Err(trouble) = place.keep(error)
    {
        warn!("{trouble}");
    }
    done
}

fn open_and_hand_over(top: &Path, config: &Config, record: &Recorder) -> Result<()> {
    with_volumes_open(top, config, record, |open, away| {
        let mounted = handoff::hand_over(top, config, open)?;
        let mut there = Vec::new();
        for (volume, mounted) in mounted {
            match mounted {
                Ok(()) => there.push(volume),
                Err(error) => away.add(volume, error),
            }
        }
        record.step("checking mounts", None, || {
            mounting::check(top, &there, record)
        })
    })
}

/// The same with a configuration that was read, and with `hand_over` for whoever takes the volumes over that are open.
pub fn with_volumes_open<'a>(
    top: &Path,
    config: &'a Config,
    record: &Recorder,
    hand_over: impl FnOnce(&[&'a Volume], &Away<'a>) -> Result<()>,
) -> Result<()> {
    let log = EventLog::open(top);
    let Prepared {
        service,
        node_tpm,
        keyed,
        away,
    } = match prepare(top, config, record) {
        Ok(prepared) => prepared,
        Err(error) => {
            fence_after_failure(config, &log, record);
            return Err(error);
        }
    };
    let context = Context {
        top,
        config,
        node_tpm: &node_tpm,
        service: &service,
        log: &log,
        record,
        away: &away,
    };
    let done = measure_and_open(&context, keyed).and_then(|(open, pinned)| {
        record.step("handing over", None, || hand_over(&open, &away))?;
        // What is pinned is let go of when systemd has mounted it as well.
        commit(&context, &open, &pinned)
    });
    let away = away.into_all();
    if done.is_err() {
        close_all(config);
    }
    for (volume, error) in &away {
        if done.is_ok() {
            away::close(volume);
        }
        record.away(volume, error);
    }
    let fenced = record.step("fencing", None, || {
        fence(config, &mut lock(&node_tpm)?.tpm, &log, record)
    });
    if fenced.is_err() {
        // Over a connection that an answer came by which is not the TPM's no other command goes.
        drop(node_tpm);
        fence_after_failure(config, &log, record);
    }
    done.and(fenced).map_err(Error::for_good)
}

/// A boot whose volumes all have their keys.
struct Prepared<'a> {
    service: ServiceSession,
    node_tpm: Mutex<NodeTpm>,
    keyed: Vec<(&'a Volume, Keyed)>,
    away: Away<'a>,
}

/// What can be tried again, by itself or once an operator has given what was missing: nothing is measured yet.
fn prepare<'a>(top: &Path, config: &'a Config, record: &Recorder) -> Result<Prepared<'a>> {
    requirements::check_kernel(top, config)?;
    let signed = requirements::signed_pcr(top, config)?;
    let service = ServiceSession::open(top, config)?;
    let operator = OperatorSession::open(top, config)?;
    let attempt = Attempt {
        top,
        config,
        signed: signed.as_ref(),
        service: &service,
        operator: &operator,
        record,
        since: Instant::now(),
    };
    let waiting = Waiting {
        top,
        config,
        service: &service,
    };
    let (node_tpm, keyed, away) =
        retry::temporary(|| operator.attempt(waiting, || attempt.find_keys()))?;
    Ok(Prepared {
        service,
        node_tpm,
        keyed,
        away,
    })
}

/// What each try begins with.
struct Attempt<'a, 'v> {
    top: &'a Path,
    config: &'v Config,
    signed: Option<&'a SignedPcr>,
    service: &'a ServiceSession,
    operator: &'a OperatorSession,
    record: &'a Recorder,
    since: Instant,
}

/// The TPM, the volumes that have their keys, and those that the boot goes on without.
type Keys<'v> = (Mutex<NodeTpm>, Vec<(&'v Volume, Keyed)>, Away<'v>);

impl<'v> Attempt<'_, 'v> {
    /// One try.
    fn find_keys(&self) -> Result<Keys<'v>> {
        let Self {
            top,
            config,
            service,
            operator,
            record,
            ..
        } = *self;
        let away = Away::since(self.since);
        let node_tpm = self.prove_start()?;
        let volumes = config.volumes().map(|volume| (volume, ())).collect();
        let find = || {
            record.step("finding the anchor", None, || {
                lock(&node_tpm)?.locate_anchor(config)
            })
        };
        let (anchor, found) = join(find, || {
            each_volume(volumes, |volume, ()| {
                let found = record.step("examining", Some(volume), || volume::examine(volume));
                away.unless_required(volume, found)
            })
        });
        let found = present(found?);
        service.ask_early(top, config, &node_tpm, &found, record)?;
        // Not before the service was asked: another boot chain's anchor is another one, and then it is the service's log
        // that says what was booted instead.
        anchor?;
        let sources = Sources {
            config,
            node_tpm: &node_tpm,
            service,
            operator,
            record,
        };
        let mut keyed = key_all(sources, found, &away)?;
        let anchored = keyed.iter().any(|(volume, _)| volume.level() != Level::Off);
        if anchored && lock(&node_tpm)?.is_to_move() {
            record.step("moving the anchor's record", None, || {
                lock(&node_tpm)?.move_record(&away.volumes())
            })?;
        }
        sources.fulfil_requests(&mut keyed)?;
        Ok((node_tpm, keyed, away))
    }

    /// The TPM of a boot that was started as it has to be.
    fn prove_start(&self) -> Result<Mutex<NodeTpm>> {
        let Self {
            top,
            config,
            signed,
            record,
            ..
        } = *self;
        let mut node_tpm = record.step("preparing TPM", None, || {
            NodeTpm::open(config, signed, record)
        })?;
        let start = record.step("proving the boot", None, || {
            requirements::check_start(top, config, &node_tpm.before, record)
        })?;
        let tried = requirements::tried(config, &start);
        node_tpm.tpm.explain_other_values(tried);
        Ok(Mutex::new(node_tpm))
    }
}

/// What a boot works with.
struct Context<'a, 'v> {
    top: &'a Path,
    config: &'v Config,
    node_tpm: &'a Mutex<NodeTpm>,
    service: &'a ServiceSession,
    log: &'a EventLog,
    record: &'a Recorder,
    away: &'a Away<'v>,
}

/// The volumes that are open, and the file systems that are held until systemd has mounted them as well.
type Open<'a> = (Vec<&'a Volume>, Vec<(&'a Volume, PinnedMount)>);

/// What can be done once only: a measurement cannot be taken back.
fn measure_and_open<'a>(
    context: &Context<'_, 'a>,
    keyed: Vec<(&'a Volume, Keyed)>,
) -> Result<Open<'a>> {
    let Context {
        top,
        config,
        node_tpm,
        service,
        log,
        record,
        away,
    } = *context;
    record.step("measuring", None, || {
        measure_all(config, node_tpm, log, service, &keyed, record)
    })?;
    let opened = each_volume(keyed, |volume, keyed| {
        let next_stamp = next_stamp(node_tpm, volume, &keyed)?;
        let opened = record.step("opening", Some(volume), || {
            volume::open(volume, keyed, next_stamp)
        });
        away.unless_required_or_closed(volume, opened)
    })?;
    let (opened, pinned) = record.step("checking freshness", None, || {
        verify_freshness(node_tpm, present(opened), away)
    })?;
    let opened = record.step("counting", None, || count(node_tpm, opened, record, away))?;
    allow_writes(&pinned)?;
    service.queue_report(node_tpm, &opened)?;
    let open = opened.iter().map(|(volume, _)| *volume).collect();
    for (volume, opened) in opened {
        let accepted = lock(node_tpm)?.accepted(volume);
        record.volume(describe(config, volume, opened.keyed(), accepted));
    }
    record.step("preparing root", None, || root::check(top, config))?;
    Ok((open, pinned))
}

/// The boot has succeeded: what it found is what the next one is compared with, and what was accepted for it is used up.
fn commit(
    context: &Context<'_, '_>,
    open: &[&Volume],
    pinned: &[(&Volume, PinnedMount)],
) -> Result<()> {
    let Context {
        top,
        config,
        node_tpm,
        service,
        log,
        record,
        away,
    } = *context;
    measure_away(config, node_tpm, log, &away.volumes())?;
    record.step("anchoring", None, || {
        commit_anchor(top, config, node_tpm, (open, pinned))
    })?;
    if config.service.is_some() {
        record.step("reporting to the key service", None, || {
            service.send_report()
        })?;
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

#[cfg(test)]
mod tests;
