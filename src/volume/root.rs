// SPDX-License-Identifier: Apache-2.0
//! What the root file system rests on, checked before systemd mounts it.

use crate::config::Config;
use crate::error::{Doing, Result};
use crate::volume::table;

/// The image below an overlay must be one that dm-verity vouches for.
///
/// Its root hash comes from the measured command line. A plain partition named here by mistake would hand the system's
/// programs to whoever stores the disk.
pub fn check(config: &Config) -> Result<()> {
    for lower in config.volumes().filter_map(|volume| volume.lower.as_ref()) {
        table::require_verity(lower.as_path())
            .doing(format_args!("checking lower image {lower}"))?;
    }
    Ok(())
}
