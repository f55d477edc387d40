// SPDX-License-Identifier: Apache-2.0
//! What a boot must be before a secret is sealed, unsealed or asked for.

use serde::{Deserialize, Serialize};

use super::service::FilePath;
use crate::pcr::{Bank, Pcr};

/// What a boot must be.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Boot {
    /// Whether the firmware has to have let nothing run without a signature.
    pub secure_boot: SecureBoot,
    /// Files in the initrd with the certificates, in PEM or DER, that alone may have vouched for what ran. Required where
    /// Secure Boot is.
    pub authorities: Vec<FilePath>,
    /// The versions and digests that the firmware may measure of itself, where that is to be compared.
    pub firmware: Option<Firmware>,
    /// The program that the firmware starts before the image, if any.
    pub loader: Option<Loader>,
    /// Where a machine is when its volumes are made, if that is anywhere particular.
    pub first_boot: Option<FirstBoot>,
    /// Whether the initrd may look at disks that are no configured volume's.
    pub other_volumes: bool,
    /// The value that PCR 12 has to have, in hexadecimal digits, where something is added to the image.
    #[serde(rename = "pcr-12")]
    pub pcr_12: Option<PcrValue>,
    /// The same of PCR 13.
    #[serde(rename = "pcr-13")]
    pub pcr_13: Option<PcrValue>,
}

impl Boot {
    /// What a machine does without, where this asks for less than there is, in sentences.
    #[must_use]
    pub fn gives_up(&self) -> Vec<String> {
        let secure_boot = (self.secure_boot == SecureBoot::NotRequired).then_some(
            "boot.secure-boot = \"not-required\": nobody's signature counts, and which image runs is only said by PCRs 2, 4 and 9",
        );
        let loader = self.loader.map(|Loader::SystemdBoot| {
            "boot.loader = \"systemd-boot\": an entry on the ESP can give the image an initrd, which PCR 12 tells once a \
             secret is sealed and nothing tells before"
        });
        let first_boot = self.first_boot.map(|FirstBoot::Trusted| {
            "boot.first-boot = \"trusted\": secrets are sealed to what a first boot finds, and whoever has the host then \
             chooses that"
        });
        let all = [secure_boot, loader, first_boot];
        all.into_iter().flatten().map(str::to_owned).collect()
    }

    /// The value that a PCR of those that take additions has to have, where it is another one than zero.
    #[must_use]
    pub fn added(&self, pcr: Pcr) -> Option<&PcrValue> {
        match pcr {
            Pcr::KERNEL_CONFIG => self.pcr_12.as_ref(),
            Pcr::SYSTEM_EXTENSIONS => self.pcr_13.as_ref(),
            _ => None,
        }
    }
}

/// Whether the firmware has to have let nothing run without a signature.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecureBoot {
    /// It has to, and what ran has to be vouched for by one of the listed authorities.
    #[default]
    Required,
    /// It need not: PCR 4 says which programs ran, and PCR 2 which drivers did.
    NotRequired,
}

impl SecureBoot {
    /// The word used in configuration and record.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::NotRequired => "not-required",
        }
    }
}

/// A program that the firmware starts before the image.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loader {
    /// systemd-boot. An entry on the ESP makes it hand an initrd to the image (systemd-boot(7), Boot Loader
    /// Specification, key `initrd`), which nothing measures but the kernel in PCR 9.
    SystemdBoot,
}

/// Where a machine is when its volumes are made.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstBoot {
    /// Where its host is trusted: what that first boot was is taken as good.
    Trusted,
}

/// What a firmware may measure of itself: texts of versions, and digests of volumes in hexadecimal digits. At least one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "Vec<String>")]
pub struct Firmware(Vec<String>);

impl Firmware {
    /// Its parts.
    pub fn iter(&self) -> impl Iterator<Item = &String> {
        self.0.iter()
    }
}

impl TryFrom<Vec<String>> for Firmware {
    type Error = &'static str;

    fn try_from(parts: Vec<String>) -> Result<Self, Self::Error> {
        if parts.is_empty() || parts.iter().any(String::is_empty) {
            return Err(
                "expected versions or digests of the firmware, at least one and none empty",
            );
        }
        Ok(Self(parts))
    }
}

/// The value of a PCR, written in hexadecimal digits.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PcrValue(Vec<u8>);

impl PcrValue {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether a PCR of `bank` can have it.
    #[must_use]
    pub fn is_of(&self, bank: Bank) -> bool {
        self.0.len() == bank.zero().len()
    }
}

impl From<PcrValue> for String {
    fn from(value: PcrValue) -> Self {
        hex::encode(value.0)
    }
}

impl TryFrom<String> for PcrValue {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let value = hex::decode(&text).ok();
        let is_value = |value: &Vec<u8>| {
            [Bank::Sha256, Bank::Sha384]
                .iter()
                .any(|bank| value.len() == bank.zero().len())
        };
        value.filter(is_value).map(Self).ok_or_else(|| {
            format!("expected the value of a PCR, 64 or 96 hexadecimal digits, found {text:?}")
        })
    }
}
