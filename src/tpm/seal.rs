// SPDX-License-Identifier: Apache-2.0
//! Sealing to PCR values and unsealing, with the secret encrypted on its way to and from the TPM.

use tss_esapi::attributes::ObjectAttributesBuilder;
use tss_esapi::handles::{KeyHandle, ObjectHandle};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{
    Digest, KeyedHashScheme, Private, Public, PublicBuilder, PublicKeyedHashParameters,
    SensitiveData,
};
use tss_esapi::traits::{Marshall, UnMarshall};

use super::session::{Denied, Encrypt};
use super::{Policy, Sealed, Tpm, response};
use crate::error::{Doing, Error, Result};
use crate::key::{KEY_LEN, Secret};
use crate::sealed::values;

impl Tpm {
    /// Seals `secret` to the values the PCRs have now.
    ///
    /// Commands: `PCR_Read`, `Create`; in a connection's first use of its session also `StartAuthSession`.
    pub fn seal(&mut self, secret: &Secret, policy: Policy) -> Result<Sealed> {
        self.seal_now(secret, policy)
            .doing(format_args!("sealing to {policy}"))
    }

    /// Unseals what was sealed on this machine while the PCRs had the values they have now.
    ///
    /// Commands: `Load`, `PolicyPCR`, `Unseal`, `FlushContext`; in a connection's first use of the policy also `PCR_Read` and
    /// `StartAuthSession`. What can be refused from the PCRs and the bytes alone never reaches the TPM.
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
        let policy_hash = self.policy_hash_now(policy)?;
        let template = template(&policy_hash)?;
        let data = SensitiveData::try_from(secret.expose())?;
        let created = self.in_session(Encrypt::Command, |tpm, session| {
            let sessions = (Some(AuthSession::Password), Some(session), None);
            response::resubmitting(&mut tpm.context, |context| {
                context.execute_with_sessions(sessions, |context| {
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
            key: self.key_of(policy)?,
            values: self.known_values(policy).cloned(),
            srk: Some(srk.serialized),
        };
        sealed.check().map_err(Error::failure)?;
        Ok(sealed)
    }

    fn unseal_now(&mut self, sealed: &Sealed, policy: Policy) -> Result<Secret> {
        sealed.check()?;
        if !self.policy_is(policy, &sealed.policy_hash)? {
            return Err(self.other_values(sealed, policy));
        }
        let srk = self.srk()?;
        let is_other = |key: &Vec<u8>| !key.starts_with(&srk.identity);
        if sealed.srk.as_ref().is_some_and(is_other) {
            return Err(other_tpm());
        }
        let private = Private::try_from(sealed.private.as_slice()).map_err(damaged)?;
        let public = Public::unmarshall(&sealed.public).map_err(damaged)?;
        let data = self.in_session(Encrypt::Response, |tpm, session| {
            let object = tpm.load(srk.handle, &private, &public)?;
            let data = tpm.with_pcrs((session, None), policy, None, |context| {
                context.unseal(object)
            });
            let flushed = tpm.context.flush_context(object);
            let data = data.map_err(|denied| match denied {
                Denied::OtherValues => tpm.other_values(sealed, policy),
                Denied::Trouble(error) => error,
            })?;
            flushed.doing("flushing the object")?;
            Ok::<_, Error>(data)
        })?;
        if data.len() != KEY_LEN {
            return Err(Error::refused(format_args!(
                "the sealed secret is not {KEY_LEN} bytes"
            )));
        }
        Ok(Secret::new(data.value().to_vec()))
    }

    /// What is said where the values differ, or the key: by name, where it is known what they were.
    fn other_values(&self, sealed: &Sealed, policy: Policy) -> Error {
        let then = sealed.values.as_ref();
        let then = then.filter(|then| then.fit(policy.pcrs, policy.bank));
        let changed = then
            .zip(self.known_values(policy))
            .map(|(then, now)| then.changed(now, policy.pcrs, policy.bank));
        let changed = changed.filter(|changed| !changed.is_empty());
        self.sealed_to_others(match changed {
            Some(changed) => Error::refused(format_args!(
                "the PCR values differ from those at sealing time: {}",
                values::explain(changed)
            )),
            None => other_values(policy),
        })
    }

    fn load(
        &mut self,
        parent: KeyHandle,
        private: &Private,
        public: &Public,
    ) -> Result<ObjectHandle> {
        response::resubmitting(&mut self.context, |context| {
            context.execute_with_session(Some(AuthSession::Password), |context| {
                context.load(parent, private.clone(), public.clone())
            })
        })
        .map(ObjectHandle::from)
        .map_err(|error| match response::code(error) {
            response::INTEGRITY => other_tpm(),
            response::SENSITIVE => damaged(error),
            code if code & response::FORMAT_ONE != 0 => damaged(error),
            _ => Error::from(error),
        })
        .doing("loading the object")
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

fn other_values(policy: Policy) -> Error {
    if policy.key.is_some() {
        return Error::refused(format_args!(
            "sealed to another key than that of tpm.signed, or PCRs {} have other values than at sealing time: the keys of Secure \
             Boot have changed, something is added to the image, or the fence of this boot has come",
            policy.pcrs
        ));
    }
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
