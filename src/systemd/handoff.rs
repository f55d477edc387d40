// SPDX-License-Identifier: Apache-2.0
//! The hand-over to systemd: units for the final system, and the mounts of the volumes that are open now.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::config::{Config, DevicePath, Role, Volume};
use crate::error::{Doing, Error, Result};
use crate::systemd::manager;
use crate::systemd::mounts;
use crate::systemd::unit;
use crate::systemd::unit::{MountUnit, unit_name};

/// Where units live that last until the machine is reset; `/run` moves along into the final system.
const RUNTIME_UNITS: &str = "run/systemd/system";

/// PID 1's own socket. It speaks D-Bus without a bus, to root only.
const PRIVATE_SOCKET: &str = "run/systemd/private";

/// The target that brings the mounts in the initrd.
const TARGET: &str = "nightlatch-volumes.target";

/// What mounts may take on top of the time their devices have. systemd gives each of them 90 s.
const MOUNTS_LIMIT: Duration = Duration::from_secs(180);

/// How long PID 1 may take to say which mounts are missing.
const QUESTION_LIMIT: Duration = Duration::from_secs(10);

/// How long the final system waits for the mapping of a volume that this boot went on without: nobody is going to open it.
const NO_WAIT: &str = "JobRunningTimeoutSec=1";

/// Hands the `open` volumes over: writes the final system's units, has PID 1 load them, and has it mount the volumes.
///
/// Returns when all of them are mounted below `/sysroot` that have to be, with what came of each.
pub fn hand_over<'a>(
    root: &Path,
    config: &'a Config,
    open: &[&'a Volume],
) -> Result<Vec<(&'a Volume, Result<()>)>> {
    publish(root, config, open).doing("writing units for the final system")?;
    let limit =
        MOUNTS_LIMIT.saturating_add(Duration::from_secs(u64::from(config.device_timeout_s)));
    mount(root, config, limit)?;
    let mounted = open.iter().map(|&volume| {
        let mounted = if volume.required {
            Ok(())
        } else {
            mount_one(root, volume)
        };
        if mounted.is_err() {
            publish_away(&root.join(RUNTIME_UNITS), volume)
                .doing("writing units for the final system")?;
        }
        Ok((volume, mounted))
    });
    mounted.collect()
}

/// Writes the mounts the final system has to know.
fn publish(root: &Path, config: &Config, open: &[&Volume]) -> Result<()> {
    let directory = root.join(RUNTIME_UNITS);
    for volume in config.volumes() {
        for unit in mounts::in_final_system(volume) {
            write_unit(&directory, &unit)?;
            // So that a soft reboot mounts it again.
            if volume.role == Role::State {
                link(&directory.join(pulled_in_by(volume)), &unit)?;
            }
        }
        if open.iter().all(|other| other.name != volume.name) {
            publish_away(&directory, volume)?;
        }
    }
    Ok(())
}

/// What of the final system pulls in a volume's mount, and fails with it where the volume has to be there.
fn pulled_in_by(volume: &Volume) -> &'static str {
    if volume.required {
        "local-fs.target.requires"
    } else {
        "local-fs.target.wants"
    }
}

/// The mount of a volume that is away is there and fails at once, for what has `RequiresMountsFor=` in its unit: without one the
/// directory would be taken for what is on the volume. Nothing of ours pulls it in.
fn publish_away(directory: &Path, volume: &Volume) -> Result<()> {
    for unit in mounts::in_final_system(volume) {
        let link = directory.join(pulled_in_by(volume)).join(unit.name());
        match fs::remove_file(&link) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).doing(link.display());
            }
            _ => {}
        }
    }
    let device = unit_name(&volume.name.mapping(), "device");
    let directory = directory.join(format!("{device}.d"));
    create_directory(&directory)?;
    write(
        &directory.join("50-away.conf"),
        &unit::drop_in(&[NO_WAIT.into()]),
    )
}

