// SPDX-License-Identifier: Apache-2.0
//! The one session of a connection: it satisfies policies, and encrypts what is secret on the bus.
//!
//! It is salted with the storage root key, or with the endorsement key where that one is in use already, so that nobody on
//! the bus reads or alters parameters. The TPM resets its policy
//! after each use (TPM 2.0 part 1, section 19.6), so it serves every object in turn.
//!
//! The anchor's record is another case. The key that encrypts a parameter is made from the session's key and from the
//! authorisation value of the object the session is used for, whatever its policy (TPM 2.0 part 1, section 21.2). The
//! record's value is not known before the record is read, so there this session satisfies the policy and the one that
//! vouches for readings encrypts.

use tss_esapi::Context;
use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::SessionType;
use tss_esapi::handles::{KeyHandle, SessionHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{Digest, DigestList, SymmetricDefinition};

use super::registers::{CHANGED_MAX, selection};
use super::{Policy, Tpm, response};
use crate::error::{Doing, Error, Result};

/// Which first parameter is encrypted. A command that has none is refused the encryption.
#[derive(Clone, Copy, Debug)]
pub(super) enum Encrypt {
    /// The command's: a secret goes to the TPM.
    Command,
    /// The response's: a secret comes from the TPM.
    Response,
    /// Neither: another session encrypts.
    Nothing,
}

/// Why a command under a policy of PCR values did not happen.
#[derive(Debug)]
pub(super) enum Denied {
    /// The PCRs have other values than the policy asks for.
    OtherValues,
    /// Anything else.
    Trouble(Error),
}

impl From<Error> for Denied {
    fn from(error: Error) -> Self {
        Self::Trouble(error)
    }
}

impl From<tss_esapi::Error> for Denied {
    fn from(error: tss_esapi::Error) -> Self {
        Self::Trouble(error.into())
    }
}

impl Tpm {
    /// Runs `work` in the session of this connection, which is started first if there is none. After an error the session
    /// is ended: its policy may be half satisfied.
    pub(super) fn in_session<T, E>(
        &mut self,
        encrypt: Encrypt,
        work: impl FnOnce(&mut Self, AuthSession) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E>
    where
        E: From<Error>,
    {
        let session = match self.session {
            Some(session) => session,
            None => self.start_salted()?,
        };
        self.session = Some(session);
        let worked = set_attributes(&mut self.context, session, encrypt, true)
            .map_err(E::from)
            .and_then(|()| work(self, session));
        if worked.is_err() {
            // The first error is the one to report.
            if let Err(error) = self.end_session() {
                log::debug!("{error}");
            }
        }
        worked
    }

    /// Runs `work` in a session of its own, which ends with the one command it authorises: the TPM forgets it then.
    pub(super) fn in_own_session<T, E: From<Error>>(
        &mut self,
        encrypt: Encrypt,
        work: impl FnOnce(&mut Self, AuthSession) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let session = self.start_salted()?;
        self.in_ending_session(session, encrypt, work)
    }

    /// Runs `work` in the session of this connection, which ends with the one command it authorises. For the last use of
    /// it that is foreseen: another one costs a new session, and no other a flush less.
    pub(super) fn in_last_session<T, E: From<Error>>(
        &mut self,
        encrypt: Encrypt,
        work: impl FnOnce(&mut Self, AuthSession) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.start_salted()?,
        };
        self.in_ending_session(session, encrypt, work)
    }

    /// Runs `work` in a session without a policy, for an object that is used by its authorisation value. It ends with the one
    /// command it authorises.
    pub(super) fn in_hmac_session<T, E: From<Error>>(
        &mut self,
        encrypt: Encrypt,
        work: impl FnOnce(&mut Self, AuthSession) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let key = self.salting_key()?;
        let session = self.start_session(SessionType::Hmac, Some(key))?;
        self.in_ending_session(session, encrypt, work)
    }

    fn in_ending_session<T, E: From<Error>>(
        &mut self,
        session: AuthSession,
        encrypt: Encrypt,
        work: impl FnOnce(&mut Self, AuthSession) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let worked = set_attributes(&mut self.context, session, encrypt, false)
            .map_err(E::from)
            .and_then(|()| work(self, session));
        self.close(session, worked.is_ok());
        worked
    }

    /// Ends a session: the TPM has forgotten it with the last command where that went well.
    pub(super) fn close(&mut self, session: AuthSession, is_forgotten: bool) {
        let mut handle = SessionHandle::from(session).into();
        let closed = if is_forgotten {
            // tss-esapi forgets it as well, though it calls that an error.
            self.context.tr_close(&mut handle)
        } else {
            // After an answer that is not the TPM's tpm2-tss takes no further command in this connection, this one included.
            self.context.flush_context(handle)
        };
        if let Err(error) = closed {
            log::debug!("ending a session: {error}");
        }
    }

    /// Satisfies the policy in the session and runs `command`, again if a PCR changed in between, even one the policy does
    /// not name. `either` is what the digest is to be one of, where the policy has two branches.
    pub(super) fn with_pcrs<T>(
        &mut self,
        (session, encrypting): (AuthSession, Option<AuthSession>),
        policy: Policy,
        either: Option<&DigestList>,
        mut command: impl FnMut(&mut Context) -> tss_esapi::Result<T>,
    ) -> std::result::Result<T, Denied> {
        let policy_session = PolicySession::try_from(session)?;
        for _ in 0..CHANGED_MAX {
            if self.satisfy(policy_session, policy, either)? {
                let result = response::resubmitting(&mut self.context, |context| {
                    context.execute_with_sessions((Some(session), encrypting, None), &mut command)
                });
                match result {
                    Err(error) if response::code(error) == response::PCR_CHANGED => {}
                    Err(error) if response::code(error) == response::POLICY_FAIL => {
                        return Err(Denied::OtherValues);
                    }
                    result => return Ok(result?),
                }
            }
            response::resubmitting(&mut self.context, |context| {
                context.execute_without_session(|context| context.policy_restart(policy_session))
            })
            .doing("starting the policy again")?;
        }
        Err(Error::temporary("the PCRs changed each time they were used").into())
    }

    /// Whether the policy is satisfied: not, if a PCR changed between two of its steps.
    fn satisfy(
        &mut self,
        session: PolicySession,
        policy: Policy,
        either: Option<&DigestList>,
    ) -> std::result::Result<bool, Denied> {
        if policy.key.is_some() {
            if !self.satisfy_pcrs(session, Policy::signed(policy.bank))? {
                return Ok(false);
            }
            self.authorize(session, policy)?;
        }
        if !self.satisfy_pcrs(session, policy)? {
            return Ok(false);
        }
        let Some(branches) = either else {
            return Ok(true);
        };
        let satisfied = response::resubmitting(&mut self.context, |context| {
            context.execute_without_session(|context| context.policy_or(session, branches.clone()))
        });
        match satisfied {
            // The session's digest is none of the branches.
            Err(error) if response::code(error) == response::VALUE => Err(Denied::OtherValues),
            other => {
                other.doing("satisfying the policy")?;
                Ok(true)
            }
        }
    }

    /// Whether the session has the values of the policy's PCRs: not, if a PCR changed since it has had others.
    fn satisfy_pcrs(&mut self, session: PolicySession, policy: Policy) -> Result<bool> {
        let pcrs: Vec<_> = policy.pcrs.iter().map(|pcr| (policy.bank, pcr)).collect();
        let pcrs = selection(&pcrs)?;
        let satisfied = response::resubmitting(&mut self.context, |context| {
            context.execute_without_session(|context| {
                context.policy_pcr(session, Digest::default(), pcrs.clone())
            })
        });
        match satisfied {
            Err(error) if response::code(error) == response::PCR_CHANGED => Ok(false),
            other => other.doing("satisfying the policy").map(|()| true),
        }
    }

    fn end_session(&mut self) -> Result<()> {
        let Some(session) = self.session.take() else {
            return Ok(());
        };
        self.context
            .flush_context(SessionHandle::from(session).into())
            .doing("flushing the session")
    }

    /// Whose private half the TPM alone has.
    pub(super) fn salting_key(&mut self) -> Result<KeyHandle> {
        match self.ek_in_use() {
            Some(ek) => Ok(ek),
            None => Ok(self.srk()?.handle),
        }
    }

    fn start_salted(&mut self) -> Result<AuthSession> {
        let key = self.salting_key()?;
        self.start_session(SessionType::Policy, Some(key))
    }

    pub(super) fn start_session(
        &mut self,
        kind: SessionType,
        salted_with: Option<KeyHandle>,
    ) -> Result<AuthSession> {
        response::resubmitting(&mut self.context, |context| {
            context.execute_without_session(|context| {
                context.start_auth_session(
                    salted_with,
                    None,
                    None,
                    kind,
                    SymmetricDefinition::AES_128_CFB,
                    HashingAlgorithm::Sha256,
                )
            })
        })
        .doing("starting a session")?
        .ok_or_else(|| Error::failure("starting a session: tss-esapi gave none"))
    }
}

/// Says in which direction the session encrypts, and whether it goes on after its next use. Nothing is sent to the TPM.
fn set_attributes(
    context: &mut Context,
    session: AuthSession,
    encrypt: Encrypt,
    goes_on: bool,
) -> Result<()> {
    let (attributes, mask) = SessionAttributesBuilder::new()
        .with_continue_session(goes_on)
        .with_decrypt(matches!(encrypt, Encrypt::Command))
        .with_encrypt(matches!(encrypt, Encrypt::Response))
        .build();
    context
        .tr_sess_set_attributes(session, attributes, mask)
        .doing("setting up the session")
}
