// SPDX-License-Identifier: Apache-2.0
//! One handshake with one address, and what it is asked for afterwards.

use std::collections::BTreeMap;

use crate::client::http::Http;
use crate::client::{Failure, KeyRequest, VolumeKey, answer};
use crate::error::{Exit, Result};
use crate::key::{KEY_LEN, Secret};
use crate::protocol::jwe::EphemeralKeyPair;
use crate::protocol::{
    ATTEST_PATH, AUTH_PATH, Additional, AttestRequest, AuthParams, AuthRequest, Bytes, CLUSTER_TAG,
    Claims, Credential, EXTENSION, Introduction, MEASUREMENT_TYPE, RECORD_PATH, REPOSITORY,
    RESOURCE_PATH, Remembered, RuntimeData, TEE, TeeEvidence, TpmEvidence, TpmQuote, VERSION,
    VOLUME_TYPE,
};
use crate::tpm::{AkKind, Evidence, Tpm, TpmIdentity};

type Answered<T> = std::result::Result<T, Failure>;

/// What the clusterID is derived from.
#[derive(Debug)]
pub struct Cluster {
    /// The measurement secret.
    pub secret: Secret,
    /// The measurement salt.
    pub salt: [u8; KEY_LEN],
}

/// What one address gave.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) volumes: BTreeMap<String, std::result::Result<VolumeKey, String>>,
    pub(super) cluster: Option<Cluster>,
    pub(super) knows_records: bool,
}

/// Who goes to see the service.
pub(super) struct Handshake<'a> {
    pub(super) tpm: &'a mut Tpm,
    pub(super) kind: AkKind,
    pub(super) identity: &'a TpmIdentity,
    /// Whether the extension is spoken: a server that does not know it is another one than was meant.
    pub(super) extended: bool,
}

impl Handshake<'_> {
    pub(super) fn run(mut self, http: &mut Http, wanted: &KeyRequest) -> Answered<Collected> {
        let body = http.post(AUTH_PATH, &self.introduction())?;
        let (challenge, credential) = answer::challenge(&body)?;
        let credential = credential.filter(|_| self.extended);
        // Without it nothing would show which TPM this is, and nobody would remember the volumes.
        if self.extended && credential.is_none() {
            return Err(Failure::Final(
                "it does not know nightlatch's extension; a Trustee takes service.protocol = \"trustee\""
                    .into(),
            ));
        }
        if !http.has_session() {
            return Err(Failure::Final("it gave no session cookie".into()));
        }
        let additional = match &credential {
            Some(credential) => self.additional(credential, wanted)?,
            None => String::new(),
        };
        let pair = EphemeralKeyPair::generate()?;
        let runtime_data = RuntimeData {
            nonce: challenge.nonce,
            tee_pubkey: pair.public(),
        };
        let qualifying = runtime_data.qualifying(&additional)?;
        let evidence = self.tpm.attest(self.kind, &qualifying)?;
        let request = AttestRequest {
            init_data: None,
            runtime_data,
            tee_evidence: TeeEvidence {
                primary_evidence: primary(evidence, self.identity),
                additional_evidence: additional,
            },
        };
        answer::admission(&http.post(ATTEST_PATH, &request)?)?;
        collect(http, &pair, wanted, credential.is_some())
    }

    fn introduction(&self) -> AuthRequest {
        let introduction = Introduction {
            version: EXTENSION,
            ek_public: Bytes(self.identity.ek_public.clone()),
            ek_certificate: self.identity.ek_certificate.clone().map(Bytes),
            ak_public: Bytes(self.identity.ak_public.clone()),
        };
        AuthRequest {
            version: VERSION.into(),
            tee: TEE.into(),
            extra_params: AuthParams {
                hash_algorithms: vec!["sha256".into()],
                nightlatch: self.extended.then_some(introduction),
            },
        }
    }

    /// What else this node says to a server that knows the extension, in JSON.
    fn additional(&mut self, credential: &Credential, wanted: &KeyRequest) -> Answered<String> {
        let Credential { blob, secret, .. } = credential;
        let activated = self.tpm.activate(self.kind, &blob.0, &secret.0);
        let activated = activated.map_err(|error| match error.exit() {
            Exit::Refused => Failure::Final(error.to_string()),
            Exit::Failure | Exit::Usage | Exit::Unavailable | Exit::Temporary | Exit::Config => {
                Failure::Local(error)
            }
        })?;
        let additional = Additional {
            nightlatch: Claims {
                version: EXTENSION,
                credential: Bytes(activated.expose().to_vec()),
                firmware_log: wanted.logs.firmware.clone().map(Bytes),
                userspace_log: wanted.logs.user_space.clone().map(Bytes),
                volumes: wanted.volumes.clone(),
                last_failure: wanted.last_failure.clone(),
            },
        };
        serde_json::to_string(&additional).map_err(|error| Failure::Final(error.to_string()))
    }
}

