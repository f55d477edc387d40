// SPDX-License-Identifier: Apache-2.0
//! Which TPM this is: its endorsement key and certificate, and proof that the attestation key lives beside it.

use tss_esapi::abstraction::AsymmetricAlgorithmSelection;
use tss_esapi::abstraction::ek::create_ek_public_from_default_template_2;
use tss_esapi::handles::{AuthHandle, KeyHandle, NvIndexHandle, PersistentTpmHandle, TpmHandle};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::interface_types::resource_handles::{Hierarchy, NvAuth};
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{Digest, EncryptedSecret, IdObject, Nonce, Public};
use tss_esapi::traits::Marshall;

use super::session::Encrypt;
use super::{AkKind, Tpm, response};
use crate::error::{Doing, Error, Result};
use crate::key::Secret;

/// How much of a certificate is read at once: what TPMs usually take in one command (`TPM_PT_NV_BUFFER_MAX`).
const PART_LEN: u16 = 1024;

/// The start of a DER `SEQUENCE` whose length has two bytes (X.690, section 8.1.3.5), as every certificate's has, in bytes.
const DER_START_LEN: usize = 4;

/// What a TPM is known by, in the TPM's own encodings (TPM 2.0 part 2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TpmIdentity {
    /// The endorsement key, a `TPMT_PUBLIC`.
    pub ek_public: Vec<u8>,
    /// Its certificate, X.509 in DER, where there is one.
    pub ek_certificate: Option<Vec<u8>>,
    /// The attestation key, a `TPMT_PUBLIC`.
    pub ak_public: Vec<u8>,
    /// The same as a `SubjectPublicKeyInfo` in DER.
    pub ak_spki: Vec<u8>,
}

/// The endorsement key in use.
#[derive(Clone, Debug)]
pub(super) struct Ek {
    handle: KeyHandle,
    public: Vec<u8>,
    template: Template,
    /// Whether it takes up one of the few places a TPM has for keys that are not persistent.
    is_transient: bool,
}

/// Templates of the TCG EK Credential Profile for TPM 2.0 (version 2.5, section B.3), with where the profile keeps the key
/// (TCG TPM v2.0 Provisioning Guidance, section 7.8) and its certificate (profile, section 2.2.1.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Template {
    /// L-1: RSA-2048.
    Rsa,
    /// L-2: ECC P-256.
    Ecc,
}

impl Template {
    const ALL: [Self; 2] = [Self::Rsa, Self::Ecc];

    fn key_handle(self) -> u32 {
        match self {
            Self::Rsa => 0x8101_0001,
            Self::Ecc => 0x8101_0002,
        }
    }

    fn certificate_index(self) -> u32 {
        match self {
            Self::Rsa => 0x01c0_0002,
            Self::Ecc => 0x01c0_000a,
        }
    }

    fn public(self) -> Result<Public> {
        let algorithm = match self {
            Self::Rsa => AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048),
            Self::Ecc => AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256),
        };
        Ok(create_ek_public_from_default_template_2(algorithm, None)?)
    }

    /// Length of the field `unique`, which a `TPMT_PUBLIC` ends with.
    fn unique_len(self) -> usize {
        match self {
            Self::Rsa => 2 + 256,
            Self::Ecc => 2 * (2 + 32),
        }
    }

    /// Whether a `TPMT_PUBLIC` differs from the template in nothing but `unique`.
    fn fits(self, public: &[u8]) -> Result<bool> {
        let template = self.public()?.marshall()?;
        let len = template.len().saturating_sub(self.unique_len());
        Ok(public.len() == template.len() && public.get(..len) == template.get(..len))
    }
}

