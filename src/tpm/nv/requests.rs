// SPDX-License-Identifier: Apache-2.0
//! The index of requests: made by the running system, read and removed by the next boot. Who knows its authorisation value, which
//! follows from the record's, reads and writes it; anybody with the owner's authorisation can remove it, or put another one in its
//! place, which does not answer to that value.

use tss_esapi::handles::NvIndexHandle;
use tss_esapi::interface_types::resource_handles::NvAuth;
use tss_esapi::structures::{Auth, MaxNvBuffer};

use super::area::{Area, State};
use super::index::record_len;
use crate::error::{Doing, Error, Result};
use crate::key::Secret;
use crate::tpm::session::Encrypt;
use crate::tpm::{Tpm, response};

const READING: &str = "reading the requests in the TPM";

/// What is in the place of the index of requests.
#[derive(Debug)]
pub enum FoundRequests {
    /// Nothing, or an index that was never written.
    Nothing,
    /// An index with this in it.
    Content(Vec<u8>),
    /// An index with another authorisation value, and what that means.
    OfAnotherRecord(Error),
}

/// Why a command on the index came to nothing.
enum Denied {
    /// It has another authorisation value.
    OtherValue,
    Failed(Error),
}

impl From<Error> for Denied {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Tpm {
    /// What stands in the index of requests, of `len` bytes. Refused: an index of another program.
    ///
    /// Commands: `NV_ReadPublic`, `StartAuthSession`, `NV_Read`.
    pub fn find_requests(
        &mut self,
        index: u32,
        auth: &Secret,
        len: usize,
    ) -> Result<FoundRequests> {
        let area = Area::requests(index, record_len(len)?);
        self.find_requests_now(&area, auth).doing(READING)
    }

    /// The same; `None` where there is none, or one that was never written. Refused besides: one with another authorisation value.
    pub fn read_requests(
        &mut self,
        index: u32,
        auth: &Secret,
        len: usize,
    ) -> Result<Option<Vec<u8>>> {
        match self.find_requests(index, auth, len)? {
            FoundRequests::Nothing => Ok(None),
            FoundRequests::Content(content) => Ok(Some(content)),
            FoundRequests::OfAnotherRecord(error) => Err(error).doing(READING),
        }
    }

    /// Writes the index of requests, which is made where there is none. One that was never written is made anew.
    ///
    /// Commands: `NV_ReadPublic`, `StartAuthSession`, `NV_Write`; where there is none before that `NV_DefineSpace`.
    pub fn write_requests(&mut self, index: u32, auth: &Secret, bytes: &[u8]) -> Result<()> {
        let written = record_len(bytes.len())
            .map(|len| Area::requests(index, len))
            .and_then(|area| self.write_requests_now(&area, auth, bytes));
        written.doing("writing the requests in the TPM")
    }

    /// Removes the index of requests, of `len` bytes; another program's is refused. Commands: `NV_ReadPublic`, unless it was read
    /// before, `NV_UndefineSpace`.
    pub fn remove_requests(&mut self, index: u32, len: usize) -> Result<()> {
        let removed = record_len(len).and_then(|len| {
            let area = Area::requests(index, len);
            match self.requests_state(&area)? {
                Some((handle, _)) => self.undefine(&area, handle),
                None => Ok(()),
            }
        });
        self.forget(index);
        removed.doing("removing the requests from the TPM")
    }

    fn requests_state(&mut self, area: &Area) -> Result<Option<(NvIndexHandle, State)>> {
        let Some(handle) = self.find(area.index)? else {
            return Ok(None);
        };
        match self.state_by_name(area, handle)? {
            Some(state) => Ok(Some((handle, state))),
            None => Err(area.foreign()),
        }
    }

    fn find_requests_now(&mut self, area: &Area, auth: &Secret) -> Result<FoundRequests> {
        let Some((handle, State::Written)) = self.requests_state(area)? else {
            return Ok(FoundRequests::Nothing);
        };
        let read = self.with_auth(handle, auth, Encrypt::Response, |context| {
            context.nv_read(NvAuth::NvIndex(handle), handle, area.len, 0)
        });
        match read {
            Ok(read) => {
                self.remember(area.index, handle);
                Ok(FoundRequests::Content(read.value().to_vec()))
            }
            Err(Denied::OtherValue) => Ok(FoundRequests::OfAnotherRecord(area.of_another_record())),
            Err(Denied::Failed(error)) => Err(error),
        }
    }

    fn write_requests_now(&mut self, area: &Area, auth: &Secret, bytes: &[u8]) -> Result<()> {
        let data = MaxNvBuffer::try_from(bytes)?;
        let handle = match self.requests_state(area)? {
            Some((handle, State::Written)) => handle,
            found => {
                // Its authorisation value may be anybody's.
                if let Some((handle, _)) = found {
                    self.undefine(area, handle)?;
                }
                self.define(area, Some(auth))?
            }
        };
        // tpm2-tss knows it by the name that it had before it was first written.
        self.forget(area.index);
        let written = self.with_auth(handle, auth, Encrypt::Command, |context| {
            context.nv_write(NvAuth::NvIndex(handle), handle, data.clone(), 0)
        });
        written.map_err(|denied| match denied {
            Denied::OtherValue => area.of_another_record(),
            Denied::Failed(error) => error,
        })
    }

    /// Runs `command` on the index by its authorisation value, which does not cross the bus, and encrypted.
    fn with_auth<T>(
        &mut self,
        handle: NvIndexHandle,
        auth: &Secret,
        encrypt: Encrypt,
        mut command: impl FnMut(&mut tss_esapi::Context) -> tss_esapi::Result<T>,
    ) -> std::result::Result<T, Denied> {
        let auth = Auth::try_from(auth.expose()).map_err(Error::from)?;
        let known = self.context.tr_set_auth(handle.into(), auth);
        known.map_err(Error::from)?;
        self.in_hmac_session(encrypt, |tpm, session| {
            response::resubmitting(&mut tpm.context, |context| {
                context.execute_with_session(Some(session), &mut command)
            })
            .map_err(|error| match response::code(error) {
                response::AUTH_FAIL | response::BAD_AUTH => Denied::OtherValue,
                _ => Denied::Failed(Error::from(error)),
            })
        })
    }
}
