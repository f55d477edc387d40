// SPDX-License-Identifier: Apache-2.0
//! The command line of `nightlatchctl`: its verbs and their options, by which help, completions and manual are made or judged.
//!
//! What stands in a comment here is what `--help` says.
//!
//! **Never:** a verb carried out: the words become values.

mod nodes;
mod open;
mod recover;
mod recovery_key;
mod rotate;
mod values;

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

pub(in crate::ctl) use self::nodes::{NodeWord, Nodes, Server};
pub(in crate::ctl) use self::open::{Close, Open};
pub(in crate::ctl) use self::recover::Recover;
pub(in crate::ctl) use self::recovery_key::RecoveryKey;
pub(in crate::ctl) use self::rotate::Rotate;
pub(in crate::ctl) use self::values::NodeOrVolume;
use self::values::{acceptance, profile, selection, shell, volume};
use crate::anchor::record::Accepted;
use crate::config::{NvIndex, Profile, VolumeName};
use crate::evidence::registers::Registers;
use crate::pcr::Bank;
use crate::sealed::floor::Floor;

/// What the program is called.
pub(in crate::ctl) const NAME: &str = "nightlatchctl";

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failure, 2 usage, 69 missing hardware, 75 try again later,
77 refused, 78 configuration.";

/// What an initrd may need for a configuration.
pub(in crate::ctl) const NEEDS: [&str; 6] = [
    "programs",
    "modules",
    "file-systems",
    "files",
    "network",
    "other-volumes",
];

/// Show and check what nightlatch does.
#[derive(Debug, Parser)]
#[command(name = NAME, version, propagate_version = true, after_help = EXIT_CODES)]
pub(in crate::ctl) struct Cli {
    /// Print one JSON object, also for an error.
    #[arg(long, global = true)]
    pub(in crate::ctl) json: bool,
    #[command(subcommand)]
    pub(in crate::ctl) verb: Verb,
}

/// The command line as a value: its verbs, options and what is said of them.
pub(in crate::ctl) fn command() -> clap::Command {
    Cli::command()
}

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum Verb {
    Status(Status),
    LastFailure(LastFailure),
    #[command(subcommand)]
    Config(Config),
    #[command(subcommand)]
    Header(Header),
    #[command(subcommand)]
    Evidence(Evidence),
    #[command(subcommand)]
    Policy(Policy),
    #[command(subcommand)]
    Image(Image),
    Check(Check),
    #[command(subcommand)]
    Anchor(Anchor),
    Enroll(Enroll),
    #[command(subcommand)]
    RecoveryKey(RecoveryKey),
    #[command(subcommand)]
    Rotate(Rotate),
    #[command(subcommand)]
    Mounts(Mounts),
    Derive(Derive),
    Open(Open),
    Close(Close),
    #[command(subcommand)]
    Nodes(Nodes),
    Recover(Recover),
    /// Print the script that completes the words of this program in a shell.
    Completions {
        /// The shell.
        #[arg(value_parser = shell())]
        shell: Shell,
    },
}

/// Show what the last boot did to each volume, and how long it took.
#[derive(Args, Debug)]
pub(in crate::ctl) struct Status {
    /// Draw it as a timeline into this file instead.
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) svg: Option<PathBuf>,
}

/// Show the sentence that a boot which failed has left in the TPM, with what is known of when. It is a hint: whatever runs on this
/// machine can write it.
#[derive(Args, Debug)]
pub(in crate::ctl) struct LastFailure {
    /// Forget it instead.
    #[arg(long)]
    pub(in crate::ctl) clear: bool,
    /// The NV index that it is in, where this boot's is another one, or nightlatch opened nothing in this boot.
    #[arg(long, value_name = "HANDLE", value_parser = values::nv_index)]
    pub(in crate::ctl) index: Option<NvIndex>,
}

/// Check configurations, and say what they need.
#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum Config {
    /// Say whether a configuration is good: all that is wrong with it, what it gives up of what a boot must be, and
    /// what is valid and will hurt.
    Check {
        /// The configuration, or - for standard input.
        file: PathBuf,
    },
    /// Show a configuration with its defaults, and what an initrd needs for it: programs, modules, files, the network.
    Show {
        /// Print this alone of what an initrd needs, a line each, as scripts take it.
        #[arg(long, value_name = "WHAT", value_parser = PossibleValuesParser::new(NEEDS))]
        list: Option<String>,
        /// The configuration, or - for standard input.
        file: PathBuf,
    },
}

