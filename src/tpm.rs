// SPDX-License-Identifier: Apache-2.0
//! The TPM: PCRs read and extended, secrets sealed and unsealed. The only user of tss-esapi.
//!
//! tpm2-tss writes its own messages to standard error unless `TSS2_LOG=all+NONE` is in the environment before the
//! first call; the unit file sets it.
//!
//! Secrets cross the bus encrypted, and where [`Tpm::vouch`] was called extends and readings are vouched for. Both are as
//! good as the key that sessions are salted with. Which one that is the TPM's answer says, and nothing here proves it: who
//! stands on the bus from the first command on and passes a key of his own off as the TPM's is kept out by neither.
//! tss-esapi and tpm2-tss leave copies of secrets behind in this process's memory, which the programs lock and which ends
//! with them.
//!
//! TPM commands: [`Tpm::open`] one for a device node, which tpm2-tss probes; [`Tpm::banks`] one, once;
//! [`Tpm::read`], [`Tpm::read_all`], [`Tpm::require_zero`], [`Tpm::event`] and [`Tpm::extend`] one each. Once for a
//! connection: finding the storage root key two; the session that satisfies policies one to start and one to end, and the
//! same for the one that vouches, which [`Tpm::read_last`] ends without a command; the values for a policy one, unless
//! [`Tpm::require_zero_before`] read them. On top of these [`Tpm::seal`] two, [`Tpm::unseal`] four, [`Tpm::find_records`]
//! three, [`Tpm::read_anchor`] three more, [`Tpm::count_anchor`] one, [`Tpm::increment_anchor`] two, which end the session of
//! policies, [`Tpm::write_anchor`] five, [`Tpm::quote`] and [`Tpm::attest`] one and, once, two for their key,
//! [`Tpm::activate`] two. Where a key has to have signed what PCR 11 holds, [`Tpm::approve`] takes three, once, and what
//! satisfies the policy two more each time. Looking for a persistent endorsement key takes two, and two of the storage root key's are saved
//! where nothing is sealed or unsealed; for its certificate in the TPM three or more.
//!
//! [`DirectTpm`] is another connection, for what is neither secret nor believed.
//!
//! **Never:** `TPM2_Clear`, a hierarchy's authorisation changed, or a secret on the bus in the clear.

mod approval;
mod attest;
mod direct;
mod endorsement;
mod integrity;
mod nv;
mod policy;
mod quote;
mod registers;
mod response;
mod seal;
mod session;
mod srk;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::Path;

use nix::errno::Errno;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::tcti_ldr::DeviceConfig;
use tss_esapi::{Context, TctiNameConf};

pub use crate::sealed::Sealed;
pub use crate::tpm::attest::Evidence;
pub use crate::tpm::direct::DirectTpm;
pub use crate::tpm::endorsement::TpmIdentity;
pub use crate::tpm::nv::{FoundRecords, FoundRequests, Handles, NvAccess, Places};
pub use crate::tpm::policy::Policy;
pub use crate::tpm::quote::{AkKind, Quote};

use crate::config::Tcti;
use crate::error::{Doing, Error, Result};
use crate::pcr::Bank;

/// The TPM itself, which one process at a time may open, and the kernel's resource manager in front of it, which
/// swaps contexts around every command (Linux, drivers/char/tpm/tpm-dev.c and tpmrm-dev.c).
const NODES: [&str; 2] = ["/dev/tpm0", "/dev/tpmrm0"];

/// A connection to the TPM. What it loaded is flushed when it is dropped.
#[derive(Debug)]
pub struct Tpm {
    context: Context,
    active: Option<Vec<Bank>>,
    srk: Option<srk::Srk>,
    session: Option<AuthSession>,
    /// What vouches for extends and readings, once there was one.
    integrity: Option<AuthSession>,
    vouches: bool,
    followed: integrity::Followed,
    known: Option<policy::Known>,
    /// What a key has signed of this boot, where the TPM has looked at it.
    approval: Option<approval::Approval>,
    indices: Vec<nv::Open>,
    ak: Option<quote::Ak>,
    ek: Option<endorsement::Ek>,
    /// What was last read of the bank sha256.
    seen: BTreeMap<u8, Vec<u8>>,
    /// Why PCRs may have other values than at sealing time, where that is known.
    why_others: Option<String>,
}

