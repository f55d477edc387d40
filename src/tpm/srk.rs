// SPDX-License-Identifier: Apache-2.0
//! The storage root key: the parent of everything sealed, at the handle every program looks for it.

use tss_esapi::attributes::{ObjectAttributes, ObjectAttributesBuilder};
use tss_esapi::handles::{KeyHandle, ObjectHandle, PersistentTpmHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::dynamic_handles::Persistent;
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::interface_types::resource_handles::{Hierarchy, Provision};
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{
    EccPoint, Public, PublicBuilder, PublicEccParametersBuilder, PublicKeyRsa,
    PublicRsaParametersBuilder, RsaExponent, SymmetricDefinitionObject,
};
use tss_esapi::traits::Marshall;

use crate::error::{Doing, Error, Result};
use crate::pcr::Bank;
use crate::sealed;
use crate::sealed::SRK_HANDLE;
use crate::tpm::{Tpm, response};

/// The storage root key in use.
#[derive(Clone, Debug)]
pub(super) struct Srk {
    /// The handle within this connection.
    pub(super) handle: KeyHandle,
    /// What its serialization starts with.
    pub(super) identity: Vec<u8>,
    /// How tpm2-tss serializes it, for the token.
    pub(super) serialized: Vec<u8>,
}

/// Templates of the TCG EK Credential Profile for TPM 2.0 (section B.3), without unique and policy, as systemd uses them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Template {
    /// L-2: ECC P-256.
    Ecc,
    /// L-1: RSA-2048, for TPMs without that curve.
    Rsa,
}

impl Tpm {
    /// The storage root key: found, or made if there is none. Two commands, once; more the first time on a new TPM.
    pub(super) fn srk(&mut self) -> Result<Srk> {
        if let Some(srk) = &self.srk {
            return Ok(srk.clone());
        }
        let found = match self.find_srk()? {
            Some(handle) => handle,
            None => self
                .create_srk(Template::Ecc)?
                .map_or_else(|| self.create_srk(Template::Rsa), |handle| Ok(Some(handle)))?
                .ok_or_else(|| {
                    Error::unavailable("the TPM makes neither ECC P-256 nor RSA-2048 keys")
                })?,
        };
        let srk = self.checked(found).doing("checking the storage root key")?;
        self.srk = Some(srk.clone());
        Ok(srk)
    }

    fn find_srk(&mut self) -> Result<Option<KeyHandle>> {
        let handle = TpmHandle::Persistent(PersistentTpmHandle::new(SRK_HANDLE)?);
        let found = response::resubmitting(&mut self.context, |context| {
            context.execute_without_session(|context| context.tr_from_tpm_public(handle))
        });
        match found {
            Ok(object) => Ok(Some(object.into())),
            Err(error) if response::code(error) == response::HANDLE => Ok(None),
            Err(error) => Err(error).doing("looking for the storage root key"),
        }
    }

    /// Makes and persists a storage root key; `None` if the TPM does not know the template's algorithm.
    pub(super) fn create_srk(&mut self, template: Template) -> Result<Option<KeyHandle>> {
        let public = template.public()?;
        let created = response::resubmitting(&mut self.context, |context| {
            context.execute_with_session(Some(AuthSession::Password), |context| {
                context.create_primary(Hierarchy::Owner, public.clone(), None, None, None, None)
            })
        });
        let key = match created {
            Ok(created) => created.key_handle,
            // A template's fault is a parameter's: the authorisation's fault is a session's.
            Err(error) if is_owner_auth(error) => return Err(owner_auth()),
            Err(error) if response::code(error) & response::FORMAT_ONE != 0 => return Ok(None),
            Err(error) => return Err(error).doing("making a storage root key"),
        };
        let persisted = self.persist(key);
        let flushed = self.context.flush_context(key.into());
        let handle = persisted.doing("persisting the storage root key")?;
        flushed.doing("flushing the storage root key")?;
        Ok(Some(handle))
    }

