// SPDX-License-Identifier: Apache-2.0
//! Why a machine is denied: what was seen, and what would have been accepted.

use std::fmt;

use crate::evidence::eventlog::Event;
use crate::evidence::{Check, Refusal};

/// Why no image matches, told about the one that is nearest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explanation {
    /// [`Check::Image`] or [`Check::Role`].
    pub check: Check,
    /// The nearest image.
    pub image: Option<String>,
    /// What differs from it; never empty.
    pub differences: Vec<Difference>,
}

/// One thing that differs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Difference {
    /// The role is unknown or may not have this.
    Role(String),
    /// The quote is over another bank than the policy's values.
    Bank {
        /// The quote's.
        seen: String,
        /// The policy's.
        expected: String,
    },
    /// A PCR has another value.
    Pcr {
        /// The PCR.
        pcr: u8,
        /// Its value in hexadecimal digits.
        seen: String,
        /// The values it may have.
        expected: Vec<String>,
        /// What was measured into it, where the event logs were given and its value follows from them.
        events: Vec<String>,
    },
    /// A PCR the image has values for was not quoted.
    NotQuoted {
        /// The PCR.
        pcr: u8,
    },
    /// A rule is about what was measured into a PCR whose value does not follow from an event log.
    NotLogged {
        /// The PCR.
        pcr: u8,
        /// The policy's key.
        rule: &'static str,
    },
    /// The firmware started another program.
    Program {
        /// What the log calls it.
        what: String,
        /// The Authenticode hash, or the event's digest.
        seen: String,
        /// The hashes it may have.
        expected: Vec<String>,
    },
    /// The kernel inside an image was started, and not by the image.
    KernelAlone {
        /// Its Authenticode hash.
        seen: String,
    },
    /// A program may have been started before the firmware began with its boot options.
    OutsideOfBootOptions,
    /// The kernel got another command line.
    CommandLine {
        /// The text, or what there was instead of one.
        seen: String,
        /// The texts it may have.
        expected: Vec<String>,
    },
    /// Secure Boot was not as it should be.
    SecureBoot {
        /// How it was; nothing where the log does not prove it.
        seen: Option<bool>,
        /// How it should be.
        expected: bool,
    },
    /// Somebody else vouched for what was started.
    Authority {
        /// Who, or what else PCR 7 has.
        seen: String,
        /// The files of those who may.
        expected: Vec<String>,
    },
    /// The firmware is another.
    Firmware {
        /// What was measured.
        seen: String,
        /// Its parts and versions.
        expected: Vec<String>,
    },
    /// Something was measured that no rule is about.
    Unexplained {
        /// The PCR.
        pcr: u8,
        /// What the log calls it.
        what: String,
        /// Its digest.
        digest: String,
    },
    /// What was measured into a PCR is not known.
    Unknown {
        /// The PCR.
        pcr: u8,
    },
}

impl Explanation {
    pub(super) fn of_role(why: String) -> Self {
        Self {
            check: Check::Role,
            image: None,
            differences: vec![Difference::Role(why)],
        }
    }
}

impl Difference {
    /// An event that no rule is about.
    pub(super) fn unexplained(event: &Event) -> Self {
        Self::Unexplained {
            pcr: event.pcr,
            what: event.what.to_string(),
            digest: hex::encode(&event.digest),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(image) = &self.image {
            write!(f, "nearest image {image}: ")?;
        }
        for (place, difference) in self.differences.iter().enumerate() {
            let separator = if place == 0 { "" } else { "; " };
            write!(f, "{separator}{difference}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(why) => f.write_str(why),
            Self::Bank { seen, expected } => {
                write!(f, "the quote is over {seen}, expected {expected}")
            }
            Self::Pcr {
                pcr,
                seen,
                expected,
                events,
            } => {
                write!(f, "PCR {pcr}: expected {}, found {seen}", any(expected))?;
                if events.is_empty() {
                    return Ok(());
                }
                write!(f, " (measured: {})", events.join(", "))
            }
            Self::NotQuoted { pcr } => write!(f, "PCR {pcr} was not quoted"),
            Self::NotLogged { pcr, rule } => write!(
                f,
                "{rule}: no event log that PCR {pcr} follows from was given"
            ),
            Self::Program {
                what,
                seen,
                expected,
            } => write!(
                f,
                "{what} was started: expected {}, found {seen}",
                any(expected)
            ),
            Self::KernelAlone { seen } => write!(
                f,
                "the kernel {seen} of an image was started by itself: expected a program of \
                 uki-hash just before it"
            ),
            Self::OutsideOfBootOptions => f.write_str(
                "PCR 4: expected one separator, before all programs, as firmware measures it when it begins with \
                 its boot options",
            ),
            Self::CommandLine { seen, expected } => {
                write!(f, "command line: expected {}, found {seen}", any(expected))
            }
            Self::SecureBoot { seen, expected } => {
                let seen = seen.map_or("unknown", on);
                write!(f, "Secure Boot: expected {}, found {seen}", on(*expected))
            }
            Self::Authority { seen, expected } => write!(
                f,
                "authorities: expected {} to vouch, found {seen}",
                any(expected)
            ),
            Self::Firmware { seen, expected } => {
                write!(f, "firmware: expected {}, found {seen}", any(expected))
            }
            Self::Unexplained { pcr, what, digest } => {
                write!(f, "PCR {pcr}: no rule explains {what} with digest {digest}")
            }
            Self::Unknown { pcr } => write!(
                f,
                "PCR {pcr}: the policy has no value for it, and no event log that it follows from \
                 was given"
            ),
        }
    }
}

fn on(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}

fn any(expected: &[String]) -> String {
    expected.join(" or ")
}

impl From<Explanation> for Refusal {
    fn from(explanation: Explanation) -> Self {
        Self::new(explanation.check, explanation)
    }
}
