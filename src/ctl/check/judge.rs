// SPDX-License-Identifier: Apache-2.0
//! What opens a volume in the next boot. Pure: what was found and what is known comes in, a verdict goes out.

use crate::config::{Config, Level, Source, Stale, Volume};
use crate::evidence::start::{Next, Outlook};
use crate::header::{Checked, Tpm2Token};
use crate::key::pcr::PcrPublicKey;
use crate::pcr::{Pcr, PcrSet};
use crate::tpm::Policy;

/// What is on a volume's device.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing that matters: the volume is made at each boot.
    MadeAnew,
    /// Nothing, or a volume whose making was cut off.
    Blank,
    /// A header that passed.
    Header(Box<Checked>),
    /// What no boot opens, for this reason.
    Refused(String),
    /// What could not be read, for this reason.
    Unreadable(String),
}

impl Found {
    /// The token of the secret that is sealed to the TPM.
    pub(super) fn token(&self) -> Option<&Tpm2Token> {
        match self {
            Self::Header(header) => header.tpm.as_ref(),
            Self::MadeAnew | Self::Blank | Self::Refused(_) | Self::Unreadable(_) => None,
        }
    }
}

/// The digest of what the next boot seals to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Digest {
    /// This one.
    Known([u8; 32]),
    /// Another one than that of this boot.
    Other,
    /// That cannot be told.
    Unknown,
}

impl Digest {
    /// What follows from the values that the PCRs will have.
    pub(super) fn of(policy: Policy, next: &Next) -> Self {
        let outlooks = || policy.pcrs.iter().map(|pcr| next.pcrs.get(&pcr));
        if outlooks().any(|it| matches!(it, Some(Outlook::Other(_)))) {
            return Self::Other;
        }
        let values: Option<Vec<&[u8]>> = outlooks()
            .map(|outlook| match outlook {
                Some(Outlook::Value(value)) => Some(value.as_slice()),
                _ => None,
            })
            .collect();
        values.map_or(Self::Unknown, |values| Self::Known(policy.digest(values)))
    }
}

/// Whose signature lets the firmware start the image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Signer {
    /// As in this boot, or nobody's.
    OfThisBoot,
    /// Somebody's who vouched for nothing in this boot, and whom the firmware's db has.
    InDb,
    /// Somebody's whom it does not have.
    NotInDb,
    /// Somebody's, and the db could not be read.
    Unknown,
}

impl Signer {
    /// One who vouched for nothing in this boot.
    pub(super) fn other(is_in_db: Option<bool>) -> Self {
        match is_in_db {
            Some(true) => Self::InDb,
            Some(false) => Self::NotInDb,
            None => Self::Unknown,
        }
    }
}

/// What is known for all volumes.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) config: &'a Config,
    /// What the next boot seals to.
    pub(super) policy: Policy,
    pub(super) digest: Digest,
    /// Whether the next boot can read a record that is in the TPM.
    pub(super) is_readable: bool,
    /// Whether the TPM has the counter of boots.
    pub(super) has_counter: bool,
    /// The digests that headers name and records in the TPM were made under.
    pub(super) named: Vec<[u8; 32]>,
    pub(super) signer: Signer,
    /// The PCRs of the policy that will have another value than in this boot.
    pub(super) changed: Vec<Pcr>,
}

/// What opens a volume.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Opens {
    /// It is made at each boot.
    MadeAnew,
    /// The TPM.
    Tpm,
    /// The key service, as the TPM does not, or may not, for this reason.
    Service(String),
    /// Nothing, for this reason.
    Nothing(String),
    /// That cannot be told, for this reason.
    Unknown(String),
}

/// Whether the TPM opens a volume.
enum Unsealing {
    Yes,
    No(String),
    Unknown(String),
}

/// What a token says that it is sealed to.
pub(super) fn policy_of(token: &Tpm2Token) -> Policy {
    Policy {
        pcrs: PcrSet::of(&token.pcrs),
        bank: token.bank,
        key: token.key.as_ref().map(PcrPublicKey::name),
    }
}

