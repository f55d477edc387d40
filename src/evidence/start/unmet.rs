// SPDX-License-Identifier: Apache-2.0
//! What a machine's start lacks, in one sentence with what to do.

use std::fmt;

use super::First;
use crate::evidence::Refusal;
use crate::pcr::Pcr;

/// What it takes to go without Secure Boot.
const NOT_REQUIRED: &str = "or set boot.secure-boot = \"not-required\", which takes PCRs 2, 4, 9 and 12 in tpm.pcrs, \
     efi=noruntime in the image's command line, and the first secret from the key service";

/// How many events are told of a PCR.
const TOLD_MAX: usize = 3;

/// What a machine's start lacks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unmet {
    /// The log cannot be replayed.
    Log(Refusal),
    /// The log does not explain the value of a PCR.
    Unexplained {
        /// The PCR.
        pcr: Pcr,
    },
    /// systemd's separator is in one PCR of the firmware's and not in another.
    HalfSeparated {
        /// One of them.
        pcr: u8,
        /// The other.
        other: u8,
    },
    /// Secure Boot is off.
    SecureBootOff,
    /// The log does not say first whether Secure Boot is on.
    SecureBootUnknown,
    /// Nobody vouched for anything.
    NoAuthority,
    /// Somebody vouched who is not listed.
    ForeignAuthority(String),
    /// PCR 7 has something that is neither one of the firmware's variables nor an authority.
    UnknownInSecureBoot(String),
    /// PCR 0 has what `boot.firmware` does not list.
    ForeignFirmware(String),
    /// The firmware's `dbx` is about to have this of the image, which is not started then.
    Forbidden(&'static str),
    /// The firmware started no program.
    NoProgram,
    /// A program was started that no boot option led to: it is the first one, as the log calls it.
    OutsideOfBootOptions(String),
    /// Another program was started before the image.
    ProgramBefore {
        /// The first one, as the log calls it.
        program: String,
        /// The boot option that led to a program in vain, where one did.
        option: Option<String>,
        /// What is started first by the configuration.
        first: First,
    },
    /// A PCR of additions has another value.
    Added {
        /// The PCR.
        pcr: Pcr,
        /// Its value: before systemd's separator where the log explains it, and as it is otherwise.
        seen: String,
        /// Whether the log explains it.
        is_explained: bool,
        /// The value it should have before systemd's separator, where that is not zero.
        expected: Option<String>,
        /// What the log says was added.
        events: Vec<String>,
    },
    /// A PCR that secrets are sealed to was never extended.
    NeverExtended {
        /// The PCR.
        pcr: Pcr,
    },
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(refusal) => refusal.fmt(f),
            Self::Unexplained { pcr } => write!(
                f,
                "the firmware's log does not replay to PCR {pcr}: something measured there and left no entry, or the log \
                 was altered; start the machine again, without what came before the image"
            ),
            Self::HalfSeparated { pcr, other } => write!(
                f,
                "systemd's separator is in one of PCRs {pcr} and {other} and not in the other: \
                 something else extended them; start the machine again"
            ),
            Self::SecureBootOff => write!(
                f,
                "Secure Boot is off: turn it on in the firmware, with your own keys, {NOT_REQUIRED}"
            ),
            Self::SecureBootUnknown => write!(
                f,
                "the firmware's log does not begin with whether Secure Boot is on: use firmware that measures it, \
                 {NOT_REQUIRED}"
            ),
            Self::NoAuthority => f.write_str(
                "Secure Boot is on and nobody vouched for the image: start it from its disk through the firmware, \
                 signed with the key of one of boot.authorities",
            ),
            Self::ForeignAuthority(authority) => write!(
                f,
                "somebody vouched for what ran whom boot.authorities does not list: {authority}: \
                 start what the listed ones signed and nothing else, or list that one"
            ),
            Self::UnknownInSecureBoot(event) => write!(
                f,
                "PCR 7 has what no rule knows: {event}: use firmware without it, {NOT_REQUIRED}"
            ),
            Self::ForeignFirmware(part) => write!(
                f,
                "the firmware has a part that boot.firmware does not list: {part}: \
                 start the machine with a listed firmware, or list this one"
            ),
            Self::Forbidden(what) => write!(
                f,
                "the firmware's dbx gets {what}, and the firmware does not start it then: have another image first, which \
                 dbx does not forbid"
            ),
            Self::NoProgram => f.write_str(
                "the firmware measured no program into PCR 4: start the image through the firmware, and \
                 not by a way around it, as firmware has that is open to CVE-2025-2296",
            ),
            Self::OutsideOfBootOptions(program) => write!(
                f,
                "PCR 4 has not one separator, before all programs, which firmware measures when it begins with the boot \
                 options: {program} may have run before: delete the firmware's variables SysPrep####, and start the image \
                 by a boot option"
            ),
            Self::ProgramBefore {
                program,
                option: Some(option),
                ..
            } => write!(
                f,
                "another program ran before the image: {program}: the firmware tried boot option {option:?}, whose program \
                 came back or was denied: put the image's disk first in the boot order"
            ),
            Self::ProgramBefore {
                program,
                option: None,
                first,
            } => write!(
                f,
                "another program ran before the image: {program}: {}",
                match first {
                    First::Image =>
                        "start the image without it, or say boot.loader = \"systemd-boot\" if that is what it is",
                    First::Loader => "start the loader and the image and nothing else",
                }
            ),
            Self::Added { .. } => self.added(f),
            Self::NeverExtended { pcr } => write!(
                f,
                "tpm.pcrs has PCR {pcr}, which nobody has extended: a secret sealed to it is bound to nothing; leave it \
                 out, or start the image in the way that measures it"
            ),
        }
    }
}

impl Unmet {
    fn added(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Added {
            pcr,
            seen,
            is_explained,
            expected,
            events,
        } = self
        else {
            return Ok(());
        };
        match expected {
            Some(expected) => write!(
                f,
                "PCR {pcr} is {seen} and boot.pcr-{pcr} says {expected}: other things were added to the image"
            )?,
            None => write!(
                f,
                "PCR {pcr} is not zero but {seen}: something was added to the image"
            )?,
        }
        for event in events.iter().take(TOLD_MAX) {
            write!(f, ", {event}")?;
        }
        if !is_explained {
            // What it was before the separator is not known, so there is no value to name.
            return write!(
                f,
                ", and the log does not explain that value: take away what was added after the log, and start the machine again"
            );
        }
        write!(
            f,
            ": take it away, from the ESP, the firmware's boot entry or the machine's definition, or name the value that \
             is meant as boot.pcr-{pcr}"
        )
    }
}

impl std::error::Error for Unmet {}

/// A start that is not what it has to be is refused.
impl From<Unmet> for crate::error::Error {
    fn from(unmet: Unmet) -> Self {
        Self::refused(unmet)
    }
}
