// SPDX-License-Identifier: Apache-2.0
//! `check`: whether the next boot of this node with an image will open its volumes, and by what.
//!
//! It is told from the image's file, this boot's logs, the TPM and the headers: [`image`] reads the first, [`machine`] the next
//! two, [`crate::evidence::start::next`] says what the PCRs will hold, and [`judge`] what follows for each volume. Where no image
//! is named, [`esp`] finds them, and [`mod@every`] makes one answer of all.
//!
//! **Never:** anything unsealed, a disk written to, or a guess: what cannot be told is said to be so.

mod changes;
mod esp;
mod every;
mod image;
mod judge;
mod machine;
mod report;

use std::path::Path;

use self::esp::Esp;
use self::every::every;
use self::image::Image;
use self::judge::{Digest, Found, Known, Signer};
use self::machine::{Machine, is_in_db};
use self::report::{Report, incomplete};
use crate::config::{Config, Level, Volume};
use crate::ctl::image::missing;
use crate::ctl::{Answer, cli, header, input};
use crate::error::{Doing, Error, Exit, Result};
use crate::evidence::registers::Values;
use crate::evidence::start::{Changes, Expected, Next, Outlook, next};
use crate::initrd::{Part, Tree};
use crate::pcr::Pcr;
use crate::tpm::Policy;
use crate::uki::Uki;

/// The section of an image that its initrd is in.
const INITRD: &str = ".initrd";

/// Says what a boot with the image would open, or with each on the ESP.
pub(super) fn check(root: &Path, given: &cli::Check) -> Result<Answer> {
    let changes = changes::of(given)?;
    let Some(path) = &given.image else {
        let esp = Esp::find(root, given.esp.as_deref())?;
        return every(&esp, |path, bytes| of_image(root, path, bytes, &changes));
    };
    let bytes = input::read(path, input::IMAGE_LEN_MAX).map_err(Error::config);
    of_image(root, path, &bytes.doing(path.display())?, &changes)
}

/// Says it of one image.
fn of_image(root: &Path, path: &Path, bytes: &[u8], changes: &Changes) -> Result<Answer> {
    let uki = Uki::parse(bytes).doing(path.display())?;
    let packed = uki.section(INITRD).doing(path.display())?;
    let unpacked = Part::all(packed.unwrap_or_default()).doing(path.display())?;
    let tree = Tree::of(&unpacked).doing(path.display())?;
    if let Some((exit, lines)) = missing(&uki, &tree).doing(path.display())? {
        return Ok(incomplete(path, exit, &lines));
    }
    let mut image = Image::of(&uki, &tree).doing(path.display())?;
    image.next.changes = changes.clone();
    compare(root, path, &uki, &image)
}

/// Compares a complete image with the machine.
fn compare(root: &Path, path: &Path, uki: &Uki<'_>, image: &Image) -> Result<Answer> {
    let config = &image.config;
    let mut machine = Machine::read(root, &config.tpm)?;
    let expected = Expected::of(config, image.authorities.as_deref());
    let names = |certificate: &[u8]| uki.program.names_signer(certificate).ok();
    let mut next =
        next(&machine.log, &machine.seen, &image.next, &names, &expected).map_err(|unmet| {
            Error::unavailable(format_args!(
                "this boot says nothing of the next one: {unmet}"
            ))
        })?;
    let volumes: Vec<(&Volume, Found)> = config
        .volumes()
        .map(|volume| (volume, found(root, volume)))
        .collect();
    let now = this_boot(&machine, image.policy, &volumes);
    as_now(&mut next, &image.next.changes, now.as_ref());
    let digest = Digest::of(image.policy, &next);
    let mut known = known(&mut machine, config, image.policy, digest, &volumes)?;
    known.changed = report::changed(&next, now.as_ref());
    if let Some(Outlook::Other(_)) = next.pcrs.get(&Pcr::SECURE_BOOT) {
        known.signer = signer(root, image, &names);
    }
    let judged = volumes.iter().map(|(volume, found)| {
        let is_of_this_boot = found.token().is_some_and(|token| {
            let policy = judge::policy_of(token);
            machine.values_of(policy, &token.policy_hash).is_some()
        });
        (
            *volume,
            judge::judge(volume, found, is_of_this_boot, &known),
        )
    });
    let report = Report {
        path,
        config,
        changes: &image.next.changes,
        next: &next,
        now: now.as_ref(),
        seen: &machine.seen,
        volumes: judged.collect(),
    };
    Ok(report.answer())
}