/// What opens a volume in the next boot; `is_of_this_boot` where its secret is sealed to the values that this boot had.
pub(super) fn judge(
    volume: &Volume,
    found: &Found,
    is_of_this_boot: bool,
    known: &Known<'_>,
) -> Opens {
    let header = match found {
        Found::MadeAnew => return Opens::MadeAnew,
        Found::Blank => {
            return Opens::Unknown(
                "its device is blank, and whether a boot makes a volume there is for that boot to find out".into(),
            );
        }
        Found::Refused(why) => return Opens::Nothing(why.clone()),
        Found::Unreadable(why) => return Opens::Unknown(why.clone()),
        Found::Header(header) => header,
    };
    let service = service(volume, header, known);
    match (tpm(volume, header, is_of_this_boot, known), service) {
        (Unsealing::Yes, _) => Opens::Tpm,
        (Unsealing::No(why) | Unsealing::Unknown(why), Ok(())) => match known.signer {
            Signer::OfThisBoot | Signer::InDb => Opens::Service(why),
            Signer::NotInDb => Opens::Nothing(format!(
                "{why}; the key service has its key, and the firmware does not start the image: its db lacks the signer"
            )),
            Signer::Unknown => Opens::Unknown(format!(
                "{why}; the key service has its key, and whether the firmware's db has the image's signer is not known"
            )),
        },
        (Unsealing::No(why), Err(other)) => Opens::Nothing(format!("{why}; {other}")),
        (Unsealing::Unknown(why), Err(_)) => Opens::Unknown(why),
    }
}

/// Whether the TPM gives the volume's secret, and its record can be read.
fn tpm(volume: &Volume, header: &Checked, is_of_this_boot: bool, known: &Known<'_>) -> Unsealing {
    if !volume.sources.contains(&Source::Tpm) {
        return Unsealing::No("the TPM is not among its sources".into());
    }
    let Some(token) = &header.tpm else {
        return Unsealing::No("nothing of it is sealed to the TPM".into());
    };
    if let Some(why) = sealed_otherwise(policy_of(token), known.policy) {
        return Unsealing::No(why);
    }
    if volume.level() != Level::Off && !known.has_counter {
        return Unsealing::No("the TPM's counter of boots is gone".into());
    }
    match known.digest {
        Digest::Known(digest) if digest != token.policy_hash => {
            Unsealing::No(differs(is_of_this_boot, &known.changed))
        }
        Digest::Other => Unsealing::No(differs(is_of_this_boot, &known.changed)),
        // One that is known to be another one is enough.
        Digest::Unknown if is_of_this_boot && !known.changed.is_empty() => {
            Unsealing::No(differs(is_of_this_boot, &known.changed))
        }
        Digest::Unknown => Unsealing::Unknown(
            "what the PCRs that its secret is sealed to will hold cannot be told".into(),
        ),
        Digest::Known(_) if volume.level() != Level::Off && !known.is_readable => Unsealing::No(
            "the TPM has no record of the anchor that the next boot could read".into(),
        ),
        Digest::Known(_) => Unsealing::Yes,
    }
}

fn sealed_otherwise(token: Policy, wanted: Policy) -> Option<String> {
    if token == wanted {
        return None;
    }
    let of_key = match (token.key, wanted.key) {
        (seen, wanted) if seen == wanted => "",
        (None, Some(_)) => " and no key",
        (Some(_), None) => " and a key",
        _ => " and another key",
    };
    Some(format!(
        "its secret is sealed to PCRs {} ({}){of_key}, which is not what tpm.pcrs, tpm.bank and tpm.signed of the image say",
        token.pcrs, token.bank
    ))
}

fn differs(is_of_this_boot: bool, changed: &[Pcr]) -> String {
    let names: Vec<String> = changed.iter().map(ToString::to_string).collect();
    match (is_of_this_boot, changed) {
        (true, [pcr]) => format!("PCR {pcr} will have another value than its secret is sealed to"),
        (true, [_, ..]) => format!(
            "PCRs {} will have other values than its secret is sealed to",
            names.join(", ")
        ),
        _ => "its secret is sealed to other values than the next boot will have, and not to those of this boot".into(),
    }
}

/// Whether the key service can open it without an operator, or why it cannot. That it admits the image is for it to say.
fn service(volume: &Volume, header: &Checked, known: &Known<'_>) -> Result<(), String> {
    if !volume.sources.contains(&Source::Service) {
        return Err("and no key service is among its sources".into());
    }
    let token = header.nightlatch.as_ref();
    if token.is_some_and(|token| token.own_secret) {
        return Err("and its secret is the node's own, which the key service does not have".into());
    }
    if volume.level() == Level::Off || (known.is_readable && known.has_counter) {
        return Ok(());
    }
    // The record cannot be read then, and the service stands in for it.
    let names = header.tpm.as_ref().map(|token| token.policy_hash);
    let is_gone = names.is_some_and(|digest| !known.named.contains(&digest));
    let word = "so it takes an operator's word at the key service";
    if !known.has_counter {
        return Err(format!("and no service stands in for the counter, {word}"));
    }
    if known.config.tpm.stale == Stale::Operator {
        return Err(format!("and tpm.stale is \"operator\", {word}"));
    }
    if volume.level() == Level::Checkpoint {
        return Err(format!(
            "and the last checkpoint is in a record that the next boot cannot read, {word}"
        ));
    }
    if is_gone || known.named.is_empty() {
        return Err(format!(
            "and the TPM has no record that a volume's header names, {word}"
        ));
    }
    Ok(())
}