impl Tpm {
    /// Connects to the TPM. A missing TPM is [`Exit::Unavailable`](crate::error::Exit::Unavailable).
    pub fn open(tcti: &Tcti) -> Result<Self> {
        match tcti {
            Tcti::Auto => open_first(NODES),
            Tcti::Device(path) => open_node(path.as_str()),
            Tcti::Swtpm { port } => open_software(*port),
        }
        .doing("opening the TPM")
    }

    /// Has refusals of what was sealed to other values say why the values may be others.
    pub fn explain_other_values(&mut self, why: Option<String>) {
        self.why_others = why;
    }

    /// A refusal of what was sealed to other values, and why they may be others.
    pub(crate) fn sealed_to_others(&self, refusal: Error) -> Error {
        match &self.why_others {
            Some(why) => Error::new(refusal.exit(), format_args!("{refusal}; {why}")),
            None => refusal,
        }
    }
}

/// Opens the first node unless it is absent or somebody else holds it, then the second.
fn open_first([exclusive, shared]: [&str; 2]) -> Result<Tpm> {
    if !Path::new(exclusive).exists() && !Path::new(shared).exists() {
        return Err(Error::unavailable(format_args!(
            "no TPM: neither {exclusive} nor {shared} exists: \
             give the machine a vTPM, or its initrd the driver for it"
        )));
    }
    // The node is tried by itself first because tpm2-tss does not pass on the cause.
    match OpenOptions::new().read(true).write(true).open(exclusive) {
        Ok(node) => drop(node),
        Err(_) => return open_node(shared),
    }
    open_node(exclusive).or_else(|_| open_node(shared))
}

/// Opens one device node.
fn open_node(path: &str) -> Result<Tpm> {
    let unavailable =
        |cause: &dyn std::fmt::Display| Error::unavailable(format_args!("no TPM: {path}: {cause}"));
    if let Err(error) = OpenOptions::new().read(true).write(true).open(path) {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        if errno == Errno::EBUSY {
            return Err(Error::temporary(format_args!(
                "{path} is held by another program"
            )));
        }
        return Err(unavailable(&errno.desc()));
    }
    path.parse::<DeviceConfig>()
        .map_err(Error::from)
        .and_then(|config| connect(TctiNameConf::Device(config)))
        .map_err(|error| unavailable(&error))
}

/// Connects to a software TPM on loopback. tss-esapi reads its address by regular expressions, and these were a quarter of
/// the initrd's program, so only what is built for tests knows it.
#[cfg(any(test, feature = "software-tpm"))]
fn open_software(port: u16) -> Result<Tpm> {
    format!("host=127.0.0.1,port={port}")
        .parse::<tss_esapi::tcti_ldr::NetworkTPMConfig>()
        .map_err(Error::from)
        .and_then(|config| connect(TctiNameConf::Swtpm(config)))
        .map_err(|error| {
            Error::unavailable(format_args!(
                "no TPM: nothing answers as swtpm on port {port}: {error}"
            ))
        })
}

/// Without the feature there is none.
#[cfg(not(any(test, feature = "software-tpm")))]
fn open_software(port: u16) -> Result<Tpm> {
    Err(Error::config(format_args!(
        "tpm.tcti: expected a TPM of this machine, found a software TPM on port {port}: \
         that is for tests, and takes a program built with --features software-tpm"
    )))
}

fn connect(tcti: TctiNameConf) -> Result<Tpm> {
    Ok(Tpm {
        context: Context::new(tcti)?,
        active: None,
        srk: None,
        session: None,
        integrity: None,
        vouches: false,
        followed: integrity::Followed::default(),
        known: None,
        approval: None,
        indices: Vec::new(),
        ak: None,
        ek: None,
        seen: BTreeMap::new(),
        why_others: None,
    })
}

#[cfg(test)]
pub(crate) mod tests;
