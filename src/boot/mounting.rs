// SPDX-License-Identifier: Apache-2.0
//! What systemd mounted, compared with what was opened, while the boot still waits.

use std::path::Path;

use crate::config::Volume;
use crate::error::Result;
use crate::mounted::Mounted;
use crate::status::Recorder;
use crate::systemd::mounts;

/// Where the final system's directories are in the initrd.
const ROOT: &str = "sysroot";

/// Layers below the root are where the final system sees them already.
const RUNTIME: &str = "/run/";

/// Checks each mount of the volumes, and notes them for the final system to check again.
pub(super) fn check(top: &Path, mounted: &[&Volume], record: &Recorder) -> Result<()> {
    let all = mounted.iter().flat_map(|volume| mounts::on_devices(volume));
    let checked = all
        .map(|(at, device)| {
            let mounted = Mounted::expected(&at, &device)?;
            if at.starts_with(RUNTIME) {
                mounted.check(top)?;
            } else {
                mounted.check(&top.join(ROOT))?;
            }
            Ok(mounted)
        })
        .collect::<Result<Vec<_>>>()?;
    record.mounts(checked);
    Ok(())
}
