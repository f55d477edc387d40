// SPDX-License-Identifier: Apache-2.0
//! What a key service or an operator accepts: images by their PCR values and event logs, TPMs by who endorsed them, and
//! what each role may ask for.
//!
//! [`Policy::trusts`] is about the TPM, [`Policy::early`] about the moment, [`Policy::decide`] about the image and the role. A
//! caller needs all three.
//!
//! ```toml
//! bank = "sha256"             # of all values and hashes below; the default
//! cluster-pcr = 15            # has to be zero when a key is asked for; the default
//!
//! [ek]                        # a TPM is trusted when one of these speaks for it
//! roots = ["vendor.pem"]      # beside this file
//! intermediates = []
//! enrolled = ["0000000000000000000000000000000000000000000000000000000000000000"]
//!
//! [[image]]                   # everything that is said has to hold
//! name = "2026.11"
//! secure-boot = true
//! authorities = ["owner.pem"] # who may have signed what ran; beside this file
//! uki-hash = ["1111111111111111111111111111111111111111111111111111111111111111"]
//! command-line = ["quiet ro"]
//! firmware = ["2026.08-1"]    # versions and digests of all that PCR 0 has
//! additions = ["3333333333333333333333333333333333333333333333333333333333333333"]
//! pcrs.11 = ["2222222222222222222222222222222222222222222222222222222222222222"]
//!
//! [[role]]
//! name = "worker"
//! volumes = ["state"]
//! images = ["2026.11"]
//! ```
//!
//! `uki-hash` lists the Authenticode hashes of unified kernel images, one of which has to be started. Further programs that the
//! firmware may start are listed by their place: `loader-hash` has loaders, `kernel-hash` the kernel inside an image, where the
//! stub has the firmware start that, which is without Secure Boot. `command-line` lists every command line
//! that is measured: the image's own, and any it is handed or that is added to it.
//!
//! `initrd-hash` lists what the kernel may measure of its initrd. It is for stubs that take one from whoever registered it before
//! (systemd from 261 on), and for images whose kernel the firmware starts: without it the initrd is whatever comes with programs
//! that are listed.
//!
//! `authorities` names the certificates that may have vouched for a program under Secure Boot, as `db` has them: where `db` has
//! an issuer's that is the one. Which other keys the firmware has does not matter.
//!
//! Whatever else was measured into PCRs 2, 4, 5, 9, 13 and 14 has to be explained: by a value in `pcrs`, by its digest in
//! `additions` (a driver, an extension of the initrd, a key of shim's), or by a rule of this program's. Such are: a driver that
//! Secure Boot measured, where `authorities` say who may have let it run; partition tables; systemd-boot's configuration; the
//! command line and the initrd that the kernel got, where rules name every program and what it was told; what systemd measures
//! of itself. What nothing explains is a denial that names it.
//!
//! **Never:** the clock, a file's place or the network: text and verified evidence come in, a verdict and its reason go out.

mod explain;
mod file;
mod rules;
mod warnings;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::SystemTime;

pub use explain::{Difference, Explanation};

use self::file::File;
use super::chain::Authorities;
use super::firmware::FirmwarePart;
use super::key::Ek;
use super::verify::Verified;
use super::{Check, Refusal};
use crate::config::Role;
use crate::error::{Doing, Error, Result};
use crate::pcr::{Bank, Pcr};

/// A policy. Nothing in it is secret.
#[derive(Clone, Debug)]
pub struct Policy {
    bank: Bank,
    cluster_pcr: Pcr,
    images: Vec<Image>,
    roles: Vec<RoleRule>,
    authorities: Authorities,
    enrolled: HashSet<[u8; 32]>,
}

/// An image: what its boots measure.
#[derive(Clone, Debug)]
struct Image {
    name: String,
    /// For each PCR the values it may have.
    pcrs: BTreeMap<u8, Vec<Vec<u8>>>,
    /// The programs its firmware may start.
    programs: Option<Programs>,
    /// Digests of the initrds that its kernel may get, where only the kernel tells whether it is the image's.
    initrds: Option<Vec<Vec<u8>>>,
    /// The command lines its kernel may have.
    command_lines: Option<Vec<String>>,
    secure_boot: Option<bool>,
    /// Who may have vouched for what was started.
    authorities: Option<Vec<Authority>>,
    /// What its firmware may consist of.
    firmware: Option<Vec<FirmwarePart>>,
    /// Digests of what else may be measured beside it.
    additions: Vec<Vec<u8>>,
}

/// Authenticode hashes of programs.
#[derive(Clone, Debug)]
struct Programs {
    /// One of these has to be started.
    images: Vec<Vec<u8>>,
    /// What may be started before.
    loaders: Vec<Vec<u8>>,
    /// What one of the images may start.
    kernels: Vec<Vec<u8>>,
}

/// Somebody whose signature Secure Boot may have let something run for.
#[derive(Clone, Debug)]
struct Authority {
    /// The file, as the policy names it.
    file: String,
    /// DER, as `db` has it.
    certificate: Vec<u8>,
}

/// What machines of a role may ask for.
#[derive(Clone, Debug)]
struct RoleRule {
    name: String,
    volumes: Vec<Role>,
    images: Vec<String>,
}

