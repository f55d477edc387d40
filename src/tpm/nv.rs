// SPDX-License-Identifier: Apache-2.0
//! The anchor's two NV indices: a counter that only goes up, and a record that only this boot chain reads.
//!
//! Everybody may read and raise the counter. The record's policy has two branches: PCR values, which hold before the fence
//! of a boot of the same image; and, for the running system, the record's authorisation value, which is kept inside it.
//! The second branch also asks that the record was written, so whoever has the owner's authorisation can remove the
//! record, but never make one with content of his own.
//!
//! An index is compared through its name, which tpm2-tss has from the one command that finds the index.

mod area;
mod index;
mod moving;
mod requests;

use tss_esapi::Context;
use tss_esapi::handles::NvIndexHandle;
use tss_esapi::interface_types::resource_handles::NvAuth;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{Auth, Digest, DigestList, MaxNvBuffer};

use self::area::{Area, COUNTER_LEN, State};
pub(super) use self::index::Open;
use self::index::record_len;
pub use self::moving::{FoundRecords, Places};
pub use self::requests::FoundRequests;
use super::integrity::Role;
use super::session::{Denied, Encrypt};
use super::{Policy, Tpm, policy, response};
use crate::error::{Doing, Error, Result};
use crate::key::Secret;

/// Where the two indices live.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Handles {
    /// The record's index.
    pub record: u32,
    /// The counter's index.
    pub counter: u32,
}

/// What the running system needs to read and write the record after the fence.
#[derive(Debug)]
pub struct NvAccess {
    /// The record's authorisation value.
    pub auth: Secret,
    /// The digest of the record's other branch, from [`Tpm::anchor_policy`] before the fence.
    pub pcr_policy: [u8; 32],
}

impl Tpm {
    /// The record, of `len` bytes. `None`: there is no record, or it was never written.
    ///
    /// Refused: an index of another program, a record made under other PCR values, a record without its counter.
    ///
    /// Commands: `PolicyPCR`, `PolicyOR`, `NV_Read`; before them, where [`Tpm::find_records`] did not find it, `NV_ReadPublic`
    /// twice and what the first use of policy and session takes; in a connection's first use of the session that vouches also
    /// `StartAuthSession`.
    pub fn read_anchor(
        &mut self,
        at: Handles,
        policy: Policy,
        len: usize,
    ) -> Result<Option<Vec<u8>>> {
        self.read_now(at, policy, len)
            .doing("reading the anchor in the TPM")
    }

    /// The counter of a record that was read. Command: `NV_Read`.
    pub fn count_anchor(&mut self, at: Handles) -> Result<u64> {
        self.written_counter(at)
            .and_then(|handle| self.count(handle))
            .doing("reading the anchor in the TPM")
    }

    /// Makes the counter, if there is none, raises it and makes the record, which must not have been written before.
    ///
    /// Returns the counter's value. A new TPM counts from 1; a higher value means that it has had counters before.
    /// A crash in between leaves no record or one that was never written, and both count as none.
    pub fn define_anchor(
        &mut self,
        at: Handles,
        policy: Policy,
        auth: &Secret,
        record: &[u8],
    ) -> Result<u64> {
        self.define_now(at, policy, auth, record)
            .doing("making the anchor in the TPM")
    }

    /// Raises the counter. Command: `NV_Increment`.
    pub fn raise_anchor(&mut self, at: Handles) -> Result<()> {
        self.written_counter(at)
            .and_then(|handle| self.increment(handle))
            .doing("raising the anchor")
    }

    /// Raises the counter and returns its new value. Commands: `NV_Increment`, `NV_Read`.
    pub fn increment_anchor(&mut self, at: Handles) -> Result<u64> {
        self.written_counter(at)
            .and_then(|handle| {
                self.increment(handle)?;
                // A boot has unsealed what it wants to by now.
                self.in_last_session(Encrypt::Response, |tpm, session| {
                    tpm.count_in(session, handle)
                })
            })
            .doing("raising the anchor")
    }

    /// Writes `bytes` at `offset` into the record, after the fence as well.
    ///
    /// An index of somebody else's making is not written: it has another policy or another authorisation value.
    ///
    /// Commands: `StartAuthSession`, `PolicyNvWritten`, `PolicyAuthValue`, `PolicyOR`, `NV_Write`; in a connection's first
    /// use of the record also `NV_ReadPublic`.
    pub fn write_anchor(
        &mut self,
        at: Handles,
        access: &NvAccess,
        offset: u16,
        bytes: &[u8],
    ) -> Result<()> {
        self.write_knowing(at, access, offset, bytes)
            .doing("writing the anchor in the TPM")
    }

