// SPDX-License-Identifier: Apache-2.0
//! `uki-hash`, `loader-hash` and `kernel-hash`: which programs the firmware started, and which of them may be there only in
//! their place.
//!
//! A kernel that somebody starts by itself takes any initrd and then measures into PCR 11 what it likes, so the one inside an
//! image counts only where the image was started just before it: where an image comes back without having started it, the
//! firmware measures an action in between. That is so of boot options only, so a program before these is none that is known.

use super::{measured_into, nothing_logged, unknown};
use crate::evidence::eventlog::{self, Event};
use crate::evidence::policy::explain::Difference;
use crate::evidence::policy::{Image, Programs};
use crate::evidence::verify::Verified;

/// Where the firmware measures the programs it starts (TCG PC Client Platform Firmware Profile, section 3.3.4.5).
pub(in crate::evidence::policy) const PROGRAMS: u8 = 4;

/// What was started and should not have been.
pub(super) fn differ(image: &Image, verified: &Verified) -> Vec<Difference> {
    match &image.programs {
        Some(expected) => expected.differ(verified),
        None if image.pcrs.contains_key(&PROGRAMS) => Vec::new(),
        None => unlisted(verified),
    }
}

/// Programs of an image that has neither hashes nor a value for them.
fn unlisted(verified: &Verified) -> Vec<Difference> {
    match unknown(PROGRAMS, verified) {
        Some(difference) => vec![difference],
        None => measured_into(PROGRAMS, verified)
            .filter(|event| event.may_be_program())
            .map(Difference::unexplained)
            .collect(),
    }
}

impl Programs {
    fn differ(&self, verified: &Verified) -> Vec<Difference> {
        if let Some(difference) = nothing_logged(PROGRAMS, "uki-hash", verified) {
            return vec![difference];
        }
        let mut differences = Vec::new();
        let mut is_image_started = false;
        // Whether what was measured just before is an image.
        let mut is_after_image = false;
        for event in measured_into(PROGRAMS, verified) {
            let is_image = self.images.contains(&event.digest);
            let is_known = is_image || self.loaders.contains(&event.digest);
            if !is_known && event.may_be_program() {
                let is_kernel = self.kernels.contains(&event.digest);
                if !is_kernel {
                    differences.push(self.another(event));
                } else if !is_after_image {
                    differences.push(Difference::KernelAlone {
                        seen: hex::encode(&event.digest),
                    });
                }
            }
            is_after_image = is_image;
            is_image_started |= is_image;
        }
        if !is_image_started && differences.is_empty() {
            differences.push(Difference::Program {
                what: "no program".into(),
                seen: "none".into(),
                expected: super::digits(&self.images),
            });
        }
        let is_before_options = !eventlog::are_of_boot_options(measured_into(PROGRAMS, verified));
        // Of an image alone it says nothing, and OVMF starts what QEMU hands over before the separator.
        let is_alone = measured_into(PROGRAMS, verified)
            .filter(|event| event.may_be_program())
            .nth(1)
            .is_none();
        if is_image_started && !is_alone && is_before_options {
            differences.push(Difference::OutsideOfBootOptions);
        }
        differences
    }

    fn another(&self, event: &Event) -> Difference {
        Difference::Program {
            what: event.what.to_string(),
            seen: hex::encode(&event.digest),
            expected: super::digits(&self.images),
        }
    }
}
