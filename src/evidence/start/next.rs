// SPDX-License-Identifier: Apache-2.0
//! The next start of a machine, with another image in the place of this boot's: what the PCRs will hold, as far as this boot's
//! log and the file tell it. All else is taken to be as it was: firmware, settings, boot order, what is handed to the image.
//!
//! What cannot be told is said and not guessed: a value that is wrong here is a machine that does not come back.

use std::collections::BTreeMap;

use super::changes::Changes;
use super::outlook::Outlook;
use super::registers::{self, Separator};
use super::{Expected, First, Unmet, prove};
use crate::evidence::eventlog::{Log, What};
use crate::evidence::registers::{Registers, Values};
use crate::evidence::secure_boot::SecureBoot;
use crate::pcr::{Bank, Pcr, PcrSet};

/// The PCRs of the firmware (TCG PC Client Platform Firmware Profile, section 3.3.4).
const FIRMWARE: std::ops::RangeInclusive<u8> = 0..=7;

/// A unified kernel image that is to be started, as its file tells it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NextImage {
    /// Its Authenticode hash.
    pub digest: Vec<u8>,
    /// Whether the firmware starts the kernel inside as well where Secure Boot is off.
    pub kernel: KernelInside,
    /// PCR 11 when its initrd asks for keys.
    pub pcr_11: Vec<u8>,
    /// Whether its initrd has systemd's separator.
    pub is_separated: bool,
    /// What is about to change beside it.
    pub changes: Changes,
}

/// Whether the firmware starts the kernel inside an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KernelInside {
    /// It does, and measures this Authenticode hash.
    Started(Vec<u8>),
    /// The stub starts it past the firmware.
    Past,
    /// The file does not say.
    Unknown,
}

/// What the next start will be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Next {
    /// Whether the image is the one that this boot started.
    pub is_running: bool,
    /// Whether systemd's separator will follow what the firmware measures.
    pub is_separated: bool,
    /// What each PCR that secrets are sealed to will hold.
    pub pcrs: BTreeMap<Pcr, Outlook>,
    /// What its start would lack, as the boot will find it; nothing where it lacks nothing, or where that cannot be told.
    pub unmet: Option<Unmet>,
}

/// What follows for the next start from this boot's log, that of the firmware's time alone; `seen` are the values that PCRs 0 to 7
/// have now, `expected` is what the image's configuration wants, and `names` says whether the image carries a signature by a
/// certificate, in DER; nothing where that cannot be told.
///
/// Fails where the TPM has other values than the log explains: nothing can be told from it then.
pub fn next(
    log: &Log,
    seen: &Values,
    image: &NextImage,
    names: &dyn Fn(&[u8]) -> Option<bool>,
    expected: &Expected<'_>,
) -> Result<Next, Unmet> {
    let log = log.until(0);
    let bank = expected.bank;
    let replayed = log.replay(bank).map_err(Unmet::Log)?;
    let present = registers::explained(&replayed, seen, expected)?;
    let exchange = Exchange::new(&log, bank);
    let is_running = exchange.programs.iter().any(|(_, it)| *it == image.digest);
    let separator = match (is_running, image.is_separated) {
        (true, _) => present,
        (false, true) => Separator::Present,
        (false, false) => Separator::Absent,
    };
    let changed = image.changes.made_in(&log, bank);
    let after = changed.as_ref().unwrap_or(&log);
    let exchanged = if is_running {
        Ok(after.clone())
    } else {
        exchange.with(after, image, expected)
    };
    let explained = |pcr: Pcr| registers::replays_to(&replayed, seen, bank, pcr, present);
    let as_it_was = |pcr: Pcr| match replayed.get(&pcr.index()) {
        Some(value) if explained(pcr) => Outlook::Value(separator.after(bank, value)),
        _ => Outlook::Unknown("the firmware's log does not explain what it holds".into()),
    };
    let vouches = || {
        if is_running || image.changes.signer.is_some() {
            Vouched::Same
        } else {
            vouched(&log, bank, names)
        }
    };
    let outlook = |pcr: Pcr| match pcr {
        Pcr::BOOT_PROGRAMS => match &exchanged {
            Ok(exchanged) => of_log(exchanged, bank, pcr, separator),
            Err(why) => Outlook::Unknown(why.clone()),
        },
        Pcr::SECURE_BOOT => match (vouches(), &changed) {
            (Vouched::Other(why), _) => Outlook::Other(why),
            (Vouched::Unknown(why), _) => Outlook::Unknown(why),
            (Vouched::Same, Err(outlook)) => outlook.clone(),
            (Vouched::Same, Ok(changed)) if explained(pcr) => of_log(changed, bank, pcr, separator),
            (Vouched::Same, Ok(_)) => as_it_was(pcr),
        },
        Pcr::KERNEL_IMAGE => Outlook::Value(image.pcr_11.clone()),
        Pcr::KERNEL_CONFIG | Pcr::SYSTEM_EXTENSIONS => added(pcr, expected, separator),
        pcr if FIRMWARE.contains(&pcr.index()) => as_it_was(pcr),
        _ => Outlook::Unknown("the file does not say what is measured there".into()),
    };
    let pcrs: BTreeMap<Pcr, Outlook> = expected.sealed.iter().map(|it| (it, outlook(it))).collect();
    let is_known = |pcr: Pcr| matches!(outlook(pcr), Outlook::Value(_));
    let unmet = match &exchanged {
        Ok(exchanged) if is_known(Pcr::SECURE_BOOT) || expected.authorities.is_none() => {
            let values = values_of_next(exchanged, seen, &outlook, expected, separator)?;
            prove(exchanged, &values, expected).err()
        }
        _ => None,
    };
    let signers = match &image.changes.signer {
        Some(signer) => vec![signer.clone()],
        None => authorities(after, bank),
    };
    let forbidden = image.changes.forbid(bank, &image.digest, &signers);
    Ok(Next {
        is_running,
        is_separated: separator == Separator::Present,
        pcrs,
        unmet: forbidden.or(unmet),
    })
}

