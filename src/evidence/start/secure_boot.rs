// SPDX-License-Identifier: Apache-2.0
//! Whose signatures counted.

use super::Unmet;
use crate::evidence::eventlog::{Event, What};
use crate::evidence::secure_boot::SecureBoot;

/// Whether Secure Boot was on and what ran was vouched for by `authorities`, certificates in DER, and by nobody else.
/// `events` are those of PCR 7.
///
/// What else is in `db` does not matter: an entry of it is measured when it lets something run.
pub(super) fn vouched(events: &[Event], authorities: &[Vec<u8>]) -> Result<(), Unmet> {
    let seen = SecureBoot::of(events);
    match seen.is_on {
        Some(true) => {}
        Some(false) => return Err(Unmet::SecureBootOff),
        None => return Err(Unmet::SecureBootUnknown),
    }
    if let Some(event) = seen.others.first() {
        return Err(Unmet::UnknownInSecureBoot(event.what.to_string()));
    }
    let is_listed = |entry: &[u8]| authorities.iter().any(|listed| listed == entry);
    if let Some(entry) = seen.authorities.iter().find(|entry| !is_listed(entry)) {
        let authority = What::Authority(entry.to_vec());
        return Err(Unmet::ForeignAuthority(authority.to_string()));
    }
    if seen.authorities.is_empty() {
        return Err(Unmet::NoAuthority);
    }
    Ok(())
}
