// SPDX-License-Identifier: Apache-2.0
//! What a valid policy leaves open, for whoever wrote it.

use super::rules::additions::{DRIVERS, EXTENSIONS, KERNEL_INPUT};
use super::rules::programs::PROGRAMS;
use super::{Image, Policy};
use crate::pcr::Pcr;

/// What the names of those have in them who certify the TPMs of virtual machines that anybody may rent: Google Cloud's `EK/AK CA
/// Root`, Azure's `Azure Virtual TPM Root Certificate Authority 2023`, and others of these companies.
const PUBLIC_CLOUDS: [&str; 5] = ["Google", "Azure", "Microsoft", "Amazon", "Alibaba"];

impl Policy {
    /// A sentence for each thing that is left open.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let of_roots = self.authorities.roots().filter_map(|name| {
            PUBLIC_CLOUDS
                .iter()
                .any(|cloud| name.contains(cloud))
                .then(|| {
                    format!(
                        "[ek] roots: {name} vouches for every machine of every tenant of a public \
                         cloud: any of them that boots a listed image is admitted; take it out and \
                         list the endorsement keys of your machines in enrolled"
                    )
                })
        });
        let of_images = self.images.iter().flat_map(|image| {
            let named = |what: &str| format!("image {:?}: {what}", image.name);
            image.open_ends().into_iter().map(named)
        });
        of_roots.chain(of_images).collect()
    }
}

impl Image {
    /// Whether the firmware may start the kernel inside an image.
    fn has_kernels(&self) -> bool {
        let programs = self.programs.iter();
        programs.flat_map(|it| &it.kernels).next().is_some()
    }

    fn open_ends(&self) -> Vec<&'static str> {
        let has = |pcr: u8| self.pcrs.contains_key(&pcr);
        let cases = [
            (
                has(DRIVERS) || self.is_vouched_for() || !self.additions.is_empty(),
                "PCR 2: a machine with a card that brings a driver is denied; with Secure Boot name \
                 the authorities, without it list the drivers in additions, or the values in pcrs.2",
            ),
            (
                has(PROGRAMS) || self.programs.is_some(),
                "PCR 4: nothing says which programs the firmware may start, so that any is denied; \
                 list them in uki-hash, or the values in pcrs.4",
            ),
            (
                has(Pcr::SECURE_BOOT.index()) || self.authorities.is_some(),
                "PCR 7: nothing says whose keys the firmware has, and a host may put its own there; \
                 name the authorities beside secure-boot = true, or list the values in pcrs.7",
            ),
            (
                has(KERNEL_INPUT) || self.names_all_that_ran(),
                "PCR 9: nothing says what the kernel was told, so that what it was handed is denied; \
                 list its command-line, or the values in pcrs.11 and pcrs.12",
            ),
            (
                has(KERNEL_INPUT) || self.initrds.is_some() || !self.has_kernels(),
                "PCR 9: a host can have its firmware start the kernel of kernel-hash after the image came \
                 back, with an initrd of its own; list the initrd in initrd-hash, or the values in pcrs.9",
            ),
            (
                has(Pcr::KERNEL_CONFIG.index()) || self.command_lines.is_some(),
                "PCR 12: no rule is about it, so that a host may add to the command line and to the \
                 credentials; list the command-line, or the values in pcrs.12",
            ),
            (
                has(EXTENSIONS),
                "PCR 13: it has no value, so that what was added to the initrd is known from the \
                 event log alone; list the values in pcrs.13, zero where nothing may be added",
            ),
        ];
        let open = cases.into_iter().filter(|(is_closed, _)| !is_closed);
        open.map(|(_, sentence)| sentence).collect()
    }
}
