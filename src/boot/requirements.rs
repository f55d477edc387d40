// SPDX-License-Identifier: Apache-2.0
//! What must hold of a boot before a disk is read and a key is asked for.
//!
//! A secret is sealed to what was measured, and that says nothing of who measured it. So the first boot is held against the
//! same requirements as every later one: nothing is taken over from what it happens to find, which the host chooses.

mod command_line;
mod firmware_log;
pub mod kernel;
mod secure_boot;
mod signed;

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use log::warn;

pub(super) use self::signed::signed_pcr;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::evidence::registers::Values;
use crate::evidence::start::{self, Expected, Start};
use crate::pcr::Pcr;
use crate::status::{Recorder, StartStatus};

/// What the kernel has to be and was told. It takes no TPM to know.
pub(super) fn check_kernel(top: &Path, config: &Config) -> Result<()> {
    kernel::check(top, config)?;
    command_line::check(top, config.boot.secure_boot)
}

/// How the machine has to be started; `values` are what the PCRs held before this boot measured anything.
pub(super) fn check_start(
    top: &Path,
    config: &Config,
    values: &Values,
    record: &Recorder,
) -> Result<Start> {
    let authorities = secure_boot::authorities(top, config)?;
    let log = firmware_log::read(top, &config.tpm.tcti)?;
    let expected = Expected::of(config, authorities.as_deref());
    let start = start::prove(&log, values, &expected)?;
    for sentence in warnings(config, &start) {
        warn!("{sentence}");
    }
    let programs = start.programs.iter();
    record.start_of_machine(StartStatus {
        secure_boot: config.boot.secure_boot,
        gives_up: config.boot.gives_up(),
        programs: programs.map(ToString::to_string).collect(),
        tried_in_vain: start.tried.clone(),
    });
    Ok(start)
}

/// Reads a file of the kernel's or of systemd-stub's; without one the boot is refused with the sentence `none`. One byte more than
/// `len_max` is refused by whoever parses it: the kernel's files have no length beforehand.
fn read_bounded(path: &Path, len_max: usize, none: &'static str) -> Result<Vec<u8>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(Error::refused(none)),
        file => file?,
    };
    let mut bytes = Vec::new();
    let most = u64::try_from(len_max).unwrap_or(u64::MAX);
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What works, and is worth a look.
fn warnings(config: &Config, start: &Start) -> Vec<String> {
    let mut warnings = config.boot.gives_up();
    warnings.extend(tried(config, start));
    if !start.is_unified && !config.tpm.pcrs.contains(Pcr::LOADED_FILES) {
        warnings.push(
            "what was booted is no unified kernel image, so PCR 9 alone says which initrd it has, and tpm.pcrs lacks it"
                .into(),
        );
    }
    warnings
}

/// What the firmware tried before the image, where secrets are sealed to it.
pub(super) fn tried(config: &Config, start: &Start) -> Option<String> {
    let names: Vec<String> = start.tried.iter().map(|name| format!("{name:?}")).collect();
    let is_sealed_to = config.tpm.pcrs.contains(Pcr::BOOT_PROGRAMS);
    (is_sealed_to && !names.is_empty()).then(|| {
        format!(
            "the firmware tried in vain before the image, and PCR 4 has it: {}; put the image's disk first in the boot order",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests;
