// SPDX-License-Identifier: Apache-2.0
//! Quotes: PCR values signed by a key that lives in this TPM and signs nothing made outside it.

use tss_esapi::attributes::ObjectAttributesBuilder;
use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{
    Data, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, PcrSelectionList, Public,
    PublicBuilder, PublicEccParametersBuilder, PublicKeyRsa, PublicRsaParametersBuilder,
    RsaExponent, RsaScheme, SignatureScheme,
};
use tss_esapi::traits::Marshall;

use super::registers::selection;
use super::{Policy, Tpm, response};
use crate::error::{Doing, Error, Result};

/// A signed statement of this TPM about its PCRs, in the TPM's own encodings (TPM 2.0 part 2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Quote {
    /// The attestation key, a `TPMT_PUBLIC`.
    pub ak: Vec<u8>,
    /// The statement, a `TPMS_ATTEST`.
    pub attest: Vec<u8>,
    /// The signature, a `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
}

/// What an attestation key signs with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AkKind {
    /// ECDSA on P-256 with SHA-256.
    Ecdsa,
    /// RSASSA of 2048 bits with SHA-256, the only one Trustee's verifier takes. Making it takes a TPM a while.
    Rsassa,
}

/// The attestation key in use.
#[derive(Clone, Debug)]
pub(super) struct Ak {
    kind: AkKind,
    pub(super) handle: KeyHandle,
    /// A `TPMT_PUBLIC`.
    pub(super) public: Vec<u8>,
    /// A `SubjectPublicKeyInfo` in DER.
    pub(super) spki: Vec<u8>,
}

/// `SubjectPublicKeyInfo` in DER up to the point of a key on P-256 (RFC 5480, sections 2.1.1 and 2.2), and the byte that
/// says that both coordinates follow.
const P256_SPKI: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\
      \x03\x42\x00\x04";

/// The same up to the modulus of an RSA key of 2048 bits (RFC 8017, appendix A.1.1), and the exponent after it, 65537.
const RSA_SPKI: &[u8] =
    b"\x30\x82\x01\x22\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\
      \x03\x82\x01\x0f\x00\x30\x82\x01\x0a\x02\x82\x01\x01\x00";
const RSA_EXPONENT: &[u8] = b"\x02\x03\x01\x00\x01";

/// The public key as the rest of the world writes it.
fn spki(public: &Public) -> Result<Vec<u8>> {
    match public {
        Public::Ecc { unique, .. } => {
            let mut bytes = P256_SPKI.to_vec();
            for coordinate in [unique.x().value(), unique.y().value()] {
                // A TPM may leave out zeros at the start.
                bytes.extend(vec![0; 32_usize.saturating_sub(coordinate.len())]);
                bytes.extend(coordinate);
            }
            Ok(bytes)
        }
        Public::Rsa { unique, .. } => Ok([RSA_SPKI, unique.value(), RSA_EXPONENT].concat()),
        Public::KeyedHash { .. } | Public::SymCipher { .. } => {
            Err(Error::failure("the TPM made another kind of key"))
        }
    }
}

impl Tpm {
    /// Quotes the PCRs of `policy` with `qualifying` data.
    ///
    /// The key is made from the owner's seed, so it is the same until the TPM is cleared, and kept nowhere.
    ///
    /// Commands: `Quote`; in a connection's first quote also `CreatePrimary`.
    pub fn quote(&mut self, qualifying: &[u8; 32], policy: Policy) -> Result<Quote> {
        self.quote_now(qualifying, policy)
            .doing(format_args!("quoting {policy}"))
    }

    fn quote_now(&mut self, qualifying: &[u8; 32], policy: Policy) -> Result<Quote> {
        let pcrs = policy.all_pcrs();
        let pcrs: Vec<_> = pcrs.iter().map(|pcr| (policy.bank, pcr)).collect();
        let pcrs = selection(&pcrs)?;
        self.sign(AkKind::Ecdsa, qualifying, &pcrs)
    }

    pub(super) fn sign(
        &mut self,
        kind: AkKind,
        qualifying: &[u8; 32],
        pcrs: &PcrSelectionList,
    ) -> Result<Quote> {
        let ak = self.ak(kind)?;
        let data = Data::try_from(&qualifying[..])?;
        let (attest, signature) = response::resubmitting(&mut self.context, |context| {
            context.execute_with_session(Some(AuthSession::Password), |context| {
                // The key brings its scheme.
                let scheme = SignatureScheme::Null;
                context.quote(ak.handle, data.clone(), scheme, pcrs.clone())
            })
        })?;
        Ok(Quote {
            ak: ak.public,
            attest: attest.marshall()?,
            signature: signature.marshall()?,
        })
    }

    /// One key at a time: a TPM has room for few.
    pub(super) fn ak(&mut self, kind: AkKind) -> Result<Ak> {
        match self.ak.take() {
            Some(ak) if ak.kind == kind => {
                self.ak = Some(ak.clone());
                return Ok(ak);
            }
            Some(other) => self
                .context
                .flush_context(other.handle.into())
                .doing("flushing an attestation key")?,
            None => {}
        }
        let template = kind.template()?;
        let created = response::resubmitting(&mut self.context, |context| {
            context.execute_with_session(Some(AuthSession::Password), |context| {
                context.create_primary(Hierarchy::Owner, template.clone(), None, None, None, None)
            })
        })
        .map_err(|error| match response::code(error) {
            response::AUTH_FAIL | response::BAD_AUTH => Error::refused(
                "the TPM's owner authorisation is set: \
                 clear it with tpm2_changeauth -c owner until the first boot is done",
            ),
            _ => Error::from(error),
        })
        .doing("making an attestation key")?;
        let ak = Ak {
            kind,
            handle: created.key_handle,
            public: created.out_public.marshall()?,
            spki: spki(&created.out_public)?,
        };
        self.ak = Some(ak.clone());
        Ok(ak)
    }
}

impl AkKind {
    /// A restricted key: it signs what the TPM made, never a digest from outside that only looks like it.
    fn template(self) -> Result<Public> {
        let attributes = ObjectAttributesBuilder::new()
            .with_sign_encrypt(true)
            .with_restricted(true)
            .with_fixed_tpm(true)
            .with_fixed_parent(true)
            .with_sensitive_data_origin(true)
            .with_user_with_auth(true)
            .with_no_da(true)
            .build()?;
        let hash = HashScheme::new(HashingAlgorithm::Sha256);
        let builder = PublicBuilder::new()
            .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
            .with_object_attributes(attributes);
        let builder = match self {
            Self::Ecdsa => builder
                .with_public_algorithm(PublicAlgorithm::Ecc)
                .with_ecc_parameters(
                    PublicEccParametersBuilder::new()
                        .with_ecc_scheme(EccScheme::EcDsa(hash))
                        .with_curve(EccCurve::NistP256)
                        .with_is_signing_key(true)
                        .with_restricted(true)
                        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
                        .build()?,
                )
                .with_ecc_unique_identifier(EccPoint::default()),
            Self::Rsassa => builder
                .with_public_algorithm(PublicAlgorithm::Rsa)
                .with_rsa_parameters(
                    PublicRsaParametersBuilder::new()
                        .with_scheme(RsaScheme::RsaSsa(hash))
                        .with_key_bits(RsaKeyBits::Rsa2048)
                        .with_exponent(RsaExponent::default())
                        .with_is_signing_key(true)
                        .with_restricted(true)
                        .build()?,
                )
                .with_rsa_unique_identifier(PublicKeyRsa::default()),
        };
        Ok(builder.build()?)
    }
}