fn primary(evidence: Evidence, identity: &TpmIdentity) -> TpmEvidence {
    TpmEvidence {
        tpm_quote: TpmQuote {
            signature: Bytes(evidence.quote.signature),
            message: Bytes(evidence.quote.attest),
            pcrs: evidence.pcrs.iter().map(hex::encode).collect(),
        },
        ak_public: Bytes(identity.ak_spki.clone()),
    }
}

/// Gets each thing. What the service denies of one volume is no trouble for the others.
fn collect(
    http: &mut Http,
    pair: &EphemeralKeyPair,
    wanted: &KeyRequest,
    knows_records: bool,
) -> Answered<Collected> {
    let mut volumes = BTreeMap::new();
    for claim in &wanted.volumes {
        let given = match volume(http, pair, &claim.uuid, knows_records) {
            Ok(given) => Ok(given),
            Err(Failure::Denied(said) | Failure::Final(said)) => Err(said),
            Err(
                failure @ (Failure::Later(_)
                | Failure::Busy(..)
                | Failure::Untrusted(_)
                | Failure::Local(_)),
            ) => return Err(failure),
        };
        volumes.insert(claim.uuid.clone(), given);
    }
    let cluster = if wanted.cluster {
        Some(cluster(http, pair)?)
    } else {
        None
    };
    Ok(Collected {
        volumes,
        cluster,
        knows_records,
    })
}

fn volume(
    http: &mut Http,
    pair: &EphemeralKeyPair,
    uuid: &str,
    knows_records: bool,
) -> Answered<VolumeKey> {
    let key = secret(http, pair, VOLUME_TYPE, uuid, KEY_LEN)?;
    let remembered = if knows_records {
        Some(record(http, uuid)?)
    } else {
        None
    };
    Ok(VolumeKey { key, remembered })
}

/// What the service remembers of the volume. Of one it has never heard of it remembers nothing.
fn record(http: &mut Http, uuid: &str) -> Answered<Remembered> {
    answer::record(&http.get(&format!("{RECORD_PATH}/{uuid}"))?)
}

fn cluster(http: &mut Http, pair: &EphemeralKeyPair) -> Answered<Cluster> {
    let both = secret(http, pair, MEASUREMENT_TYPE, CLUSTER_TAG, 2 * KEY_LEN)?;
    // Both halves have the length they were asked for.
    let (first, second) = both.expose().split_at(KEY_LEN);
    let mut salt = [0; KEY_LEN];
    salt.copy_from_slice(second);
    Ok(Cluster {
        secret: Secret::new(first.to_vec()),
        salt,
    })
}

fn secret(
    http: &mut Http,
    pair: &EphemeralKeyPair,
    kind: &str,
    tag: &str,
    len: usize,
) -> Answered<Secret> {
    let body = http.get(&format!("{RESOURCE_PATH}/{REPOSITORY}/{kind}/{tag}"))?;
    let opened: Result<Secret> = pair.open(&answer::resource(&body)?);
    let secret = opened.map_err(|error| Failure::Final(error.to_string()))?;
    if secret.expose().len() != len {
        return Err(Failure::Final(format!(
            "expected {len} bytes at {REPOSITORY}/{kind}/{tag}, found {}",
            secret.expose().len()
        )));
    }
    Ok(secret)
}
