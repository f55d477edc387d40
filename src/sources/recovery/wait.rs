// SPDX-License-Identifier: Apache-2.0
//! The wait itself: an open port, requests of its connections one at a time, and the key service now and then.

use std::path::Path;
use std::time::Instant;

use log::{info, warn};

use super::OperatorSession;
use crate::client::Logs;
use crate::config::Config;
use crate::error::{Doing, Error, Result};
use crate::logging;
use crate::protocol::recovery::{Presentation, VERSION, Verdicts};
use crate::protocol::{Bytes, TpmQuote};
use crate::recovery::{Listener, Request};
use crate::sources::service::{Asking, ServiceSession};
use crate::tpm::{AkKind, Tpm};

/// How many pushes are tried in a boot. Each was signed by an operator, and a wrong key costs a second of the processor.
const TRIES_MAX: u32 = 64;

/// What a wait needs of the boot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting<'a> {
    pub(crate) top: &'a Path,
    pub(crate) config: &'a Config,
    pub(crate) service: &'a ServiceSession,
}

impl OperatorSession {
    pub(super) fn wait<T>(
        &self,
        boot: Waiting<'_>,
        mut last: Error,
        mut work: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let Some(operators) = &self.0 else {
            return Err(last);
        };
        let mut listener = match Listener::open(operators.port, operators.keys.clone()) {
            Ok(listener) => listener,
            Err(error) => {
                warn!("source recovery: {error}");
                return Err(last);
            }
        };
        let seconds = operators.wait.as_secs();
        warn!("{last}");
        warn!(
            "waiting {seconds} s for an operator, \"nightlatchctl recover\", on TCP port {}",
            operators.port
        );
        logging::progress(&format!("waiting for an operator: {last}"));
        let started = Instant::now();
        let mut asked = started;
        let mut tries = 0;
        let mut tpm = None;
        while started.elapsed() < operators.wait {
            match listener.next() {
                None => {}
                Some(Request::Present { qualifying, answer }) => {
                    // Whoever asked may be gone.
                    drop(answer.send(self.present(boot, &mut tpm, &qualifying)));
                }
                Some(Request::Open { credential, answer }) => {
                    let (blob, secret) = (&credential.blob.0, &credential.secret.0);
                    let opened = connected(boot, &mut tpm)
                        .and_then(|tpm| tpm.activate(AkKind::Ecdsa, blob, secret));
                    drop(answer.send(opened));
                }
                Some(Request::Push { answer, .. }) if tries >= TRIES_MAX => {
                    let why = Error::refused("too many pushes in one boot: reboot the node");
                    drop(answer.send(refused(&why)));
                }
                Some(Request::Push {
                    message,
                    by,
                    answer,
                }) => {
                    tries = tries.saturating_add(1);
                    info!(
                        "an operator pushed for {} volumes: {by}",
                        message.volumes.len()
                    );
                    // One connection to the TPM at a time.
                    tpm = None;
                    boot.service.ask_so(Asking::Not)?;
                    let named = self.take(message)?;
                    let done = self.tried(&mut work);
                    drop(answer.send(self.verdicts(&named, done.as_ref().err())?));
                    match done {
                        Ok(done) => return Ok(done),
                        Err(error) => last = error,
                    }
                }
            }
            if boot.config.service.is_some() && asked.elapsed() >= operators.service_pause {
                tpm = None;
                boot.service.ask_so(Asking::Briefly)?;
                match self.tried(&mut work) {
                    Ok(done) => return Ok(done),
                    Err(error) => last = error,
                }
                asked = Instant::now();
            }
            if !self.is_waiting()? {
                return Err(last);
            }
        }
        Err(last).doing(format_args!("no operator within {seconds} s"))
    }

    fn present(
        &self,
        boot: Waiting<'_>,
        tpm: &mut Option<Tpm>,
        qualifying: &[u8; 32],
    ) -> Result<Presentation> {
        let operators = self.0.as_ref();
        let certificate = operators.and_then(|it| it.ek_certificate.as_deref());
        let volumes = self.state()?.map(|state| state.waiting.clone());
        let tpm = connected(boot, tpm)?;
        let identity = tpm.identity(AkKind::Ecdsa, certificate)?;
        let evidence = tpm.attest(AkKind::Ecdsa, qualifying)?;
        let logs = Logs::read(boot.top, &boot.config.tpm.tcti);
        Ok(Presentation {
            version: VERSION,
            nonce: Bytes::default(),
            ek_public: Bytes(identity.ek_public),
            ek_certificate: identity.ek_certificate.map(Bytes),
            ak_public: Bytes(identity.ak_public),
            quote: TpmQuote {
                signature: Bytes(evidence.quote.signature),
                message: Bytes(evidence.quote.attest),
                pcrs: evidence.pcrs.iter().map(hex::encode).collect(),
            },
            firmware_log: logs.firmware.map(Bytes),
            userspace_log: logs.user_space.map(Bytes),
            volumes: volumes.unwrap_or_default(),
        })
    }
}

/// The connection to the TPM while nothing is tried.
fn connected<'a>(boot: Waiting<'_>, tpm: &'a mut Option<Tpm>) -> Result<&'a mut Tpm> {
    match tpm {
        Some(tpm) => Ok(tpm),
        None => Ok(tpm.insert(Tpm::open(&boot.config.tpm.tcti)?)),
    }
}

fn refused(why: &Error) -> Verdicts {
    Verdicts {
        refused: Some(why.to_string()),
        volumes: Vec::new(),
        goes_on: false,
    }
}
