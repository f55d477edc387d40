// SPDX-License-Identifier: Apache-2.0
//! Whole boots of the real program, within a case.

use std::path::Path;

use nightlatch::boot::with_volumes_open;
use nightlatch::config::Config;
use nightlatch::error::Error;
use nightlatch::status::{Recorder, VolumeStatus};

use crate::disk::{close, run, try_run};

/// Where a boot maps the volume of the cases.
pub(crate) const MAPPING: &str = "/dev/mapper/case";

/// One boot, with `work` while the volume is mounted at /mnt, to the moment the power goes.
pub(crate) fn boot(config: &Config, work: impl FnOnce()) -> Result<VolumeStatus, Error> {
    let record = Recorder::start();
    let result = with_volumes_open(Path::new("/"), config, &record, |_, _| mount());
    let mut status = record.finish(&result);
    result?;
    work();
    close();
    Ok(status.volumes.remove(0))
}

/// As systemd would, who the volume is handed over to.
pub(crate) fn mount() -> Result<(), Error> {
    let mounted = try_run("mount", &["-o", "notreelog", MAPPING, "/mnt"], b"");
    if mounted.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&mounted.stderr);
    Err(Error::failure(format_args!("I/O error: {said}")))
}

/// Leaves a file that is durable when this returns.
pub(crate) fn leave_file(name: &str) {
    let path = Path::new("/mnt").join(name);
    std::fs::write(path, content(name)).unwrap();
    run("sync", &["-f", "/mnt"], b"");
}

/// What such a file holds.
pub(crate) fn content(name: &str) -> String {
    format!("{name} ").repeat(9000)
}

/// Tells the TPM what is durable, with the program the running system has for it.
pub(crate) fn checkpoint() {
    run("/payload/bin/nightlatchctl", &["anchor", "checkpoint"], b"");
}
