// SPDX-License-Identifier: Apache-2.0
//! A machine with a TPM of the test's own making: real keys, real signatures, and bytes that can be wrong one at a time.

use aes::Aes128;
use cfb_mode::cipher::KeyIvInit as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::curve;
pub(crate) use super::curve::{Key, key, spki};
use nightlatch::config::Role;
use nightlatch::pcr::PCR_COUNT;
use nightlatch::protocol::{
    Additional, AttestRequest, AuthParams, AuthRequest, Bytes, Challenge, Claims, Credential,
    EXTENSION, Introduction, Jwe, RuntimeData, TEE, TeeEvidence, TpmEvidence, TpmQuote, VERSION,
    VolumeClaim,
};

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign (TPM 2.0 part 2, section 8.3).
pub(crate) const AK_ATTRIBUTES: u32 = 0x0005_0472;
/// fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
pub(crate) const EK_ATTRIBUTES: u32 = 0x0003_00b2;
/// `PolicyA` of the TCG EK Credential Profile, with SHA-256.
pub(crate) const EK_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
/// restricted
pub(crate) const RESTRICTED: u32 = 1 << 16;

/// What PCR 11 of a usual machine holds.
pub(crate) const USUAL: [u8; 32] = [0x11; 32];

/// A machine.
#[derive(Clone)]
pub(crate) struct Machine {
    ek: Key,
    ak: Key,
    ak_attributes: u32,
    pub(crate) pcrs: Vec<[u8; 32]>,
}

impl Machine {
    /// The machine of that number. The same number is the same machine.
    pub(crate) fn new(number: u32) -> Self {
        let scalar = |kind: u8| {
            let mut bytes: [u8; 32] =
                Sha256::digest([&[kind][..], &number.to_be_bytes()].concat()).into();
            // Below the order of the curve for certain.
            bytes[0] = 1;
            bytes
        };
        let mut pcrs = vec![[0; 32]; PCR_COUNT];
        pcrs[11] = USUAL;
        Self {
            ek: key(&scalar(1)),
            ak: key(&scalar(2)),
            ak_attributes: AK_ATTRIBUTES,
            pcrs,
        }
    }

    /// The same machine whose attestation key has other attributes.
    pub(crate) fn with_ak_attributes(self, ak_attributes: u32) -> Self {
        Self {
            ak_attributes,
            ..self
        }
    }

    /// The same TPM with the attestation key of another machine, which it does not have.
    pub(crate) fn with_ak_of(self, other: &Self) -> Self {
        Self {
            ak: other.ak.clone(),
            ..self
        }
    }

    pub(crate) fn ek_public(&self) -> Vec<u8> {
        self.ek_public_with(EK_ATTRIBUTES, &EK_POLICY)
    }

    /// Its endorsement key with another public area around it.
    pub(crate) fn ek_public_with(&self, attributes: u32, policy: &[u8]) -> Vec<u8> {
        let aes_128_cfb = [0x00, 0x06, 0x00, 0x80, 0x00, 0x43];
        area(&self.ek, attributes, policy, &aes_128_cfb, &[0x00, 0x10])
    }

    pub(crate) fn ek_id(&self) -> String {
        hex::encode(Sha256::digest(self.ek_public()))
    }

    pub(crate) fn ak_public(&self) -> Vec<u8> {
        let ecdsa_sha256 = [0x00, 0x18, 0x00, 0x0b];
        area(
            &self.ak,
            self.ak_attributes,
            &[],
            &[0x00, 0x10],
            &ecdsa_sha256,
        )
    }

    fn ak_name(&self) -> Vec<u8> {
        [&[0x00, 0x0b][..], &Sha256::digest(self.ak_public())].concat()
    }

    pub(crate) fn introduction(&self) -> AuthRequest {
        AuthRequest {
            version: VERSION.into(),
            tee: TEE.into(),
            extra_params: AuthParams {
                hash_algorithms: vec!["sha256".into()],
                nightlatch: Some(Introduction {
                    version: EXTENSION,
                    ek_public: Bytes(self.ek_public()),
                    ek_certificate: None,
                    ak_public: Bytes(self.ak_public()),
                }),
            },
        }
    }

    /// `TPM2_ActivateCredential`; nothing where the TPM would not do it.
    pub(crate) fn activate(&self, credential: &Credential) -> Option<Vec<u8>> {
        let sent = &credential.secret.0;
        let (x, y) = (sent.get(2..34)?, sent.get(36..68)?);
        let shared = curve::agree(&self.ek, x, y)?;
        let [own, _] = curve::public(&self.ek);
        let seed = Sha256::new()
            .chain_update(1_u32.to_be_bytes())
            .chain_update(shared)
            .chain_update(b"IDENTITY\0")
            .chain_update(x)
            .chain_update(own)
            .finalize();
        let name = self.ak_name();
        let (hmac, identity) = credential.blob.0.split_at_checked(34)?;
        let key = mac(
            &seed,
            &[&1_u32.to_be_bytes(), b"INTEGRITY\0", &256_u32.to_be_bytes()],
        );
        if mac(&key, &[identity, &name]) != hmac.get(2..)? {
            return None;
        }
        let key = mac(
            &seed,
            &[
                &1_u32.to_be_bytes(),
                b"STORAGE\0",
                &name,
                &128_u32.to_be_bytes(),
            ],
        );
        let key: [u8; 16] = key.get(..16)?.try_into().ok()?;
        let mut identity = identity.to_vec();
        cfb_mode::Decryptor::<Aes128>::new(&key.into(), &[0; 16].into()).decrypt(&mut identity);
        Some(identity.get(2..)?.to_vec())
    }

