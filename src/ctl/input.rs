// SPDX-License-Identifier: Apache-2.0
//! What a command is given to read: a file, or standard input where its name is `-`.
//!
//! **Never:** more read than the reader says it can use.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Doing, Error, Result};
use crate::key::Secret;

/// The longest unified kernel image that is read, in bytes. They have some hundred MiB.
pub(super) const IMAGE_LEN_MAX: usize = 1 << 30;

/// The shortest master secret, in bytes: below 128 bits it is none.
pub(super) const MASTER_LEN_MIN: usize = 16;

/// Reads it, and no more of it than `len_max` bytes: whatever is longer is an error.
pub(super) fn read(path: &Path, len_max: usize) -> io::Result<Vec<u8>> {
    if path == Path::new("-") {
        bounded(io::stdin().lock(), len_max)
    } else {
        bounded(File::open(path)?, len_max)
    }
}

/// The same of a configuration, as text.
pub(super) fn text(path: &Path, len_max: usize) -> Result<String> {
    let bytes = read(path, len_max).map_err(Error::config);
    bytes.and_then(|bytes| String::from_utf8(bytes).map_err(Error::config))
}

/// A secret from a file, as it is: a line end is a part of it.
pub(super) fn secret(path: &Path, len_min: usize) -> Result<Secret> {
    let bytes = fs::read(path).doing(path.display())?;
    let bytes = Secret::new(bytes);
    match bytes.expose().len() {
        len if len < len_min => Err(Error::refused(format_args!(
            "{}: expected at least {len_min} bytes, found {len}",
            path.display()
        ))),
        _ => Ok(bytes),
    }
}

fn bounded(from: impl Read, len_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let len_read_max = u64::try_from(len_max).unwrap_or(u64::MAX).saturating_add(1);
    from.take(len_read_max).read_to_end(&mut bytes)?;
    if bytes.len() > len_max {
        let why = format!("expected at most {len_max} bytes, found more");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_than_it_may_be_is_an_error_and_not_cut() {
        assert_eq!(bounded(&b"abc"[..], 3).unwrap(), b"abc");
        let error = bounded(&b"abcd"[..], 3).unwrap_err();
        assert_eq!(error.to_string(), "expected at most 3 bytes, found more");
    }
}
