// SPDX-License-Identifier: Apache-2.0
//! The root that no volume of the configuration is: it is mounted as the kernel's command line says.
//!
//! systemd-fstab-generator would do that. It is masked, because it mounts what a credential or a firmware variable names
//! just as well, over any directory of the initrd (`fstab.extra`, `systemd.mount-extra=`).

use super::{Content, File, Priority, mount_file};
use crate::command_line::CommandLine;
use crate::systemd::unit::MountUnit;

/// The device of a verity root (systemd-veritysetup-generator(8)).
const VERITY_ROOT: &str = "/dev/mapper/root";

/// How a device may be named beside its path (kernel-command-line(7), `root=`), and the directory with such names.
const TAGS: [(&str, &str); 4] = [
    ("UUID=", "by-uuid"),
    ("LABEL=", "by-label"),
    ("PARTUUID=", "by-partuuid"),
    ("PARTLABEL=", "by-partlabel"),
];

/// `sysroot.mount`, and what pulls it in; nothing where the command line names no device.
pub(super) fn files(command_line: &CommandLine) -> Vec<File> {
    let Some(what) = device(command_line) else {
        return Vec::new();
    };
    let mode = command_line.last_of(["ro", "rw"]).unwrap_or("ro");
    let options = match command_line.value("rootflags") {
        Some(flags) if !flags.is_empty() => format!("{flags},{mode}"),
        _ => mode.to_owned(),
    };
    let unit = MountUnit {
        description: "Root file system of the kernel's command line".into(),
        order: vec!["Before=initrd-root-fs.target".into()],
        what,
        at: "/sysroot".into(),
        file_system: command_line.value("rootfstype").map(str::to_owned),
        options,
    };
    let required = File {
        priority: Priority::Early,
        path: format!("initrd-root-fs.target.requires/{}", unit.name()),
        content: Content::Link(format!("../{}", unit.name())),
    };
    vec![mount_file(&unit), required]
}

/// The device of the root. One with a root hash is verity's, unless `root=` says otherwise, as in systemd.
fn device(command_line: &CommandLine) -> Option<String> {
    let Some(root) = command_line.value("root") else {
        return command_line.value("roothash").map(|_| VERITY_ROOT.into());
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+:-".contains(c);
    if root.starts_with("/dev/") && root.chars().all(plain) {
        return Some(root.into());
    }
    TAGS.into_iter().find_map(|(tag, directory)| {
        let name = root.strip_prefix(tag)?;
        let is_plain = !name.is_empty() && !name.contains('/') && name.chars().all(plain);
        is_plain.then(|| format!("/dev/disk/{directory}/{name}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Option<String> {
        device(&CommandLine::parse(text))
    }

    #[test]
    fn the_root_is_the_device_that_the_command_line_names() {
        let cases = [
            ("quiet roothash=ab", Some(VERITY_ROOT)),
            ("root=/dev/vda2 ro", Some("/dev/vda2")),
            ("root=/dev/mapper/root roothash=ab", Some(VERITY_ROOT)),
            ("root=UUID=1-2", Some("/dev/disk/by-uuid/1-2")),
            (
                "root=PARTLABEL=root-a",
                Some("/dev/disk/by-partlabel/root-a"),
            ),
            ("root=gpt-auto", None),
            ("root=LABEL=", None),
            ("root=LABEL=../x", None),
            ("root=/dev/a%b", None),
            ("quiet", None),
        ];
        for (text, expected) in cases {
            assert_eq!(seen(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_mount_has_the_options_of_the_command_line() {
        let line = "root=/dev/vda2 rootfstype=ext4 rootflags=noatime ro rw";
        let [mount, required] = &files(&CommandLine::parse(line))[..] else {
            panic!("expected a mount and what pulls it in");
        };
        let Content::Text(text) = &mount.content else {
            panic!("expected a unit");
        };
        for line in [
            "What=/dev/vda2",
            "Type=ext4",
            "Options=noatime,rw",
            "Where=/sysroot",
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line}: {text}");
        }
        assert_eq!(
            required.path,
            "initrd-root-fs.target.requires/sysroot.mount"
        );
        assert!(files(&CommandLine::parse("quiet")).is_empty());
    }
}
