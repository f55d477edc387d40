// SPDX-License-Identifier: Apache-2.0
//! Records that stand beside each other, for as long as one takes the place of another that this boot cannot read.

use log::debug;
use tss_esapi::constants::{CapabilityType, PropertyTag};
use tss_esapi::structures::{CapabilityData, MaxNvBuffer};

use super::area::{Area, State};
use super::index::{owner_authorisation, record_len};
use super::{Handles, Policy, Role, Tpm, response};
use crate::error::{Doing, Error, Exit, Result};
use crate::key::Secret;
use crate::tpm::session::Encrypt;

/// `ownerAuthSet` of `TPMA_PERMANENT` (TPM 2.0 part 2, section 8.6).
const OWNER_AUTH_SET: u32 = 1;

/// How many NV indices one answer is to name: beside ours those of other programs whose handles are in between.
const HANDLES_MAX: u32 = 64;

/// Where the indices may be: a record that is made while another one is still needed stands beside it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Places {
    /// The places for a record.
    pub records: [u32; 2],
    /// The counter's index.
    pub counter: u32,
    /// The index of requests.
    pub requests: u32,
}

impl Places {
    /// The counter, and the record in the first place that is none of `taken`.
    #[must_use]
    pub fn free(self, taken: &[u32]) -> Option<Handles> {
        let free = self.records.into_iter().find(|it| !taken.contains(it));
        free.map(|record| self.with(record))
    }

    fn with(self, record: u32) -> Handles {
        Handles {
            record,
            counter: self.counter,
        }
    }
}

/// The records that there are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FoundRecords {
    /// The one that this boot can read, with its counter.
    pub readable: Option<Handles>,
    /// Where there are those that were made under other PCR values, or whose counter is gone.
    pub others: Vec<u32>,
    /// Where a boot was cut off that was about to write one.
    pub unwritten: Vec<u32>,
    /// Whether there is a counter, which no record is made without.
    pub has_counter: bool,
    /// Whether there is something in the place of requests.
    pub has_requests: bool,
}

impl Tpm {
    /// Which records there are, of `len` bytes and written. Where there is one to read, all that is needed for that is got ready.
    ///
    /// Refused: an index of another program in the first place or the counter's.
    ///
    /// Commands: `GetCapability`, `NV_ReadPublic` once for each index that there is but that of requests, and once more for each
    /// record of other values; in a connection's first use of the policy also `PCR_Read`, and of its session `StartAuthSession`.
    pub fn find_records(
        &mut self,
        places: Places,
        policy: Policy,
        len: usize,
    ) -> Result<FoundRecords> {
        self.find_all(places, policy, len)
            .and_then(|found| match found.readable {
                None => Ok(found),
                Some(_) => self.in_session(Encrypt::Response, |_, _| Ok(found)),
            })
            .doing("reading the anchor in the TPM")
    }

    /// Makes a record beside those there are, whose counter it goes on with. What of ours is in its place is removed: whoever
    /// asks has found that nothing names it.
    ///
    /// Commands: `PCR_Read`, `NV_ReadPublic` once or more, `NV_DefineSpace`, `PolicyPCR`, `PolicyOR`, `NV_Write`; where something
    /// is in its place also `NV_UndefineSpace`.
    pub fn define_record(
        &mut self,
        at: Handles,
        policy: Policy,
        auth: &Secret,
        record: &[u8],
    ) -> Result<()> {
        self.define_beside(at, policy, auth, record)
            .doing("making the anchor's record anew in the TPM")
    }

    /// Refuses where indices cannot be made and removed, because an owner authorisation is set. Command: `GetCapability`.
    pub fn require_owner(&mut self) -> Result<()> {
        let permanent = response::resubmitting(&mut self.context, |context| {
            context
                .execute_without_session(|context| context.get_tpm_property(PropertyTag::Permanent))
        });
        let permanent = permanent
            .map_err(Error::from)
            .doing("asking for the TPM's authorisations")?;
        if permanent.unwrap_or_default() & OWNER_AUTH_SET == 0 {
            Ok(())
        } else {
            Err(owner_authorisation())
        }
    }

    /// Makes the counter of a record whose own is gone; returns its value. It is raised twice, so that what a boot has left that was
    /// cut off before does not fit it. Commands: `NV_ReadPublic`, `NV_DefineSpace`, `NV_Increment` twice, `NV_Read`.
    pub fn make_counter(&mut self, at: Handles) -> Result<u64> {
        let area = Area::counter(at.counter);
        let made = self.counter_state(&area).and_then(|found| {
            let counter = match found {
                Some((handle, _)) => handle,
                None => self.define(&area, None)?,
            };
            self.increment(counter)?;
            self.increment(counter)?;
            self.remember(at.counter, counter);
            self.count(counter)
        });
        made.doing("making the anchor's counter anew in the TPM")
    }

