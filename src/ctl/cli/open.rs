// SPDX-License-Identifier: Apache-2.0
//! A volume opened on a machine that is not its node, and closed again.

use std::path::PathBuf;

use clap::Args;
use uuid::Uuid;

use super::values::{mapping, profile, rescue_name, size, uuid};
use crate::config::Profile;

/// Open a volume on a machine that is not its node, read-only unless told otherwise: the disk stays as it is, byte for byte.
///
/// Without a file for a key the recovery key is asked for at the terminal.
#[derive(Args, Debug)]
pub(in crate::ctl) struct Open {
    /// The volume's recovery key, as text.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["secret_file", "master_secret"])]
    pub(in crate::ctl) recovery_key_file: Option<PathBuf>,
    /// The volume's secret, which is 32 bytes as they are.
    #[arg(long, value_name = "FILE", conflicts_with = "master_secret")]
    pub(in crate::ctl) secret_file: Option<PathBuf>,
    /// The master secret that the volume's secret is derived from, at least 16 bytes as they are.
    #[arg(long, value_name = "FILE", requires_all = ["salt", "uuid"])]
    pub(in crate::ctl) master_secret: Option<PathBuf>,
    /// The salt of the master secret, at least 32 bytes as they are.
    #[arg(long, value_name = "FILE", requires = "master_secret")]
    pub(in crate::ctl) salt: Option<PathBuf>,
    /// The volume's UUID: another volume is refused.
    #[arg(long, value_name = "UUID", value_parser = uuid)]
    pub(in crate::ctl) uuid: Option<Uuid>,
    /// The profile to compare the header with, where it is none of nightlatch's own.
    #[arg(long, value_name = "NAME", value_parser = profile())]
    pub(in crate::ctl) profile: Option<Profile>,
    /// Call the mapping rescue-NAME, instead of by the volume's name.
    #[arg(long, value_name = "NAME", value_parser = rescue_name)]
    pub(in crate::ctl) name: Option<String>,
    /// How much memory what is written may take at most, such as 512M; 256M unless said otherwise.
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "writable")]
    pub(in crate::ctl) memory: Option<u64>,
    /// Let what is written go to the disk.
    #[arg(long)]
    pub(in crate::ctl) writable: bool,
    /// Do it without asking.
    #[arg(long, short)]
    pub(in crate::ctl) yes: bool,
    /// The volume's device.
    #[arg(value_name = "DEVICE")]
    pub(in crate::ctl) device: PathBuf,
}

/// Close a volume that was opened by open. What was written to memory is thrown away.
#[derive(Args, Debug)]
pub(in crate::ctl) struct Close {
    /// The mapping's name, without /dev/mapper/.
    #[arg(value_name = "MAPPING", value_parser = mapping)]
    pub(in crate::ctl) mapping: String,
}
