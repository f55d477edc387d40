// SPDX-License-Identifier: Apache-2.0
//! The operator in this boot: which volumes wait for one, what one has pushed, and the wait.
//!
//! A push is one more try of all that comes before the first measurement: what was given is there as a source is, and what the
//! boot then says of the volume is the verdict. So nothing is acknowledged that did not open the keyslot and pass the anchor, and
//! what is right is kept while another volume still waits. Meanwhile the key service is asked again now and then, and whoever
//! comes first has the port closed.
//!
//! Nothing is measured and nothing fenced while a node waits, so it waits for what a push can end, and for nothing else.

mod wait;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use log::warn;

use crate::anchor::judge::{Readmission, VolumeProof};
use crate::config::{Config, Source, Volume, VolumeName};
use crate::error::{Doing, Error, Exit, Result};
use crate::key::openssh::OpensshKey;
use crate::key::{KEY_LEN, Secret};
use crate::protocol::VolumeRecord;
use crate::protocol::recovery::{Message, Need, Verdict, Verdicts, WaitingVolume, Word};
pub(crate) use crate::sources::recovery::wait::Waiting;
use crate::sources::service::Asking;

/// How long the key service is left alone while an operator is waited for.
const SERVICE_PAUSE: Duration = Duration::from_secs(60);

/// The operators of this boot.
#[derive(Debug)]
pub(crate) struct OperatorSession(Option<Operators>);

#[derive(Debug)]
struct Operators {
    keys: Vec<OpensshKey>,
    port: u16,
    wait: Duration,
    /// [`SERVICE_PAUSE`], but in tests.
    service_pause: Duration,
    ek_certificate: Option<Vec<u8>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    given: BTreeMap<String, Arc<Given>>,
    waiting: Vec<WaitingVolume>,
    /// What was said of the volumes that failed last.
    failed: BTreeMap<String, String>,
    /// Whether a volume failed that has to be there, and for which no push can do anything.
    is_hopeless: bool,
    /// Whether a volume waits that has to be there.
    is_awaited: bool,
    /// The volumes that need not be there, and whose operator has said on the node that the next boot is to wait for one.
    called: Vec<VolumeName>,
    /// Those of them that nobody came for.
    given_up: Vec<VolumeName>,
    /// Whether the volumes were looked at: what failed before is for no operator to end.
    is_reached: bool,
}

/// What an operator has given for a volume.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) key: Option<Secret>,
    words: Vec<Word>,
    key_id: Option<String>,
    epoch: Option<u64>,
    said_s: u64,
}

/// Why a volume does not open, and what would let it.
#[derive(Debug)]
pub(crate) struct Refusal {
    error: Error,
    needs: Vec<Need>,
}

impl Refusal {
    pub(crate) fn new(error: Error, needs: &[Need]) -> Self {
        Self {
            error,
            needs: needs.to_vec(),
        }
    }
}

/// What nothing of a push's can end.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::new(error, &[])
    }
}

impl Given {
    pub(super) fn says(&self, word: Word) -> bool {
        self.words.contains(&word)
    }

    /// Words are for the header that the operator was shown.
    pub(super) fn names(&self, proven: &VolumeProof) -> Result<()> {
        let (key_id, epoch) = (hex::encode(proven.key_id), proven.stamp.epoch);
        if self.key_id.as_ref() == Some(&key_id) && self.epoch == Some(epoch) {
            return Ok(());
        }
        Err(Error::refused(format_args!(
            "the operator's word is for another header than this one, of key {key_id} and epoch {epoch}: the disk was changed since"
        )))
    }

    /// The word in the place of a key service's answer. The header alone says what it is, and nothing says how old.
    pub(super) fn readmission(&self, proven: &VolumeProof) -> Readmission {
        Readmission {
            record: record_of(proven),
            answered_s: self.said_s,
            void_s: 0,
        }
    }
}

/// The record of a volume that nobody but its header, which is authentic, tells of.
pub(super) fn record_of(proven: &VolumeProof) -> VolumeRecord {
    VolumeRecord {
        key_id: Some(hex::encode(proven.key_id)),
        epoch: proven.stamp.epoch,
        nonce: proven.stamp.nonce,
    }
}

