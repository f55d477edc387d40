// SPDX-License-Identifier: Apache-2.0
//! Again, where that may help.
//!
//! Pauses grow, and come to an end: [`temporary`].
//!
//! **Never:** what was refused tried again: only what may pass by itself is.

use std::thread;
use std::time::Duration;

use log::warn;

use crate::error::{Exit, Result};
use crate::logging;

/// Pauses before a temporary failure is tried again, in seconds. After the last one, about an hour, it is final.
const PAUSES_S: [u64; 18] = [
    1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300, 300, 300, 300, 300, 300,
];

/// Tries again, after pauses that grow, as long as the failure is a temporary one.
pub(crate) fn temporary<T>(mut work: impl FnMut() -> Result<T>) -> Result<T> {
    for seconds in PAUSES_S {
        match work() {
            Err(error) if error.exit() == Exit::Temporary => {
                warn!("{error}; trying again in {seconds} s");
                logging::progress(&format!("waiting {seconds} s: {error}"));
                thread::sleep(Duration::from_secs(seconds));
            }
            done => return done,
        }
    }
    work()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn only_a_temporary_failure_is_tried_again() {
        let mut tries = 0;
        let done = temporary(|| {
            tries += 1;
            if tries == 1 {
                Err(Error::temporary("busy"))
            } else {
                Err(Error::refused("forged"))
            }
        });
        assert_eq!(
            done.map_err(|error: Error| error.to_string()),
            Err::<(), _>("forged".into())
        );
        assert_eq!(tries, 2);
    }
}
