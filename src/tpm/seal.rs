// SPDX-License-Identifier: Apache-2.0
//! Sealing to PCR values and unsealing, with the secret encrypted on its way to and from the TPM.

use tss_esapi::attributes::{ObjectAttributesBuilder, SessionAttributesBuilder};
use tss_esapi::constants::SessionType;
use tss_esapi::handles::{KeyHandle, ObjectHandle, SessionHandle};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    Digest, KeyedHashScheme, PcrSelectionList, Private, Public, PublicBuilder,
    PublicKeyedHashParameters, SensitiveData, SymmetricDefinition,
};
use tss_esapi::traits::{Marshall, UnMarshall};

use super::{CHANGED_MAX, Policy, Sealed, Tpm, fault, selection};
use crate::error::{Doing, Error, Result};
use crate::key::{KEY_LEN, Secret};

impl Tpm {
    /// Seals `secret` to the values the PCRs have now.
    ///
    /// Commands: `PCR_Read`, `StartAuthSession`, `Create`, `FlushContext`.
    pub fn seal(&mut self, secret: &Secret, policy: Policy) -> Result<Sealed> {
        self.seal_now(secret, policy)
            .doing(format_args!("sealing to {policy}"))
    }

    /// Unseals what was sealed on this machine while the PCRs had the values they have now.
    ///
    /// Commands: `PCR_Read`, `StartAuthSession`, `Load`, `PolicyPCR`, `Unseal`, `FlushContext` twice. What can be refused from
    /// the PCRs and the bytes alone never reaches the TPM.
    pub fn unseal(&mut self, sealed: &Sealed, policy: Policy) -> Result<Secret> {
        self.unseal_now(sealed, policy)
            .doing(format_args!("unsealing from {policy}"))
    }

    fn seal_now(&mut self, secret: &Secret, policy: Policy) -> Result<Sealed> {
        if secret.expose().len() != KEY_LEN {
            return Err(Error::failure(format_args!(
                "the secret is not {KEY_LEN} bytes"
            )));
        }
        let srk = self.srk()?;
        let policy_hash = self.policy_hash(policy)?;
        let template = template(&policy_hash)?;
        let data = SensitiveData::try_from(secret.expose())?;
        let created = self.in_session(SessionType::Hmac, |tpm, session| {
            fault::patiently(&mut tpm.context, |context| {
                context.execute_with_session(Some(session), |context| {
                    let (template, data) = (template.clone(), Some(data.clone()));
                    context.create(srk.handle, template, None, data, None, None)
                })
            })
            .doing("creating the object")
        })?;
        let sealed = Sealed {
            private: created.out_private.value().to_vec(),
            public: created.out_public.marshall()?,
            policy_hash,
            srk: Some(srk.serialized),
        };
        sealed.check().map_err(Error::failure)?;
        Ok(sealed)
    }

    fn unseal_now(&mut self, sealed: &Sealed, policy: Policy) -> Result<Secret> {
        sealed.check()?;
        if self.policy_hash(policy)? != sealed.policy_hash {
            return Err(other_values());
        }
        let srk = self.srk()?;
        let is_other = |key: &Vec<u8>| !key.starts_with(&srk.identity);
        if sealed.srk.as_ref().is_some_and(is_other) {
            return Err(other_tpm());
        }
        let private = Private::try_from(sealed.private.as_slice()).map_err(damaged)?;
        let public = Public::unmarshall(&sealed.public).map_err(damaged)?;
        let pcrs: Vec<_> = policy.pcrs.iter().map(|pcr| (policy.bank, pcr)).collect();
        let pcrs = selection(&pcrs)?;
        let data = self.in_session(SessionType::Policy, |tpm, session| {
            let object = tpm.load(srk.handle, &private, &public)?;
            let data = tpm.unseal_loaded(object, session, &pcrs);
            let flushed = tpm.context.flush_context(object);
            let data = data?;
            flushed.doing("flushing the object")?;
            Ok(data)
        })?;
        if data.len() != KEY_LEN {
            return Err(Error::refused(format_args!(
                "the sealed secret is not {KEY_LEN} bytes"
            )));
        }
        Ok(Secret::new(data.value().to_vec()))
    }