impl Tpm {
    /// Which TPM this is. `certificate` is the endorsement key's, where it is not to be looked for in the TPM.
    ///
    /// The endorsement key is the one at the handle the TCG reserves for it, if its template is the profile's; else it is
    /// made from the endorsement seed, which gives the same key each time.
    ///
    /// Commands: `ReadPublic` twice for a key at the first handle, `CreatePrimary` for the attestation key; for a
    /// certificate in the TPM `NV_ReadPublic` twice and `NV_Read`, twice above 1024 bytes.
    pub fn identity(&mut self, kind: AkKind, certificate: Option<&[u8]>) -> Result<TpmIdentity> {
        let ek = self.ek().doing("looking for the endorsement key")?;
        let ek_certificate = match certificate {
            Some(certificate) => Some(certificate.to_vec()),
            None => self
                .certificate(ek.template)
                .doing("reading the endorsement key's certificate")?,
        };
        let ak = self.ak(kind)?;
        Ok(TpmIdentity {
            ek_public: ek.public,
            ek_certificate,
            ak_public: ak.public,
            ak_spki: ak.spki,
        })
    }

    /// Takes the secret out of a credential: `TPM2_ActivateCredential`, which only succeeds where the attestation key
    /// the credential names and the endorsement key it is encrypted to are in this TPM.
    ///
    /// `blob` and `secret` are the bodies of a `TPM2B_ID_OBJECT` and a `TPM2B_ENCRYPTED_SECRET`.
    ///
    /// Commands: `PolicySecret`, `ActivateCredential`; in a connection's first use of its session also `StartAuthSession`.
    pub fn activate(&mut self, kind: AkKind, blob: &[u8], secret: &[u8]) -> Result<Secret> {
        self.activate_now(kind, blob, secret)
            .doing("activating the credential")
    }

    fn activate_now(&mut self, kind: AkKind, blob: &[u8], secret: &[u8]) -> Result<Secret> {
        let malformed =
            |error| Error::refused(format_args!("the service sent a malformed one: {error}"));
        let blob = IdObject::try_from(blob.to_vec()).map_err(malformed)?;
        let secret = EncryptedSecret::try_from(secret.to_vec()).map_err(malformed)?;
        let ek = self.ek()?;
        let ak = self.ak(kind)?;
        let activated = self.in_session(Encrypt::Response, |tpm, session| {
            tpm.satisfy_endorsement(session)?;
            let sessions = (Some(AuthSession::Password), Some(session), None);
            response::resubmitting(&mut tpm.context, |context| {
                context.execute_with_sessions(sessions, |context| {
                    context.activate_credential(ak.handle, ek.handle, blob.clone(), secret.clone())
                })
            })
            // libtpms says FAILURE where RSA decrypts to nothing sensible, and goes on working.
            .map_err(|error| match response::code(error) {
                response::INTEGRITY | response::VALUE | response::SIZE | response::FAILURE => {
                    Error::refused("the service made it for another TPM or another attestation key")
                }
                _ => Error::from(error),
            })
        });
        // Loading a sealed secret needs the place.
        if ek.is_transient {
            self.ek = None;
            self.context
                .flush_context(ek.handle.into())
                .doing("flushing the endorsement key")?;
        }
        Ok(Secret::new(activated?.value().to_vec()))
    }

    /// `PolicyA` of the profile: whoever may use the endorsement hierarchy (section B.6.2).
    fn satisfy_endorsement(&mut self, session: AuthSession) -> Result<()> {
        let session = PolicySession::try_from(session)?;
        response::resubmitting(&mut self.context, |context| {
            context.execute_with_session(Some(AuthSession::Password), |context| {
                context.policy_secret(
                    session,
                    AuthHandle::Endorsement,
                    Nonce::default(),
                    Digest::default(),
                    Nonce::default(),
                    None,
                )
            })
        })
        .map(|_| ())
        .map_err(endorsement_auth)
    }

    /// Looks for the endorsement key beforehand: sessions are salted with it then, and the storage root key is not looked
    /// for unless something is sealed or unsealed.
    pub fn prepare_to_attest(&mut self) -> Result<()> {
        self.ek()
            .map(|_| ())
            .doing("looking for the endorsement key")
    }

    pub(super) fn ek_in_use(&self) -> Option<KeyHandle> {
        self.ek.as_ref().map(|ek| ek.handle)
    }