    /// The record, of `len` bytes, and the counter, after the fence as well.
    ///
    /// A record that is missing or another one is refused: this boot had one.
    pub fn read_anchor_again(
        &mut self,
        at: Handles,
        access: &NvAccess,
        len: usize,
    ) -> Result<(Vec<u8>, u64)> {
        self.read_knowing(at, access, len)
            .doing("reading the anchor in the TPM")
    }

    /// The digest of the record's branch of PCR values. It is to be asked for before the fence.
    pub fn anchor_policy(&mut self, policy: Policy) -> Result<[u8; 32]> {
        self.policy_hash(policy)
            .doing("reading the anchor's policy")
    }

    /// The record's index, where it was written.
    fn find_now(
        &mut self,
        at: Handles,
        policy: Policy,
        len: usize,
    ) -> Result<Option<(Area, NvIndexHandle)>> {
        // Another program's counter is in the way whether there is a record or not.
        let counter = self.counter_state(&Area::counter(at.counter))?;
        let (area, found) = self.record_state(at, policy, len)?;
        let handle = match found {
            None | Some((_, State::Unwritten)) => return Ok(None),
            Some((_, State::OtherPolicy)) => return Err(self.sealed_to_others(area.other_values())),
            Some((handle, State::Written)) => handle,
        };
        match counter {
            Some((_, State::Written)) => Ok(Some((area, handle))),
            _ => Err(no_counter(at)),
        }
    }

    fn read_now(&mut self, at: Handles, policy: Policy, len: usize) -> Result<Option<Vec<u8>>> {
        let Some((area, handle)) = self.find_now(at, policy, len)? else {
            return Ok(None);
        };
        let branches = branches(self.policy_hash(policy)?)?;
        let record = self
            .in_session(Encrypt::Nothing, |tpm, session| {
                let encrypting = tpm.integrity_session(Role::Encrypts)?;
                let sessions = (session, Some(encrypting));
                tpm.with_pcrs(sessions, policy, Some(&branches), |context| {
                    context.nv_read(NvAuth::NvIndex(handle), handle, area.len, 0)
                })
            })
            .map_err(|denied| self.denied_as(denied, &area))
            .doing("reading the record")?;
        Ok(Some(record.value().to_vec()))
    }

    /// The counter that a record is not without.
    fn written_counter(&mut self, at: Handles) -> Result<NvIndexHandle> {
        match self.counter_state(&Area::counter(at.counter))? {
            Some((handle, State::Written)) => Ok(handle),
            _ => Err(no_counter(at)),
        }
    }

    fn define_now(
        &mut self,
        at: Handles,
        policy: Policy,
        auth: &Secret,
        record: &[u8],
    ) -> Result<u64> {
        let data = MaxNvBuffer::try_from(record)?;
        // Not the values read before: a record under those could not be written.
        self.policy_hash_now(policy)?;
        let counter = self.counter_state(&Area::counter(at.counter))?;
        // What is in the record's way is looked at before anything is made.
        let (area, found) = self.record_state(at, policy, record.len())?;
        let old = match found {
            None => None,
            Some((handle, State::Unwritten)) => Some(handle),
            Some((_, State::OtherPolicy)) => return Err(self.sealed_to_others(area.other_values())),
            Some((_, State::Written)) => {
                return Err(Error::failure("there is a record already"));
            }
        };
        let counter = match counter {
            Some((handle, _)) => handle,
            None => self.define(&Area::counter(at.counter), None)?,
        };
        self.increment(counter)?;
        let count = self.count(counter)?;
        if let Some(handle) = old {
            self.undefine(&area, handle)?;
        }
        self.make_record(&area, policy, auth, &data)?;
        self.remember(at.counter, counter);
        Ok(count)
    }

    /// Makes the record's index and writes it, which the policy of PCR values allows once.
    fn make_record(
        &mut self,
        area: &Area,
        policy: Policy,
        auth: &Secret,
        data: &MaxNvBuffer,
    ) -> Result<()> {
        let handle = self.define(area, Some(auth))?;
        let branches = branches(self.policy_hash(policy)?)?;
        self.in_session(Encrypt::Command, |tpm, session| {
            tpm.with_pcrs((session, None), policy, Some(&branches), |context| {
                context.nv_write(NvAuth::NvIndex(handle), handle, data.clone(), 0)
            })
        })
        .map_err(|denied| self.denied_as(denied, area))
        .doing("writing the record")?;
        self.remember(area.index, handle);
        Ok(())
    }

    fn increment(&mut self, handle: NvIndexHandle) -> Result<()> {
        response::resubmitting(&mut self.context, |context| {
            context.execute_with_session(Some(AuthSession::Password), |context| {
                context.nv_increment(NvAuth::NvIndex(handle), handle)
            })
        })
        .doing("raising the counter")?;
        Ok(())
    }

