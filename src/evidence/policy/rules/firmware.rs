// SPDX-License-Identifier: Apache-2.0
//! `firmware`: what the firmware says it is. It is a guard against negligence: only a launch measurement binds a firmware that
//! the host may choose.

use super::{is_separator, measured_into, nothing_logged};
use crate::evidence::eventlog::Event;
use crate::evidence::policy::Firmware;
use crate::evidence::policy::explain::Difference;
use crate::evidence::verify::Verified;
use crate::pcr::Bank;

/// The firmware itself (TCG PC Client Platform Firmware Profile, section 3.3.4.1).
const CODE: u8 = 0;

/// What was measured into PCR 0 and is not listed.
pub(super) fn differs(expected: &[Firmware], verified: &Verified) -> Vec<Difference> {
    if let Some(difference) = nothing_logged(CODE, "firmware", verified) {
        return vec![difference];
    }
    let differs = |seen: String| Difference::Firmware {
        seen,
        expected: expected.iter().map(ToString::to_string).collect(),
    };
    let mut parts = measured_into(CODE, verified)
        .filter(|event| !is_separator(event))
        .peekable();
    if parts.peek().is_none() {
        return vec![differs("nothing".into())];
    }
    parts
        .filter(|event| !expected.iter().any(|part| part.is(event, verified.bank)))
        .map(|event| {
            differs(format!(
                "{} with {}",
                event.what,
                hex::encode(&event.digest)
            ))
        })
        .collect()
}

impl Firmware {
    /// Whether the event is this part. A version is measured as UTF-16 with its zero (`EV_S_CRTM_VERSION`, section 10.4.1).
    fn is(&self, event: &Event, bank: Bank) -> bool {
        match self {
            Self::Digest(digest) => event.digest == *digest,
            Self::Version(version) => {
                let units = version.encode_utf16().chain([0]);
                let bytes: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
                event.digest == bank.hash(&bytes)
            }
        }
    }
}
