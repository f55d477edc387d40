// SPDX-License-Identifier: Apache-2.0
//! A node on the other side: attested, and proven to be the one whose endorsement key it shows.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, SystemTime};

use super::CONNECT_MAX;
use crate::config::RECOVERY_PORT;
use crate::error::{Doing, Error, Result};
use crate::evidence::bundle::Pcrs;
use crate::evidence::{
    Ak, Check, Ek, Expected, Policy, Presented, Refusal, Registers, credential, verify,
};
use crate::https::raw_key::{self, OfClient};
use crate::key::fill_random;
use crate::pcr::Bank;
use crate::protocol::recovery::{
    Hello, NONCE_LEN, Opened, Presentation, Push, TO_OPERATOR_LEN_MAX, VERSION, VOLUMES_MAX,
    Verdicts, WaitingVolume, node_id, nonce, qualifying, receive, send,
};
use crate::protocol::{Bytes, Credential, EXTENSION};

/// How long the node may take to show what it is: it may be asking its key service meanwhile.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How long it may take to try what it was given.
const VERDICT_MAX: Duration = Duration::from_secs(180);
/// The length of what a `TPM2B` begins with.
const SIZE_LEN: usize = 2;

/// What a node has shown to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Attested {
    /// The id of its endorsement key, as the key service has it.
    pub(super) ek: String,
    /// What it has booted, as the policy calls it.
    pub(super) image: String,
    /// What it waits for.
    pub(super) volumes: Vec<WaitingVolume>,
}

impl Attested {
    /// Whether this is that node, waiting for the same. Why it waits changes by itself, as it asks its other sources again.
    pub(super) fn is_like(&self, before: &Self) -> bool {
        let without_why = |attested: &Self| {
            let mut attested = attested.clone();
            for volume in &mut attested.volumes {
                volume.why.clear();
            }
            attested
        };
        without_why(self) == without_why(before)
    }
}

/// A connection with a node that was attested.
#[derive(Debug)]
pub(super) struct Session {
    stream: OfClient,
    attested: Attested,
    node: String,
    nodes_nonce: [u8; NONCE_LEN],
}

impl Session {
    /// Connects, and has the node show what it is.
    pub(super) fn open(address: &str, policy: &Policy) -> Result<Self> {
        let socket = connect(address, CONNECT_MAX).doing("connecting")?;
        Self::over(socket, policy)
    }

    /// Has the node at the other end show what it is.
    pub(super) fn over(socket: TcpStream, policy: &Policy) -> Result<Self> {
        let (mut stream, tls_key) = raw_key::connect(socket, ANSWER_MAX)?;
        let mut operators_nonce = [0; NONCE_LEN];
        fill_random(&mut operators_nonce)?;
        let hello = Hello {
            version: VERSION,
            nonce: Bytes(operators_nonce.to_vec()),
        };
        send(&mut stream, &hello)?;
        let shown: Presentation = receive(&mut stream, TO_OPERATOR_LEN_MAX, "what the node is")?;
        let nodes_nonce = nonce(shown.version, &shown.nonce)?;
        let qualifying = qualifying(&operators_nonce, &tls_key, &nodes_nonce);
        let (attested, ek, ak) = attest(&shown, &qualifying, policy).doing("attesting")?;
        prove(&mut stream, &ek, &ak)?;
        Ok(Self {
            stream,
            attested,
            node: node_id(&shown.ek_public.0),
            nodes_nonce,
        })
    }

