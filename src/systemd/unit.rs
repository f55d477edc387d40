// SPDX-License-Identifier: Apache-2.0
//! The text of systemd units, and their names.

use std::fmt;

/// The name of the unit for `path`: systemd.unit(5), "String Escaping for Inclusion in Unit Names".
///
/// `suffix` is the unit's type without the dot.
#[must_use]
pub fn unit_name(path: &str, suffix: &str) -> String {
    let mut name = String::with_capacity(path.len());
    let parts = path.split('/').filter(|part| !part.is_empty());
    for (index, part) in parts.enumerate() {
        if index > 0 {
            name.push('-');
        }
        for byte in part.bytes() {
            match byte {
                b'.' if name.is_empty() => name.push_str("\\x2e"),
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' | b'.' => {
                    name.push(char::from(byte));
                }
                other => push_escaped(&mut name, other),
            }
        }
    }
    if name.is_empty() {
        name.push('-');
    }
    format!("{name}.{suffix}")
}

/// `\xHH`, in lower case.
fn push_escaped(name: &mut String, byte: u8) {
    name.push_str("\\x");
    for digit in [byte >> 4, byte & 0xf] {
        name.extend(char::from_digit(u32::from(digit), 16));
    }
}

/// A mount unit that takes nothing for granted: `DefaultDependencies=no`, so it says itself what it is ordered with.
///
/// systemd adds what it needs of the device and of the mounts above it in any case (systemd.mount(5), "Implicit
/// Dependencies").
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MountUnit {
    /// What a person reads while it is mounted.
    pub description: String,
    /// Lines of `[Unit]`, such as `Before=local-fs.target`.
    pub order: Vec<String>,
    /// The device, or `overlay`.
    pub what: String,
    /// The directory.
    pub at: String,
    /// The file system's type. Without one, the kernel's idea of it; only for devices that verity vouches for.
    pub file_system: Option<String>,
    /// The options of `mount -o`.
    pub options: String,
}

impl MountUnit {
    /// The unit's name, which its directory fixes.
    #[must_use]
    pub fn name(&self) -> String {
        unit_name(&self.at, "mount")
    }
}

impl fmt::Display for MountUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[Unit]")?;
        writeln!(f, "Description={}", self.description)?;
        writeln!(f, "Documentation=man:nightlatch(8)")?;
        writeln!(f, "DefaultDependencies=no")?;
        for line in &self.order {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "\n[Mount]")?;
        writeln!(f, "What={}", self.what)?;
        writeln!(f, "Where={}", self.at)?;
        if let Some(file_system) = &self.file_system {
            writeln!(f, "Type={file_system}")?;
        }
        writeln!(f, "Options={}", self.options)
    }
}

/// A drop-in that sets `lines` in `[Unit]`.
#[must_use]
pub fn drop_in(lines: &[String]) -> String {
    format!("[Unit]\n{}\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each pair as `systemd-escape --path --suffix=device PATH` of systemd 254 prints it.
    #[test]
    fn names_are_those_of_systemd_escape() {
        let cases = [
            ("/dev/mapper/state", "dev-mapper-state.device"),
            (
                "/dev/disk/by-id/virtio-state",
                "dev-disk-by\\x2did-virtio\\x2dstate.device",
            ),
            (
                "/dev/disk/by-path/pci-0000:00:1f.2",
                "dev-disk-by\\x2dpath-pci\\x2d0000:00:1f.2.device",
            ),
            ("/.hidden/.x", "\\x2ehidden-.x.device"),
            ("/a b/c@d+e", "a\\x20b-c\\x40d\\x2be.device"),
            ("/ä", "\\xc3\\xa4.device"),
            ("//x//y/", "x-y.device"),
            ("/", "-.device"),
        ];
        for (path, name) in cases {
            assert_eq!(unit_name(path, "device"), name);
        }
    }
}
