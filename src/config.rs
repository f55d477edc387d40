// SPDX-License-Identifier: Apache-2.0
//! What the administrator may say: `/etc/nightlatch/nightlatch.toml`, measured with the initrd.
//!
//! Parsing yields a [`Config`] whose every combination of values is possible; there is no later validation.
//! `nightlatch.toml(5)` documents each key; a test compares that manual with these types.
//!
//! **Never:** a key that is ignored, or a default that depends on the machine.

mod boot;
mod recovery;
mod rules;
mod service;
mod tpm;
mod value;
mod volume;

use std::fs;
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::Spanned;

pub use boot::{Boot, Firmware, FirstBoot, Loader, PcrValue, SecureBoot};
pub use recovery::{RECOVERY_PORT, Recovery};
pub(crate) use rules::Broken;
pub use service::{Enroll, FilePath, KeyService, Pin, ServiceProtocol, ServiceUrl};
pub use tpm::{PolicyBank, Signed, Stale, Tpm};
pub use value::{DevicePath, MountPath, NvIndex, Tcti, VolumeName};
pub use volume::{
    FileSystem, Format, Kdf, Level, NO_LOG, Profile, RecoveryKeyRule, Role, RootMode, Source,
    Volume, Wipe,
};

use crate::error::{Doing, Error, Result};
use crate::pcr::Pcr;

/// Where the configuration lives, below the root.
pub const CONFIG_PATH: &str = "etc/nightlatch/nightlatch.toml";

/// How many volumes can be anchored: as many as one command of a TPM reads or writes the entries of.
pub const ANCHORED_MAX: usize = 8;

/// The whole configuration of a node's boot.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// What a boot must be before a secret is sealed, unsealed or asked for.
    #[serde(default)]
    pub boot: Boot,
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
    pub service: Option<KeyService>,
    /// Who may push a key to this node while it waits.
    pub recovery: Option<Recovery>,
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

/// What is measured, and where.
#[derive(Debug, Deserialize, Serialize)]
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
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterFrom {
    /// A volume's secret and salt: each node has its own.
    #[default]
    Volume,
    /// The key service's measurement secret and salt: all its nodes have the same.
    Service,
}

/// Where in the TPM's NV memory the anchor is: indices of the range that belongs to the owner (TCG Registry of
/// Reserved TPM 2.0 Handles and Localities, section 2.2.2).
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Anchor {
    /// The record of this node's volumes, here or at [`NvIndex::spare`].
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
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelDefects {
    /// Name them in the journal and go on.
    #[default]
    Warn,
    /// Stop.
    Refuse,
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
        let first = config.broken().next();
        match first {
            Some(broken) => Err(at(text, &broken.span, &broken.message)),
            None => Ok(config),
        }
    }

    /// The values of a table that was taken apart before, whatever rules they break together.
    pub(crate) fn of_table(
        table: Spanned<toml::de::DeTable<'_>>,
    ) -> std::result::Result<Self, toml::de::Error> {
        Self::deserialize(toml::Deserializer::from(table))
    }

    /// Each rule that they break.
    pub(crate) fn broken(&self) -> impl Iterator<Item = Broken> {
        rules::broken(self)
    }

    /// The volumes, in the order their identities are measured.
    pub fn volumes(&self) -> impl Iterator<Item = &Volume> {
        self.volumes.iter().map(Spanned::get_ref)
    }

    /// The files that have to be in the initrd beside the configuration.
    pub fn files(&self) -> impl Iterator<Item = &FilePath> {
        let service = self.service.iter();
        let of_service = service.flat_map(|service| [&service.ca, &service.ek_certificate]);
        let of_recovery = self.recovery.iter();
        let of_recovery = of_recovery.filter_map(|recovery| recovery.operators_file.as_ref());
        let signed = self.tpm.signed.iter().flat_map(|signed| &signed.keys);
        let certificates = self.boot.authorities.iter();
        let others = of_service.flatten().chain(of_recovery);
        certificates.chain(signed).chain(others)
    }

    /// Whether anything is to come from the key service in some boot.
    #[must_use]
    pub fn needs_service(&self) -> bool {
        self.measure.cluster == ClusterFrom::Service
            || self
                .volumes()
                .any(|volume| volume.sources.contains(&Source::Service))
    }

    /// Whether an operator may push the key of a volume.
    #[must_use]
    pub fn needs_recovery(&self) -> bool {
        let mut volumes = self.volumes();
        volumes.any(|volume| volume.sources.contains(&Source::Recovery))
    }

    /// Whether some boot needs the network.
    #[must_use]
    pub fn needs_network(&self) -> bool {
        self.needs_service() || self.needs_recovery()
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

/// A message with the line it is about and, where the line sets one, the key. What is about no line in particular, with an
/// empty span, has no key either.
pub(crate) fn at(text: &str, span: &Range<usize>, message: &str) -> Error {
    let before = text.get(..span.start).unwrap_or(text);
    let number = before.matches('\n').count().saturating_add(1);
    let line = text.lines().nth(number.saturating_sub(1)).unwrap_or("");
    let key = match line.split_once('=') {
        Some((key, _)) if !span.is_empty() && !message.contains(&format!("`{}`", key.trim())) => {
            format!("{}: ", key.trim())
        }
        _ => String::new(),
    };
    let message = message.trim_end().replace('\n', "; ");
    Error::config(format_args!("line {number}: {key}{message}"))
}

#[cfg(test)]
mod tests;
