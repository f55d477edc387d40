// SPDX-License-Identifier: Apache-2.0
//! Values a configuration may hold, each valid by construction.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The longest volume name. Device-mapper takes 127 bytes; the suffix `_dif` and a unit's name have to fit as well.
const NAME_LEN_MAX: usize = 32;

/// Names of mappings that systemd makes (systemd-veritysetup-generator), of device-mapper's node, and of directories in
/// `/run/nightlatch`: for the image below an overlay, and for file systems being made.
const NAMES_TAKEN: [&str; 5] = ["root", "usr", "control", "lower", "new"];

/// Where file systems of the kernel's are, which systemd mounts first and moves to the final system (systemd,
/// `src/shared/mount-setup.c` and `src/shared/switch-root.c`), and where the initrd has the final system.
const MOUNTS_TAKEN: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/sysroot"];

/// A volume's name: safe in a path, a unit's name, a D-Bus message and a device-mapper name.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String")]
pub struct VolumeName(String);

impl VolumeName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The mapping's device node.
    #[must_use]
    pub fn mapping(&self) -> String {
        format!("/dev/mapper/{}", self.0)
    }
}

impl TryFrom<String> for VolumeName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(plain) {
            return Err(format!(
                "expected a name of 1 to {NAME_LEN_MAX} lower-case letters and digits, found {name:?}"
            ));
        }
        if NAMES_TAKEN.contains(&name.as_str()) {
            return Err(format!(
                "{name:?} is a name that systemd, device-mapper or the overlay needs itself, choose another one"
            ));
        }
        Ok(Self(name))
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An NV index of the TPM in the range that belongs to the owner.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "u32")]
pub struct NvIndex(u32);

impl NvIndex {
    /// Where the anchor's record is unless configured otherwise. No program known to the registry uses it.
    pub const ANCHOR: Self = Self(0x0180_4e10);
    /// Where the anchor's counter is unless configured otherwise.
    pub const COUNTER: Self = Self(0x0180_4e11);

    /// How far behind a record's place the other one is, behind that of the counter.
    const TO_SPARE: u32 = 2;

    /// Where a record is made while the one at this place is still needed. It follows from the place, so that images with the same
    /// configuration of it always see each other's: of two that do not, each could go on with a record of its own and one counter.
    #[must_use]
    pub fn spare(self) -> Self {
        Self(self.0.saturating_add(Self::TO_SPARE))
    }

    /// How far behind a record's place that of requests is: the first one behind the spare that is not the counter's.
    const TO_REQUESTS: u32 = 3;

    /// Where requests for the next boot stand, of a node whose record's place is this one. It follows from the places of record
    /// and counter for the same reason.
    #[must_use]
    pub fn requests(self, counter: Self) -> Self {
        let first = self.0.saturating_add(Self::TO_REQUESTS);
        Self(first.saturating_add(u32::from(first == counter.0)))
    }

    /// How far behind a record's place that of a failed boot's sentence is: the first one behind any that requests can have and that
    /// is not the counter's.
    const TO_FAILURE: u32 = 5;

    /// Where the sentence of a failed boot stands, of a node whose record's place is this one; none where that is no index of the
    /// owner's.
    #[must_use]
    pub fn failure(self, counter: Self) -> Option<Self> {
        let first = self.0.saturating_add(Self::TO_FAILURE);
        Self::try_from(first.saturating_add(u32::from(first == counter.0))).ok()
    }

    /// The handle.
    #[must_use]
    pub fn handle(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for NvIndex {
    type Error = String;

    fn try_from(handle: u32) -> Result<Self, String> {
        match handle {
            0x0180_0000..=0x01bf_ffff => Ok(Self(handle)),
            _ => Err(format!(
                "expected an NV index from 0x01800000 to 0x01bfffff, found {handle:#010x}"
            )),
        }
    }
}

impl fmt::Display for NvIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// A block device below `/dev`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String")]
pub struct DevicePath(String);

impl DevicePath {
    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DevicePath {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        if path.starts_with("/dev/") && is_normal(&path) {
            Ok(Self(path))
        } else {
            Err(format!(
                "expected a path below /dev without \"..\" or white space, found {path:?}"
            ))
        }
    }
}

impl fmt::Display for DevicePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A directory of the final system to mount on; not its root.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String")]
pub struct MountPath(String);

impl MountPath {
    /// The path, absolute.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for MountPath {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        if !path.starts_with('/') || path.len() < 2 || !is_normal(&path) {
            return Err(format!(
                "expected an absolute path other than / without \"..\" or white space, found {path:?}"
            ));
        }
        if MOUNTS_TAKEN.iter().any(|taken| is_below(&path, taken)) {
            return Err(format!(
                "expected a directory of the final system, as it is there, that systemd mounts nothing on; found {path:?}"
            ));
        }
        Ok(Self(path))
    }
}

impl fmt::Display for MountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `path` is `top` or below it.
fn is_below(path: &str, top: &str) -> bool {
    let rest = path.strip_prefix(top);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// No empty, `.` or `..` component, and only characters that need no quoting in a unit file.
pub(super) fn is_normal(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.:+@".contains(c);
    path.chars().all(plain)
        && path
            .split('/')
            .skip(1)
            .all(|part| !matches!(part, "" | "." | ".."))
}

/// How to reach the TPM: a TCTI of tpm2-tss.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Tcti {
    /// `/dev/tpm0`, which costs the fewest commands, or `/dev/tpmrm0` while somebody else holds it.
    #[default]
    Auto,
    /// A device node.
    Device(DevicePath),
    /// A software TPM on loopback, for tests: its command port; the control port is the next one.
    Swtpm {
        /// The TCP port.
        port: u16,
    },
}

impl Tcti {
    /// The number of the TPM: the kernel calls its devices `tpm0` and `tpmrm0` (Linux, drivers/char/tpm/tpm-chip.c). Zero where
    /// nothing says another.
    #[must_use]
    pub fn number(&self) -> u32 {
        let Self::Device(path) = self else {
            return 0;
        };
        let name = path.as_str().rsplit('/').next().unwrap_or_default();
        let number = ["tpmrm", "tpm"]
            .iter()
            .find_map(|start| name.strip_prefix(start));
        number
            .and_then(|number| number.parse().ok())
            .unwrap_or_default()
    }

    /// The firmware's log of it below the root, as the kernel shows it (Linux, drivers/char/tpm/eventlog/common.c).
    #[must_use]
    pub fn firmware_log(&self) -> String {
        let number = self.number();
        format!("sys/kernel/security/tpm{number}/binary_bios_measurements")
    }
}

impl fmt::Display for Tcti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Device(path) => write!(f, "device:{path}"),
            Self::Swtpm { port } => write!(f, "swtpm:port={port}"),
        }
    }
}

impl From<Tcti> for String {
    fn from(tcti: Tcti) -> Self {
        tcti.to_string()
    }
}

impl TryFrom<String> for Tcti {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let port = |number: &str| number.parse().ok();
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            Some(("device", path)) => DevicePath::try_from(path.to_owned()).map(Self::Device),
            Some(("swtpm", rest)) => match rest.strip_prefix("port=").and_then(port) {
                Some(port) => Ok(Self::Swtpm { port }),
                None => Err(format!("expected swtpm:port=NUMBER, found {text:?}")),
            },
            _ => Err(format!(
                "expected \"auto\", \"device:/dev/tpm0\" or \"swtpm:port=NUMBER\", found {text:?}"
            )),
        }
    }
}