    pub(super) fn attested(&self) -> &Attested {
        &self.attested
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn nodes_nonce(&self) -> &[u8; NONCE_LEN] {
        &self.nodes_nonce
    }

    /// Gives the node what was signed for it, and waits for what comes of it.
    pub(super) fn push(mut self, push: &Push) -> Result<Verdicts> {
        self.stream.sock.limit(VERDICT_MAX);
        send(&mut self.stream, push)?;
        let verdicts = receive(&mut self.stream, TO_OPERATOR_LEN_MAX, "what came of it");
        verdicts
            .doing("the node took it and did not say what came of it; it may have gone on without")
    }
}

/// Connects, to each address of a name in turn, with so much time for each.
pub(super) fn connect(address: &str, at_most: Duration) -> Result<TcpStream> {
    let has_port = address.parse::<std::net::SocketAddr>().is_ok()
        || (!address.starts_with('[') && address.matches(':').count() == 1);
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    let found: Vec<_> = if has_port {
        address.to_socket_addrs().map(Iterator::collect)
    } else {
        (bare, RECOVERY_PORT)
            .to_socket_addrs()
            .map(Iterator::collect)
    }
    .map_err(Error::temporary)?;
    let mut last = Error::temporary("the name has no address");
    for address in found {
        match TcpStream::connect_timeout(&address, at_most) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Error::temporary(format_args!("{address}: {error}")),
        }
    }
    Err(last)
}

/// Judges what the node shows, as the key service would.
fn attest(
    shown: &Presentation,
    qualifying: &[u8; 32],
    policy: &Policy,
) -> Result<(Attested, Ek, Ak)> {
    let ek = Ek::parse(&shown.ek_public.0)?;
    let certificate = shown.ek_certificate.as_ref().map(|it| it.0.as_slice());
    policy.trusts(&ek, certificate, &[], SystemTime::now())?;
    let values = Pcrs::List(shown.quote.pcrs.clone()).values(Bank::Sha256)?;
    let expected = Expected {
        qualifying,
        bank: Bank::Sha256,
        pcrs: Registers::ALL,
    };
    let presented = Presented {
        ak: &shown.ak_public.0,
        attest: &shown.quote.message.0,
        signature: &shown.quote.signature.0,
        values: &values,
        firmware_log: shown.firmware_log.as_ref().map(|log| log.0.as_slice()),
        userspace_log: shown.userspace_log.as_ref().map(|log| log.0.as_slice()),
    };
    let verified = verify(&expected, &presented)?;
    policy.early(&verified)?;
    let image = policy.image(&verified).map_err(Refusal::from)?;
    if shown.volumes.is_empty() || shown.volumes.len() > VOLUMES_MAX {
        return Err(Error::refused("it waits for no volume, or for too many"));
    }
    for volume in &shown.volumes {
        let mut roles = policy.roles();
        if !roles.any(|role| policy.decide(&verified, role, volume.role).is_ok()) {
            let why = format!(
                "volume {}: no role of the policy lets image {image} have a {} volume",
                volume.uuid,
                volume.role.as_str()
            );
            return Err(Refusal::new(Check::Role, why).into());
        }
        let uuid = uuid::Uuid::try_parse(&volume.uuid).map_err(Error::refused)?;
        // Reserved ids are derived from the same secret: a UUID is none of them.
        if uuid.to_string() != volume.uuid {
            return Err(Error::refused(format_args!(
                "expected the UUID of a volume in lower case, found {:?}",
                volume.uuid
            )));
        }
    }
    let attested = Attested {
        ek: hex::encode(ek.id()),
        image: image.to_owned(),
        volumes: shown.volumes.clone(),
    };
    Ok((attested, ek, Ak::parse(&shown.ak_public.0)?))
}

/// Has the node open what only the TPM of `ek` opens, and only for the key that quoted.
fn prove(stream: &mut OfClient, ek: &Ek, ak: &Ak) -> Result<()> {
    let mut secret = [0; 32];
    fill_random(&mut secret)?;
    let made = credential::make(ek, &ak.name(), &secret)?;
    let body = |sized: Vec<u8>| Bytes(sized.get(SIZE_LEN..).unwrap_or_default().to_vec());
    let challenge = Credential {
        version: EXTENSION,
        blob: body(made.id_object),
        secret: body(made.encrypted_secret),
    };
    send(stream, &challenge)?;
    let opened = receive(stream, TO_OPERATOR_LEN_MAX, "what the credential held");
    let opened: Opened = opened.doing(
        "the node did not open the credential, as where its attestation key is not in the TPM of the endorsement key that it shows",
    )?;
    if opened.credential.0 != secret {
        return Err(Error::refused(
            "the node did not open the credential: its attestation key is not in the TPM of the endorsement key that it shows",
        ));
    }
    Ok(())
}
