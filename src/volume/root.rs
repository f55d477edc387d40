// SPDX-License-Identifier: Apache-2.0
//! What the root file system rests on, checked before systemd mounts it.

use std::path::Path;

use crate::config::Config;
use crate::error::{Doing, Result};
use crate::volume::verity;

/// The image below an overlay must be the one that dm-verity vouches for by the measured root hash. `top` is `/` outside of
/// tests.
///
/// A plain partition named here by mistake would hand the system's programs to whoever stores the disk.
pub fn check(top: &Path, config: &Config) -> Result<()> {
    for lower in config.volumes().filter_map(|volume| volume.lower.as_ref()) {
        verity::check(top, lower).doing(format_args!("checking lower image {lower}"))?;
    }
    Ok(())
}
