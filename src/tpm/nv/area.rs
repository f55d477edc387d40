// SPDX-License-Identifier: Apache-2.0
//! The public areas of the indices. What a TPM holds must be equal to them in every bit.

use tss_esapi::attributes::NvIndexAttributes;
use tss_esapi::handles::NvIndexTpmHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::{Digest, NvPublic};

use super::super::policy;
use crate::error::{Error, Result};
use crate::pcr::Bank;

/// `TPM_ALG_SHA256` (TPM 2.0 part 2, section 6.3).
const ALG_SHA256: u16 = 0x000b;

// Bits of `TPMA_NV` (TPM 2.0 part 2, section 13.4).
const AUTHWRITE: u32 = 1 << 2;
const POLICYWRITE: u32 = 1 << 3;
const OWNERREAD: u32 = 1 << 17;
const AUTHREAD: u32 = 1 << 18;
const POLICYREAD: u32 = 1 << 19;
/// A lock-out is no reason not to read the anchor.
const NO_DA: u32 = 1 << 25;
const WRITTEN: u32 = 1 << 29;
/// `TPM_NT_COUNTER` in bits 4 to 7. Without the orderly bit: an orderly counter jumps when the power fails.
const COUNTER: u32 = 1 << 4;

/// Length of a counter in bytes.
pub(super) const COUNTER_LEN: u16 = 8;

/// Which of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Counter,
    Record,
    Requests,
}

/// What an index is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) kind: Kind,
    pub(super) index: u32,
    policy: Option<[u8; 32]>,
    pub(super) len: u16,
}

/// What an index is, where it is one of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// As it is to be, and written.
    Written,
    /// Never written, so without content.
    Unwritten,
    /// Written, under another policy.
    OtherPolicy,
}

impl Area {
    /// A counter that anyone may raise and read. Raising it is only a denial of service.
    pub(super) fn counter(index: u32) -> Self {
        Self {
            kind: Kind::Counter,
            index,
            policy: None,
            len: COUNTER_LEN,
        }
    }

    /// A record of `len` bytes that opens to the boot chain with this policy, and to whoever knows its value.
    pub(super) fn record(index: u32, pcr_policy: [u8; 32], len: u16) -> Self {
        let policy = policy::either(&[pcr_policy, policy::knowing_auth()]);
        Self {
            kind: Kind::Record,
            index,
            policy: Some(policy),
            len,
        }
    }

    /// An index of requests, of `len` bytes, for whoever knows its value. Not for the owner: what is asked for is a key.
    pub(super) fn requests(index: u32, len: u16) -> Self {
        Self {
            kind: Kind::Requests,
            index,
            policy: None,
            len,
        }
    }

    pub(super) fn public(&self) -> Result<NvPublic> {
        let policy = self.policy.as_ref().map_or(&[][..], |policy| policy);
        Ok(NvPublic::builder()
            .with_nv_index(NvIndexTpmHandle::new(self.index)?)
            .with_index_name_algorithm(HashingAlgorithm::Sha256)
            .with_index_attributes(NvIndexAttributes::try_from(self.attributes())?)
            .with_index_auth_policy(Digest::try_from(policy)?)
            .with_data_area_size(usize::from(self.len))
            .build()?)
    }

    /// What the index is, from its name alone; `None` if it is not as it is to be.
    pub(super) fn state_of(&self, name: &[u8]) -> Option<State> {
        [(WRITTEN, State::Written), (0, State::Unwritten)]
            .into_iter()
            .find_map(|(bits, state)| {
                (self.name(self.attributes() | bits) == name).then_some(state)
            })
    }

