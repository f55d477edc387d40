// SPDX-License-Identifier: Apache-2.0
//! The policy as it is written, TOML.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Deserialize;

use super::{Authority, Image, Policy, Programs, RoleRule};
use crate::config::{Role, at};
use crate::error::{Doing, Error, Result};
use crate::evidence::chain::{self, Authorities};
use crate::evidence::firmware::FirmwarePart;
use crate::evidence::registers;
use crate::pcr::{Bank, Pcr};

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    #[serde(default = "sha256")]
    bank: Bank,
    #[serde(default = "cluster_pcr")]
    cluster_pcr: Pcr,
    #[serde(default)]
    ek: Endorsement,
    #[serde(rename = "image")]
    images: Vec<ImageTable>,
    #[serde(rename = "role")]
    roles: Vec<RoleTable>,
}

/// Which TPMs are trusted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Endorsement {
    #[serde(default)]
    roots: Vec<String>,
    #[serde(default)]
    intermediates: Vec<String>,
    #[serde(default)]
    enrolled: Vec<Hex>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ImageTable {
    name: String,
    #[serde(default)]
    pcrs: BTreeMap<PcrKey, Vec<Hex>>,
    uki_hash: Option<Vec<Hex>>,
    #[serde(default)]
    loader_hash: Vec<Hex>,
    #[serde(default)]
    kernel_hash: Vec<Hex>,
    initrd_hash: Option<Vec<Hex>>,
    command_line: Option<Vec<String>>,
    secure_boot: Option<bool>,
    authorities: Option<Vec<String>>,
    firmware: Option<Vec<String>>,
    #[serde(default)]
    additions: Vec<Hex>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RoleTable {
    name: String,
    volumes: Vec<Role>,
    images: Vec<String>,
}

/// Hexadecimal digits.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Hex(Vec<u8>);

impl TryFrom<String> for Hex {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        hex::decode(&text)
            .map(Self)
            .map_err(|_bad| format!("expected hexadecimal digits, found {text:?}"))
    }
}

/// A PCR as a key.
#[derive(Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
struct PcrKey(Pcr);

impl TryFrom<String> for PcrKey {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse::<u8>()
            .ok()
            .filter(|index| index.to_string() == text)
            .map_or_else(
                || Err(format!("expected a PCR from 0 to 15, found {text:?}")),
                |index| Pcr::try_from(index).map(Self),
            )
    }
}

fn sha256() -> Bank {
    Bank::Sha256
}

fn cluster_pcr() -> Pcr {
    Pcr::SYSTEM_IDENTITY
}

impl File {
    /// Parses a policy. An error of the syntax starts with `line N: key: `.
    pub(super) fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            let span = error.span().unwrap_or_default();
            at(text, &span, error.message())
        })
    }

    /// Checks what the syntax cannot say.
    pub(super) fn into_policy(self, read: impl Fn(&str) -> Result<String>) -> Result<Policy> {
        if self.bank == Bank::Sha1 {
            return Err(Error::config("bank: expected one that is not SHA-1"));
        }
        if self.ek.roots.is_empty() && self.ek.enrolled.is_empty() {
            return Err(Error::config("[ek]: expected roots or enrolled keys"));
        }
        let images = some(self.images, "[[image]]")?;
        let images: Vec<Image> = images
            .into_iter()
            .map(|image| {
                let name = image.name.clone();
                image
                    .check(self.bank, &read)
                    .doing(format_args!("image {name:?}"))
            })
            .collect::<Result<_>>()?;
        let names: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
        each_once(&names, "image")?;
        let roles = some(self.roles, "[[role]]")?;
        let roles: Vec<RoleRule> = roles
            .into_iter()
            .map(|role| {
                let name = role.name.clone();
                role.check(&names).doing(format_args!("role {name:?}"))
            })
            .collect::<Result<_>>()?;
        let role_names: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
        each_once(&role_names, "role")?;
        Ok(Policy {
            bank: self.bank,
            cluster_pcr: self.cluster_pcr,
            images,
            roles,
            authorities: self.ek.authorities(&read)?,
            enrolled: self.ek.enrolled()?,
        })
    }
}

impl Endorsement {
    fn authorities(&self, read: impl Fn(&str) -> Result<String>) -> Result<Authorities> {
        let all = |paths: &[String]| -> Result<String> {
            let texts: Vec<String> = paths
                .iter()
                .map(|path| {
                    let text = read(path)?;
                    let found = Authorities::from_pem(&text, "").map_err(Error::config);
                    match found.doing(path)? {
                        none if none.is_empty() => Err(no_certificate(path)),
                        _ => Ok(text),
                    }
                })
                .collect::<Result<_>>()?;
            Ok(texts.join("\n"))
        };
        Authorities::from_pem(&all(&self.roots)?, &all(&self.intermediates)?).map_err(Error::config)
    }

