// SPDX-License-Identifier: Apache-2.0
//! `recover`: keys for nodes that wait, each once it has shown what it is.
//!
//! **Never:** a key sent to what was not attested, opened its credential, and was meant.

mod expected;
mod limits;
mod node;
mod scan;
mod secret;
mod signing;
#[cfg(test)]
mod tests;
mod told;

use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use self::expected::Expected;
use self::node::{Attested, Session};
use self::secret::Given;
use self::told::{Outcome, answer, line, question, tell};
use crate::ctl::cli::Recover;
use crate::ctl::question::confirm;
use crate::ctl::{Answer, usage};
use crate::error::{Doing, Error, Result};
use crate::evidence::Policy;
use crate::key::Secret;
use crate::protocol::Bytes;
use crate::protocol::recovery::PREFIX_LEN;
use crate::protocol::recovery::{
    Message, Need, Push, PushedKey, PushedVolume, SignedText, VERSION, Verdicts, WaitingVolume,
    Word, frame,
};

/// What is the same for all nodes.
struct Operator<'a> {
    options: &'a Recover,
    policy: Policy,
    secret: Option<Given>,
    expected: Option<Expected>,
    /// Who asks the operator for something.
    terminal: Mutex<()>,
}

/// Where a node waits, or may.
#[derive(Debug, Eq, PartialEq)]
enum Place {
    Named(String),
    Scanned(String),
}

impl Place {
    fn address(&self) -> &str {
        match self {
            Self::Named(address) | Self::Scanned(address) => address,
        }
    }
}

/// Whether the fleet's list has a node with each of its volumes.
#[derive(Debug, Eq, PartialEq)]
enum Listed {
    Whole,
    /// It does not have these, or there is none.
    Not(Vec<String>),
}

/// How many nodes are worked on at once.
const AT_ONCE_MAX: usize = 64;
/// How long a connection with a node may take to be made, and with an address where one may wait.
const CONNECT_MAX: Duration = Duration::from_secs(10);
const SCAN_MAX: Duration = Duration::from_secs(3);

pub(super) fn recover(options: &Recover) -> Result<Answer> {
    if options.master_secret.is_none() && options.key_file.is_none() && options.words.is_empty() {
        return Err(usage(
            "recover: expected --master-secret or --key-file, or a word for a volume that needs no key",
        ));
    }
    if options.yes && !options.words.is_empty() && !is_for_one(options) {
        return Err(usage(
            "recover: --word lets one node's disk go on, and with --yes nobody looks at it: expected one --node and no --scan",
        ));
    }
    let operator = Operator {
        options,
        policy: Policy::load(&options.policy)?,
        secret: Given::read(options)?,
        expected: options.expect.as_deref().map(Expected::read).transpose()?,
        terminal: Mutex::default(),
    };
    let places = places(options)?;
    let outcomes = operator.recover_all(&places);
    if outcomes.is_empty() {
        return Err(Error::temporary(format_args!(
            "recover: none of {} addresses answers: no node waits there, or none that this machine reaches",
            places.len()
        )));
    }
    Ok(answer(&outcomes))
}

/// Where nodes wait, and where some may.
fn places(options: &Recover) -> Result<Vec<Place>> {
    let named = options.nodes.iter().cloned().map(Place::Named);
    let scanned = options.scan.as_deref().map(scan::read).transpose()?;
    let scanned = scanned.into_iter().flatten();
    // Who is named as well is not one of those that may be silent.
    let scanned = scanned.filter(|address| !options.nodes.contains(address));
    Ok(named.chain(scanned.map(Place::Scanned)).collect())
}

