// SPDX-License-Identifier: Apache-2.0
//! What is remembered of volumes and nodes, and the rules by which it changes.
//!
//! A volume belongs to the first node that registered it ([`register`]), until an operator says otherwise.
//!
//! **Never:** a write over what somebody else wrote meanwhile: what changed is read and judged again.

pub mod master;
pub mod readmission;
pub mod rollback;
pub mod sightings;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::Role;
use crate::error::{Doing, Error, Result};
use crate::keyservice::session::Admitted;
use crate::keyservice::store::{Entry, Store};
use crate::keyservice::volume_id::VolumeId;
use crate::protocol::admin::{Denial, LastAcceptance, Readmission, Rollback, ToldFailure};
use crate::protocol::{EphemeralKey, VolumeRecord, VolumeReport};

/// What keys of volumes start with; the UUID follows.
pub const VOLUMES: &str = "volume/";
/// What keys of nodes start with; the id of the endorsement key follows.
pub const NODES: &str = "node/";

/// How often a change is tried again because somebody else changed the same.
const TRIES_MAX: usize = 16;

/// A volume, which belongs to the first endorsement key that asked for its key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct VolumeEntry {
    /// The id of that endorsement key.
    pub ek: String,
    /// What the volume is for.
    pub role: Role,
    /// When it was registered, seconds since 1970.
    pub registered_s: u64,
    /// What nodes reported of it.
    pub record: VolumeRecord,
    /// Whether its secret is one that the node made itself, by the last report. Nothing but what operators see follows from it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_secret: bool,
    /// The last boot in which something was accepted of it, by its report. Nothing but what operators see follows from it.
    #[serde(
        default,
        deserialize_with = "LastAcceptance::if_known",
        skip_serializing_if = "Option::is_none"
    )]
    pub accepted: Option<LastAcceptance>,
    /// Whether another endorsement key may have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readmission: Option<Readmission>,
    /// The time in the last answer for an operator's word, seconds since 1970. It outlives the word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_s: Option<u64>,
    /// The session that had that answer, by the key that its node drew for it; none where the word that there is led to no
    /// answer yet. See [`VolumeEntry::is_used_up`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_to: Option<EphemeralKey>,
    /// The last answer after which a boot was reported that had it. Where that boot went on without it, its volume being remembered
    /// after all, a copy that an answer led to would pass for newer than what was reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub void_s: Option<u64>,
    /// Whether an older state of it is gone on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
    /// The session that took that word last, by the key that its node drew for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_by: Option<EphemeralKey>,
}

impl VolumeEntry {
    /// Whether the next machine may have the volume for the word of an operator: nobody has taken it yet.
    #[must_use]
    pub fn is_free(&self, now_s: u64) -> bool {
        self.grant(now_s).is_some_and(|grant| grant.ek.is_none())
    }

    /// Whether the node with endorsement key `ek` has the volume for the word of an operator, which is not used up.
    #[must_use]
    pub fn is_readmitted(&self, ek: &str, now_s: u64) -> bool {
        let is_its = |grant: &Readmission| grant.ek.as_deref() == Some(ek);
        self.ek == ek && self.grant(now_s).is_some_and(is_its)
    }

    /// Whether a report of `session`, whose node the volume is, ends the operator's word that the node has it for: it is of the
    /// boot that was answered last, or the word is over.
    ///
    /// A host can hold the report of an attempt back, clear the TPM, and let it through while the next attempt is under way,
    /// for as long as the admission of the first one lasts. That attempt would be left without the word: cut off, it could
    /// not be made again. The epoch of a report does not say which answer it follows from: at levels that compare none it never
    /// changes, and a boot whose TPM remembers the volume was answered too and goes on with the epochs of an earlier answer. The
    /// session does, and the service has sealed it: its key is drawn for one handshake.
    ///
    /// A report that comes before the next answer does end the word, wherever the next boot is: that one has opened nothing yet,
    /// and stops. Where the last answer was of a version that does not write the session down, the report of the next boot does.
    fn is_used_up(&self, session: &Admitted, now_s: u64) -> bool {
        let is_last = self.answered_to.as_ref() == Some(&session.tee_pubkey);
        let grant = self.readmission.as_ref();
        grant.is_some_and(|grant| {
            grant.ek.as_deref() == Some(session.ek.as_str()) && (is_last || !grant.holds(now_s))
        })
    }

