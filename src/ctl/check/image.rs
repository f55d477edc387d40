// SPDX-License-Identifier: Apache-2.0
//! What an image says of its next boot: its configuration, and what it will measure.

use crate::command_line::CommandLine;
use crate::config::{CONFIG_PATH, Config, FilePath, SecureBoot};
use crate::error::{Doing, Error, Result};
use crate::evidence::start::{Changes, KernelInside, NextImage, certificates};
use crate::initrd::Tree;
use crate::key::pcr::PcrPublicKey;
use crate::pcr::Bank;
use crate::tpm::Policy;
use crate::uki::Uki;

/// Where units are, the first place that has one before the others (systemd.unit(5)).
const UNIT_PLACES: [&str; 4] = [
    "etc/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];
/// What extends PCRs with systemd's separator, from version 261 on (systemd-pcrosseparator.service(8)).
const SEPARATOR: &str = "systemd-pcrosseparator.service";
/// A link to it is a mask (systemd.unit(5)).
const NOWHERE: &str = "/dev/null";

/// An image with all that it needs.
pub(super) struct Image {
    pub(super) config: Config,
    /// Those that may vouch, in DER; none where Secure Boot is not required.
    pub(super) authorities: Option<Vec<Vec<u8>>>,
    /// What its boot seals to.
    pub(super) policy: Policy,
    pub(super) next: NextImage,
}

impl Image {
    /// Takes it from an image that `image check` finds complete.
    pub(super) fn of(uki: &Uki<'_>, tree: &Tree<'_>) -> Result<Self> {
        let text = std::str::from_utf8(file(tree, CONFIG_PATH)?).map_err(Error::config);
        let config = text.and_then(Config::parse).doing(CONFIG_PATH)?;
        let signed = config.tpm.signed.as_ref();
        let key = signed.and_then(|signed| signed.keys.first());
        let key = key
            .map(|name| file(tree, name.as_str()).and_then(PcrPublicKey::from_pem))
            .transpose()
            .doing("tpm.signed.keys")?;
        Ok(Self {
            authorities: authorities(tree, &config)?,
            policy: Policy::of(&config.tpm, key.as_ref()),
            next: measured(uki, tree, config.tpm.bank.into())?,
            config,
        })
    }
}

fn file<'a>(tree: &Tree<'a>, name: &str) -> Result<&'a [u8]> {
    tree.file(name)
        .ok_or_else(|| Error::config(format_args!("{name} is not in the initrd")))
}

fn authorities(tree: &Tree<'_>, config: &Config) -> Result<Option<Vec<Vec<u8>>>> {
    if config.boot.secure_boot == SecureBoot::NotRequired {
        return Ok(None);
    }
    let mut all = Vec::new();
    for name in config.boot.authorities.iter().map(FilePath::as_str) {
        all.extend(certificates(file(tree, name)?).doing(name)?);
    }
    Ok(Some(all))
}

/// What its start will measure.
fn measured(uki: &Uki<'_>, tree: &Tree<'_>, bank: Bank) -> Result<NextImage> {
    let line = CommandLine::parse(uki.command_line().unwrap_or_default());
    // Without the firmware's variables systemd does not see that it was measured, and measures nothing.
    let is_separated = has_separator(tree) && !line.turns_variables_off();
    Ok(NextImage {
        digest: uki.program.authenticode(bank)?,
        kernel: match uki.has_firmware_start_kernel() {
            Some(true) => KernelInside::Started(uki.kernel()?.authenticode(bank)?),
            Some(false) => KernelInside::Past,
            None => KernelInside::Unknown,
        },
        pcr_11: uki.kernel_image(bank),
        is_separated,
        changes: Changes::default(),
    })
}

fn has_separator(tree: &Tree<'_>) -> bool {
    let mut paths = UNIT_PLACES
        .iter()
        .map(|place| format!("{place}/{SEPARATOR}"));
    let first = paths.find(|path| tree.has(path));
    first.is_some_and(|path| tree.link(&path) != Some(NOWHERE))
}