    /// What a session's policy digest would be with the values the PCRs have now.
    fn policy_hash(&mut self, policy: Policy) -> Result<[u8; 32]> {
        if policy.pcrs.is_empty() {
            return Err(Error::config("a policy without PCRs protects nothing"));
        }
        let pcrs: Vec<_> = policy.pcrs.iter().collect();
        let values = self.values(&[policy.bank], &pcrs)?;
        Ok(policy.digest(values.iter().map(|(_, value)| value.as_slice())))
    }

    fn load(
        &mut self,
        parent: KeyHandle,
        private: &Private,
        public: &Public,
    ) -> Result<ObjectHandle> {
        fault::patiently(&mut self.context, |context| {
            context.execute_with_session(Some(AuthSession::Password), |context| {
                context.load(parent, private.clone(), public.clone())
            })
        })
        .map(ObjectHandle::from)
        .map_err(|error| match fault::code(error) {
            fault::INTEGRITY => other_tpm(),
            fault::SENSITIVE => damaged(error),
            code if code & fault::FORMAT_ONE != 0 => damaged(error),
            _ => Error::from(error),
        })
        .doing("loading the object")
    }

    /// Satisfies the policy and unseals, again if a PCR changed in between, even one the policy does not name.
    fn unseal_loaded(
        &mut self,
        object: ObjectHandle,
        session: AuthSession,
        pcrs: &PcrSelectionList,
    ) -> Result<SensitiveData> {
        let policy = PolicySession::try_from(session)?;
        for _ in 0..CHANGED_MAX {
            fault::patiently(&mut self.context, |context| {
                context.execute_without_session(|context| {
                    context.policy_pcr(policy, Digest::default(), pcrs.clone())
                })
            })
            .doing("satisfying the policy")?;
            let unsealed = fault::patiently(&mut self.context, |context| {
                context.execute_with_session(Some(session), |context| context.unseal(object))
            });
            match unsealed {
                Err(error) if fault::code(error) == fault::PCR_CHANGED => {}
                Err(error) if fault::code(error) == fault::POLICY_FAIL => {
                    return Err(other_values());
                }
                result => return Ok(result?),
            }
            fault::patiently(&mut self.context, |context| {
                context.execute_without_session(|context| context.policy_restart(policy))
            })
            .doing("starting the policy again")?;
        }
        Err(Error::temporary(
            "the PCRs changed each time they were used",
        ))
    }

    /// Runs `work` in a session salted with the storage root key, so that nobody on the bus reads or alters parameters.
    fn in_session<T>(
        &mut self,
        kind: SessionType,
        work: impl FnOnce(&mut Self, AuthSession) -> Result<T>,
    ) -> Result<T> {
        let srk = self.srk()?;
        let session = fault::patiently(&mut self.context, |context| {
            context.execute_without_session(|context| {
                context.start_auth_session(
                    Some(srk.handle),
                    None,
                    None,
                    kind,
                    SymmetricDefinition::AES_128_CFB,
                    HashingAlgorithm::Sha256,
                )
            })
        })
        .doing("starting a session")?
        .ok_or_else(|| Error::failure("starting a session: tss-esapi gave none"))?;
        // `Create` takes its secret in the first parameter, `Unseal` gives it back in the first.
        let (attributes, mask) = match kind {
            SessionType::Hmac => SessionAttributesBuilder::new().with_decrypt(true),
            SessionType::Policy | SessionType::Trial => {
                SessionAttributesBuilder::new().with_encrypt(true)
            }
        }
        .build();
        let result = self
            .context
            .tr_sess_set_attributes(session, attributes, mask)
            .doing("encrypting the session")
            .and_then(|()| work(self, session));
        let flushed = self
            .context
            .flush_context(SessionHandle::from(session).into());
        let value = result?;
        flushed.doing("flushing the session")?;
        Ok(value)
    }
}

/// The object [`Sealed::check`] accepts.
fn template(policy_hash: &[u8; 32]) -> Result<Public> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_no_da(true)
        .build()?;
    Ok(PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::KeyedHash)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_auth_policy(Digest::try_from(&policy_hash[..])?)
        .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
        .with_keyed_hash_unique_identifier(Digest::default())
        .build()?)
}

fn other_values() -> Error {
    Error::refused(
        "the PCR values differ from those at sealing time: this machine booted something else, \
         or the secret is sealed to other PCRs",
    )
}

fn other_tpm() -> Error {
    Error::refused(
        "sealed by another TPM, or the TPM was cleared since, or the sealed object was altered",
    )
}

fn damaged(error: tss_esapi::Error) -> Error {
    Error::refused(format_args!("the sealed object is damaged: {error}"))
}
