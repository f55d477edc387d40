// SPDX-License-Identifier: Apache-2.0
//! The systemd generator: what systemd has to know before the volumes are open (systemd.generator(7)).
//!
//! It waits for no device and opens nothing. It tells systemd which devices `nightlatch.service` waits for, and which
//! mounts `nightlatch-volumes.target` brings. Units a generator writes in the initrd are gone after switch-root.

mod closed;
mod root;

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::command_line::CommandLine;
use crate::config::{Config, Role, Tcti};
use crate::error::{Doing, Error, Exit, Result};
use crate::systemd::mounts;
use crate::systemd::unit;
use crate::systemd::unit::{MountUnit, unit_name};

/// What the program is called when systemd runs it as a generator.
pub const NAME: &str = "nightlatch-generator";

/// Present in an initrd only (os-release(5)).
const IN_INITRD: &str = "etc/initrd-release";

/// Shells that a failure leads to, on a console that belongs to the host, each with what starts beside its replacement.
///
/// Not masks: `emergency.target` and `rescue.target` require their service (systemd.special(7)), and a boot that cannot
/// reach them stands still for ever. dracut's `emergency_shell` starts its service by itself and then goes on with the
/// boot (dracut 106, `dracut-lib.sh`), so that one leads to `emergency.target`, which stops dracut's own units.
const SHELLS_AFTER_FAILURE: [(&str, &str); 3] = [
    ("emergency.service", REBOOT),
    ("rescue.service", REBOOT),
    (
        "dracut-emergency.service",
        "nightlatch-reboot.timer emergency.target",
    ),
];

/// A pause, then a reboot.
const REBOOT: &str = "nightlatch-reboot.timer";

/// Units that systemd-fstab-generator and systemd-gpt-auto-generator let pull in `sysroot.mount` from the start.
const PULL_IN_ROOT: [&str; 2] = ["initrd-root-fs.target", "initrd-usr-fs.target"];

/// A file to write below one of the generator's directories.
struct File {
    priority: Priority,
    path: String,
    content: Content,
}

/// Which of the generator's directories a file belongs into.
enum Priority {
    /// Overrides everything, the units of other generators included.
    Early,
    /// Overrides what packages ship, not what an administrator writes.
    Normal,
}

enum Content {
    Text(String),
    /// A link to another unit.
    Link(String),
    /// A link to `/dev/null`: the unit, or the dependency, does not exist.
    Masked,
}