/// Check LUKS2 headers.
#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum Header {
    /// Check a LUKS2 header as a boot does, without writing anything.
    Check {
        /// The profile to compare with, instead of the one whose token the header carries.
        #[arg(long, value_name = "NAME", value_parser = profile())]
        profile: Option<Profile>,
        /// The volume's device, an image of it, or a copy of its first 16 MiB.
        #[arg(value_name = "FILE|DEVICE")]
        device: PathBuf,
    },
}

/// Show and verify what the TPM said when a volume was made.
#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum Evidence {
    /// Show what the TPM said when a volume was made, without verifying it.
    Show {
        /// The volume's device, an image of it, or a copy of its first 16 MiB.
        #[arg(value_name = "FILE|DEVICE")]
        device: PathBuf,
    },
    Verify(Verify),
}

/// Verify what the TPM said when a volume was made, as far as is given.
#[derive(Args, Debug)]
pub(in crate::ctl) struct Verify {
    /// The attestation key that is known to be the node's: PEM, DER or a `TPMT_PUBLIC`.
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) ak: Option<PathBuf>,
    /// Refuse a quote over other PCRs than these, such as sha256:7,11,12.
    #[arg(long, value_name = "BANK:PCR,...", value_parser = selection)]
    pub(in crate::ctl) select: Option<(Bank, Registers)>,
    /// The firmware's event log of the boot that made the volume.
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) firmware_log: Option<PathBuf>,
    /// The event log of user space of that boot.
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) log: Option<PathBuf>,
    /// The PCR values, as JSON: bank, then PCR, then hexadecimal digits.
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) pcrs: Option<PathBuf>,
    /// Write the evidence out into this directory, for `tpm2_checkquote`.
    #[arg(long, value_name = "DIRECTORY")]
    pub(in crate::ctl) export: Option<PathBuf>,
    /// The volume's device, an image of it, or a copy of its first 16 MiB.
    #[arg(value_name = "FILE|DEVICE")]
    pub(in crate::ctl) device: PathBuf,
}

/// Check a key service's policies, make them, and ask them.
#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum Policy {
    /// Check a policy of the key service, and warn of what it leaves open.
    Check {
        /// The policy.
        file: PathBuf,
    },
    Image(PolicyImage),
    Sign(PolicySign),
    /// Say which image of a policy a machine booted, or what differs.
    Explain {
        /// The policy.
        policy: PathBuf,
        /// What the machine sent, as one JSON object.
        evidence: PathBuf,
    },
}

/// Print what a policy has to say of a unified kernel image, from its file.
#[derive(Args, Debug)]
pub(in crate::ctl) struct PolicyImage {
    /// The unified kernel image.
    #[arg(value_name = "UKI")]
    pub(in crate::ctl) image: String,
    /// What the policy calls it, instead of its file's name.
    #[arg(long)]
    pub(in crate::ctl) name: Option<String>,
    /// A certificate whose key signed the image; may be there several times. Without one the table is for machines
    /// without Secure Boot.
    #[arg(long = "authority", value_name = "CERTIFICATE")]
    pub(in crate::ctl) authorities: Vec<String>,
    /// A loader that starts the image.
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) boot_loader: Option<String>,
    /// A command line that the image is handed from outside; may be there several times.
    #[arg(long = "command-line", value_name = "TEXT", allow_hyphen_values = true)]
    pub(in crate::ctl) command_lines: Vec<String>,
    /// What the kernel measures of its initrd, SHA-256 in hexadecimal digits; may be there several times. For images whose
    /// stub takes an initrd from the host.
    #[arg(long = "initrd-hash", value_name = "DIGEST", value_parser = values::digest)]
    pub(in crate::ctl) initrd_hashes: Vec<String>,
}