    /// What an honest machine is about to send.
    pub(crate) fn draft(&self, challenge: &Challenge, volumes: &[VolumeClaim]) -> Draft {
        let credential = challenge.credential().unwrap().unwrap();
        let ephemeral = curve::generate();
        Draft {
            magic: 0xff54_4347,
            kind: 0x8018,
            algorithm: 0x000b,
            selection: [0xff; 3],
            quoted: self.pcrs.clone(),
            given: self.pcrs.clone(),
            signer: self.ak.clone(),
            ak_spki: spki(&self.ak),
            runtime_data: RuntimeData {
                nonce: challenge.nonce.clone(),
                tee_pubkey: curve::web_key(&ephemeral),
            },
            claims: Claims {
                version: EXTENSION,
                credential: Bytes(self.activate(&credential).unwrap_or_default()),
                firmware_log: None,
                userspace_log: None,
                volumes: volumes.to_vec(),
                last_failure: None,
            },
            qualifying: None,
            ephemeral,
        }
    }
}

/// A claim of a volume.
pub(crate) fn volume(uuid: &str, role: Role, epoch: Option<u64>) -> VolumeClaim {
    VolumeClaim {
        uuid: uuid.to_owned(),
        role,
        epoch,
    }
}

/// What a machine is about to send. Whatever is changed here is signed as it is.
pub(crate) struct Draft {
    pub(crate) magic: u32,
    pub(crate) kind: u16,
    pub(crate) algorithm: u16,
    pub(crate) selection: [u8; 3],
    /// The values the quote is over.
    pub(crate) quoted: Vec<[u8; 32]>,
    /// The values beside it.
    pub(crate) given: Vec<[u8; 32]>,
    pub(crate) signer: Key,
    pub(crate) ak_spki: Vec<u8>,
    pub(crate) runtime_data: RuntimeData,
    pub(crate) claims: Claims,
    /// What the quote is about, where it is not what it should be.
    pub(crate) qualifying: Option<[u8; 32]>,
    ephemeral: Key,
}

impl Draft {
    /// What was encrypted to the key of this boot.
    pub(crate) fn open(&self, jwe: &Jwe) -> Vec<u8> {
        curve::open(&self.ephemeral, jwe).unwrap()
    }

    /// Signs it.
    pub(crate) fn request(&self) -> AttestRequest {
        let additional = Additional {
            nightlatch: self.claims.clone(),
        };
        let additional = serde_json::to_string(&additional).unwrap();
        let qualifying = self
            .qualifying
            .unwrap_or_else(|| self.runtime_data.qualifying(&additional).unwrap());
        let message = [
            &self.magic.to_be_bytes()[..],
            &self.kind.to_be_bytes(),
            &sized(&[0xa5; 34]),
            &sized(&qualifying),
            &[0; 8 + 4 + 4],
            &[1],
            &[0; 8],
            &1_u32.to_be_bytes(),
            &self.algorithm.to_be_bytes(),
            &[3],
            &self.selection,
            &sized(&Sha256::digest(self.quoted.concat())),
        ]
        .concat();
        let [r, s] = curve::sign(&self.signer, &message);
        let signature = [&[0x00, 0x18, 0x00, 0x0b][..], &sized(&r), &sized(&s)].concat();
        AttestRequest {
            init_data: None,
            runtime_data: self.runtime_data.clone(),
            tee_evidence: TeeEvidence {
                primary_evidence: TpmEvidence {
                    tpm_quote: TpmQuote {
                        signature: Bytes(signature),
                        message: Bytes(message),
                        pcrs: self.given.iter().map(hex::encode).collect(),
                    },
                    ak_public: Bytes(self.ak_spki.clone()),
                },
                additional_evidence: additional,
            },
        }
    }
}

/// A record of systemd's event log.
pub(crate) fn userspace_record(pcr: u8, text: &str) -> Vec<u8> {
    let digest = hex::encode(Sha256::digest(text));
    let record = serde_json::json!({
        "pcr": pcr,
        "digests": [{"hashAlg": "sha256", "digest": digest}],
        "content_type": "systemd",
        "content": {"string": text, "bootId": "00", "timestamp": 1, "eventType": "phase"},
    });
    format!("\u{1e}{record}\n").into_bytes()
}

/// A `TPMT_PUBLIC` of a key on P-256.
fn area(key: &Key, attributes: u32, policy: &[u8], symmetric: &[u8], scheme: &[u8]) -> Vec<u8> {
    let [x, y] = curve::public(key);
    [
        &[0x00, 0x23, 0x00, 0x0b][..],
        &attributes.to_be_bytes(),
        &sized(policy),
        symmetric,
        scheme,
        &[0x00, 0x03, 0x00, 0x10],
        &sized(&x),
        &sized(&y),
    ]
    .concat()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap();
    [&len.to_be_bytes(), bytes].concat()
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}
