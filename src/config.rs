// SPDX-License-Identifier: Apache-2.0
//! What the administrator may say: `/etc/nightlatch/nightlatch.toml`, measured with the initrd.
//!
//! Parsing yields a [`Config`] whose every combination of values is possible; there is no later validation.
//! `README.md` documents each key; a test compares that table with these types.

mod rules;
mod service;
mod value;

use std::fs;
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::Spanned;

pub use service::{FilePath, Pin, Service, ServiceProtocol, ServiceUrl};
pub use value::{DevicePath, MountPath, NvIndex, Tcti, VolumeName};

use crate::error::{Doing, Error, Result};
use crate::pcr::{Bank, Pcr, PcrSet};

/// Where the configuration lives, below the root.
pub const CONFIG_PATH: &str = "etc/nightlatch/nightlatch.toml";

/// The whole configuration of a node's boot.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The TPM and the policy secrets are sealed under.
    #[serde(default)]
    pub tpm: Tpm,
    /// What is measured, and where.
    #[serde(default)]
    pub measure: Measure,
    /// Where in the TPM's NV memory the anchor is.
    #[serde(default)]
    pub anchor: Anchor,
    /// Where the key service is.
    pub service: Option<Service>,
    /// How long systemd waits for each volume's device, in seconds.
    #[serde(default = "default_device_timeout_s")]
    pub device_timeout_s: u32,
    /// What to do on a kernel with known defects where it reads what the host stores.
    #[serde(default)]
    pub kernel_defects: KernelDefects,
    /// The volumes, in the order their identities are measured.
    #[serde(rename = "volume")]
    volumes: Vec<Spanned<Volume>>,
}

/// The TPM and the policy secrets are sealed under.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tpm {
    /// How to reach the TPM.
    pub tcti: Tcti,
    /// The PCRs whose values a secret is sealed to.
    pub pcrs: PcrSet,
    /// The bank those values are taken from.
    pub bank: PolicyBank,
    /// The PCR, one of `pcrs`, that is extended after the hand-over so that nothing can be unsealed any more.
    pub fence_pcr: Pcr,
}

/// Banks good enough for a policy. SHA-1 is not.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum PolicyBank {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
}

impl From<PolicyBank> for Bank {
    fn from(bank: PolicyBank) -> Self {
        match bank {
            PolicyBank::Sha256 => Self::Sha256,
            PolicyBank::Sha384 => Self::Sha384,
        }
    }
}

/// What is measured, and where.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Measure {
    /// The PCR that takes the clusterID. It must be zero when the boot starts.
    pub cluster_pcr: Pcr,
    /// What the clusterID is derived from.
    pub cluster: ClusterFrom,
    /// The volume whose secret and salt the clusterID is derived from; the first one where not given.
    pub cluster_volume: Option<VolumeName>,
}

/// What the clusterID is derived from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterFrom {
    /// A volume's secret and salt: each node has its own.
    #[default]
    Volume,
    /// The key service's measurement secret and salt: all its nodes have the same.
    Service,
}

/// Where in the TPM's NV memory the anchor is: two indices, of the range that belongs to the owner (TCG Registry of
/// Reserved TPM 2.0 Handles and Localities, section 2.2.2).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Anchor {
    /// The record of this node's volumes.
    pub index: NvIndex,
    /// The counter of its boots.
    pub counter: NvIndex,
}

impl Default for Anchor {
    fn default() -> Self {
        Self {
            index: NvIndex::ANCHOR,
            counter: NvIndex::COUNTER,
        }
    }
}

/// What to do on a kernel with known defects.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum KernelDefects {
    /// Name them in the journal and go on.
    #[default]
    Warn,
    /// Stop.
    Refuse,
}

/// One volume.
#[derive(Debug, Deserialize)]
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
    /// The PCR that takes the volume's identity, if any.
    pub identity_pcr: Option<Pcr>,
    /// What the TPM remembers of it, to tell another or an older disk; see [`Volume::level`].
    anchor: Option<Level>,
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
}

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
    pub fn word(self) -> &'static str {
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
    pub fn word(self) -> &'static str {
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
    pub fn name(self) -> &'static str {
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
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
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
}