    fn enrolled(&self) -> Result<HashSet<[u8; 32]>> {
        self.enrolled
            .iter()
            .map(|Hex(id)| {
                <[u8; 32]>::try_from(id.as_slice()).map_err(|_len| {
                    Error::config(format_args!(
                        "[ek] enrolled: expected SHA-256 digests of 32 bytes, found {}",
                        id.len()
                    ))
                })
            })
            .collect()
    }
}

impl ImageTable {
    fn check(self, bank: Bank, read: impl Fn(&str) -> Result<String>) -> Result<Image> {
        if self.pcrs.is_empty() && self.uki_hash.is_none() {
            return Err(Error::config("expected pcrs or uki-hash"));
        }
        if self.authorities.is_some() && self.secure_boot != Some(true) {
            return Err(Error::config(
                "authorities: expected secure-boot = true beside them, without which nobody is asked",
            ));
        }
        let is_alone = self.uki_hash.is_none();
        if is_alone && !(self.loader_hash.is_empty() && self.kernel_hash.is_empty()) {
            return Err(Error::config(
                "loader-hash and kernel-hash: expected uki-hash beside them",
            ));
        }
        let mut pcrs = BTreeMap::new();
        for (PcrKey(pcr), values) in self.pcrs {
            let values = digests(bank, values).doing(format_args!("pcrs.{pcr}"))?;
            pcrs.insert(pcr.index(), values);
        }
        let images = self.uki_hash.map(|hashes| digests(bank, hashes));
        let loaders = any_digests(bank, self.loader_hash).doing("loader-hash")?;
        let kernels = any_digests(bank, self.kernel_hash).doing("kernel-hash")?;
        let initrds = self.initrd_hash.map(|hashes| digests(bank, hashes));
        let lines = self.command_line.map(|lines| some(lines, "a command line"));
        let authorities = self.authorities.map(|files| authorities(files, read));
        let firmware = self
            .firmware
            .map(|parts| some(parts, "a version or digest"));
        Ok(Image {
            name: self.name,
            pcrs,
            programs: images
                .transpose()
                .doing("uki-hash")?
                .map(|images| Programs {
                    images,
                    loaders,
                    kernels,
                }),
            initrds: initrds.transpose().doing("initrd-hash")?,
            command_lines: lines.transpose().doing("command-line")?,
            secure_boot: self.secure_boot,
            authorities: authorities.transpose().doing("authorities")?,
            firmware: firmware.transpose().doing("firmware")?.map(|parts| {
                parts
                    .iter()
                    .map(|part| FirmwarePart::parse(bank, part))
                    .collect()
            }),
            additions: any_digests(bank, self.additions).doing("additions")?,
        })
    }
}

/// The certificates of all files, each with its file.
fn authorities(
    files: Vec<String>,
    read: impl Fn(&str) -> Result<String>,
) -> Result<Vec<Authority>> {
    let mut found = Vec::new();
    for file in some(files, "a certificate")? {
        let certificates = chain::pem_blocks(&read(&file)?).map_err(Error::config);
        let certificates = certificates.doing(&file)?;
        if certificates.is_empty() {
            return Err(no_certificate(&file));
        }
        found.extend(certificates.into_iter().map(|certificate| Authority {
            file: file.clone(),
            certificate,
        }));
    }
    Ok(found)
}

fn no_certificate(file: &str) -> Error {
    Error::config(format_args!("{file}: no certificate in it"))
}

impl RoleTable {
    fn check(self, images: &[&str]) -> Result<RoleRule> {
        let unknown = |name: &&String| !images.contains(&name.as_str());
        if let Some(name) = self.images.iter().find(unknown) {
            return Err(Error::config(format_args!("there is no image {name:?}")));
        }
        Ok(RoleRule {
            name: self.name,
            volumes: some(self.volumes, "a kind of volume").doing("volumes")?,
            images: some(self.images, "an image").doing("images")?,
        })
    }
}

fn digests(bank: Bank, values: Vec<Hex>) -> Result<Vec<Vec<u8>>> {
    let len = registers::len(bank);
    some(values, "a value")?
        .into_iter()
        .map(|Hex(value)| {
            if value.len() == len {
                return Ok(value);
            }
            Err(Error::config(format_args!(
                "expected {len} bytes of {bank}, found {}",
                value.len()
            )))
        })
        .collect()
}

/// The same where there may be none.
fn any_digests(bank: Bank, values: Vec<Hex>) -> Result<Vec<Vec<u8>>> {
    if values.is_empty() {
        return Ok(Vec::new());
    }
    digests(bank, values)
}

fn some<T>(items: Vec<T>, what: &str) -> Result<Vec<T>> {
    if items.is_empty() {
        return Err(Error::config(format_args!("expected at least one: {what}")));
    }
    Ok(items)
}

fn each_once(names: &[&str], what: &str) -> Result<()> {
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(**name)) {
        Some(name) => Err(Error::config(format_args!("two of {what} {name:?}"))),
        None => Ok(()),
    }
}
