// SPDX-License-Identifier: Apache-2.0
//! `firmware`: what the firmware says it is. It is a guard against negligence: only a launch measurement binds a firmware that
//! the host may choose.

use super::{is_separator, measured_into, nothing_logged};
use crate::evidence::firmware::{FirmwarePart, unlisted};
use crate::evidence::policy::explain::Difference;
use crate::evidence::verify::Verified;

/// The firmware itself (TCG PC Client Platform Firmware Profile, section 3.3.4.1).
const CODE: u8 = 0;

/// What was measured into PCR 0 and is not listed.
pub(super) fn differs(expected: &[FirmwarePart], verified: &Verified) -> Vec<Difference> {
    if let Some(difference) = nothing_logged(CODE, "firmware", verified) {
        return vec![difference];
    }
    let parts = measured_into(CODE, verified).filter(|event| !is_separator(event));
    unlisted(expected, parts, verified.bank)
        .into_iter()
        .map(|seen| Difference::Firmware {
            seen,
            expected: expected.iter().map(ToString::to_string).collect(),
        })
        .collect()
}
