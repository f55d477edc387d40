// SPDX-License-Identifier: Apache-2.0
//! What the configuration says of a volume.

use serde::{Deserialize, Serialize};

use super::value::{DevicePath, MountPath, VolumeName};
use crate::pcr::Pcr;

/// One volume.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Volume {
    /// Its name, which is also that of its mapping, `/dev/mapper/<name>`.
    pub name: VolumeName,
    /// The block device, named by something the host cannot point elsewhere unnoticed.
    pub device: DevicePath,
    /// What it is for.
    pub role: Role,
    /// How its header must look.
    #[serde(default)]
    pub profile: Profile,
    /// Whether a blank device may be formatted.
    #[serde(default)]
    pub format: Format,
    /// Where its secret comes from, in the order to try.
    pub sources: Vec<Source>,
    /// Whether the others wait for it. One that need not be there is gone on without where it is missing or refused.
    #[serde(default = "required")]
    pub required: bool,
    /// How long the boot waits for a volume that need not be there, in seconds.
    #[serde(default = "wait_s")]
    pub(super) wait_s: u32,
    /// Whether its disk is blank at each boot and nothing of it is kept.
    #[serde(default)]
    pub ephemeral: bool,
    /// The file system on it.
    #[serde(default)]
    pub file_system: FileSystem,
    /// Where the final system sees it. Required for `state`, implied for `root`.
    pub mount: Option<MountPath>,
    /// How the root is put in place. Required for `root`, meaningless for others.
    pub mode: Option<RootMode>,
    /// The verified image below an overlay, a dm-verity device.
    pub lower: Option<DevicePath>,
    /// How the volume secret is stretched in keyslot 0.
    #[serde(default)]
    pub kdf: Kdf,
    /// How much of a new volume is written before use.
    #[serde(default)]
    pub wipe: Wipe,
    /// Whether it is to have a recovery key.
    #[serde(default)]
    pub recovery_key: RecoveryKeyRule,
    /// The PCR that takes the volume's identity, if any.
    pub identity_pcr: Option<Pcr>,
    /// What the TPM remembers of it, to tell another or an older disk; see [`Volume::level`].
    pub(super) anchor: Option<Level>,
}

impl Volume {
    /// What the TPM remembers of the volume. Only volumes this program made have what it takes.
    #[must_use]
    pub fn level(&self) -> Level {
        self.anchor.unwrap_or(match self.profile {
            Profile::Nightlatch1 => Level::Epoch,
            Profile::Luks2Strict | Profile::Constellation => Level::Off,
        })
    }

    /// How long the boot waits for it where it need not be there, in seconds; `None` where it has to.
    #[must_use]
    pub fn wait_s(&self) -> Option<u32> {
        (!self.required).then_some(self.wait_s)
    }
}

/// How long a volume that need not be there is waited for, in seconds: long enough for a disk that is there and slow.
pub(super) const WAIT_S: u32 = 10;

fn wait_s() -> u32 {
    WAIT_S
}

fn required() -> bool {
    true
}

/// Mount option that level `checkpoint` takes: without it `fsync` would leave a log tree behind.
pub const NO_LOG: &str = "notreelog";

/// What the TPM's NV memory remembers of a volume, and so which changes to the disk are noticed. Each level includes
/// those before it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Nothing. Sectors are authenticated still.
    Off,
    /// That there is a volume, and its key: no other disk passes for it.
    Identity,
    /// How often it was opened: a disk from before the last boot is refused.
    Epoch,
    /// The last checkpoint of its file system, which must be btrfs.
    Checkpoint,
}

impl Level {
    /// The word used in configuration, record and log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Identity => "identity",
            Self::Epoch => "epoch",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// What a volume is for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Data that outlives the image, mounted at `mount`.
    State,
    /// The root file system, or the writable part of it.
    Root,
}

impl Role {
    /// The word used in configuration, header and log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Root => "root",
        }
    }
}

/// A named, versioned set of header rules.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Profile {
    /// What this program makes.
    #[default]
    #[serde(rename = "nightlatch-1")]
    Nightlatch1,
    /// A volume of the same parameters made by `cryptsetup luksFormat` or `systemd-repart`.
    #[serde(rename = "luks2-strict")]
    Luks2Strict,
    /// A state disk of Constellation, as its disk-mapper and bootstrapper leave it.
    #[serde(rename = "constellation")]
    Constellation,
}

impl Profile {
    /// The profile's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nightlatch1 => "nightlatch-1",
            Self::Luks2Strict => "luks2-strict",
            Self::Constellation => "constellation",
        }
    }

    /// Every profile, for messages and `--help`.
    pub const ALL: [Self; 3] = [Self::Nightlatch1, Self::Luks2Strict, Self::Constellation];
}

/// Whether a blank device may be formatted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Refuse it.
    #[default]
    Never,
    /// Format it, if it is proven blank.
    IfBlank,
}

/// Where a volume's secret comes from.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Sealed to this machine's TPM.
    Tpm,
    /// Given by the key service to a machine that proves what it booted.
    Service,
    /// 32 random bytes, drawn when a volume is formatted. Kept only if `tpm` is a source too.
    Generate,
    /// Pushed by an operator to a node that waits, where no other source gave it.
    Recovery,
}

impl Source {
    /// The word used in configuration and record.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tpm => "tpm",
            Self::Service => "service",
            Self::Generate => "generate",
            Self::Recovery => "recovery",
        }
    }
}

/// The file system on a volume.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileSystem {
    /// btrfs: checksums in trees, the least to write on a new volume.
    #[default]
    Btrfs,
    /// XFS.
    Xfs,
    /// ext4, with the options that keep it from reading what was never written.
    Ext4,
}

impl FileSystem {
    /// The longest label it takes, in bytes; volumes are labelled with their names.
    #[must_use]
    pub fn max_label_len(self) -> usize {
        match self {
            Self::Btrfs => 255,
            Self::Xfs => 12,
            Self::Ext4 => 16,
        }
    }

    /// The smallest device to put it on, in bytes: what its mkfs asks for, and header, tags and journals.
    #[must_use]
    pub fn min_device_len(self) -> u64 {
        match self {
            Self::Btrfs => 132 << 20,
            Self::Xfs => 352 << 20,
            Self::Ext4 => 160 << 20,
        }
    }

    /// The name `mount -t` takes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Btrfs => "btrfs",
            Self::Xfs => "xfs",
            Self::Ext4 => "ext4",
        }
    }
}

/// How the root is put in place.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootMode {
    /// The volume is the root file system.
    Plain,
    /// A verified image below, the volume above.
    Overlay,
}

/// How the volume secret is stretched in keyslot 0.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kdf {
    /// Argon2id, 64 MiB, 4 lanes, 4 passes.
    #[default]
    Argon2id,
    /// PBKDF2-SHA512, 1000 iterations: enough for a secret of 256 random bits.
    Pbkdf2,
}

/// How much of a new volume is written before use.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wipe {
    /// The head and the tail that probing reads.
    #[default]
    Edges,
    /// Every sector.
    Full,
}

/// Whether a volume is to have a recovery key.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecoveryKeyRule {
    /// It may.
    #[default]
    Optional,
    /// Status says so until it has one.
    Required,
}