    fn ek(&mut self) -> Result<Ek> {
        if let Some(ek) = &self.ek {
            return Ok(ek.clone());
        }
        let ek = match self.persistent_ek()? {
            Some(ek) => ek,
            None => self.make_ek()?,
        };
        self.ek = Some(ek.clone());
        Ok(ek)
    }

    fn persistent_ek(&mut self) -> Result<Option<Ek>> {
        for template in Template::ALL {
            let handle = TpmHandle::Persistent(PersistentTpmHandle::new(template.key_handle())?);
            let found = response::resubmitting(&mut self.context, |context| {
                context.execute_without_session(|context| context.tr_from_tpm_public(handle))
            });
            let handle = match found {
                Ok(object) => KeyHandle::from(object),
                Err(error) if response::code(error) == response::HANDLE => continue,
                Err(error) => return Err(error.into()),
            };
            let (public, _, _) = response::resubmitting(&mut self.context, |context| {
                context.execute_without_session(|context| context.read_public(handle))
            })?;
            let public = public.marshall()?;
            if template.fits(&public)? {
                return Ok(Some(Ek {
                    handle,
                    public,
                    template,
                    is_transient: false,
                }));
            }
        }
        Ok(None)
    }

    /// The key whose certificate is in the TPM; without one the key every TPM can make.
    fn make_ek(&mut self) -> Result<Ek> {
        let certified = self.find(Template::Ecc.certificate_index())?.is_some();
        let template = if certified {
            Template::Ecc
        } else {
            Template::Rsa
        };
        let public = template.public()?;
        let created = response::resubmitting(&mut self.context, |context| {
            context.execute_with_session(Some(AuthSession::Password), |context| {
                context.create_primary(
                    Hierarchy::Endorsement,
                    public.clone(),
                    None,
                    None,
                    None,
                    None,
                )
            })
        })
        .map_err(endorsement_auth)
        .doing("making it")?;
        Ok(Ek {
            handle: created.key_handle,
            public: created.out_public.marshall()?,
            template,
            is_transient: true,
        })
    }

    fn certificate(&mut self, template: Template) -> Result<Option<Vec<u8>>> {
        let Some(index) = self.find(template.certificate_index())? else {
            return Ok(None);
        };
        let (public, _) = response::resubmitting(&mut self.context, |context| {
            context.execute_without_session(|context| context.nv_read_public(index))
        })?;
        let len = u16::try_from(public.data_size()).unwrap_or(u16::MAX);
        let mut bytes = Vec::new();
        let mut offset = 0;
        while offset < len {
            let part = self.read_part(index, offset, PART_LEN.min(len.saturating_sub(offset)))?;
            bytes.extend(part);
            offset = offset.saturating_add(PART_LEN);
        }
        Ok(Some(without_padding(bytes)))
    }

    fn read_part(&mut self, index: NvIndexHandle, offset: u16, len: u16) -> Result<Vec<u8>> {
        let part = response::resubmitting(&mut self.context, |context| {
            context.execute_with_session(Some(AuthSession::Password), |context| {
                context.nv_read(NvAuth::NvIndex(index), index, len, offset)
            })
        })?;
        Ok(part.value().to_vec())
    }
}

/// An index may be longer than the certificate in it (TCG EK Credential Profile, section 2.2.1.2).
fn without_padding(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some([0x30, 0x82, high, low]) = bytes.first_chunk::<DER_START_LEN>() {
        let len = usize::from(u16::from_be_bytes([*high, *low])).saturating_add(DER_START_LEN);
        bytes.truncate(len);
    }
    bytes
}

fn endorsement_auth(error: tss_esapi::Error) -> Error {
    match response::code(error) {
        response::AUTH_FAIL | response::BAD_AUTH => Error::refused(
            "the TPM's endorsement authorisation is set: clear it with tpm2_changeauth -c endorsement",
        ),
        _ => Error::from(error),
    }
}