    /// The word, while it holds.
    fn grant(&self, now_s: u64) -> Option<&Readmission> {
        let grant = self.readmission.as_ref();
        grant.filter(|grant| grant.holds(now_s))
    }
}

/// A node, which is its TPM's endorsement key.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NodeEntry {
    /// When it was admitted for the first time, seconds since 1970.
    pub first_seen_s: u64,
    /// When it was admitted last.
    pub last_seen_s: u64,
    /// What it had booted then, as the policy calls it.
    pub image: String,
    /// Where it was.
    pub address: String,
    /// The last time it proved its TPM and was denied all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denial: Option<Denial>,
    /// The last boot that failed before one that was admitted, as the node says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ToldFailure>,
}

/// Whose a volume is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Registered {
    /// This node's, as of now or since earlier.
    Ours(VolumeEntry),
    /// The next node's by an operator's word, whoever it was registered to: see [`crate::keyservice::registry::readmission`].
    Free(VolumeEntry),
    /// The node's with this endorsement key.
    Theirs(String),
}

/// Registers `node` and `volumes` where they are new, in one write, and says whose each volume is.
pub fn register(
    store: &Store,
    ek: &str,
    node: &NodeEntry,
    volumes: &[(VolumeId, Role)],
) -> Result<Vec<Registered>> {
    let node_key = format!("{NODES}{ek}");
    let mut keys: Vec<String> = volumes
        .iter()
        .map(|(id, _)| format!("{VOLUMES}{id}"))
        .collect();
    keys.push(node_key.clone());
    let mut known = store.get_all(&keys)?;
    let is_known = known.pop().flatten().is_some();
    let mut new = Vec::new();
    let mut found = Vec::new();
    for (((_, role), key), known) in volumes.iter().zip(keys).zip(known) {
        let entry = VolumeEntry {
            ek: ek.to_owned(),
            role: *role,
            registered_s: node.last_seen_s,
            record: VolumeRecord {
                key_id: None,
                epoch: 0,
                nonce: None,
            },
            own_secret: false,
            accepted: None,
            readmission: None,
            answered_s: None,
            answered_to: None,
            void_s: None,
            rollback: None,
            rollback_by: None,
        };
        if let Some(known) = known {
            found.push(parse(&known)?);
        } else {
            new.push((key, text(&entry)?));
            found.push(entry);
        }
    }
    let is_free = |volume: &VolumeEntry| volume.is_free(node.last_seen_s);
    // A volume of somebody else comes to nothing, so nothing is registered beside it.
    let theirs = found
        .iter()
        .any(|volume: &VolumeEntry| volume.ek != ek && !is_free(volume));
    if !theirs && (!is_known || !new.is_empty()) {
        if !is_known {
            new.push((node_key, text(node)?));
        }
        let made = store.create(&new)?;
        for ((key, _), there) in new.iter().zip(made) {
            let Some(there) = there else { continue };
            let place = volumes
                .iter()
                .position(|(id, _)| key.strip_prefix(VOLUMES) == Some(id.as_str()));
            if let Some(entry) = place.and_then(|place| found.get_mut(place)) {
                *entry = parse(&there)?;
            }
        }
    }
    let whose = |entry: VolumeEntry| {
        if is_free(&entry) {
            Registered::Free(entry)
        } else if entry.ek == ek {
            Registered::Ours(entry)
        } else {
            Registered::Theirs(entry.ek)
        }
    };
    Ok(found.into_iter().map(whose).collect())
}

/// What is remembered of a volume.
pub fn volume(store: &Store, id: &VolumeId) -> Result<Option<VolumeEntry>> {
    let entry = store.get(&format!("{VOLUMES}{id}"))?;
    entry.as_ref().map(parse).transpose()
}

/// What is remembered of a node.
pub fn node(store: &Store, ek: &str) -> Result<Option<NodeEntry>> {
    let entry = store.get(&format!("{NODES}{ek}"))?;
    entry.as_ref().map(parse).transpose()
}

/// What comes of a report.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reported {
    /// This is remembered now.
    Kept(VolumeRecord),
    /// It contradicts what is remembered; says how.
    Contradicts(String),
    /// The volume is not this node's.
    NotOurs,
}

