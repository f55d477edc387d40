// SPDX-License-Identifier: Apache-2.0
//! `secure-boot` and `authorities`: whether the firmware asked who had signed what it started, and who had.

use super::{measured_into, nothing_logged};
use crate::evidence::policy::Authority;
use crate::evidence::policy::explain::Difference;
use crate::evidence::secure_boot::SecureBoot;
use crate::evidence::verify::Verified;
use crate::pcr::Pcr;

/// What differs in PCR 7. With authorities there has to be one at least, and nothing else may have vouched for anything; which
/// other keys the firmware has does not matter.
pub(super) fn differs(
    expected: bool,
    authorities: Option<&[Authority]>,
    verified: &Verified,
) -> Vec<Difference> {
    let pcr = Pcr::SECURE_BOOT.index();
    if let Some(difference) = nothing_logged(pcr, "secure-boot", verified) {
        return vec![difference];
    }
    let seen = SecureBoot::of(measured_into(pcr, verified));
    if seen.is_on != Some(expected) {
        return vec![Difference::SecureBoot {
            seen: seen.is_on,
            expected,
        }];
    }
    let Some(authorities) = authorities else {
        return Vec::new();
    };
    let is_listed = |entry: &[u8]| authorities.iter().any(|known| known.certificate == entry);
    let differs = |seen: String| Difference::Authority {
        seen,
        expected: authorities.iter().map(|known| known.file.clone()).collect(),
    };
    if seen.authorities.is_empty() {
        return vec![differs("nobody".into())];
    }
    let strangers = seen.authorities.iter().filter(|entry| !is_listed(entry));
    let others = seen.others.iter().map(|event| event.what.to_string());
    strangers
        .map(|entry| {
            let id = hex::encode(verified.bank.hash(entry));
            format!("an entry of db with {} {id}", verified.bank)
        })
        .chain(others)
        .map(differs)
        .collect()
}
