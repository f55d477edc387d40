// SPDX-License-Identifier: Apache-2.0
//! `nodes`: what a key service remembers of the fleet, asked for at its admin listener.
//!
//! **Never:** a key of a volume: the admin listener gives none.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use ureq::Agent;
use ureq::http::Uri;
use uuid::Uuid;

use crate::clock::utc;
use crate::ctl::cli::{NodeOrVolume, NodeWord, Nodes, Server};
use crate::ctl::context::Context;
use crate::ctl::question::confirm;
use crate::ctl::table::{section, table};
use crate::ctl::{Answer, usage};
use crate::error::{Doing, Error, Result};
use crate::https;
use crate::protocol::admin::{
    ErrorBody, Forgotten, LastAcceptance, NODES_PATH, Node, Page, READMISSION, ROLLBACK,
    Readmission, Rollback, ToldFailure, VOLUMES_PATH, Volume,
};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// The longest answer that is read, in bytes: a page of nodes whose denials are long.
const ANSWER_LEN_MAX: u64 = 16 << 20;

/// Does what is asked, at the service that is meant.
pub(super) fn run(verb: &Nodes) -> Result<Answer> {
    match verb {
        Nodes::List { server } => list(&Service::of(server)?),
        Nodes::Show { id, server } => {
            let server = Service::of(server)?;
            match id {
                NodeOrVolume::Node(ek) => show_node(&server, ek),
                NodeOrVolume::Volume(uuid) => show_volume(&server, uuid),
            }
        }
        Nodes::Forget { yes, id, server } => forget(&Service::of(server)?, id, *yes),
        Nodes::Readmit {
            cancel: false,
            uuid,
            server,
        } => readmit(&Service::of(server)?, uuid),
        Nodes::Readmit {
            cancel: true,
            uuid,
            server,
        } => cancel(&Service::of(server)?, uuid),
        Nodes::Accept {
            cancel,
            epoch,
            what: NodeWord::Rollback,
            uuid,
            server,
        } => {
            let server = Service::of(server)?;
            if *cancel {
                cancel_rollback(&server, uuid)
            } else {
                accept_rollback(&server, uuid, *epoch)
            }
        }
    }
}

fn list(server: &Service) -> Result<Answer> {
    let nodes: Vec<Node> = server.all(NODES_PATH)?;
    let rows = nodes.iter().map(|node| {
        let state = if node.is_denied() {
            "denied"
        } else {
            "admitted"
        };
        vec![
            node.ek.clone(),
            state.into(),
            utc(node.last_seen_s),
            node.image.clone(),
            node.address.clone(),
            node.failure
                .as_ref()
                .map_or_else(|| "-".into(), |told| utc(told.told_s)),
        ]
    });
    let heading = [
        "NODE",
        "STATE",
        "LAST BOOT",
        "IMAGE",
        "ADDRESS",
        "FAILED BEFORE",
    ];
    let text = section(&table(&heading, rows));
    let text = format!("{} nodes\n{text}", nodes.len());
    answer(text, &json!({ "nodes": nodes }))
}

fn show_node(server: &Service, ek: &str) -> Result<Answer> {
    let node: Node = server.get(&format!("{NODES_PATH}/{ek}"))?;
    let denial = node.denial.as_ref().map_or_else(String::new, |denial| {
        let (at, check) = (utc(denial.at_s), &denial.check);
        format!("denied {at} by {check}: {}\n", denial.why)
    });
    let failure = node.failure.as_ref().map_or_else(String::new, failure);
    let text = format!(
        "node {}\nimage {}, from {}\nfirst seen {}, last seen {}\n{denial}{failure}{}",
        node.ek,
        node.image,
        node.address,
        utc(node.first_seen_s),
        utc(node.last_seen_s),
        volumes(&node.volumes)
    );
    answer(text, &node)
}