/// Takes a report of a node about its volume: epochs only grow, and the id of the key is set once, and the nonce once for each
/// epoch. A boot has succeeded then, so the word of an operator that it had the volume for is used up. A late report of an
/// earlier boot says what it says of the volume, and leaves the word.
pub fn report(
    store: &Store,
    session: &Admitted,
    id: &VolumeId,
    told: &VolumeReport,
    now_s: u64,
) -> Result<Reported> {
    let reported = change(store, id, |entry| {
        if entry.ek != session.ek {
            return Reported::NotOurs;
        }
        let is_of_word = entry.rollback_by.as_ref() == Some(&session.tee_pubkey);
        if is_of_word {
            entry.rollback = None;
            entry.rollback_by = None;
        }
        let merged = match merge(&entry.record, &told.record) {
            Ok(merged) => merged,
            Err(why) if is_of_word && told.record.epoch < entry.record.epoch => {
                return Reported::Contradicts(format!(
                    "{why}, and its TPM with it, so the word is used up and helped for one boot: \"nightlatchctl nodes forget\" lets it go on"
                ));
            }
            Err(why) => return Reported::Contradicts(why),
        };
        if entry.is_used_up(session, now_s) {
            entry.readmission = None;
        }
        if entry.answered_to.as_ref() == Some(&session.tee_pubkey) {
            entry.void_s = entry.answered_s;
        }
        entry.record = merged.clone();
        entry.own_secret = told.own_secret;
        // What a boot says in which nothing was accepted leaves it: operators look days later.
        if let Some(what) = told.accepted {
            entry.accepted = Some(LastAcceptance {
                what,
                reported_s: now_s,
            });
        }
        Reported::Kept(merged)
    })?;
    Ok(reported.unwrap_or(Reported::NotOurs))
}

/// Has `work` change what is remembered of a volume, again if somebody else changed it meanwhile, and returns what `work` did
/// when it counted. Writes nothing where nothing changed. None where no such volume is registered.
pub(crate) fn change<T>(
    store: &Store,
    id: &VolumeId,
    work: impl Fn(&mut VolumeEntry) -> T,
) -> Result<Option<T>> {
    for _ in 0..TRIES_MAX {
        let Some(old) = store.get(&format!("{VOLUMES}{id}"))? else {
            return Ok(None);
        };
        let known: VolumeEntry = parse(&old)?;
        let mut entry = known.clone();
        let done = work(&mut entry);
        if entry == known || store.swap(&[(old, text(&entry)?)])? == [true] {
            return Ok(Some(done));
        }
    }
    Err(Error::temporary(format_args!(
        "volume {id}: its record changes all the time"
    )))
}

fn merge(known: &VolumeRecord, told: &VolumeRecord) -> std::result::Result<VolumeRecord, String> {
    if told.epoch < known.epoch {
        return Err(format!(
            "epoch {} was reported, and {} is recorded: the volume was rolled back",
            told.epoch, known.epoch
        ));
    }
    let key_id = match (&known.key_id, &told.key_id) {
        (Some(known), Some(told)) if known != told => {
            return Err(format!(
                "key id {told} was reported, and {known} is recorded: it is another volume"
            ));
        }
        (Some(id), _) | (None, Some(id)) => Some(id.clone()),
        (None, None) => None,
    };
    let nonce = match (known.nonce, told.nonce) {
        // Of a higher epoch nothing was known yet. What a node of before does not say is not known then.
        (_, nonce) if told.epoch > known.epoch => nonce,
        (Some(known), Some(told)) if known != told => {
            return Err(format!(
                "nonce {told} was reported, and {known} is recorded for the same epoch: another boot, which was cut off, wrote \
                 the header"
            ));
        }
        (known, told) => known.or(told),
    };
    Ok(VolumeRecord {
        key_id,
        epoch: told.epoch,
        nonce,
    })
}

/// Takes a value of the store apart.
pub fn parse<T: DeserializeOwned>(entry: &Entry) -> Result<T> {
    serde_json::from_slice(&entry.value)
        .map_err(Error::failure)
        .doing(format_args!("reading {} from the store", entry.key))
}

/// A value for the store.
pub fn text(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(Error::failure)
}
