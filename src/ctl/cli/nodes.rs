// SPDX-License-Identifier: Apache-2.0
//! What is asked of a key service, and where it is.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use uuid::Uuid;

use super::values::{NodeOrVolume, node_or_volume, uuid};

/// Show and change what a key service remembers of its nodes.
#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum Nodes {
    /// List the nodes.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Show a node, or a volume and whose it is.
    Show {
        /// A node's 64 digits, or a volume's UUID.
        #[arg(value_parser = node_or_volume)]
        id: NodeOrVolume,
        #[command(flatten)]
        server: Server,
    },
    /// Forget a node with its volumes, or a volume.
    ///
    /// A volume that is forgotten belongs to the next node that asks for it, at any epoch.
    Forget {
        /// Do it without asking.
        #[arg(long, short)]
        yes: bool,
        /// A node's 64 digits, or a volume's UUID.
        #[arg(value_parser = node_or_volume)]
        id: NodeOrVolume,
        #[command(flatten)]
        server: Server,
    },
    /// Let the next machine that is admitted have a volume whose node lost its TPM.
    ///
    /// Its disk may be no older than the service was told of last.
    Readmit {
        /// Take that back, but not the volume from a machine that has it already.
        #[arg(long)]
        cancel: bool,
        /// The volume's UUID.
        #[arg(value_parser = uuid)]
        uuid: Uuid,
        #[command(flatten)]
        server: Server,
    },
    /// Let a node go on with an older state of its volume, such as a disk from a backup.
    ///
    /// The first disk that the node shows takes the word, and no other disk has it then.
    Accept {
        /// Take that back.
        #[arg(long, conflicts_with = "epoch")]
        cancel: bool,
        /// For a disk of this epoch alone, as "nightlatchctl header check" or the denial shows it.
        #[arg(long, value_name = "N")]
        epoch: Option<u64>,
        /// What is gone on with.
        what: NodeWord,
        /// The volume's UUID.
        #[arg(value_parser = uuid)]
        uuid: Uuid,
        #[command(flatten)]
        server: Server,
    },
}

/// What an operator lets a node go on with.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(in crate::ctl) enum NodeWord {
    /// An older state of the volume, such as a disk from a backup.
    Rollback,
}

/// The key service's admin listener, and how the two sides know each other.
#[derive(Args, Debug)]
pub(in crate::ctl) struct Server {
    /// A file that says what the other options do not, instead of nightlatch/nightlatchctl.toml below the user's
    /// configuration or below /etc.
    #[arg(
        long,
        value_name = "FILE",
        env = "NIGHTLATCH_CONTEXT",
        hide_env_values = true
    )]
    pub(in crate::ctl) context: Option<PathBuf>,
    /// The address of the admin listener.
    #[arg(
        long = "server",
        value_name = "URL",
        env = "NIGHTLATCH_SERVER",
        hide_env_values = true
    )]
    pub(in crate::ctl) url: Option<String>,
    /// The operator's certificate, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        env = "NIGHTLATCH_CERT",
        hide_env_values = true
    )]
    pub(in crate::ctl) cert: Option<PathBuf>,
    /// Its key, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        env = "NIGHTLATCH_KEY",
        hide_env_values = true
    )]
    pub(in crate::ctl) key: Option<PathBuf>,
    /// The certificates that may vouch for the service, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        env = "NIGHTLATCH_CA",
        hide_env_values = true
    )]
    pub(in crate::ctl) ca: Option<PathBuf>,
}
