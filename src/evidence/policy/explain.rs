// SPDX-License-Identifier: Apache-2.0
//! Why a machine is denied: what was seen, and what would have been accepted.

use std::fmt;

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
            Self::CommandLine { seen, expected } => {
                write!(f, "command line: expected {}, found {seen}", any(expected))
            }
            Self::SecureBoot { seen, expected } => {
                let seen = seen.map_or("unknown", on);
                write!(f, "Secure Boot: expected {}, found {seen}", on(*expected))
            }
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