/// The value of one PCR of the firmware's after a log.
fn of_log(log: &Log, bank: Bank, pcr: Pcr, separator: Separator) -> Outlook {
    let value = log.replay(bank).ok();
    let value = value.and_then(|values| values.get(&pcr.index()).cloned());
    value.map_or_else(
        || Outlook::Unknown("the firmware's log cannot be replayed".into()),
        |value| Outlook::Value(separator.after(bank, &value)),
    )
}

/// The boot is refused where a PCR of additions has another value than the configuration's.
fn added(pcr: Pcr, expected: &Expected<'_>, separator: Separator) -> Outlook {
    let mut added = expected.added.iter();
    let value = added.find(|(other, _)| *other == pcr);
    let value = value.map_or_else(|| expected.bank.zero(), |(_, value)| value.clone());
    Outlook::Value(separator.after(expected.bank, &value))
}

/// All values that the rules over a start look at. What cannot be told of a PCR that they only want to have been extended is taken to be as
/// in this boot.
fn values_of_next(
    log: &Log,
    seen: &Values,
    outlook: &impl Fn(Pcr) -> Outlook,
    expected: &Expected<'_>,
    separator: Separator,
) -> Result<Values, Unmet> {
    let replayed = log.replay(expected.bank).map_err(Unmet::Log)?;
    let mut values = Values::new();
    let all: Vec<Pcr> = PcrSet::STARTED
        .iter()
        .chain(expected.sealed.iter())
        .collect();
    for pcr in all {
        let index = pcr.index();
        let value = match outlook(pcr) {
            Outlook::Value(value) => Some(value),
            Outlook::Other(_) | Outlook::Unknown(_) if FIRMWARE.contains(&index) => {
                seen.get(&index).cloned()
            }
            Outlook::Other(_) | Outlook::Unknown(_) => replayed
                .get(&index)
                .map(|value| separator.after(expected.bank, value)),
        };
        values.extend(value.map(|value| (index, value)));
    }
    Ok(values)
}

/// What the firmware measured of programs, each with its place among the events of PCR 4.
struct Exchange {
    bank: Bank,
    programs: Vec<(usize, Vec<u8>)>,
    is_unified: bool,
    has_secure_boot: bool,
}

