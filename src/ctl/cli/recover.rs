// SPDX-License-Identifier: Apache-2.0
//! What an operator says to nodes that wait for a key.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::values::word;
use crate::protocol::recovery::Word;

/// Give nodes that wait for recovery the keys of their volumes, once they have shown what they are.
///
/// A node is attested as the key service does it, and shows by its TPM that it is the one whose endorsement key is shown. What
/// travels is signed with the operator's key, which the node's configuration names.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("secret").args(["master_secret", "key_file"]))]
#[command(group = ArgGroup::new("where").args(["nodes", "scan"]).required(true).multiple(true))]
pub(in crate::ctl) struct Recover {
    /// A node that waits, and its port where that is not 9999; may be there several times.
    #[arg(long = "node", value_name = "ADDRESS[:PORT]")]
    pub(in crate::ctl) nodes: Vec<String>,
    /// A list of addresses where nodes may wait, one a line. Those that do not answer within three seconds are passed over.
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) scan: Option<PathBuf>,
    /// The key service's policy, by which nodes are judged.
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) policy: PathBuf,
    /// The file of the master secret that the volumes' keys are derived from. It does not leave this machine.
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) master_secret: Option<PathBuf>,
    /// The secret of the one volume that the node waits for, 32 bytes as they are.
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) key_file: Option<PathBuf>,
    /// The operator's key as ssh-keygen takes it: a private key, or the public one of a key that an agent or a security key has.
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) identity: PathBuf,
    /// A list of endorsement keys and the UUIDs of their volumes, a pair a line. What is in it is not asked about, but for a word.
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) expect: Option<PathBuf>,
    /// Ask about a volume that the list has for no node, instead of refusing it.
    #[arg(long, requires = "expect")]
    pub(in crate::ctl) new_owner: bool,
    /// What lets a volume go on that is refused: readmit, where the TPM's record is gone or this is another TPM, and then
    /// nothing tells the age of the disk; rollback, for an older state of it. May be there twice.
    #[arg(long = "word", value_name = "WORD", value_parser = word())]
    pub(in crate::ctl) words: Vec<Word>,
    /// Do it without asking, also about what the list does not have with --new-owner.
    #[arg(long, short, requires = "expect")]
    pub(in crate::ctl) yes: bool,
}
