// SPDX-License-Identifier: Apache-2.0
//! The mounts a volume needs, in the initrd and in the final system.

use crate::config::{Level, NO_LOG, RootMode, Volume};
use crate::systemd::unit::MountUnit;

/// Where the layers of an overlay are mounted. `/run` moves along into the final system, and so do they.
const LAYERS: &str = "/run/nightlatch";

/// No file of a data volume is a device or gains privileges.
const DATA_OPTIONS: &str = "nosuid,nodev";

/// `options`, and without a log tree where a checkpoint is to say what is on the disk.
fn options(volume: &Volume, options: &str) -> String {
    match volume.level() {
        Level::Checkpoint => format!("{options},{NO_LOG}"),
        Level::Off | Level::Identity | Level::Epoch => options.into(),
    }
}

/// The mounts of `volume` in the initrd, those needed first coming first.
#[must_use]
pub(crate) fn in_initrd(volume: &Volume) -> Vec<MountUnit> {
    match (volume.mode, &volume.lower, &volume.mount) {
        (Some(RootMode::Overlay), Some(lower), _) => {
            let [below, above] = layers(volume, lower.as_str());
            let root = overlay(&below, &above);
            vec![below, above, root]
        }
        (Some(_), ..) => vec![MountUnit {
            description: format!("Root file system on volume {}", volume.name),
            order: vec!["Before=initrd-root-fs.target".into()],
            what: volume.name.mapping(),
            at: "/sysroot".into(),
            file_system: Some(volume.file_system.as_str().into()),
            options: options(volume, "rw"),
        }],
        (None, _, Some(mount)) => vec![MountUnit {
            order: vec!["Before=initrd-fs.target".into()],
            at: format!("/sysroot{mount}"),
            ..data(volume, mount.as_str())
        }],
        (None, _, None) => Vec::new(),
    }
}

/// Each mount of `volume` that has a device, in the initrd: the directory as the final system sees it, and the device.
#[must_use]
pub(crate) fn on_devices(volume: &Volume) -> Vec<(String, String)> {
    let units = in_initrd(volume)
        .into_iter()
        .filter(|unit| unit.what.starts_with("/dev/"));
    units
        .map(|unit| {
            let at = unit.at.strip_prefix("/sysroot").unwrap_or(&unit.at);
            let at = if at.is_empty() { "/" } else { at };
            (at.to_owned(), unit.what)
        })
        .collect()
}

/// The mounts of `volume` that the final system has to know, or it would treat them as it sees fit.
///
/// A data volume is unmounted at shutdown and mounted again after a soft reboot. The layers below the root stay: they may
/// not conflict with `umount.target`, or a soft reboot would take them away from under a root that needs them. Their units
/// are those of the initrd, which they override there: `/run/systemd/system` comes before a generator's directory.
#[must_use]
pub(crate) fn in_final_system(volume: &Volume) -> Vec<MountUnit> {
    match (volume.mode, &volume.lower, &volume.mount) {
        (Some(RootMode::Overlay), Some(lower), _) => layers(volume, lower.as_str()).into(),
        (Some(_), ..) | (None, _, None) => Vec::new(),
        (None, _, Some(mount)) => vec![MountUnit {
            order: vec![
                // The hand-over writes it while PID 1 is still the initrd's, whose local-fs.target must not mount the
                // volume on the initrd's own directory. A target takes a skipped mount for a successful one.
                "ConditionPathExists=!/etc/initrd-release".into(),
                "After=local-fs-pre.target".into(),
                "Before=local-fs.target umount.target".into(),
                "Conflicts=umount.target".into(),
            ],
            ..data(volume, mount.as_str())
        }],
    }
}

fn data(volume: &Volume, at: &str) -> MountUnit {
    MountUnit {
        description: format!("Volume {}", volume.name),
        order: Vec::new(),
        what: volume.name.mapping(),
        at: at.into(),
        file_system: Some(volume.file_system.as_str().into()),
        options: options(volume, DATA_OPTIONS),
    }
}

/// The verified image below, and the volume above it.
fn layers(volume: &Volume, lower: &str) -> [MountUnit; 2] {
    let below = MountUnit {
        description: "Verified image below the root".into(),
        order: Vec::new(),
        what: lower.into(),
        at: format!("{LAYERS}/lower"),
        // dm-verity vouches for every byte of it, so the kernel may find out which file system it is.
        file_system: None,
        options: "ro,nodev".into(),
    };
    let above = MountUnit {
        description: format!("Volume {}, the writable layer of the root", volume.name),
        ..data(volume, &format!("{LAYERS}/{}", volume.name))
    };
    [below, above]
}

fn overlay(below: &MountUnit, above: &MountUnit) -> MountUnit {
    let needs = format!("{} {}", below.name(), above.name());
    MountUnit {
        description: "Root file system, a verified image with a volume above".into(),
        order: vec![
            format!("Requires={needs}"),
            format!("After={needs}"),
            "Before=initrd-root-fs.target".into(),
        ],
        what: "overlay".into(),
        at: "/sysroot".into(),
        file_system: Some("overlay".into()),
        options: format!(
            "lowerdir={},upperdir={above}/upper,workdir={above}/work",
            below.at,
            above = above.at
        ),
    }
}
