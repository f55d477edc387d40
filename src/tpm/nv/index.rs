// SPDX-License-Identifier: Apache-2.0
//! Finding, judging, making and removing the two indices.

use tss_esapi::handles::{NvIndexHandle, NvIndexTpmHandle, TpmHandle};
use tss_esapi::interface_types::resource_handles::Provision;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::Auth;

use super::super::session::Encrypt;
use super::super::{Policy, Tpm, response};
use super::Handles;
use super::area::{Area, State};
use crate::error::{Doing, Error, Result};
use crate::key::Secret;

/// The longest record, in bytes: what TPMs usually take in one command (`TPM_PT_NV_BUFFER_MAX`).
const RECORD_LEN_MAX: u16 = 1024;

/// An index that was found to be as it is to be, and written.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Open {
    index: u32,
    handle: NvIndexHandle,
}

impl Tpm {
    /// What is at the record's handle. The PCRs are read again before a record counts as one of other values.
    pub(super) fn record_state(
        &mut self,
        at: Handles,
        policy: Policy,
        len: usize,
    ) -> Result<(Area, Option<(NvIndexHandle, State)>)> {
        let mut area = Area::record(at.record, self.policy_hash(policy)?, record_len(len)?);
        let Some(handle) = self.find(at.record)? else {
            return Ok((area, None));
        };
        let state = if let Some(state) = self.state_by_name(&area, handle)? {
            state
        } else {
            area = Area::record(at.record, self.policy_hash_now(policy)?, area.len);
            self.state_of(&area, handle)?
        };
        if state == State::Written {
            self.remember(at.record, handle);
        }
        Ok((area, Some((handle, state))))
    }

    pub(super) fn counter_state(&mut self, area: &Area) -> Result<Option<(NvIndexHandle, State)>> {
        let Some(handle) = self.find(area.index)? else {
            return Ok(None);
        };
        let state = self.state_of(area, handle)?;
        if state == State::Written {
            self.remember(area.index, handle);
        }
        Ok(Some((handle, state)))
    }

    /// The index at this handle, whatever it is; `None` if there is none. One command, unless the index is known.
    pub(in super::super) fn find(&mut self, index: u32) -> Result<Option<NvIndexHandle>> {
        if let Some(open) = self.indices.iter().find(|open| open.index == index) {
            return Ok(Some(open.handle));
        }
        let handle = TpmHandle::NvIndex(NvIndexTpmHandle::new(index)?);
        let found = response::resubmitting(&mut self.context, |context| {
            context.execute_without_session(|context| context.tr_from_tpm_public(handle))
        });
        match found {
            Ok(object) => Ok(Some(object.into())),
            Err(error) if response::code(error) == response::HANDLE => Ok(None),
            Err(error) => Err(error).doing(format_args!("looking for NV index {index:#x}")),
        }
    }

    pub(super) fn remember(&mut self, index: u32, handle: NvIndexHandle) {
        self.indices.retain(|open| open.index != index);
        self.indices.push(Open { index, handle });
    }

    /// The index at this handle is looked for again.
    pub(super) fn forget(&mut self, index: u32) {
        self.indices.retain(|open| open.index != index);
    }

    pub(super) fn state_of(&mut self, area: &Area, handle: NvIndexHandle) -> Result<State> {
        match self.state_by_name(area, handle)? {
            Some(state) => Ok(state),
            None => self.deviation(area, handle),
        }
    }

    /// Compares names, without a command. `None`: the index is not as it is to be.
    pub(super) fn state_by_name(
        &mut self,
        area: &Area,
        handle: NvIndexHandle,
    ) -> Result<Option<State>> {
        let name = self.context.tr_get_name(handle.into())?;
        Ok(area.state_of(name.value()))
    }

    /// Finds out how an index differs.
    fn deviation(&mut self, area: &Area, handle: NvIndexHandle) -> Result<State> {
        let public = response::resubmitting(&mut self.context, |context| {
            context.execute_without_session(|context| context.nv_read_public(handle))
        });
        match public {
            Ok((public, _)) => area.deviation(&public),
            // tss-esapi does not take every combination of attributes.
            Err(tss_esapi::Error::WrapperError(_)) => Err(area.foreign()),
            Err(error) => Err(error).doing(format_args!("asking for NV index {:#x}", area.index)),
        }
    }

    /// Makes an index, as the owner. An authorisation value crosses the bus encrypted.
    pub(super) fn define(&mut self, area: &Area, auth: Option<&Secret>) -> Result<NvIndexHandle> {
        let public = area.public()?;
        let auth = auth.map(|auth| Auth::try_from(auth.expose())).transpose()?;
        self.in_session(Encrypt::Command, |tpm, session| {
            let sessions = (Some(AuthSession::Password), Some(session), None);
            response::resubmitting(&mut tpm.context, |context| {
                context.execute_with_sessions(sessions, |context| {
                    context.nv_define_space(Provision::Owner, auth.clone(), public.clone())
                })
            })
            .map_err(|error| area.denied(error))
        })
        .doing(format_args!("making NV index {:#x}", area.index))
    }

    pub(super) fn undefine(&mut self, area: &Area, handle: NvIndexHandle) -> Result<()> {
        response::resubmitting(&mut self.context, |context| {
            context.execute_with_session(Some(AuthSession::Password), |context| {
                context.nv_undefine_space(Provision::Owner, handle)
            })
        })
        .map_err(|error| area.denied(error))
        .doing(format_args!("removing NV index {:#x}", area.index))
    }
}

impl Area {
    /// What it means that the TPM refuses to make or to remove this index.
    fn denied(&self, error: tss_esapi::Error) -> Error {
        match response::code(error) {
            response::AUTH_FAIL | response::BAD_AUTH => owner_authorisation(),
            response::NV_SPACE => self.no_room(),
            response::SIZE | response::ATTRIBUTES => self.not_offered(),
            _ => Error::from(error),
        }
    }
}

/// A record is read and written in one command.
pub(super) fn record_len(len: usize) -> Result<u16> {
    u16::try_from(len)
        .ok()
        .filter(|len| (1..=RECORD_LEN_MAX).contains(len))
        .ok_or_else(|| {
            Error::failure(format_args!(
                "a record of {len} bytes where 1 to {RECORD_LEN_MAX} fit"
            ))
        })
}

/// The owner may make and remove indices, and who that is takes an authorisation that nothing here has.
pub(super) fn owner_authorisation() -> Error {
    Error::refused(
        "the anchor has to be made or moved and the TPM's owner authorisation is set: \
         clear it with tpm2_changeauth -c owner, in what was booted before or in another system",
    )
}