/// Of what a service sends too nothing is shown that a terminal acts upon.
fn failure(told: &ToldFailure) -> String {
    let (at, failure) = (utc(told.told_s), told.failure.shown());
    format!(
        "a boot before {at} failed: {} (exit {}): {}, which the node says and nothing proves\n",
        failure.result(),
        failure.exit,
        failure.sentence
    )
}

fn show_volume(server: &Service, uuid: &Uuid) -> Result<Answer> {
    let volume: Volume = server.get(&format!("{VOLUMES_PATH}/{uuid}"))?;
    let text = format!(
        "node {}\n{}",
        volume.ek,
        volumes(std::slice::from_ref(&volume))
    );
    answer(text, &volume)
}

fn volumes(volumes: &[Volume]) -> String {
    let rows = volumes.iter().map(|volume| {
        vec![
            volume.uuid.clone(),
            volume.role.as_str().into(),
            volume.record.epoch.to_string(),
            utc(volume.registered_s),
            volume
                .accepted
                .as_ref()
                .map_or_else(|| "-".into(), accepted),
            if volume.own_secret { "own" } else { "-" }.into(),
            volume.record.key_id.clone().unwrap_or_else(|| "-".into()),
            volume
                .readmission
                .as_ref()
                .map_or_else(|| "-".into(), readmission),
            volume
                .rollback
                .as_ref()
                .map_or_else(|| "-".into(), rollback),
        ]
    });
    let heading = [
        "VOLUME",
        "ROLE",
        "EPOCH",
        "REGISTERED",
        "ACCEPTED",
        "SECRET",
        "KEY ID",
        "READMITS",
        "ROLLBACK",
    ];
    section(&table(&heading, rows))
}

fn forget(server: &Service, id: &NodeOrVolume, is_meant: bool) -> Result<Answer> {
    let (path, id) = match id {
        NodeOrVolume::Node(ek) => (NODES_PATH, ek.clone()),
        NodeOrVolume::Volume(uuid) => (VOLUMES_PATH, uuid.to_string()),
    };
    let path = format!("{path}/{id}");
    let what = format!("{id}: its volumes will belong to the next node that asks for them");
    confirm(is_meant, &what)?;
    let forgotten: Forgotten = server.delete(&path)?;
    let volumes = forgotten.volumes.join(", ");
    let text = format!(
        "{id}: forgotten; volumes that belong to the next node that asks for them: {volumes}\n"
    );
    answer(text, &forgotten)
}

/// What was accepted of it last, and when that was reported.
fn accepted(last: &LastAcceptance) -> String {
    format!("{} {}", last.what.as_str(), utc(last.reported_s))
}

/// Whom it lets in, and until when.
fn readmission(word: &Readmission) -> String {
    let whom = word.ek.as_deref().unwrap_or("the next machine");
    format!("{whom} until {}", utc(word.until_s))
}

/// Which older state is gone on with, and until when.
fn rollback(word: &Rollback) -> String {
    let until = utc(word.until_s);
    match word.epoch {
        Some(epoch) => format!("epoch {epoch} until {until}"),
        None => format!("any epoch until {until}"),
    }
}

fn readmit(server: &Service, uuid: &Uuid) -> Result<Answer> {
    let volume: Volume = server.put(&readmission_path(uuid))?;
    let until = volume.readmission.as_ref().map_or(0, |word| word.until_s);
    let text = format!(
        "{uuid}: until {} the next machine that is admitted with it gets its key, and its disk may be as old as epoch {}\n",
        utc(until),
        volume.record.epoch
    );
    answer(text, &volume)
}

fn cancel(server: &Service, uuid: &Uuid) -> Result<Answer> {
    let volume: Volume = server.delete(&readmission_path(uuid))?;
    let text = format!("{uuid}: it stays with endorsement key {}\n", volume.ek);
    answer(text, &volume)
}

