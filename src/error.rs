// SPDX-License-Identifier: Apache-2.0
//! One error type: a verdict that becomes the exit code, and one sentence.
//!
//! **Never:** a type of another library: an error is judged where it comes up, and is a sentence from there on.

use std::fmt;

/// How the program ends. The numbers are those of `sysexits.h` where it has one; `units/doc/node.md` explains them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Exit {
    /// A bug, or an error nobody planned for.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Hardware this machine must have is missing (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// Trying again later may help (`EX_TEMPFAIL`).
    Temporary = 75,
    /// This machine or disk is not in a state that may be unlocked (`EX_NOPERM`).
    Refused = 77,
    /// The configuration is wrong (`EX_CONFIG`).
    Config = 78,
}

impl Exit {
    /// The verdict with this exit code; `None` for a success, and a failure for what this program does not know.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        let known = [
            Self::Usage,
            Self::Unavailable,
            Self::Temporary,
            Self::Refused,
            Self::Config,
        ];
        let known = known.into_iter().find(|exit| exit.code() == code);
        (code != 0).then(|| known.unwrap_or(Self::Failure))
    }

    /// The process exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The verdict in one word, for the journal and `--json`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Usage => "usage",
            Self::Unavailable => "unavailable",
            Self::Temporary => "temporary",
            Self::Refused => "refused",
            Self::Config => "config",
        }
    }
}

/// Why the program stopped. Displays as one line: outermost step first, cause last.
#[derive(Debug)]
pub struct Error {
    exit: Exit,
    message: String,
}

/// A result whose error is a verdict and a sentence.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with the given verdict.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
        }
    }

    /// An error nobody planned for.
    pub fn failure(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failure, message)
    }

    /// This machine or disk is not in a state that may be unlocked.
    pub fn refused(message: impl fmt::Display) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// Hardware is missing.
    pub fn unavailable(message: impl fmt::Display) -> Self {
        Self::new(Exit::Unavailable, message)
    }

    /// Trying again later may help.
    pub fn temporary(message: impl fmt::Display) -> Self {
        Self::new(Exit::Temporary, message)
    }

    /// The configuration is wrong.
    pub fn config(message: impl fmt::Display) -> Self {
        Self::new(Exit::Config, message)
    }

    /// The same error where trying again cannot help any more.
    #[must_use]
    pub fn for_good(self) -> Self {
        match self.exit {
            Exit::Temporary => Self {
                exit: Exit::Failure,
                ..self
            },
            Exit::Failure | Exit::Usage | Exit::Unavailable | Exit::Refused | Exit::Config => self,
        }
    }

    /// The verdict.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::failure(error)
    }
}

impl From<nix::Error> for Error {
    fn from(error: nix::Error) -> Self {
        Self::failure(error.desc())
    }
}

/// Names the step that was under way when an error came up.
pub trait Doing<T> {
    /// Puts `step: ` in front of the error's sentence and keeps its verdict.
    fn doing(self, step: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, step: impl fmt::Display) -> Result<T> {
        self.map_err(|cause| {
            let Error { exit, message } = cause.into();
            Error {
                exit,
                message: format!("{step}: {message}"),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_outermost_first_and_the_verdict_stays() {
        let error = Err::<(), _>(Error::refused("segment 0 is not encrypted"))
            .doing("checking header")
            .doing(format_args!("opening volume {}", "state"))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "opening volume state: checking header: segment 0 is not encrypted"
        );
        assert_eq!(error.exit(), Exit::Refused);
        assert_eq!(error.exit().code(), 77);
    }
}
