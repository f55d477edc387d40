// SPDX-License-Identifier: Apache-2.0
//! The TPM, and what secrets are sealed to.

use serde::{Deserialize, Serialize};

use super::{FilePath, Tcti};
use crate::pcr::{Bank, Pcr, PcrSet};

/// The TPM and the policy secrets are sealed under.
#[derive(Debug, Deserialize, Serialize)]
#[serde(from = "Written", rename_all = "kebab-case")]
pub struct Tpm {
    /// How to reach the TPM.
    pub tcti: Tcti,
    /// The PCRs whose values a secret is sealed to.
    pub pcrs: PcrSet,
    /// Who has to have signed the value of PCR 11, where a secret is sealed to that and not to one image.
    pub signed: Option<Signed>,
    /// The bank those values are taken from.
    pub bank: PolicyBank,
    /// The PCR, one of `pcrs`, that is extended after the hand-over so that nothing can be unsealed any more.
    pub fence_pcr: Pcr,
    /// On whose word a boot goes on where the PCRs have other values than when the anchor's record was made.
    pub stale: Stale,
}

/// Whose signature an image has to carry for its own value of PCR 11.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Signed {
    /// Files in the initrd with the keys, in PEM. One for now.
    pub keys: Vec<FilePath>,
}

/// The table as it is written. Which PCRs there are by default depends on the rest.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    tcti: Tcti,
    pcrs: Option<PcrSet>,
    signed: Option<Signed>,
    bank: PolicyBank,
    fence_pcr: Option<Pcr>,
    stale: Stale,
}

impl From<Written> for Tpm {
    fn from(written: Written) -> Self {
        let Written {
            tcti,
            pcrs,
            signed,
            bank,
            fence_pcr,
            stale,
        } = written;
        let of_image: &[Pcr] = match signed {
            None => &[Pcr::BOOT_PROGRAMS, Pcr::KERNEL_IMAGE],
            // Both change with each image.
            Some(_) => &[],
        };
        let of_start = [Pcr::SECURE_BOOT, Pcr::KERNEL_CONFIG, Pcr::SYSTEM_EXTENSIONS];
        Self {
            tcti,
            pcrs: pcrs.unwrap_or_else(|| PcrSet::of(&[of_image, &of_start].concat())),
            signed,
            bank,
            fence_pcr: fence_pcr.unwrap_or(Pcr::KERNEL_CONFIG),
            stale,
        }
    }
}

impl Default for Tpm {
    fn default() -> Self {
        Written::default().into()
    }
}

/// On whose word a boot goes on whose anchor was made under other PCR values: the image is another one, or the firmware, or
/// their settings.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stale {
    /// The key service's: it admits what was booted, and what it remembers of the volume is compared.
    #[default]
    Service,
    /// An operator's at the key service, each time.
    Operator,
}

/// Banks good enough for a policy. SHA-1 is not.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyBank {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
}

impl From<PolicyBank> for Bank {
    fn from(bank: PolicyBank) -> Self {
        match bank {
            PolicyBank::Sha256 => Self::Sha256,
            PolicyBank::Sha384 => Self::Sha384,
        }
    }
}

impl Tpm {
    /// What the choice of PCRs costs, where that is not plain, in sentences.
    #[must_use]
    pub fn costs(&self) -> Vec<String> {
        let firmware = self.pcrs.contains(Pcr::FIRMWARE).then_some(
            "tpm.pcrs has 0: a machine with more processors or memory, or with a new package of its firmware, cannot open its \
             volumes any more, and a host that chooses the firmware can have it measured as another",
        );
        let extensions = (!self.pcrs.contains(Pcr::SYSTEM_EXTENSIONS)).then_some(
            "tpm.pcrs lacks 13: an extension that the host adds to the initrd can unseal",
        );
        let signed = self.signed.as_ref().map(|_| {
            "tpm.signed: each image that the key has signed opens the volumes, however old, and so does whatever takes an initrd \
             and was ever signed by a key of boot.authorities, such as a kernel, a GRUB or a shell: let that key sign unified \
             kernel images and nothing else"
        });
        let all = [firmware, extensions, signed];
        all.into_iter().flatten().map(str::to_owned).collect()
    }
}
