// SPDX-License-Identifier: Apache-2.0
//! What vouches for commands that have no secret in them: readings, extends, and what follows from these.
//!
//! In a connection that vouches, a session without a policy authorises each extend and audits each reading. So an answer
//! has an HMAC over the command that was carried out and over what came of it (TPM 2.0 part 1, section 19.6), and one
//! that somebody on the bus swallowed, altered or made up is an error. Nothing is encrypted, except where this session
//! goes beside the one of a policy.
//!
//! The HMAC's key comes from the session's salt. That is as good as the key it is salted with: who stands on the bus and
//! passes a key of his own off as the TPM's has the salt as well.

use std::collections::BTreeMap;

use log::warn;
use tss_esapi::Context;
use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::SessionType;
use tss_esapi::interface_types::session_handles::AuthSession;

use super::{Tpm, response};
use crate::error::{Doing, Error, Exit, Result};
use crate::pcr::{Bank, Digests, Pcr};

/// What the session does for a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// It authorises the command, which wants an authorisation.
    Authorises,
    /// It vouches for a command that wants none (an audit session: TPM 2.0 part 1, section 33.3).
    Audits,
    /// The same, and it ends with the command: the TPM forgets it, which spares a flush.
    AuditsLast,
    /// It encrypts the answer of a command that another session authorises.
    Encrypts,
}

/// What PCRs hold, by what this connection read of them and extended since.
#[derive(Debug, Default)]
pub(super) struct Followed {
    values: BTreeMap<(Bank, Pcr), Vec<u8>>,
    /// Those that were extended since they were read.
    extended: Vec<(Bank, Pcr)>,
}

impl Followed {
    /// Takes what was read. A PCR that was extended by this connection has to hold what follows from that.
    pub(super) fn read(&mut self, values: &[((Bank, Pcr), Vec<u8>)]) -> Result<()> {
        for (pair, value) in values {
            let (bank, pcr) = pair;
            let is_extended = self.extended.contains(pair);
            if is_extended && self.values.get(pair).is_some_and(|holds| holds != value) {
                return Err(Error::refused(format_args!(
                    "PCR {pcr} ({bank}) does not hold what this boot measured into it: something else extended it as \
                     well, or the TPM lost a measurement; turn that off or configure another PCR, then reboot"
                )));
            }
            self.values.insert(*pair, value.clone());
        }
        Ok(())
    }

    /// Takes what a PCR was extended with. Of one that was never read nothing follows.
    pub(super) fn extended(&mut self, pcr: Pcr, digests: &Digests) {
        for (bank, digest) in digests {
            let pair = (*bank, pcr);
            if let Some(value) = self.values.get_mut(&pair) {
                *value = bank.extended(value, digest);
                if !self.extended.contains(&pair) {
                    self.extended.push(pair);
                }
            }
        }
    }

    /// Of a PCR that may have been extended or not nothing follows either.
    pub(super) fn forget(&mut self, pcr: Pcr) {
        self.values.retain(|(_, of), _| *of != pcr);
        self.extended.retain(|(_, of)| *of != pcr);
    }
}

impl Tpm {
    /// Has extends and readings of this connection vouched for from here on.
    ///
    /// Commands: at their first use `StartAuthSession`, and those that look for the key it is salted with; at the end of the
    /// connection a flush, unless [`Tpm::read_last`] ended it.
    pub fn vouch(&mut self) {
        self.vouches = true;
    }

    /// Runs a command that the session vouches for; without one where this connection does not vouch.
    pub(super) fn vouched<T>(
        &mut self,
        role: Role,
        command: impl FnMut(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T> {
        if !self.vouches {
            let session = (role == Role::Authorises).then_some(AuthSession::Password);
            return Ok(run(&mut self.context, session, command)?);
        }
        let session = self.integrity_session(role)?;
        let result = run(&mut self.context, Some(session), command);
        if role == Role::AuditsLast || result.is_err() {
            self.integrity = None;
            self.close(session, result.is_ok());
        }
        result.map_err(response::vouched)
    }

    /// The session, started first if there is none, and told what it is for.
    pub(super) fn integrity_session(&mut self, role: Role) -> Result<AuthSession> {
        let session = match self.integrity {
            Some(session) => session,
            None => self.start_integrity()?,
        };
        self.integrity = Some(session);
        let (attributes, mask) = SessionAttributesBuilder::new()
            .with_continue_session(role != Role::AuditsLast)
            .with_audit(matches!(role, Role::Audits | Role::AuditsLast))
            .with_encrypt(role == Role::Encrypts)
            .build();
        self.context
            .tr_sess_set_attributes(session, attributes, mask)
            .doing("setting up the session")?;
        Ok(session)
    }

    fn start_integrity(&mut self) -> Result<AuthSession> {
        let key = match self.salting_key() {
            Ok(key) => Some(key),
            // A TPM without a storage root key that lets nobody make one can still be measured into.
            Err(error) if error.exit() == Exit::Refused => {
                warn!("nothing vouches for what crosses the TPM's bus: {error}");
                None
            }
            Err(error) => return Err(error),
        };
        self.start_session(SessionType::Hmac, key)
    }
}

fn run<T>(
    context: &mut Context,
    session: Option<AuthSession>,
    mut command: impl FnMut(&mut Context) -> tss_esapi::Result<T>,
) -> tss_esapi::Result<T> {
    response::resubmitting(context, |context| {
        context.execute_with_sessions((session, None, None), &mut command)
    })
}
