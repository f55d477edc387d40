// SPDX-License-Identifier: Apache-2.0
//! What `evidence verify` was given.

use std::fs;
use std::path::Path;

use crate::ctl::usage;
use crate::error::{Doing, Error, Result};
use crate::evidence::bundle::Pcrs;
use crate::evidence::key::known;
use crate::evidence::registers::Registers;
use crate::pcr::Bank;

/// The words of the command.
#[derive(Debug)]
pub(super) struct Options<'a> {
    pub(super) path: &'a Path,
    pub(super) export: Option<&'a Path>,
    /// The bank and the PCRs the quote has to be over.
    pub(super) selection: Option<(Bank, Registers)>,
    ak: Option<&'a Path>,
    firmware_log: Option<&'a Path>,
    userspace_log: Option<&'a Path>,
    pcrs: Option<&'a Path>,
}

/// What the files hold.
#[derive(Debug)]
pub(super) struct Given {
    /// The attestation key that is known, DER of a `SubjectPublicKeyInfo`.
    pub(super) ak: Option<Vec<u8>>,
    pub(super) firmware_log: Option<Vec<u8>>,
    pub(super) userspace_log: Option<Vec<u8>>,
    pub(super) values: Option<Pcrs>,
}

impl<'a> Options<'a> {
    pub(super) fn parse(words: &[&'a str]) -> Result<Self> {
        let Some((&path, options)) = words.split_last() else {
            return Err(usage("evidence verify: expected a file or device"));
        };
        let mut parsed = Self {
            path: Path::new(path),
            export: None,
            selection: None,
            ak: None,
            firmware_log: None,
            userspace_log: None,
            pcrs: None,
        };
        let (pairs, rest) = options.as_chunks::<2>();
        if !rest.is_empty() || path.starts_with("--") {
            return Err(usage(
                "evidence verify: expected options with a value each, then a file or device",
            ));
        }
        for [option, value] in pairs {
            if *option == "--select" && parsed.selection.is_none() {
                let selection = selected(value).ok_or_else(|| {
                    usage("evidence verify: --select: expected PCRs such as sha256:7,11,12")
                })?;
                parsed.selection = Some(selection);
                continue;
            }
            let place = match *option {
                "--ak" => &mut parsed.ak,
                "--firmware-log" => &mut parsed.firmware_log,
                "--log" => &mut parsed.userspace_log,
                "--pcrs" => &mut parsed.pcrs,
                "--export" => &mut parsed.export,
                "--select" => return Err(usage("evidence verify: --select is there twice")),
                other => {
                    return Err(usage(&format!("evidence verify: unknown option {other:?}")));
                }
            };
            if place.replace(Path::new(*value)).is_some() {
                return Err(usage(&format!("evidence verify: {option} is there twice")));
            }
        }
        Ok(parsed)
    }

    pub(super) fn read(&self) -> Result<Given> {
        let bytes = |path: Option<&Path>| {
            path.map(|path| fs::read(path).doing(format_args!("reading {}", path.display())))
                .transpose()
        };
        let ak = bytes(self.ak)?.map(|bytes| known(&bytes));
        let values = bytes(self.pcrs)?
            .map(|bytes| serde_json::from_slice(&bytes).map_err(Error::refused))
            .transpose();
        Ok(Given {
            ak: ak.transpose().doing("reading the attestation key")?,
            firmware_log: bytes(self.firmware_log)?,
            userspace_log: bytes(self.userspace_log)?,
            values: values.doing("reading PCR values")?,
        })
    }
}

/// A bank and its PCRs, as tpm2-tools write them: `sha256:7,11,12`.
fn selected(text: &str) -> Option<(Bank, Registers)> {
    let (name, list) = text.split_once(':')?;
    let banks = [Bank::Sha256, Bank::Sha384, Bank::Sha512];
    let bank = banks.into_iter().find(|bank| bank.as_str() == name)?;
    let pcrs: Vec<u8> = list
        .split(',')
        .map(|pcr| pcr.parse().ok())
        .collect::<Option<_>>()?;
    Some((bank, Registers::of(&pcrs)?))
}