fn accept_rollback(server: &Service, uuid: &Uuid, epoch: Option<u64>) -> Result<Answer> {
    let query = epoch.map_or_else(String::new, |epoch| format!("?epoch={epoch}"));
    let volume: Volume = server.put(&format!("{}{query}", rollback_path(uuid)))?;
    let until = volume.rollback.as_ref().map_or(0, |word| word.until_s);
    let disk = match epoch {
        Some(epoch) => format!("its disk of epoch {epoch}"),
        None => "the first disk that it shows, however old".to_owned(),
    };
    let text = format!(
        "{uuid}: until {} node {} may go on with {disk}; epoch {} is recorded\n",
        utc(until),
        volume.ek,
        volume.record.epoch
    );
    answer(text, &volume)
}

fn cancel_rollback(server: &Service, uuid: &Uuid) -> Result<Answer> {
    let volume: Volume = server.delete(&rollback_path(uuid))?;
    let epoch = volume.record.epoch;
    let text = format!("{uuid}: no disk older than epoch {epoch} is gone on with\n");
    answer(text, &volume)
}

fn rollback_path(uuid: &Uuid) -> String {
    format!("{VOLUMES_PATH}/{uuid}/{ROLLBACK}")
}

fn readmission_path(uuid: &Uuid) -> String {
    format!("{VOLUMES_PATH}/{uuid}/{READMISSION}")
}

fn answer(text: String, value: &impl Serialize) -> Result<Answer> {
    let json = serde_json::to_value(value).map_err(Error::failure)?;
    Ok(Answer::new(text, json))
}

/// The service, and how the two sides know each other.
struct Service {
    agent: Agent,
    base: String,
}

impl Service {
    fn of(given: &Server) -> Result<Self> {
        let given = Context::of(given)?;
        let uri: Uri = given
            .url
            .parse()
            .map_err(|error| usage(&format!("nodes: --server: {error}")))?;
        if uri.scheme_str() != Some("https") || !matches!(uri.path(), "" | "/") {
            return Err(usage("nodes: --server: expected https://HOST:PORT"));
        }
        let tls = https::tls(&given.ca, Some((&given.cert, &given.key)))?;
        Ok(Self {
            agent: https::agent(Some(tls), ANSWER_MAX, 1),
            base: given.url.trim_end_matches('/').to_owned(),
        })
    }

    /// All pages of a list.
    fn all<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>> {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let page: Page<T> = self.get(&format!("{path}?after={after}"))?;
            all.extend(page.items);
            match page.next {
                Some(next) => after = next,
                None => return Ok(all),
            }
        }
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.take(self.agent.get(self.url(path)).call(), path)
    }

    fn put<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.take(self.agent.put(self.url(path)).send_empty(), path)
    }

    fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.take(self.agent.delete(self.url(path)).call(), path)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn take<T: DeserializeOwned>(
        &self,
        response: std::result::Result<ureq::http::Response<ureq::Body>, ureq::Error>,
        path: &str,
    ) -> Result<T> {
        let mut response = response.map_err(trouble).doing(self.url(path))?;
        let status = response.status();
        let body = response
            .body_mut()
            .with_config()
            .limit(ANSWER_LEN_MAX)
            .read_to_vec()
            .map_err(trouble)
            .doing(self.url(path))?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(Error::failure)
                .doing(self.url(path));
        }
        let trouble = serde_json::from_slice::<ErrorBody>(&body).map_or_else(
            |_error| format!("{}: {status}", self.url(path)),
            |trouble| trouble.error,
        );
        Err(match status.as_u16() {
            400..=499 => Error::refused(trouble),
            _ => Error::temporary(trouble),
        })
    }
}

/// A service that is not the one meant, or that does not know the operator, will not change its mind; the rest passes.
fn trouble(error: ureq::Error) -> Error {
    if let ureq::Error::Io(error) = &error
        && let Some(cause) = error.get_ref()
        && cause.is::<rustls::Error>()
    {
        return Error::refused(error);
    }
    Error::temporary(error)
}