/// Whose signature lets the firmware start an image for which nobody vouches who did in this boot.
fn signer(root: &Path, image: &Image, names: &dyn Fn(&[u8]) -> Option<bool>) -> Signer {
    let changes = &image.next.changes;
    if changes.signer.is_some() {
        // Else PCR 7 would be known.
        return Signer::NotInDb;
    }
    let listed = image.authorities.iter().flatten();
    let own: Vec<&Vec<u8>> = listed.filter(|it| names(it) == Some(true)).collect();
    if own.iter().any(|it| changes.lets_in(it)) {
        return Signer::InDb;
    }
    Signer::other(is_in_db(root, own.into_iter()))
}

/// What is on a volume's device.
fn found(root: &Path, volume: &Volume) -> Found {
    if volume.ephemeral {
        return Found::MadeAnew;
    }
    let device = volume.device.as_str();
    let path = root.join(device.trim_start_matches('/'));
    match header::of_volume(volume, &path).doing(device) {
        Ok(Some(header)) => Found::Header(Box::new(header)),
        Ok(None) => Found::Blank,
        Err(error) if error.exit() == Exit::Refused => Found::Refused(error.to_string()),
        Err(error) => Found::Unreadable(error.to_string()),
    }
}

/// The values that this boot opened its volumes with, where one of them is sealed to these: then they are proven.
fn this_boot(machine: &Machine, policy: Policy, volumes: &[(&Volume, Found)]) -> Option<Values> {
    let tokens = volumes.iter().filter_map(|(_, found)| found.token());
    let mut of_bank = tokens.filter(|token| token.bank == policy.bank);
    of_bank.find_map(|token| machine.values_of(judge::policy_of(token), &token.policy_hash))
}

/// The image that runs, started in the same way, has the values of now where the file does not say them.
fn as_now(next: &mut Next, changes: &Changes, now: Option<&Values>) {
    let Some(now) = now.filter(|_| next.is_running) else {
        return;
    };
    // But for what is about to change.
    let is_as_now = |pcr: Pcr| changes.is_empty() || pcr != Pcr::SECURE_BOOT;
    for (pcr, outlook) in next.pcrs.iter_mut().filter(|(pcr, _)| is_as_now(**pcr)) {
        if let (Outlook::Unknown(_), Some(value)) = (&*outlook, now.get(&pcr.index())) {
            *outlook = Outlook::Value(value.clone());
        }
    }
}

/// What the TPM remembers, as far as names of its records tell it.
fn known<'a>(
    machine: &mut Machine,
    config: &'a Config,
    policy: Policy,
    digest: Digest,
    volumes: &[(&Volume, Found)],
) -> Result<Known<'a>> {
    let is_readable = match digest {
        Digest::Known(digest) => machine.has_record_of(config.anchor, digest)?,
        Digest::Other | Digest::Unknown => false,
    };
    let wants_anchor = config.volumes().any(|it| it.level() != Level::Off);
    let has_counter = wants_anchor && machine.has_counter(config.anchor)?;
    let mut named = Vec::new();
    for token in volumes.iter().filter_map(|(_, found)| found.token()) {
        if machine.has_record_of(config.anchor, token.policy_hash)? {
            named.push(token.policy_hash);
        }
    }
    Ok(Known {
        config,
        policy,
        digest,
        is_readable,
        has_counter,
        named,
        signer: Signer::OfThisBoot,
        changed: Vec::new(),
    })
}

#[cfg(test)]
mod tests;