/// Sign what PCR 11 will be when a unified kernel image asks for its keys, and put the signatures into the image, for nodes
/// that seal to the signing key. Before the image is signed for Secure Boot.
#[derive(Args, Debug)]
pub(in crate::ctl) struct PolicySign {
    /// The unified kernel image.
    #[arg(value_name = "UKI")]
    pub(in crate::ctl) image: PathBuf,
    /// The private key: RSA with 2048 bits, in PEM. Not the key for Secure Boot.
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) key: PathBuf,
    /// Write the signed image here, instead of in the place of the unsigned one.
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) out: Option<PathBuf>,
    /// A bank of PCRs that nodes seal to; may be there several times. sha256 alone where there is none.
    #[arg(long = "bank", value_name = "BANK", value_parser = values::signed_bank())]
    pub(in crate::ctl) banks: Vec<Bank>,
    /// The image's floor, its security version: it is signed for each from --oldest to this one. Nodes without a floor open too,
    /// unless --oldest is given.
    #[arg(long, value_name = "N", value_parser = values::floor)]
    pub(in crate::ctl) floor: Option<Floor>,
    /// The oldest floor of a node that the image is for. 1 where it is not given.
    #[arg(long, value_name = "N", value_parser = values::floor, requires = "floor")]
    pub(in crate::ctl) oldest: Option<Floor>,
    /// The certificate of the key that the image will be signed with for Secure Boot; may be there several times. The kernel
    /// inside must not carry its signature, and the key must be another one.
    #[arg(long = "authority", value_name = "CERTIFICATE", required = true)]
    pub(in crate::ctl) authorities: Vec<String>,
}

/// Check images before they are booted.
#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum Image {
    /// Say whether an initrd has all that its configuration needs, whether it is closed, and how large its parts are; of a
    /// unified kernel image also what its command line, its stub and the kernel inside have to be.
    Check {
        /// The unified kernel image, or an initrd as a file.
        #[arg(value_name = "UKI|INITRD")]
        file: PathBuf,
    },
}

/// Say whether the next boot of this node with an image will open its volumes, before it is booted; nothing is unsealed.
#[derive(Args, Debug)]
pub(in crate::ctl) struct Check {
    /// Where the ESP is mounted, instead of /efi, /boot or /boot/efi.
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "image")]
    pub(in crate::ctl) esp: Option<PathBuf>,
    /// Signature lists that are about to be added to the firmware's db, with the signature of an update or without.
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) db: Option<PathBuf>,
    /// The same of its dbx.
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) dbx: Option<PathBuf>,
    /// The same of its KEK.
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) kek: Option<PathBuf>,
    /// The certificate of who will have signed the image for Secure Boot, instead of who has: PEM or DER.
    #[arg(long, value_name = "CERTIFICATE")]
    pub(in crate::ctl) signer: Option<PathBuf>,
    /// The unified kernel image; without one, the one that is booted next and each other one on the ESP.
    #[arg(value_name = "UKI")]
    pub(in crate::ctl) image: Option<PathBuf>,
}

/// Show and change what the TPM remembers of this node's volumes.
#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum Anchor {
    /// Show what the TPM remembers of this node's volumes.
    Show,
    /// Let the next boot accept an older state of the volume's disk, or a blank disk in its place.
    Accept {
        /// Do it without asking.
        #[arg(long, short)]
        yes: bool,
        /// An older state of its disk, or a blank disk, which is formatted then.
        #[arg(value_parser = acceptance())]
        kind: Accepted,
        /// The volume's name.
        #[arg(value_parser = volume)]
        volume: VolumeName,
    },
    /// Tell the TPM which state of the volumes' file systems is durable now.
    Checkpoint,
    /// Make the TPM forget a volume that is gone for good.
    Forget {
        /// Do it without asking.
        #[arg(long, short)]
        yes: bool,
        /// The volume's name.
        #[arg(value_parser = volume)]
        volume: VolumeName,
    },
}

/// Say whose the volumes' secrets are, or have a volume given the key service's key.
#[derive(Args, Debug)]
pub(in crate::ctl) struct Enroll {
    /// The volume that is given the service's key at the next boot that reaches the service.
    #[arg(value_parser = volume)]
    pub(in crate::ctl) volume: Option<VolumeName>,
}

/// Check what is mounted.
#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum Mounts {
    /// Compare what is mounted with what the boot opened.
    Check,
}

/// Print the key derived for an id, in hexadecimal digits.
#[derive(Args, Debug)]
pub(in crate::ctl) struct Derive {
    /// The secret, at least 16 bytes as they are, a line end included.
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) secret: PathBuf,
    /// The salt, at least 32 bytes as they are, a line end included.
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) salt: PathBuf,
    /// What the key is for.
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(in crate::ctl) id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_fit_each_other() {
        command().debug_assert();
    }
}