    /// What an index is that is not as it is to be: one of ours under another policy, or refused.
    pub(super) fn deviation(&self, found: &NvPublic) -> Result<State> {
        let attributes = u32::try_from(found.attributes())?;
        if attributes & !WRITTEN != self.attributes()
            || found.name_algorithm() != HashingAlgorithm::Sha256
        {
            return Err(self.foreign());
        }
        if found.data_size() != usize::from(self.len) {
            return Err(Error::refused(format_args!(
                "NV index {:#x} has {} bytes where {} were expected: \
                 another version of this program made it, or another program: {}",
                self.index,
                found.data_size(),
                self.len,
                self.remedy()
            )));
        }
        match self.kind {
            // They have no policy.
            Kind::Counter | Kind::Requests => Err(self.foreign()),
            Kind::Record if attributes & WRITTEN == 0 => Ok(State::Unwritten),
            Kind::Record => Ok(State::OtherPolicy),
        }
    }

    /// Another program's index is at the handle.
    pub(super) fn foreign(&self) -> Error {
        Error::refused(format_args!(
            "NV index {:#x} belongs to another program: {}",
            self.index,
            self.remedy()
        ))
    }

    /// The index has another authorisation value than the one that follows from this node's record.
    pub(super) fn of_another_record(&self) -> Error {
        Error::refused(format_args!(
            "NV index {:#x} does not answer to this node's record: what was asked for in a record of before, or another program's: \
             the next boot removes it; reboot, and ask again",
            self.index
        ))
    }

    /// The index was made under other values of the PCRs.
    pub(super) fn other_values(&self) -> Error {
        Error::refused(format_args!(
            "the record in NV index {:#x} was made under other PCR values: \
             this machine booted another image, or the PCRs in the configuration changed: \
             boot what made it, or remove it with tpm2_nvundefine and provision anew",
            self.index
        ))
    }

    /// The TPM refuses to make the index for want of room.
    pub(super) fn no_room(&self) -> Error {
        let what = match self.kind {
            Kind::Counter => "another NV counter",
            Kind::Record | Kind::Requests => "an NV index of this size",
        };
        Error::unavailable(format_args!(
            "the TPM has no room for {what} ({} bytes at {:#x}): see what other programs keep there with \
             tpm2_getcap handles-nv-index, and remove what nobody needs with tpm2_nvundefine",
            self.len, self.index
        ))
    }

    /// The TPM does not know such an index.
    pub(super) fn not_offered(&self) -> Error {
        let what = match self.kind {
            Kind::Counter => "NV counters",
            Kind::Record | Kind::Requests => "NV indices of this size",
        };
        Error::unavailable(format_args!(
            "the TPM offers no {what} ({} bytes): set volume.anchor to off, or give the machine another TPM",
            self.len
        ))
    }

    fn remedy(&self) -> &'static str {
        match self.kind {
            Kind::Counter => "set anchor.counter in the configuration to a free handle",
            Kind::Record => {
                "set anchor.index in the configuration to a free handle, and the second one after it too"
            }
            Kind::Requests => {
                "remove it with tpm2_nvundefine where nobody needs it, or set anchor.index in the configuration to another handle"
            }
        }
    }

    fn attributes(&self) -> u32 {
        match self.kind {
            Kind::Counter => COUNTER | AUTHWRITE | OWNERREAD | AUTHREAD | NO_DA,
            Kind::Record => POLICYWRITE | POLICYREAD | NO_DA,
            Kind::Requests => AUTHWRITE | AUTHREAD | NO_DA,
        }
    }

    /// The name of the index: algorithm ‖ H(`TPMS_NV_PUBLIC`) (TPM 2.0 part 1, section 16; part 2, section 13.6).
    fn name(&self, attributes: u32) -> Vec<u8> {
        let mut public = self.index.to_be_bytes().to_vec();
        public.extend(ALG_SHA256.to_be_bytes());
        public.extend(attributes.to_be_bytes());
        match &self.policy {
            Some(policy) => {
                public.extend([0, 32]);
                public.extend(policy);
            }
            None => public.extend([0, 0]),
        }
        public.extend(self.len.to_be_bytes());
        let mut name = ALG_SHA256.to_be_bytes().to_vec();
        name.extend(Bank::Sha256.hash(&public));
        name
    }
}