    /// The counter's value. The session vouches for it: the bus does not make up another.
    fn count(&mut self, handle: NvIndexHandle) -> Result<u64> {
        self.in_session(Encrypt::Response, |tpm, session| {
            tpm.count_in(session, handle)
        })
    }

    fn count_in(&mut self, session: AuthSession, handle: NvIndexHandle) -> Result<u64> {
        let sessions = (Some(AuthSession::Password), Some(session), None);
        let read = response::resubmitting(&mut self.context, |context| {
            context.execute_with_sessions(sessions, |context| {
                context.nv_read(NvAuth::NvIndex(handle), handle, COUNTER_LEN, 0)
            })
        })
        .doing("reading the counter")?;
        <[u8; 8]>::try_from(read.value())
            .map(u64::from_be_bytes)
            .map_err(|error| Error::failure(format_args!("reading the counter: {error}")))
    }

    fn write_knowing(
        &mut self,
        at: Handles,
        access: &NvAccess,
        offset: u16,
        bytes: &[u8],
    ) -> Result<()> {
        let data = MaxNvBuffer::try_from(bytes)?;
        let handle = self.find(at.record)?.ok_or_else(|| removed(at))?;
        self.knowing(at, access, handle, Encrypt::Command, |context| {
            context.nv_write(NvAuth::NvIndex(handle), handle, data.clone(), offset)
        })?;
        self.remember(at.record, handle);
        Ok(())
    }

    fn read_knowing(
        &mut self,
        at: Handles,
        access: &NvAccess,
        len: usize,
    ) -> Result<(Vec<u8>, u64)> {
        let counter = self.written_counter(at)?;
        let area = Area::record(at.record, access.pcr_policy, record_len(len)?);
        let handle = self.find(at.record)?.ok_or_else(|| removed(at))?;
        if self.state_by_name(&area, handle)? != Some(State::Written) {
            return Err(removed(at));
        }
        self.remember(at.record, handle);
        let record = self
            .knowing(at, access, handle, Encrypt::Response, |context| {
                context.nv_read(NvAuth::NvIndex(handle), handle, area.len, 0)
            })
            .doing("reading the record")?;
        let count = self.count(counter)?;
        Ok((record.value().to_vec(), count))
    }

    /// Runs `command` on the record by the branch of its authorisation value.
    fn knowing<T>(
        &mut self,
        at: Handles,
        access: &NvAccess,
        handle: NvIndexHandle,
        encrypt: Encrypt,
        mut command: impl FnMut(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T> {
        let branches = branches(access.pcr_policy)?;
        let auth = Auth::try_from(access.auth.expose())?;
        self.context.tr_set_auth(handle.into(), auth)?;
        self.in_own_session(encrypt, |tpm, session| {
            let policy = PolicySession::try_from(session)?;
            response::resubmitting(&mut tpm.context, |context| {
                context.execute_without_session(|context| context.policy_nv_written(policy, true))
            })
            .doing("satisfying the policy")?;
            response::resubmitting(&mut tpm.context, |context| {
                context.execute_without_session(|context| context.policy_auth_value(policy))
            })
            .doing("satisfying the policy")?;
            response::resubmitting(&mut tpm.context, |context| {
                context
                    .execute_without_session(|context| context.policy_or(policy, branches.clone()))
            })
            .doing("satisfying the policy")?;
            response::resubmitting(&mut tpm.context, |context| {
                context.execute_with_session(Some(session), &mut command)
            })
            .map_err(|error| match response::code(error) {
                response::POLICY_FAIL
                | response::AUTH_FAIL
                | response::BAD_AUTH
                | response::HANDLE => removed(at),
                _ => Error::from(error),
            })
        })
    }

    fn denied_as(&self, denied: Denied, area: &Area) -> Error {
        match denied {
            Denied::OtherValues => self.sealed_to_others(area.other_values()),
            Denied::Trouble(error) => error,
        }
    }
}

/// The two branches of the record's policy.
fn branches(pcr_policy: [u8; 32]) -> Result<DigestList> {
    let mut list = DigestList::new();
    list.add(Digest::try_from(&pcr_policy[..])?)?;
    list.add(Digest::try_from(&policy::knowing_auth()[..])?)?;
    Ok(list)
}

fn no_counter(at: Handles) -> Error {
    Error::refused(format_args!(
        "there is a record in NV index {:#x} and no counter in {:#x}: somebody removed the counter, \
         so nothing shows whether the disks are the latest: restore them from a backup you trust, \
         remove the record with tpm2_nvundefine and provision anew",
        at.record, at.counter
    ))
}

fn removed(at: Handles) -> Error {
    Error::refused(format_args!(
        "the record in NV index {:#x} was removed or made anew since this boot read it: reboot",
        at.record
    ))
}