impl Source {
    /// The word used in configuration and record.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tpm => "tpm",
            Self::Service => "service",
            Self::Generate => "generate",
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
    pub fn name(self) -> &'static str {
        match self {
            Self::Btrfs => "btrfs",
            Self::Xfs => "xfs",
            Self::Ext4 => "ext4",
        }
    }
}

/// How the root is put in place.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum RootMode {
    /// The volume is the root file system.
    Plain,
    /// A verified image below, the volume above.
    Overlay,
}

/// How the volume secret is stretched in keyslot 0.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Kdf {
    /// Argon2id, 64 MiB, 4 lanes, 4 passes.
    #[default]
    Argon2id,
    /// PBKDF2-SHA512, 1000 iterations: enough for a secret of 256 random bits.
    Pbkdf2,
}

/// How much of a new volume is written before use.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Wipe {
    /// The head and the tail that probing reads.
    #[default]
    Edges,
    /// Every sector.
    Full,
}

impl Default for Tpm {
    fn default() -> Self {
        Self {
            tcti: Tcti::default(),
            pcrs: PcrSet::of(&[Pcr::SECURE_BOOT, Pcr::KERNEL_IMAGE, Pcr::KERNEL_CONFIG]),
            bank: PolicyBank::default(),
            fence_pcr: Pcr::KERNEL_CONFIG,
        }
    }
}

impl Default for Measure {
    fn default() -> Self {
        Self {
            cluster_pcr: Pcr::SYSTEM_IDENTITY,
            cluster: ClusterFrom::default(),
            cluster_volume: None,
        }
    }
}

fn default_device_timeout_s() -> u32 {
    90
}

impl Config {
    /// Reads the configuration below `root`, which is `/` outside of tests.
    pub fn load(root: &Path) -> Result<Self> {
        Self::load_file(&root.join(CONFIG_PATH))
    }

    /// Reads the configuration in `path`. An error names the file, the line, the key and what was expected.
    pub fn load_file(path: &Path) -> Result<Self> {
        fs::read_to_string(path)
            .map_err(Error::config)
            .and_then(|text| Self::parse(&text))
            .doing(path.display())
    }

    /// Parses a configuration. An error starts with `line N: key: `.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let span = error.span().unwrap_or_default();
            at(text, &span, error.message())
        })?;
        rules::check(&config).map_err(|broken| at(text, &broken.span, &broken.message))?;
        Ok(config)
    }

    /// The volumes, in the order their identities are measured.
    pub fn volumes(&self) -> impl Iterator<Item = &Volume> {
        self.volumes.iter().map(Spanned::get_ref)
    }

    /// Whether anything is to come from the key service in some boot.
    #[must_use]
    pub fn needs_service(&self) -> bool {
        self.measure.cluster == ClusterFrom::Service
            || self
                .volumes()
                .any(|volume| volume.sources.contains(&Source::Service))
    }

    /// The volume the clusterID is derived from, where it is derived from one.
    #[must_use]
    pub fn cluster_volume(&self) -> Option<&Volume> {
        match &self.measure.cluster_volume {
            Some(name) => self.volumes().find(|volume| volume.name == *name),
            None => self.volumes().next(),
        }
    }
}

/// A message with the line it is about and, where the line sets one, the key.
pub(crate) fn at(text: &str, span: &Range<usize>, message: &str) -> Error {
    let before = text.get(..span.start).unwrap_or(text);
    let number = before.matches('\n').count().saturating_add(1);
    let line = text.lines().nth(number.saturating_sub(1)).unwrap_or("");
    let key = match line.split_once('=') {
        Some((key, _)) if !message.contains(&format!("`{}`", key.trim())) => {
            format!("{}: ", key.trim())
        }
        _ => String::new(),
    };
    let message = message.trim_end().replace('\n', "; ");
    Error::config(format_args!("line {number}: {key}{message}"))
}

#[cfg(test)]
mod tests;
