// SPDX-License-Identifier: Apache-2.0
//! What is measured, byte by byte, and systemd's log of it.
//!
//! The TPM itself comes in as a closure that extends: one that fails stops the boot, a log that cannot be written does
//! not.
//!
//! [`cluster_id`] and [`volume_identity`] are where to start; [`EventLog`] is systemd's log.
//!
//! **Never:** a TPM: what extends is handed in, so that what is measured can be seen without one.

mod log;

pub use log::{Event, EventLog, LOG_PATH};

use crate::error::{Doing, Result};
use crate::key::Secret;
use crate::pcr::{Bank, Digests, Pcr};

/// The fence: what is measured at the end of the initrd, so that nothing sealed for it can be unsealed later. Its digest is that of the string, so `systemd-pcrlock log` can validate it.
pub const FENCE: &str = "nightlatch:fence";

/// What is measured into the clusterID's PCR by a boot that ends without one. Its digest is that of the string as well.
pub const FAILED: &str = "nightlatch:failed";

/// Which volume this is: systemd's `tpm2-measure-pcr=`.
#[derive(Clone, Copy, Debug)]
pub struct VolumeIdentity<'a> {
    /// The mapping's name.
    pub name: &'a str,
    /// The LUKS2 UUID, in lower case.
    pub uuid: &'a str,
    /// The whole volume key, the integrity key included.
    pub volume_key: &'a Secret,
}

impl VolumeIdentity<'_> {
    /// The string that is measured (systemd, cryptsetup-util.c, `cryptsetup_get_volume_key_prefix`).
    fn string(&self) -> String {
        format!("cryptsetup:{}:{}", escaped(self.name), self.uuid)
    }

    /// Its HMAC in each bank, under the volume key, so that neither the bus nor the log gives the key away.
    fn digests(&self, banks: &[Bank]) -> Digests {
        let string = self.string();
        let hmac = |bank: &Bank| bank.hmac(self.volume_key.expose(), string.as_bytes());
        banks.iter().map(|bank| (*bank, hmac(bank))).collect()
    }
}

/// Measures the clusterID with `event`, which hashes and extends as `TPM2_PCR_Event` does.
pub fn cluster_id(
    log: &EventLog,
    pcr: Pcr,
    id: &[u8],
    event: impl FnOnce(&[u8]) -> Result<Digests>,
) -> Result<()> {
    log.record(pcr, Event::cluster_id(id), || event(id))
        .doing(format_args!("measuring the clusterID into PCR {pcr}"))
}

/// Measures a volume's identity with `extend`, in the active `banks`.
pub fn volume_identity(
    log: &EventLog,
    pcr: Pcr,
    identity: &VolumeIdentity<'_>,
    banks: &[Bank],
    extend: impl FnOnce(&Digests) -> Result<()>,
) -> Result<()> {
    // The same record systemd-cryptsetup writes. The digest is an HMAC, so pcrlock cannot validate either of them.
    let entry = Event::string("volume-key", &identity.string());
    let digests = identity.digests(banks);
    log.record(pcr, entry, || extend(&digests).map(|()| digests))
        .doing(format_args!(
            "measuring the identity of volume {} into PCR {pcr}",
            identity.name
        ))
}

/// Measures which volume of a foreign profile was opened, `id` being what its volume key is recognised by. Its digest is
/// that of the string.
///
/// Nothing else that is measured follows from such a volume, and any system could have made another one that opens.
pub fn foreign_volume(
    log: &EventLog,
    pcr: Pcr,
    identity: &VolumeIdentity<'_>,
    id: &[u8],
    event: impl FnOnce(&[u8]) -> Result<Digests>,
) -> Result<()> {
    let what = format!(
        "nightlatch:volume:{}:{}:{}",
        escaped(identity.name),
        identity.uuid,
        hex::encode(id)
    );
    let entry = Event::string("nightlatch-volume", &what);
    log.record(pcr, entry, || event(what.as_bytes()))
        .doing(format_args!(
            "measuring the identity of volume {} into PCR {pcr}",
            identity.name
        ))
}

/// Measures that the operator allowed what would be refused. Its digest is that of the string.
pub fn acceptance(
    log: &EventLog,
    pcr: Pcr,
    what: &str,
    event: impl FnOnce(&[u8]) -> Result<Digests>,
) -> Result<()> {
    let entry = Event::string("nightlatch-accept", what);
    log.record(pcr, entry, || event(what.as_bytes()))
        .doing(format_args!("measuring {what} into PCR {pcr}"))
}

/// Extends the fence PCR with `event`: what is sealed to it cannot be unsealed any more until the next reset.
pub fn fence(log: &EventLog, pcr: Pcr, event: impl FnOnce(&[u8]) -> Result<Digests>) -> Result<()> {
    let entry = Event::string("nightlatch-fence", FENCE);
    log.record(pcr, entry, || event(FENCE.as_bytes()))
        .doing(format_args!("raising the fence in PCR {pcr}"))
}

/// Extends the clusterID's PCR with `event` where a boot ends without an identity: it must not look like one that has yet to
/// get its own.
pub fn failed(
    log: &EventLog,
    pcr: Pcr,
    event: impl FnOnce(&[u8]) -> Result<Digests>,
) -> Result<()> {
    let entry = Event::string("nightlatch-failed", FAILED);
    log.record(pcr, entry, || event(FAILED.as_bytes()))
        .doing(format_args!("measuring the failure into PCR {pcr}"))
}

/// systemd's `xescape(name, ":")`: what could end the field, and what does not print, as `\xHH`.
fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b':' | b'\\' | ..0x20 | 0x7f.. => out.push_str(&hex_escape(byte)),
            _ => out.push(char::from(byte)),
        }
    }
    out
}

fn hex_escape(byte: u8) -> String {
    format!("\\x{byte:02x}")
}

#[cfg(test)]
mod tests;
