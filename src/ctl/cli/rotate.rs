// SPDX-License-Identifier: Apache-2.0
//! The verbs about secrets that are made anew.

use clap::Subcommand;

use super::values::volume;
use crate::config::VolumeName;

/// Have a volume's secret made anew, or its seal.
#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum Rotate {
    /// Have the next boot give a volume another secret, which the node draws and seals to its TPM. An older copy of the header
    /// goes on opening with the old one.
    Secret {
        /// Do it without asking.
        #[arg(long, short)]
        yes: bool,
        /// The volume's name.
        #[arg(value_parser = volume)]
        volume: VolumeName,
    },
    /// Have the next boot seal a volume's secret anew, to the TPM as it is in that boot.
    Seal {
        /// The volume's name.
        #[arg(value_parser = volume)]
        volume: VolumeName,
    },
    /// Say how a volume gets another volume key, which is not possible in place.
    VolumeKey {
        /// The volume's name.
        #[arg(value_parser = volume)]
        volume: VolumeName,
    },
    /// List whose the volumes' secrets are, and what the next boot is asked to make anew.
    List,
    /// Take back what the next boot was asked to make anew of a volume.
    Cancel {
        /// The volume's name.
        #[arg(value_parser = volume)]
        volume: VolumeName,
    },
}
