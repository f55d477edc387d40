// SPDX-License-Identifier: Apache-2.0
//! When the image was made: no certificate is judged by an earlier time, so that a host which sets the clock back brings back none
//! that had ended by then.
//!
//! **Never:** a time that the host says.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use log::debug;
use rustls::pki_types::UnixTime;

/// The file by whose modification time systemd knows that a clock is wrong (systemd(1), `/usr/lib/clock-epoch`). The builder of an
/// initrd makes it, and the kernel keeps the time that the measured archive has (`CONFIG_INITRAMFS_PRESERVE_MTIME`).
const FILE: &str = "usr/lib/clock-epoch";

/// The time below `top`; none where its builder says none.
pub(super) fn read(top: &Path) -> Option<UnixTime> {
    let path = top.join(FILE);
    let modified = fs::metadata(&path).and_then(|found| found.modified());
    match modified.map(|time| time.duration_since(UNIX_EPOCH)) {
        Ok(Ok(since)) => Some(UnixTime::since_unix_epoch(since)),
        Ok(Err(_)) => None,
        Err(error) => {
            debug!("{}: {error}", path.display());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_time_is_that_of_the_builders_file_and_there_may_be_none() {
        let top = std::env::temp_dir().join(format!("nightlatch-made-{}", std::process::id()));
        fs::create_dir_all(top.join("usr/lib")).unwrap();
        assert_eq!(read(&top), None);
        let file = fs::File::create(top.join(FILE)).unwrap();
        let made = Duration::from_secs(1_700_000_000);
        file.set_modified(UNIX_EPOCH + made).unwrap();
        assert_eq!(read(&top), Some(UnixTime::since_unix_epoch(made)));
        fs::remove_dir_all(&top).unwrap();
    }
}