/// Why a TPM is trusted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trust {
    /// Its endorsement key is on the policy's list.
    Enrolled,
    /// A root of the policy vouches for its endorsement key.
    Certified,
}

impl Policy {
    /// Reads a policy and the certificates it names, whose paths are relative to it.
    pub fn load(path: &Path) -> Result<Self> {
        let read = |path: &Path| fs::read_to_string(path).map_err(Error::config);
        let directory = path.parent().unwrap_or_else(|| Path::new("."));
        read(path)
            .and_then(|text| {
                Self::parse(&text, |file| {
                    let file = directory.join(file);
                    read(&file).doing(file.display())
                })
            })
            .doing(path.display())
    }

    /// Takes a policy apart; `read` gives the text of the certificates it names.
    pub fn parse(text: &str, read: impl Fn(&str) -> Result<String>) -> Result<Self> {
        File::parse(text)?.into_policy(read)
    }

    /// The bank its values are from: the one to quote.
    #[must_use]
    pub fn bank(&self) -> Bank {
        self.bank
    }

    /// The PCR that has to be zero.
    #[must_use]
    pub fn cluster_pcr(&self) -> Pcr {
        self.cluster_pcr
    }

    /// The names of its images.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        self.images.iter().map(|image| image.name.as_str())
    }

    /// The names of its roles.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(|role| role.name.as_str())
    }

    /// The names of the roles that may boot an image.
    pub fn roles_of(&self, image: &str) -> impl Iterator<Item = &str> {
        let may = move |role: &&RoleRule| role.images.iter().any(|name| name == image);
        self.roles.iter().filter(may).map(|role| role.name.as_str())
    }

    /// Whether the TPM of this endorsement key is one to trust. `certificate` is DER, `sent` are intermediates as DER.
    ///
    /// Fails [`Check::EkTrust`] where nothing speaks for the key, or as [`Authorities::verify`] does.
    pub fn trusts(
        &self,
        ek: &Ek,
        certificate: Option<&[u8]>,
        sent: &[Vec<u8>],
        now: SystemTime,
    ) -> std::result::Result<Trust, Refusal> {
        if self.enrolled.contains(&ek.id()) {
            return Ok(Trust::Enrolled);
        }
        match certificate {
            Some(certificate) if !self.authorities.is_empty() => {
                self.authorities.verify(certificate, sent, ek, now)?;
                Ok(Trust::Certified)
            }
            _ => Err(Refusal::new(
                Check::EkTrust,
                format_args!(
                    "endorsement key {} is not enrolled, and no certificate of it can be checked",
                    hex::encode(ek.id())
                ),
            )),
        }
    }

    /// Whether nothing was measured into the cluster's PCR yet, so that this is an initrd before its volumes are open.
    ///
    /// Fails [`Check::EarlyBoot`].
    pub fn early(&self, verified: &Verified) -> std::result::Result<(), Refusal> {
        let pcr = self.cluster_pcr;
        let why = match verified.pcrs.get(&pcr.index()) {
            None => format!("PCR {pcr} was not quoted"),
            Some(value) if *value != verified.bank.zero() => {
                format!(
                    "PCR {pcr} is not zero but {}: the machine is past its initrd",
                    hex::encode(value)
                )
            }
            Some(_) => return Ok(()),
        };
        Err(Refusal::new(Check::EarlyBoot, why))
    }

    /// The image that was booted, if machines of `role` may boot it and ask for a volume of this kind.
    pub fn decide(
        &self,
        verified: &Verified,
        role: &str,
        volume: Role,
    ) -> std::result::Result<&str, Explanation> {
        let Some(known) = self.roles.iter().find(|known| known.name == role) else {
            return Err(Explanation::of_role(format!("there is no role {role:?}")));
        };
        if !known.volumes.contains(&volume) {
            return Err(Explanation::of_role(format!(
                "role {role:?} may not ask for a {} volume",
                volume.as_str()
            )));
        }
        self.nearest(verified, |image| known.images.contains(&image.name))
    }

    /// Whether some role may boot `image` and ask for a volume of this kind.
    #[must_use]
    pub fn allows(&self, image: &str, volume: Role) -> bool {
        self.roles.iter().any(|role| {
            role.volumes.contains(&volume) && role.images.iter().any(|name| name == image)
        })
    }

    /// The image that was booted, whoever asks.
    pub fn image(&self, verified: &Verified) -> std::result::Result<&str, Explanation> {
        self.nearest(verified, |_| true)
    }

    /// The first image nothing differs from, or what differs from the one with the fewest differences.
    fn nearest(
        &self,
        verified: &Verified,
        may: impl Fn(&Image) -> bool,
    ) -> std::result::Result<&str, Explanation> {
        let mut nearest: Option<Explanation> = None;
        for image in self.images.iter().filter(|image| may(image)) {
            let differences = image.differences(self.bank, verified);
            if differences.is_empty() {
                return Ok(&image.name);
            }
            let is_nearer = nearest
                .as_ref()
                .is_none_or(|other| differences.len() < other.differences.len());
            if is_nearer {
                nearest = Some(Explanation {
                    check: Check::Image,
                    image: Some(image.name.clone()),
                    differences,
                });
            }
        }
        Err(nearest.unwrap_or_else(|| Explanation::of_role("it may boot no image".into())))
    }
}

#[cfg(test)]
mod tests;