/// Runs the generator with the directories systemd passes: normal, early, late.
pub fn main(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let directories: Vec<PathBuf> = arguments.into_iter().map(PathBuf::from).collect();
    let done = match directories.as_slice() {
        [normal, early, _late] => generate(Path::new("/"), normal, early),
        _ => Err(Error::new(
            Exit::Usage,
            "expected three directories: normal, early, late",
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(error.exit().code())
        }
    }
}

/// Writes the units for the configuration below `root`. Outside of an initrd it writes nothing.
pub fn generate(root: &Path, normal: &Path, early: &Path) -> Result<()> {
    if !root.join(IN_INITRD).exists() {
        return Ok(());
    }
    let write = |files: Vec<File>| {
        files.into_iter().try_for_each(|file| {
            let directory = match file.priority {
                Priority::Early => early,
                Priority::Normal => normal,
            };
            let path = directory.join(&file.path);
            write_file(&path, &file.content).doing(format_args!("writing {}", path.display()))
        })
    };
    // First, so that not even a broken configuration leads to a shell.
    write(no_shells())?;
    write(closed::files())?;
    let config = Config::load(root).doing("reading the configuration")?;
    write(closed::to_other_volumes(&config))?;
    write(waits(&config))?;
    write(mounts(&config))?;
    if config.volumes().any(|volume| volume.role == Role::Root) {
        return Ok(());
    }
    write(root::files(&CommandLine::load(root)?))
}

fn no_shells() -> Vec<File> {
    let replaced = SHELLS_AFTER_FAILURE.map(|(unit, wants)| File {
        priority: Priority::Early,
        path: unit.into(),
        content: Content::Text(format!("# Made by {NAME}\n\n{}", reboot_instead(wants))),
    });
    replaced.into_iter().collect()
}

/// A service in the place of a shell. It says which units failed, and nothing on the console.
///
/// The reboot is a dependency, because a command may fail, and so that isolating `emergency.target` does not stop it.
fn reboot_instead(wants: &str) -> String {
    format!(
        "[Unit]\n\
         Description=Reboot in the place of a shell\n\
         Documentation=man:nightlatch(8)\n\
         DefaultDependencies=no\n\
         Wants={wants}\n\
         Conflicts=shutdown.target\n\
         Before=shutdown.target\n\n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart=-systemctl --failed --plain --full --no-legend --no-pager\n\
         StandardInput=null\n\
         StandardOutput=journal\n\
         StandardError=journal\n"
    )
}

/// Drop-ins that make systemd wait for devices, and say for how long.
fn waits(config: &Config) -> Vec<File> {
    let limit = |seconds: u32| format!("JobRunningTimeoutSec={seconds}");
    let tpm = tpm_device(&config.tpm.tcti).into_iter();
    let mut devices: Vec<(String, u32)> = tpm.map(|tpm| (tpm, config.device_timeout_s)).collect();
    let mut files = Vec::new();
    for volume in config.volumes() {
        let wait_s = volume.wait_s().unwrap_or(config.device_timeout_s);
        devices.push((unit_name(volume.device.as_str(), "device"), wait_s));
        // The mapping is there when nightlatch.service is done with it, which a full wipe may delay for hours. From then
        // on the hand-over has its own time limit.
        files.push(drop_in(
            &unit_name(&volume.name.mapping(), "device"),
            "50-timeout.conf",
            &["JobRunningTimeoutSec=infinity".into()],
        ));
        let lower = volume.lower.iter();
        let lower = lower.map(|lower| unit_name(lower.as_str(), "device"));
        devices.extend(lower.map(|lower| (lower, config.device_timeout_s)));
    }
    files.extend(
        devices
            .iter()
            .map(|(device, wait_s)| drop_in(device, "50-timeout.conf", &[limit(*wait_s)])),
    );
    // Wants=, not Requires=: where a device does not come, nightlatch says so better than systemd can.
    let devices: Vec<String> = devices.into_iter().map(|(device, _)| device).collect();
    let all = devices.join(" ");
    files.push(drop_in(
        "nightlatch.service",
        "50-devices.conf",
        &[format!("Wants={all}"), format!("After={all}")],
    ));
    if config.needs_network() {
        files.push(network());
    }
    files
}

/// What the key service needs, and `nightlatch.service` has not without it: the network, once it is configured.
fn network() -> File {
    File {
        priority: Priority::Normal,
        path: "nightlatch.service.d/50-network.conf".into(),
        content: Content::Text(format!(
            "# Made by {NAME}\n\n\
             [Unit]\n\
             Wants=network-online.target\n\
             After=network-online.target nss-lookup.target\n\n\
             [Service]\n\
             PrivateNetwork=no\n\
             RestrictAddressFamilies=AF_INET AF_INET6\n"
        )),
    }
}

/// The unit of the TPM's device. udev tells systemd of the resource manager's node only (99-systemd.rules).
fn tpm_device(tcti: &Tcti) -> Option<String> {
    let device = |number: &str| unit_name(&format!("/dev/tpmrm{number}"), "device");
    match tcti {
        Tcti::Auto => Some(device("0")),
        Tcti::Device(path) => {
            let name = path.as_str().strip_prefix("/dev/tpm")?;
            Some(device(name.strip_prefix("rm").unwrap_or(name)))
        }
        Tcti::Swtpm { .. } => None,
    }
}

/// The mounts of all volumes, which `nightlatch-volumes.target` brings and nothing else. Those of volumes that need not be there the
/// hand-over starts, one by one, where they are.
fn mounts(config: &Config) -> Vec<File> {
    let required = config.volumes().filter(|volume| volume.required);
    let names: Vec<String> = required
        .flat_map(mounts::in_initrd)
        .map(|unit| unit.name())
        .collect();
    let all = names.join(" ");
    let units = config.volumes().flat_map(mounts::in_initrd);
    let mut files: Vec<File> = units.map(|unit| mount_file(&unit)).collect();
    files.push(drop_in(
        "nightlatch-volumes.target",
        "50-mounts.conf",
        &[format!("Requires={all}"), format!("After={all}")],
    ));
    // The root is mounted when it has been opened, formatted and checked; not as soon as its mapping shows up.
    if config.volumes().any(|volume| volume.role == Role::Root) {
        files.extend(PULL_IN_ROOT.map(|target| masked(format!("{target}.requires/sysroot.mount"))));
    }
    files
}

fn mount_file(unit: &MountUnit) -> File {
    File {
        // sysroot.mount has to win against the one made from root= on the kernel's command line.
        priority: match unit.at.as_str() {
            "/sysroot" => Priority::Early,
            _ => Priority::Normal,
        },
        path: unit.name(),
        content: Content::Text(format!("# Made by {NAME}\n\n{unit}")),
    }
}

fn drop_in(unit: &str, name: &str, lines: &[String]) -> File {
    File {
        priority: Priority::Normal,
        path: format!("{unit}.d/{name}"),
        content: Content::Text(format!("# Made by {NAME}\n\n{}", unit::drop_in(lines))),
    }
}

fn masked(path: String) -> File {
    File {
        priority: Priority::Early,
        path,
        content: Content::Masked,
    }
}

fn write_file(path: &Path, content: &Content) -> Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    match content {
        Content::Text(text) => fs::write(path, text)?,
        Content::Link(target) => symlink(target, path)?,
        Content::Masked => symlink("/dev/null", path)?,
    }
    Ok(())
}

/// There is no journal yet when generators run; the kernel's log is where systemd's own say what is wrong.
fn complain(error: &Error) {
    // 3 is LOG_ERR (sd-daemon(3)).
    let line = format!("<3>{NAME}: {error}\n");
    let to_kernel = OpenOptions::new()
        .write(true)
        .open("/dev/kmsg")
        .and_then(|mut kmsg| kmsg.write_all(line.as_bytes()));
    if to_kernel.is_err() {
        // Where standard error is closed too, the exit code is all that is left to say it with.
        drop(io::stderr().write_all(line.as_bytes()));
    }
}

#[cfg(test)]
mod tests;
