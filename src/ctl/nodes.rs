// SPDX-License-Identifier: Apache-2.0
//! `nodes`: what a key service remembers of the fleet, asked for at its admin listener.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use ureq::Agent;
use ureq::http::Uri;

use crate::clock::utc;
use crate::ctl::table::{section, table};
use crate::ctl::{Answer, usage};
use crate::error::{Doing, Error, Result};
use crate::https;
use crate::protocol::admin::{
    ErrorBody, Forgotten, NODES_PATH, Node, Page, READMISSION, Readmission, VOLUMES_PATH, Volume,
    is_ek,
};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// The longest answer that is read, in bytes: a page of nodes whose denials are long.
const ANSWER_LEN_MAX: u64 = 16 << 20;

/// `list`, `show ID`, `forget ID` or `readmit UUID`, and where.
pub(super) fn run(words: &[&str]) -> Result<Answer> {
    let (command, options) = match words {
        ["list", options @ ..] => (Command::List, options),
        ["show", id, options @ ..] => (Command::Show(id), options),
        ["forget", id, options @ ..] => (Command::Forget(id), options),
        ["readmit", "--cancel", uuid, options @ ..] => (Command::Cancel(uuid), options),
        ["readmit", uuid, options @ ..] => (Command::Readmit(uuid), options),
        _ => {
            return Err(usage(
                "nodes: expected list, show ID, forget ID or readmit UUID",
            ));
        }
    };
    let server = Server::of(options)?;
    match command {
        Command::List => list(&server),
        Command::Show(id) if is_ek(id) => show_node(&server, id),
        Command::Show(id) => show_volume(&server, id),
        Command::Forget(id) => forget(&server, id),
        Command::Readmit(uuid) => readmit(&server, uuid),
        Command::Cancel(uuid) => cancel(&server, uuid),
    }
}

enum Command<'a> {
    List,
    Show(&'a str),
    Forget(&'a str),
    Readmit(&'a str),
    Cancel(&'a str),
}

fn list(server: &Server) -> Result<Answer> {
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
        ]
    });
    let heading = ["NODE", "STATE", "LAST BOOT", "IMAGE", "ADDRESS"];
    let text = section(&table(&heading, rows));
    let text = format!("{} nodes\n{text}", nodes.len());
    answer(text, &json!({ "nodes": nodes }))
}

fn show_node(server: &Server, ek: &str) -> Result<Answer> {
    let node: Node = server.get(&format!("{NODES_PATH}/{ek}"))?;
    let denial = node.denial.as_ref().map_or_else(String::new, |denial| {
        let (at, check) = (utc(denial.at_s), &denial.check);
        format!("denied {at} by {check}: {}\n", denial.why)
    });
    let text = format!(
        "node {}\nimage {}, from {}\nfirst seen {}, last seen {}\n{denial}{}",
        node.ek,
        node.image,
        node.address,
        utc(node.first_seen_s),
        utc(node.last_seen_s),
        volumes(&node.volumes)
    );
    answer(text, &node)
}

fn show_volume(server: &Server, uuid: &str) -> Result<Answer> {
    let volume: Volume = server.get(&format!("{VOLUMES_PATH}/{}", uuid_of(uuid)?))?;
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
            volume.record.key_id.clone().unwrap_or_else(|| "-".into()),
            volume
                .readmission
                .as_ref()
                .map_or_else(|| "-".into(), readmission),
        ]
    });
    let heading = [
        "VOLUME",
        "ROLE",
        "EPOCH",
        "REGISTERED",
        "KEY ID",
        "READMITS",
    ];
    section(&table(&heading, rows))
}

fn forget(server: &Server, id: &str) -> Result<Answer> {
    let path = if is_ek(id) {
        format!("{NODES_PATH}/{id}")
    } else {
        format!("{VOLUMES_PATH}/{}", uuid_of(id)?)
    };
    let forgotten: Forgotten = server.delete(&path)?;
    let volumes = forgotten.volumes.join(", ");
    let text = format!(
        "{id}: forgotten; volumes that belong to the next node that asks for them: {volumes}\n"
    );
    answer(text, &forgotten)
}

/// Whom it lets in, and until when.
fn readmission(word: &Readmission) -> String {
    let whom = word.ek.as_deref().unwrap_or("the next machine");
    format!("{whom} until {}", utc(word.until_s))
}

fn readmit(server: &Server, uuid: &str) -> Result<Answer> {
    let volume: Volume = server.put(&readmission_path(uuid)?)?;
    let until = volume.readmission.as_ref().map_or(0, |word| word.until_s);
    let text = format!(
        "{uuid}: until {} the next machine that is admitted with it gets its key, and its disk may be as old as epoch {}\n",
        utc(until),
        volume.record.epoch
    );
    answer(text, &volume)
}

fn cancel(server: &Server, uuid: &str) -> Result<Answer> {
    let volume: Volume = server.delete(&readmission_path(uuid)?)?;
    let text = format!("{uuid}: it stays with endorsement key {}\n", volume.ek);
    answer(text, &volume)
}

fn readmission_path(uuid: &str) -> Result<String> {
    Ok(format!("{VOLUMES_PATH}/{}/{READMISSION}", uuid_of(uuid)?))
}

/// Nothing that is part of a path by itself.
fn uuid_of(text: &str) -> Result<&str> {
    match uuid::Uuid::try_parse(text) {
        Ok(uuid) if uuid.hyphenated().to_string() == text => Ok(text),
        Ok(_) | Err(_) => Err(usage(&format!(
            "nodes: expected the 64 digits of a node or the UUID of a volume in lower case, found {text:?}"
        ))),
    }
}

fn answer(text: String, value: &impl Serialize) -> Result<Answer> {
    let json = serde_json::to_value(value).map_err(Error::failure)?;
    Ok(Answer::new(text, json))
}

/// The service, and how the two sides know each other.
struct Server {
    agent: Agent,
    base: String,
}

impl Server {
    fn of(words: &[&str]) -> Result<Self> {
        let (mut server, mut cert, mut key, mut ca) = (None, None, None, None);
        let (pairs, rest) = words.as_chunks::<2>();
        for [option, value] in pairs {
            let place = match *option {
                "--server" => &mut server,
                "--cert" => &mut cert,
                "--key" => &mut key,
                "--ca" => &mut ca,
                other => return Err(usage(&format!("nodes: unknown option {other:?}"))),
            };
            if place.replace(*value).is_some() {
                return Err(usage(&format!("nodes: {option} is there twice")));
            }
        }
        if let [word] = rest {
            return Err(usage(&format!("nodes: {word} needs a value")));
        }
        let (Some(server), Some(cert), Some(key), Some(ca)) = (server, cert, key, ca) else {
            return Err(usage("nodes: expected --server, --cert, --key and --ca"));
        };
        let uri: Uri = server
            .parse()
            .map_err(|error| usage(&format!("nodes: --server: {error}")))?;
        if uri.scheme_str() != Some("https") || !matches!(uri.path(), "" | "/") {
            return Err(usage("nodes: --server: expected https://HOST:PORT"));
        }
        let tls = https::tls(Path::new(ca), Some((Path::new(cert), Path::new(key))))?;
        Ok(Self {
            agent: https::agent(Some(tls), ANSWER_MAX, 1),
            base: server.trim_end_matches('/').to_owned(),
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
