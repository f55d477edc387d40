// SPDX-License-Identifier: Apache-2.0
//! What else ran or was added: drivers, what the kernel was handed, extensions, keys of shim's.
//!
//! A PCR that the image has values for needs no rule about its events: the value says all. Of any other each event has to be
//! explained by what is written here or in the image's `additions`.

use super::programs::PROGRAMS;
use super::{is_separator, measured_into, unknown};
use crate::evidence::eventlog::{Event, What};
use crate::evidence::policy::Image;
use crate::evidence::policy::explain::Difference;
use crate::evidence::verify::Verified;
use crate::pcr::Pcr;

/// Drivers, option ROMs among them (TCG PC Client Platform Firmware Profile, section 3.3.4.3).
pub(in crate::evidence::policy) const DRIVERS: u8 = 2;
/// How the firmware and systemd-boot chose: partition tables, `loader.conf` (section 3.3.4.6; UAPI group, Linux TPM PCR
/// registry).
const CHOICE: u8 = 5;
/// What the kernel was handed: its options and its initrd (same registry).
pub(in crate::evidence::policy) const KERNEL_INPUT: u8 = 9;
/// Extensions of the initrd that systemd-stub found beside the image (same registry).
pub(in crate::evidence::policy) const EXTENSIONS: u8 = 13;
/// Keys and hashes that shim takes beside the firmware's (same registry).
const SHIM_KEYS: u8 = 14;
/// The PCRs whose events are looked at here.
const LOOKED_AT: [u8; 5] = [DRIVERS, CHOICE, KERNEL_INPUT, EXTENSIONS, SHIM_KEYS];

/// The kernel's command line as its stub got it, and the initrd (`LOAD_OPTIONS_EVENT_TAG_ID` and `INITRD_EVENT_TAG_ID`,
/// drivers/firmware/efi/libstub/efistub.h of Linux 6.10).
const OPTIONS_TAG: u32 = 0x8f3b_22ed;
const INITRD_TAG: u32 = 0x8f3b_22ec;
/// systemd-boot's configuration (`LOADER_CONF_EVENT_TAG_ID`, src/boot/measure.h of systemd 257).
const LOADER_TAGS: [u32; 1] = [0xf5bc_582a];
/// How texts start that systemd measures of the NV indices which it extends like PCRs (systemd 259, `tpm2_nvpcr_initialize`).
const NV_INDICES: [&str; 2] = ["nvpcr-init", "nvpcr-separator"];

/// Every event that nothing explains.
pub(super) fn differ(image: &Image, verified: &Verified) -> Vec<Difference> {
    LOOKED_AT
        .into_iter()
        .filter(|pcr| !image.pcrs.contains_key(pcr))
        .flat_map(|pcr| unexplained(image, pcr, verified))
        .collect()
}

fn unexplained(image: &Image, pcr: u8, verified: &Verified) -> Vec<Difference> {
    if let Some(difference) = unknown(pcr, verified) {
        return vec![difference];
    }
    let mut own = image.own_tags(pcr);
    measured_into(pcr, verified)
        .filter(|event| !is_explained(image, event, &mut own))
        .map(Difference::unexplained)
        .collect()
}

fn is_explained(image: &Image, event: &Event, own: &mut Vec<u32>) -> bool {
    // What a machine calls text is text, and that is no code.
    let is_harmless = matches!(
        (event.pcr, &event.what),
        (DRIVERS | CHOICE, What::Text { .. }) | (CHOICE, What::PartitionTable)
    );
    if is_harmless || is_separator(event) || is_of_an_nv_index(event) {
        return true;
    }
    if let What::Tagged { tag, .. } = &event.what
        && own.contains(tag)
    {
        // There once: whoever else took part would have its own beside it.
        own.retain(|other| other != tag);
        return true;
    }
    if event.pcr == KERNEL_INPUT && image.is_initrd(&event.digest) {
        return true;
    }
    // What Secure Boot let run has an authority in PCR 7; what it did not is measured all the same.
    (event.pcr == DRIVERS && image.is_vouched_for()) || image.additions.contains(&event.digest)
}

fn is_of_an_nv_index(event: &Event) -> bool {
    let What::Text { text, .. } = &event.what else {
        return false;
    };
    event.pcr == KERNEL_INPUT && NV_INDICES.iter().any(|start| text.starts_with(start))
}

impl Image {
    /// Whether whatever ran was let run by an authority that the image's rules are about.
    pub(in crate::evidence::policy) fn is_vouched_for(&self) -> bool {
        self.secure_boot == Some(true)
            && (self.authorities.is_some() || self.pcrs.contains_key(&Pcr::SECURE_BOOT.index()))
    }

    /// The tags that programs which the image's rules name use in a PCR. Nothing proves these, so they stand for nothing where
    /// the rules leave open which programs ran and what they were told.
    fn own_tags(&self, pcr: u8) -> Vec<u32> {
        match pcr {
            CHOICE if self.names_programs() => LOADER_TAGS.to_vec(),
            KERNEL_INPUT if self.names_all_that_ran() => match self.initrds {
                Some(_) => vec![OPTIONS_TAG],
                None => vec![OPTIONS_TAG, INITRD_TAG],
            },
            _ => Vec::new(),
        }
    }

    /// Whether it is the digest of an initrd that is listed.
    fn is_initrd(&self, digest: &[u8]) -> bool {
        let listed = self.initrds.iter().flatten();
        listed.into_iter().any(|known| known == digest)
    }

    fn names_programs(&self) -> bool {
        self.programs.is_some() || self.pcrs.contains_key(&PROGRAMS)
    }

    /// Whether the rules are about every program, what is in the image, and what it was told from outside.
    pub(in crate::evidence::policy) fn names_all_that_ran(&self) -> bool {
        let has = |pcr: Pcr| self.pcrs.contains_key(&pcr.index());
        let names_line = self.command_lines.is_some();
        let names_image = has(Pcr::KERNEL_IMAGE) || (self.programs.is_some() && names_line);
        self.names_programs() && names_image && (has(Pcr::KERNEL_CONFIG) || names_line)
    }
}
