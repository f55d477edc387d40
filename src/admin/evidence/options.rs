// SPDX-License-Identifier: Apache-2.0
//! What `evidence verify` was given.

use std::fs;
use std::path::Path;

use x509_cert::der::pem;

use crate::admin::usage;
use crate::error::{Doing, Error, Result};
use crate::evidence::bundle::Pcrs;
use crate::evidence::{Ak, Refusal};

/// What starts a public key in PEM (RFC 7468, section 13).
const PEM: &[u8] = b"-----BEGIN PUBLIC KEY-----";
/// What starts a public key in DER: a sequence, longer than 127 bytes for RSA.
const SEQUENCE: u8 = 0x30;

/// The words of the command.
#[derive(Debug)]
pub(super) struct Options<'a> {
    pub(super) path: &'a Path,
    pub(super) export: Option<&'a Path>,
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
            let place = match *option {
                "--ak" => &mut parsed.ak,
                "--firmware-log" => &mut parsed.firmware_log,
                "--log" => &mut parsed.userspace_log,
                "--pcrs" => &mut parsed.pcrs,
                "--export" => &mut parsed.export,
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
        let ak = bytes(self.ak)?.map(|bytes| known(&bytes)).transpose();
        let values = bytes(self.pcrs)?
            .map(|bytes| serde_json::from_slice(&bytes).map_err(Error::refused))
            .transpose();
        Ok(Given {
            ak: ak.doing("reading the attestation key")?,
            firmware_log: bytes(self.firmware_log)?,
            userspace_log: bytes(self.userspace_log)?,
            values: values.doing("reading PCR values")?,
        })
    }
}

/// A public key in PEM, in DER, or as a TPM has it, with its length or without.
fn known(bytes: &[u8]) -> Result<Vec<u8>> {
    if bytes.starts_with(PEM) {
        let (_, der) = pem::decode_vec(bytes).map_err(Error::refused)?;
        return Ok(der);
    }
    if bytes.first() == Some(&SEQUENCE) {
        return Ok(bytes.to_vec());
    }
    let area = match bytes.split_first_chunk::<2>() {
        Some((len, area)) if usize::from(u16::from_be_bytes(*len)) == area.len() => area,
        _ => bytes,
    };
    let ak: std::result::Result<Ak, Refusal> = Ak::parse(area);
    Ok(ak?.spki_der().to_vec())
}