    /// Whether the record at `index`, of `len` bytes, was made and written under the PCR policy with this digest. Command:
    /// `NV_ReadPublic`.
    pub fn is_record_of(&mut self, index: u32, pcr_policy: [u8; 32], len: usize) -> Result<bool> {
        let area = Area::record(index, pcr_policy, record_len(len)?);
        let found = self.find(index).and_then(|found| match found {
            Some(handle) => self.state_by_name(&area, handle),
            None => Ok(None),
        });
        found
            .map(|state| state == Some(State::Written))
            .doing("looking for the anchor's record in the TPM")
    }

    /// Removes a record of ours, of `len` bytes, under whatever policy it was made; another program's index is refused.
    /// Commands: `NV_ReadPublic` twice, `NV_UndefineSpace`.
    pub fn remove_record(&mut self, index: u32, len: usize) -> Result<()> {
        self.remove_now(index, len)
            .doing("removing the anchor's record of before from the TPM")
    }

    fn find_all(&mut self, places: Places, policy: Policy, len: usize) -> Result<FoundRecords> {
        let taken = self.taken(places)?;
        // Another program's counter is in the way whether there is a record or not.
        let counter = if taken.contains(&places.counter) {
            self.counter_state(&Area::counter(places.counter))?
        } else {
            None
        };
        let mut found = FoundRecords {
            has_counter: matches!(counter, Some((_, State::Written))),
            has_requests: taken.contains(&places.requests),
            ..FoundRecords::default()
        };
        let mut foreign = None;
        let records = places.records.into_iter().enumerate();
        for (number, index) in records.filter(|(_, index)| taken.contains(index)) {
            let at = places.with(index);
            match self.record_state(at, policy, len) {
                Ok((_, None)) => {}
                Ok((_, Some((_, State::Unwritten)))) => found.unwritten.push(index),
                Ok((_, Some((_, State::Written)))) if found.has_counter => {
                    found.readable = found.readable.or(Some(at));
                }
                Ok((_, Some((_, State::Written | State::OtherPolicy)))) => found.others.push(index),
                // What another program has there is in the way only where a record is to be made.
                Err(error) if error.exit() == Exit::Refused => {
                    debug!("{error}");
                    foreign = foreign.or(Some(error).filter(|_| number == 0));
                }
                Err(error) => return Err(error),
            }
        }
        let is_none = found.readable.is_none() && found.others.is_empty();
        match foreign {
            Some(error) if is_none => Err(error),
            _ => Ok(found),
        }
    }

    /// The places in which there is an index, whatever it is.
    ///
    /// One command says it of all of them, unless there are so many other indices in between that they do not fit its answer.
    fn taken(&mut self, places: Places) -> Result<Vec<u32>> {
        let [first, second] = places.records;
        let ours = [first, second, places.counter, places.requests];
        let start = ours.into_iter().min().unwrap_or(first);
        let (capability, has_more) = self.vouched(Role::Audits, |context| {
            context.get_capability(CapabilityType::Handles, start, HANDLES_MAX)
        })?;
        let CapabilityData::Handles(handles) = capability else {
            return Err(Error::failure(
                "the TPM was asked for its indices and answered with another capability",
            ));
        };
        let listed = handles.into_inner().into_iter().map(u32::from);
        // Of other kinds there are none among NV indices.
        let listed: Vec<u32> = listed.filter(|handle| *handle >= start).collect();
        let last = listed.iter().max().copied().unwrap_or(start);
        let mut taken = Vec::new();
        for index in ours {
            let is_unsaid = has_more && index > last;
            if listed.contains(&index) || (is_unsaid && self.find(index)?.is_some()) {
                taken.push(index);
            }
        }
        Ok(taken)
    }

    fn define_beside(
        &mut self,
        at: Handles,
        policy: Policy,
        auth: &Secret,
        record: &[u8],
    ) -> Result<()> {
        let data = MaxNvBuffer::try_from(record)?;
        self.policy_hash_now(policy)?;
        let (area, found) = self.record_state(at, policy, record.len())?;
        if let Some((handle, _)) = found {
            self.undefine(&area, handle)?;
        }
        self.make_record(&area, policy, auth, &data)
    }

    fn remove_now(&mut self, index: u32, len: usize) -> Result<()> {
        // The policy is not compared.
        let area = Area::record(index, [0; 32], record_len(len)?);
        let Some(handle) = self.find(index)? else {
            return Ok(());
        };
        self.state_of(&area, handle)?;
        self.undefine(&area, handle)
    }
}