    fn persist(&mut self, key: KeyHandle) -> Result<KeyHandle> {
        let handle = Persistent::Persistent(PersistentTpmHandle::new(SRK_HANDLE)?);
        let persisted = response::resubmitting(&mut self.context, |context| {
            context.execute_with_session(Some(AuthSession::Password), |context| {
                context.evict_control(Provision::Owner, ObjectHandle::from(key), handle)
            })
        });
        match persisted {
            Ok(object) => Ok(object.into()),
            // systemd-tpm2-setup was faster.
            Err(error) if response::code(error) == response::NV_DEFINED => self
                .find_srk()?
                .ok_or_else(|| Error::failure("the TPM has and has not a storage root key")),
            Err(error) if is_owner_auth(error) => Err(owner_auth()),
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses a key at the handle that could have been made outside this TPM or is for another purpose.
    ///
    /// What is sealed under such a key can be read by whoever made it.
    fn checked(&mut self, handle: KeyHandle) -> Result<Srk> {
        let (public, name, _) = response::resubmitting(&mut self.context, |context| {
            context.execute_without_session(|context| context.read_public(handle))
        })?;
        let attributes = public.object_attributes();
        let is_storage = attributes.fixed_tpm()
            && attributes.fixed_parent()
            && attributes.sensitive_data_origin()
            && attributes.restricted()
            && attributes.decrypt()
            && !attributes.sign_encrypt()
            && public.name_hashing_algorithm() == HashingAlgorithm::Sha256;
        if !is_storage {
            return Err(Error::refused(format_args!(
                "the key at {SRK_HANDLE:#x} is not a storage key of this TPM: \
                 remove it with tpm2_evictcontrol and reboot"
            )));
        }
        let marshalled = public.marshall()?;
        // The name starts with the algorithm's number in two bytes (TPM 2.0 part 1, section 16).
        if name.value().get(2..) != Some(Bank::Sha256.hash(&marshalled).as_slice()) {
            return Err(Error::failure(
                "its name is not the digest of its public area",
            ));
        }
        let identity = sealed::identity(SRK_HANDLE, name.value());
        Ok(Srk {
            handle,
            serialized: sealed::serialized(&identity, &marshalled),
            identity,
        })
    }
}

impl Template {
    fn public(self) -> Result<Public> {
        let builder = PublicBuilder::new()
            .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
            .with_object_attributes(attributes()?);
        let symmetric = SymmetricDefinitionObject::AES_128_CFB;
        Ok(match self {
            Self::Ecc => builder
                .with_public_algorithm(PublicAlgorithm::Ecc)
                .with_ecc_parameters(
                    PublicEccParametersBuilder::new_restricted_decryption_key(
                        symmetric,
                        EccCurve::NistP256,
                    )
                    .build()?,
                )
                .with_ecc_unique_identifier(EccPoint::default())
                .build()?,
            Self::Rsa => builder
                .with_public_algorithm(PublicAlgorithm::Rsa)
                .with_rsa_parameters(
                    PublicRsaParametersBuilder::new_restricted_decryption_key(
                        symmetric,
                        RsaKeyBits::Rsa2048,
                        RsaExponent::default(),
                    )
                    .build()?,
                )
                .with_rsa_unique_identifier(PublicKeyRsa::default())
                .build()?,
        })
    }
}

fn attributes() -> Result<ObjectAttributes> {
    Ok(ObjectAttributesBuilder::new()
        .with_decrypt(true)
        .with_restricted(true)
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .build()?)
}

fn is_owner_auth(error: tss_esapi::Error) -> bool {
    matches!(
        response::code(error),
        response::AUTH_FAIL | response::BAD_AUTH
    )
}

fn owner_auth() -> Error {
    Error::refused(
        "the TPM has no storage root key, and its owner authorisation is set: \
         make the key with systemd-tpm2-setup or tpm2_createprimary and tpm2_evictcontrol",
    )
}