impl OperatorSession {
    /// Reads what is needed to wait. Nobody is waited for yet.
    pub(crate) fn open(top: &Path, config: &Config) -> Result<Self> {
        let Some(recovery) = &config.recovery else {
            return Ok(Self(None));
        };
        let service = config.service.as_ref();
        let certificate = service.and_then(|service| service.ek_certificate.as_ref());
        let certificate = certificate.map(|path| path.read(top).doing("service.ek-certificate"));
        Ok(Self(Some(Operators {
            keys: recovery.operators(top)?,
            port: recovery.port,
            wait: recovery.wait(),
            service_pause: SERVICE_PAUSE,
            ek_certificate: certificate.transpose()?,
            state: Mutex::default(),
        })))
    }

    /// The same, which asks the key service again after another time.
    #[cfg(test)]
    pub(crate) fn pausing(mut self, service_pause: Duration) -> Self {
        if let Some(operators) = &mut self.0 {
            operators.service_pause = service_pause;
        }
        self
    }

    /// What an operator has given for the volume with this UUID.
    pub(crate) fn given(&self, uuid: &str) -> Result<Option<Arc<Given>>> {
        let state = self.state()?;
        Ok(state.and_then(|state| state.given.get(uuid).cloned()))
    }

    /// Takes down that a volume does not open, and what would let it.
    pub(crate) fn note(
        &self,
        volume: &Volume,
        mut waits: WaitingVolume,
        refusal: Refusal,
    ) -> Error {
        let Refusal { error, needs } = refusal;
        if let Ok(Some(mut state)) = self.state() {
            state.failed.insert(waits.uuid.clone(), error.to_string());
            if volume.sources.contains(&Source::Recovery) && !needs.is_empty() {
                (waits.needs, waits.why) = (needs, error.to_string());
                state.waiting.push(waits);
                state.is_awaited |= volume.required || state.called.contains(&volume.name);
            } else {
                state.is_hopeless |= volume.required;
            }
        }
        error
    }

    /// Takes down that a volume waits as one does that has to be there, where it fails by what a push can end.
    pub(super) fn call_for(&self, volume: &Volume) {
        if let Ok(Some(mut state)) = self.state()
            && !state.given_up.contains(&volume.name)
        {
            state.called.push(volume.name.clone());
        }
    }

    /// Whether the boot does not go on without a volume that need not be there.
    pub(crate) fn awaits(&self, volume: &Volume) -> Result<bool> {
        let state = self.state()?;
        Ok(state.is_some_and(|state| {
            let mut waiting = state.waiting.iter();
            state.called.contains(&volume.name) && waiting.any(|it| it.name == volume.name.as_str())
        }))
    }

    /// Whether nobody came for volumes that need not be there, so that the boot is to be tried without them, once.
    fn gives_up(&self) -> Result<bool> {
        Ok(self.state()?.is_some_and(|mut state| {
            let is_called = |it: &WaitingVolume| {
                let mut called = state.called.iter();
                called.any(|name| name.as_str() == it.name)
            };
            let is_for_them = !state.called.is_empty() && state.waiting.iter().all(is_called);
            if is_for_them {
                state.given_up = std::mem::take(&mut state.called);
            }
            is_for_them
        }))
    }

    /// Takes down that a volume failed for which no push can do anything.
    pub(super) fn note_hopeless(&self, volume: &Volume, error: Error) -> Error {
        if let Ok(Some(mut state)) = self.state() {
            state.is_hopeless |= volume.required;
        }
        error
    }

    /// Tries what comes before the first measurement, and waits for an operator where it fails by what one can end.
    pub(crate) fn attempt<T>(
        &self,
        boot: Waiting<'_>,
        mut work: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        match self.tried(&mut work) {
            Err(error) if self.is_waiting()? => {
                let waited = match self.wait(boot, error, &mut work) {
                    Err(error) if self.gives_up()? => {
                        warn!("{error}");
                        boot.service.ask_so(Asking::Briefly)?;
                        self.tried(&mut work)
                    }
                    waited => waited,
                };
                waited.map_err(Error::for_good)
            }
            done => done,
        }
    }

