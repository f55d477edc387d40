// SPDX-License-Identifier: Apache-2.0
//! Who may push a key to a node that waits, and how long it waits.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::FilePath;
use crate::error::{Doing, Error, Result};
use crate::key::openssh::OpensshKey;

/// The first port that a program without more rights than nightlatch.service has can open.
const PORT_MIN: u16 = 1024;
/// Where a node waits, where the configuration does not say: the port of Constellation's recovery.
pub const RECOVERY_PORT: u16 = 9999;

/// The longest that a node waits, in seconds: an hour. What follows a failure heals what a reboot heals.
const WAIT_S_MAX: u32 = 3600;

/// The source `recovery`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recovery {
    /// The operators' public keys, as lines of `.pub` files.
    #[serde(default)]
    pub operators: Vec<OpensshKey>,
    /// A file in the initrd with more of them, a line each.
    pub operators_file: Option<FilePath>,
    /// Where the node listens while it waits, TCP.
    #[serde(default = "default_port")]
    pub port: u16,
    /// How long it waits, in seconds.
    #[serde(default = "default_wait_s")]
    pub wait_s: u32,
}

fn default_port() -> u16 {
    RECOVERY_PORT
}

fn default_wait_s() -> u32 {
    900
}

impl Recovery {
    /// How long the node waits.
    #[must_use]
    pub fn wait(&self) -> Duration {
        Duration::from_secs(self.wait_s.into())
    }

    /// All keys, with those of the file below `top`: at least one.
    pub fn operators(&self, top: &Path) -> Result<Vec<OpensshKey>> {
        let mut all = self.operators.clone();
        if let Some(file) = &self.operators_file {
            let bytes = file.read(top).doing("recovery.operators-file")?;
            let text = String::from_utf8(bytes).map_err(Error::config);
            let text = text.doing(format_args!("recovery.operators-file: {}", file.as_str()))?;
            let lines = text.lines().map(str::trim);
            let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            for line in lines {
                let key = OpensshKey::parse(line).map_err(Error::config);
                all.push(key.doing(format_args!("recovery.operators-file: {}", file.as_str()))?);
            }
        }
        if all.is_empty() {
            return Err(Error::config(
                "recovery: expected the key of at least one operator",
            ));
        }
        Ok(all)
    }

    /// What no single value can show.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        if self.operators.is_empty() && self.operators_file.is_none() {
            return Err(
                "recovery: expected operators, or operators-file, whose signatures are taken"
                    .into(),
            );
        }
        for (index, key) in self.operators.iter().enumerate() {
            let mut before = self.operators.iter().take(index);
            if before.any(|other| other.blob() == key.blob()) {
                return Err(format!("recovery.operators: {key} is there twice"));
            }
        }
        if self.port < PORT_MIN {
            return Err(format!(
                "recovery.port: expected {PORT_MIN} to 65535, found {}",
                self.port
            ));
        }
        if !(1..=WAIT_S_MAX).contains(&self.wait_s) {
            return Err(format!(
                "recovery.wait-s: expected 1 to {WAIT_S_MAX}, found {}",
                self.wait_s
            ));
        }
        Ok(())
    }
}