impl Exchange {
    fn new(log: &Log, bank: Bank) -> Self {
        let events = |pcr: Pcr| log.events(bank, Registers::from(PcrSet::of(&[pcr])));
        let programs = events(Pcr::BOOT_PROGRAMS).into_iter().enumerate();
        Self {
            bank,
            programs: programs
                .filter(|(_, event)| event.may_be_program())
                .map(|(place, event)| (place, event.digest))
                .collect(),
            is_unified: !events(Pcr::KERNEL_IMAGE).is_empty(),
            has_secure_boot: SecureBoot::of(&events(Pcr::SECURE_BOOT)).is_on == Some(true),
        }
    }

    /// The log with the image in the place of this boot's.
    fn with(&self, log: &Log, image: &NextImage, expected: &Expected<'_>) -> Result<Log, String> {
        if !self.is_unified {
            return Err("this boot was not one of a unified kernel image".into());
        }
        let loaders = match expected.first {
            First::Image => 0,
            First::Loader => 1,
        };
        let zero = self.bank.zero();
        let has_addon = expected
            .added
            .iter()
            .any(|(pcr, value)| *pcr == Pcr::KERNEL_CONFIG && *value != zero);
        let own = self.programs.get(loaders..).unwrap_or_default();
        let Some(((place, _), after)) = own.split_first() else {
            return Err(self.others(loaders, has_addon, false));
        };
        let exchanged = log
            .clone()
            .exchanged(self.bank, Pcr::BOOT_PROGRAMS, *place, &image.digest);
        let kernel = match after.get(usize::from(has_addon)..) {
            Some([]) => None,
            Some([(place, _)]) if !self.has_secure_boot => Some(*place),
            _ => return Err(self.others(loaders, has_addon, !self.has_secure_boot)),
        };
        match (kernel, &image.kernel) {
            _ if self.has_secure_boot => Ok(exchanged),
            (None, KernelInside::Past) => Ok(exchanged),
            (Some(place), KernelInside::Started(digest)) => {
                Ok(exchanged.exchanged(self.bank, Pcr::BOOT_PROGRAMS, place, digest))
            }
            (_, KernelInside::Unknown) => Err(
                "the image does not say which systemd-stub it has, so whether the firmware measures the kernel inside is not known"
                    .into(),
            ),
            (Some(_), KernelInside::Past) | (None, KernelInside::Started(_)) => Err(
                "its systemd-stub starts the kernel in another way than that of this boot".into(),
            ),
        }
    }

    fn others(&self, loaders: usize, has_addon: bool, may_have_kernel: bool) -> String {
        let more = [loaders == 1, has_addon, may_have_kernel];
        let more = more.into_iter().filter(|it| *it).count();
        format!(
            "this boot started {} programs where the image's configuration has {}, so which one the image takes the place of is not known",
            self.programs.len(),
            more.saturating_add(1)
        )
    }
}

/// The entries of `db` that vouched.
fn authorities(log: &Log, bank: Bank) -> Vec<Vec<u8>> {
    let events = log.events(bank, Registers::from(PcrSet::of(&[Pcr::SECURE_BOOT])));
    let entries = SecureBoot::of(&events).authorities;
    entries.into_iter().map(<[u8]>::to_vec).collect()
}

/// Whether the same certificate vouches for an image as for this boot's.
enum Vouched {
    Same,
    Other(String),
    Unknown(String),
}

/// What a firmware measures of who vouched is an entry of `db`, each once.
fn vouched(log: &Log, bank: Bank, names: &dyn Fn(&[u8]) -> Option<bool>) -> Vouched {
    let events = log.events(bank, Registers::from(PcrSet::of(&[Pcr::SECURE_BOOT])));
    let seen = SecureBoot::of(&events);
    match (seen.is_on, seen.authorities.as_slice()) {
        (Some(false), []) => Vouched::Same,
        (Some(true), [entry]) => match names(entry) {
            Some(true) => Vouched::Same,
            Some(false) => Vouched::Other(format!(
                "the image carries no signature by who vouched for this boot's: {}",
                What::Authority(entry.to_vec())
            )),
            None => Vouched::Unknown(
                "what vouched for this boot's image is no certificate, so whether it does for this one is not known".into(),
            ),
        },
        (_, authorities) => Vouched::Unknown(format!(
            "{} entries of db vouched for what this boot started, and which of them did for the image is not known",
            authorities.len()
        )),
    }
}