impl Operator<'_> {
    /// Works on many at once, and says of each what came of it when that is known: those that were asked for, in their order.
    fn recover_all<'p>(&self, places: &'p [Place]) -> Vec<(&'p str, Outcome)> {
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = || {
            let mut outcomes = Vec::new();
            while let Some((at, place)) = take(places, &next) {
                let outcome = self.outcome(place);
                let done = done.fetch_add(1, Ordering::SeqCst).saturating_add(1);
                if let Some(outcome) = outcome {
                    let line = line(place.address(), &outcome);
                    tell(&format!("[{done}/{}] {line}", places.len()));
                    outcomes.push((at, (place.address(), outcome)));
                }
            }
            outcomes
        };
        let mut all = thread::scope(|scope| {
            let count = places.len().min(AT_ONCE_MAX);
            let workers: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
            let done = workers.into_iter().map(thread::ScopedJoinHandle::join);
            // A thread that panics has said so, and has no outcome.
            done.flat_map(thread::Result::unwrap_or_default)
                .collect::<Vec<_>>()
        });
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// What came of a node; none where nobody answers and nobody had to.
    fn outcome(&self, place: &Place) -> Option<Outcome> {
        let socket = match place {
            Place::Named(address) => node::connect(address, CONNECT_MAX),
            Place::Scanned(address) => Ok(node::connect(address, SCAN_MAX).ok()?),
        };
        let mut attested = None;
        let result = socket
            .doing("connecting")
            .and_then(|socket| self.recover(place.address(), socket, &mut attested));
        Some(Outcome { attested, result })
    }

    /// Attests the node, asks where it has to be asked, and pushes.
    fn recover(
        &self,
        address: &str,
        socket: TcpStream,
        shown: &mut Option<Attested>,
    ) -> Result<Verdicts> {
        let mut session = Session::over(socket, &self.policy)?;
        let attested = shown.insert(session.attested().clone());
        self.is_enough(&attested.volumes)?;
        let listed = self.is_listed(attested)?;
        // The list says whose the disk is, and neither how old it may be nor whose one secret is.
        let is_of_one = self.options.key_file.is_some() && !is_for_one(self.options);
        let is_asked = listed != Listed::Whole || needs_a_word(attested) || is_of_one;
        if is_asked && !self.options.yes {
            let unlisted = match listed {
                Listed::Whole => Vec::new(),
                Listed::Not(unlisted) => unlisted,
            };
            // An address has two connections, and this one would not outlive a person's time.
            drop(session);
            self.one_at_a_time(|| confirm(false, &question(address, attested, &unlisted)))?;
            session = Session::open(address, &self.policy)?;
            if !session.attested().is_like(attested) {
                return Err(Error::refused(
                    "the node is another one than before, or waits for something else: look at it again",
                ));
            }
        }
        let message = self.message(&session)?;
        let text = frame(&message)?.split_off(PREFIX_LEN);
        let text = SignedText(Secret::new(text));
        // A passphrase or a touch is asked for there.
        let signature =
            self.one_at_a_time(|| signing::sign(&self.options.identity, text.bytes()))?;
        session.push(&Push {
            message: text,
            signature,
        })
    }

    /// There is one terminal.
    fn one_at_a_time<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let terminal = self.terminal.lock();
        let done = work();
        drop(terminal);
        done
    }

    /// Whether what is given is what the volumes wait for.
    fn is_enough(&self, volumes: &[WaitingVolume]) -> Result<()> {
        for volume in volumes {
            let words = volume.needs.iter().filter_map(|need| match need {
                Need::Readmit => Some(Word::Readmit),
                Need::Rollback => Some(Word::Rollback),
                Need::Key => None,
            });
            let mut missing = words.filter(|word| !self.options.words.contains(word));
            let why = match missing.next() {
                Some(Word::Readmit) => {
                    "its TPM has no record of it that can be read, so nothing tells the age of that disk: where it is the right one, add --word readmit"
                }
                Some(Word::Rollback) => {
                    "it is of an older state than the TPM counts: to go back on purpose, add --word rollback"
                }
                None if self.secret.is_none() && volume.needs.contains(&Need::Key) => {
                    "it waits for its key: add --master-secret or --key-file"
                }
                None => continue,
            };
            let WaitingVolume { name, uuid, .. } = volume;
            return Err(Error::refused(format_args!(
                "volume {name} ({uuid}): {why}"
            )));
        }
        match &self.secret {
            Some(Given::Key(_)) if volumes.len() != 1 => Err(Error::refused(format_args!(
                "--key-file is for one volume, and the node waits for {}",
                volumes.len()
            ))),
            _ => Ok(()),
        }
    }

    /// Whether the list has this node with each of its volumes. What it has for another one is not asked about: the keys of that
    /// node's disk would go to this one.
    fn is_listed(&self, attested: &Attested) -> Result<Listed> {
        let Some(expected) = &self.expected else {
            return Ok(Listed::Not(Vec::new()));
        };
        let mut unlisted = Vec::new();
        let mut others = Vec::new();
        for WaitingVolume { name, uuid, .. } in &attested.volumes {
            match expected.owner(uuid) {
                Some(ek) if ek == attested.ek => {}
                Some(other) => others.push(format!(
                    "volume {name} ({uuid}): the list has it for endorsement key {other}"
                )),
                None => unlisted.push(format!(
                    "volume {name} ({uuid}): the list has it for no node"
                )),
            }
        }
        let ek = &attested.ek;
        if !others.is_empty() {
            return Err(Error::refused(format_args!(
                "{}, and this is {ek}: where its TPM is another one or its disk was moved, correct the list",
                others.join("; ")
            )));
        }
        if unlisted.is_empty() {
            return Ok(Listed::Whole);
        }
        if self.options.new_owner {
            return Ok(Listed::Not(unlisted));
        }
        Err(Error::refused(format_args!(
            "{}, and this is {ek}: where that is meant, add --new-owner",
            unlisted.join("; ")
        )))
    }

    fn message(&self, session: &Session) -> Result<Message> {
        let attested = session.attested();
        let volumes = attested.volumes.iter().map(|volume| {
            // What is not asked for does not travel: it could only be wrong.
            let secret = self.secret.as_ref();
            let secret = secret.filter(|_| volume.needs.contains(&Need::Key));
            let key = secret.map(|given| given.of(&volume.uuid));
            let words = self.options.words.iter().copied();
            let words =
                words.filter(|word| volume.needs.iter().any(|it| it.as_str() == word.as_str()));
            Ok(PushedVolume {
                uuid: volume.uuid.clone(),
                key: key.transpose()?.map(PushedKey),
                words: words.collect(),
                key_id: volume.key_id.clone(),
                epoch: volume.epoch,
            })
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Message {
            version: VERSION,
            node: session.node().to_owned(),
            nonce: Bytes(session.nodes_nonce().to_vec()),
            said_s: now.map_err(Error::failure)?.as_secs(),
            volumes: volumes.collect::<Result<_>>().doing("deriving keys")?,
        })
    }
}

/// Whether one node is meant.
fn is_for_one(options: &Recover) -> bool {
    options.scan.is_none() && options.nodes.len() == 1
}

/// Whether more than a key goes to it.
fn needs_a_word(attested: &Attested) -> bool {
    let mut needs = attested.volumes.iter().flat_map(|volume| &volume.needs);
    needs.any(|need| *need != Need::Key)
}

/// The next place that nobody works on.
fn take<'p>(places: &'p [Place], next: &AtomicUsize) -> Option<(usize, &'p Place)> {
    let at = next.fetch_add(1, Ordering::SeqCst);
    places.get(at).map(|place| (at, place))
}
