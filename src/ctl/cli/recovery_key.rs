// SPDX-License-Identifier: Apache-2.0
//! The verbs about recovery keys.

use std::path::PathBuf;

use clap::Subcommand;

use super::values::volume;
use crate::config::VolumeName;

/// Give volumes keys for recovery, try them, and take them away.
#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum RecoveryKey {
    /// Make a recovery key for a volume: it is shown once, as text and as a QR code, and has to be typed back. The next boot makes
    /// its keyslot.
    Add {
        /// Write the key into this new file, for a place outside of this machine, instead of showing it; what is read back from
        /// there confirms it.
        #[arg(long, value_name = "FILE")]
        confirm_file: Option<PathBuf>,
        /// The volume's name.
        #[arg(value_parser = volume)]
        volume: VolumeName,
    },
    /// List the volumes' recovery keys by their keyslots, and what the next boot is asked for.
    List,
    /// Say whether a recovery key opens a volume, by its header alone and without the TPM; nothing is changed.
    Test {
        /// Read the key from this file, or from standard input for -, instead of asking for it.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        /// The volume's name.
        #[arg(value_parser = volume)]
        volume: VolumeName,
    },
    /// Have the next boot empty the keyslot of a recovery key, or take back what was asked for one that has none yet. Who has the
    /// key and an older copy of the header can open that copy for ever.
    Remove {
        /// Do it without asking.
        #[arg(long, short)]
        yes: bool,
        /// The keyslot, where the volume has two.
        #[arg(long, value_name = "N")]
        keyslot: Option<u8>,
        /// The volume's name.
        #[arg(value_parser = volume)]
        volume: VolumeName,
    },
}