fn write_unit(directory: &Path, unit: &MountUnit) -> Result<()> {
    create_directory(directory)?;
    write(&directory.join(unit.name()), &unit.to_string())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, format!("# Made by nightlatch\n\n{text}"))
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o644)))
        .doing(path.display())
}

fn link(directory: &Path, unit: &MountUnit) -> Result<()> {
    create_directory(directory)?;
    let name = unit.name();
    match symlink(format!("../{name}"), directory.join(name)) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        done => done.doing(directory.display()),
    }
}

/// Everybody may read units, so modes are not left to the umask, which is 0077 for this service.
fn create_directory(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)
        .and_then(|()| fs::set_permissions(directory, Permissions::from_mode(0o755)))
        .doing(directory.display())
}

/// Starts the target and waits for it, but no longer than `limit`.
fn mount(root: &Path, config: &Config, limit: Duration) -> Result<()> {
    let socket = root.join(PRIVATE_SOCKET);
    let target_of = socket.clone();
    let started = within(limit, move || manager::start(&target_of, TARGET));
    let outcome = match started {
        Some(Ok(result)) if result == "done" => return Ok(()),
        Some(Ok(result)) => format!("systemd says {result}"),
        Some(Err(error)) => return Err(error).doing(format_args!("starting {TARGET}")),
        None => format!("systemd is not done after {} s", limit.as_secs()),
    };
    let units: Vec<String> = config
        .volumes()
        .filter(|volume| volume.required)
        .flat_map(mounts::in_initrd)
        .map(|unit| unit.name())
        .collect();
    let missing = within(QUESTION_LIMIT, move || manager::missing(&socket, &units));
    let missing = match missing {
        Some(Ok(units)) if !units.is_empty() => units.join(", "),
        Some(Ok(_)) => "every mount is there".into(),
        Some(Err(error)) => format!("asking which mounts are missing: {error}"),
        None => "PID 1 does not say which mounts are missing".into(),
    };
    let error = match lost_lower(root, config) {
        Some(lower) => Error::unavailable(format_args!(
            "{outcome}: lower image {lower} is missing: {missing}"
        )),
        None => Error::failure(format_args!("{outcome}: {missing}")),
    };
    Err(error).doing(format_args!("starting {TARGET}"))
}

/// Has systemd mount a volume that need not be there, whose mapping is.
fn mount_one(root: &Path, volume: &Volume) -> Result<()> {
    for unit in mounts::in_initrd(volume) {
        let (socket, name) = (root.join(PRIVATE_SOCKET), unit.name());
        let started = name.clone();
        let outcome = match within(MOUNTS_LIMIT, move || manager::start(&socket, &started)) {
            Some(Ok(result)) if result == "done" => continue,
            Some(Ok(result)) => Error::failure(format_args!("systemd says {result}")),
            Some(Err(error)) => error,
            None => Error::failure(format_args!(
                "systemd is not done after {} s",
                MOUNTS_LIMIT.as_secs()
            )),
        };
        return Err(outcome).doing(format_args!("starting {name}"));
    }
    Ok(())
}

/// An image below the root that went away after it was checked. The volumes' own mappings are ours to keep.
fn lost_lower<'a>(root: &Path, config: &'a Config) -> Option<&'a DevicePath> {
    let mut lower = config.volumes().filter_map(|volume| volume.lower.as_ref());
    lower.find(|lower| !root.join(lower.as_str().trim_start_matches('/')).exists())
}

/// Does `work` on a thread of its own; `None` where it is not done in time. The thread ends with the program.
fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Option<Result<T>> {
    let (done, wait) = mpsc::channel();
    let started = thread::Builder::new().spawn(move || {
        // Nobody listens any more once the time is over.
        if done.send(work()).is_err() {
            log::debug!("an answer of PID 1 came too late");
        }
    });
    match started {
        Ok(_) => wait.recv_timeout(limit).ok(),
        Err(error) => Some(Err(Error::failure(error)).doing("starting a thread")),
    }
}

#[cfg(test)]
mod tests;
