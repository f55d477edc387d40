// SPDX-License-Identifier: Apache-2.0
//! What a key has signed of this boot: a policy that the TPM takes as good because of it.

use tss_esapi::handles::ObjectHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::PolicySession;
use tss_esapi::structures::{
    Digest, Name, Nonce, Public, PublicKeyRsa, RsaSignature, Signature, VerifiedTicket,
};
use tss_esapi::traits::UnMarshall;
use tss_esapi::tss2_esys::TPMT_TK_VERIFIED;

use super::session::Denied;
use super::{Policy, Tpm, response};
use crate::error::{Doing, Error, Result};
use crate::key::pcr::PcrPublicKey;
use crate::pcr::Bank;
use crate::sealed::signature::{PcrSignatures, policy_digest};

/// A policy that a key has signed, with what the TPM gave for having looked at the signature. That ticket is good for this
/// key and policy until the TPM is cleared (TPM 2.0 part 1, section 11.4.6.3).
#[derive(Debug)]
pub(super) struct Approval {
    key: PcrPublicKey,
    policy: Digest,
    ticket: TPMT_TK_VERIFIED,
}

impl Tpm {
    /// Has the TPM look at the signature by `key` of `value`, which PCR 11 holds in `bank`, among the `signatures` that came with the image.
    /// From here on policies of that key can be satisfied.
    ///
    /// Refused: there is none of the value that PCR 11 has, or it is not by that key. What is sealed would not open to this
    /// image again, so nothing is sealed before.
    ///
    /// Commands: `LoadExternal`, `VerifySignature`, `FlushContext`.
    pub fn approve(
        &mut self,
        key: &PcrPublicKey,
        signatures: &PcrSignatures,
        bank: Bank,
        value: &[u8],
    ) -> Result<()> {
        let signature = signatures.find(bank, key, value, None)?;
        let policy = policy_digest(bank, value);
        let ticket = self
            .verify(key, &policy, &signature)
            .doing("looking at the signature of PCR 11")?;
        self.approval = Some(Approval {
            key: key.clone(),
            policy: Digest::try_from(&policy[..])?,
            ticket: ticket.try_into()?,
        });
        Ok(())
    }

    /// The key of a policy, where it has one.
    pub(super) fn key_of(&self, policy: Policy) -> Result<Option<PcrPublicKey>> {
        match policy.key {
            None => Ok(None),
            Some(_) => self.approval_for(policy).map(|it| Some(it.key.clone())),
        }
    }

    /// Goes on from what is signed, which the session has satisfied, to what the key stands for.
    pub(super) fn authorize(
        &mut self,
        session: PolicySession,
        policy: Policy,
    ) -> std::result::Result<(), Denied> {
        let approval = self.approval_for(policy)?;
        let name = Name::try_from(approval.key.name().bytes().to_vec())?;
        let (approved, ticket) = (approval.policy.clone(), approval.ticket);
        let authorized = response::resubmitting(&mut self.context, |context| {
            context.execute_without_session(|context| {
                let ticket = VerifiedTicket::try_from(ticket)?;
                context.policy_authorize(session, approved.clone(), Nonce::default(), &name, ticket)
            })
        });
        match authorized {
            // PCR 11 has another value than the one that is signed.
            Err(error) if response::code(error) == response::VALUE => Err(Denied::OtherValues),
            other => Ok(other.doing("satisfying the policy")?),
        }
    }

    fn approval_for(&self, policy: Policy) -> Result<&Approval> {
        let approval = self.approval.as_ref();
        approval
            .filter(|it| Some(it.key.name()) == policy.key)
            .ok_or_else(|| Error::failure("no signature of PCR 11 was looked at"))
    }

    fn verify(
        &mut self,
        key: &PcrPublicKey,
        policy: &[u8; 32],
        signature: &[u8],
    ) -> Result<VerifiedTicket> {
        let public = Public::unmarshall(&key.public_area())?;
        let digest = Digest::try_from(Bank::Sha256.hash(policy))?;
        let signature = PublicKeyRsa::try_from(signature)?;
        let signature =
            Signature::RsaSsa(RsaSignature::create(HashingAlgorithm::Sha256, signature)?);
        let loaded = response::resubmitting(&mut self.context, |context| {
            context.execute_without_session(|context| {
                // Under a hierarchy, or the ticket would be good for nothing.
                context.load_external_public(public.clone(), Hierarchy::Owner)
            })
        })
        .doing("loading the key")?;
        let verified = response::resubmitting(&mut self.context, |context| {
            context.execute_without_session(|context| {
                context.verify_signature(loaded, digest.clone(), signature.clone())
            })
        });
        let flushed = self.context.flush_context(ObjectHandle::from(loaded));
        let ticket = verified.map_err(|error| match response::code(error) {
            response::SIGNATURE => Error::refused(format_args!(
                "it is not by the key of the configuration, {key}, though it says so"
            )),
            _ => Error::from(error),
        })?;
        flushed.doing("flushing the key")?;
        Ok(ticket)
    }
}