    /// Takes down that a try has come to the volumes.
    pub(super) fn note_reached(&self) {
        if let Ok(Some(mut state)) = self.state() {
            state.is_reached = true;
        }
    }

    /// One try. Where it fails by what passes, before any volume was looked at, the same volumes wait; and where each volume had its
    /// key, and what came then failed.
    fn tried<T>(&self, work: &mut impl FnMut() -> Result<T>) -> Result<T> {
        let before = match self.state()? {
            Some(mut state) => {
                state.failed.clear();
                state.is_hopeless = false;
                state.is_reached = false;
                state.called.clear();
                let is_awaited = std::mem::take(&mut state.is_awaited);
                (std::mem::take(&mut state.waiting), is_awaited)
            }
            None => (Vec::new(), false),
        };
        let done = work();
        if let (Err(error), Some(mut state)) = (&done, self.state()?)
            && (error.exit() == Exit::Temporary || state.is_reached)
            && state.failed.is_empty()
        {
            (state.waiting, state.is_awaited) = before;
            for waiting in state
                .waiting
                .iter_mut()
                .filter(|_| error.exit() != Exit::Temporary)
            {
                waiting.why = error.to_string();
            }
        }
        done
    }

    /// Keeps what was given for the volumes that wait. Returns what it names.
    fn take(&self, message: Message) -> Result<Vec<(String, Option<Error>)>> {
        let Some(mut state) = self.state()? else {
            return Ok(Vec::new());
        };
        let mut named = Vec::new();
        for pushed in message.volumes {
            let waits = state.waiting.iter().any(|it| it.uuid == pushed.uuid);
            let key = pushed.key.map(|key| key.0);
            let is_long_enough = key.as_ref().is_none_or(|it| it.expose().len() == KEY_LEN);
            let given = Given {
                key,
                words: pushed.words,
                key_id: pushed.key_id,
                epoch: pushed.epoch,
                said_s: message.said_s,
            };
            let why = match (waits, is_long_enough) {
                (true, true) => {
                    state.given.insert(pushed.uuid.clone(), Arc::new(given));
                    None
                }
                (false, _) => Some(Error::refused("the node does not wait for this volume")),
                (true, false) => Some(Error::refused(format_args!(
                    "expected a key of {KEY_LEN} bytes"
                ))),
            };
            named.push((pushed.uuid, why));
        }
        Ok(named)
    }

    /// What came of it. What was wrong is forgotten.
    fn verdicts(
        &self,
        named: &[(String, Option<Error>)],
        failure: Option<&Error>,
    ) -> Result<Verdicts> {
        let Some(mut state) = self.state()? else {
            return Err(Error::failure("nobody was waited for"));
        };
        let is_untried = state.failed.is_empty();
        let volumes = named.iter().map(|(uuid, why)| {
            let failed = state.failed.get(uuid).cloned();
            let untried = failure.filter(|_| is_untried).map(ToString::to_string);
            let wrong = why.as_ref().map(ToString::to_string);
            let wrong = wrong.or(failed).or(untried);
            Verdict {
                uuid: uuid.clone(),
                wrong,
            }
        });
        let volumes: Vec<Verdict> = volumes.collect();
        for verdict in volumes.iter().filter(|it| it.wrong.is_some()) {
            state.given.remove(&verdict.uuid);
        }
        Ok(Verdicts {
            refused: None,
            volumes,
            goes_on: failure.is_none(),
        })
    }

    /// Whether there is a volume that has to be there and that a push can open, and no such volume that it cannot.
    fn is_waiting(&self) -> Result<bool> {
        let state = self.state()?;
        Ok(state.is_some_and(|state| !state.is_hopeless && state.is_awaited))
    }

    fn state(&self) -> Result<Option<MutexGuard<'_, State>>> {
        let Some(operators) = &self.0 else {
            return Ok(None);
        };
        let state = operators.state.lock();
        state
            .map(Some)
            .map_err(|error| Error::failure(format_args!("source recovery: {error}")))
    }
}

#[cfg(test)]
mod tests;
