// SPDX-License-Identifier: Apache-2.0
//! The store in etcd, which any number of replicas share. The only user of its JSON gateway (etcd, below
//! `/v3`; etcd-io/etcd, api/etcdserverpb/rpc.proto).
//!
//! Before 3.4.23 and 3.5.7 a transaction that only reads can end a member whose client gives up, and fails where the
//! quota is reached (etcd-io/etcd, issues 14110, 14891 and 13429).
//!
//! Every read is linearizable and every write is one transaction, so what one replica wrote all others see. Keys and
//! values are base64 in the gateway's JSON, numbers are strings, and what is zero is left out.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::header::CONTENT_TYPE;

use crate::error::{Doing, Error, Result};
use crate::https;
use crate::keyservice::config::etcd::Etcd as At;
use crate::keyservice::store::Entry;
use crate::keyservice::store::batch::ReadBatcher;
use crate::keyservice::store::etcd_json::{Kv, Range, Response, Txn, base64};

/// How long one endpoint may take to answer. etcd's own election takes a second.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Connections that are kept: one for each thread that may wait for the store.
const IDLE_MAX: usize = 32;

/// The longest answer that is read, in bytes. etcd's own limit of a request is 1.5 MiB; an answer holds a page of entries.
const ANSWER_LEN_MAX: u64 = 16 << 20;

/// How many operations are in one transaction. etcd allows 128 in all (`--max-txn-ops`), and each of ours that writes is
/// a transaction within it, which counts as well.
const BATCH: usize = 64;

/// The version of what is stored, under this key.
const SCHEMA_KEY: &str = "schema";
const SCHEMA: &[u8] = b"1";

/// The endpoints of one cluster.
#[derive(Debug)]
pub struct Etcd {
    agent: Agent,
    endpoints: Vec<String>,
    prefix: String,
    /// The endpoint that answered last.
    current: AtomicUsize,
    reads: ReadBatcher,
}

impl Etcd {
    pub(super) fn open(at: &At) -> Result<Self> {
        let store = Self {
            agent: https::agent(at.tls()?, ANSWER_MAX, IDLE_MAX),
            endpoints: at.endpoints.iter().map(ToString::to_string).collect(),
            prefix: at.prefix.to_string(),
            current: AtomicUsize::new(0),
            reads: ReadBatcher::new(BATCH),
        };
        store.check_schema().doing("opening the store in etcd")?;
        Ok(store)
    }

    fn check_schema(&self) -> Result<()> {
        let made = self.create(&[(SCHEMA_KEY.to_owned(), SCHEMA.to_vec())])?;
        match made.first() {
            Some(Some(found)) if found.value != SCHEMA => Err(Error::config(format_args!(
                "what is below {} has version {}, and this program knows version 1: \
                 it was made by a later one, or is no store",
                self.prefix,
                String::from_utf8_lossy(&found.value)
            ))),
            _ => Ok(()),
        }
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Entry>> {
        let entries = self.get_all(&[key.to_owned()])?;
        Ok(entries.into_iter().next().flatten())
    }

    pub(super) fn get_all(&self, keys: &[String]) -> Result<Vec<Option<Entry>>> {
        self.reads
            .read(keys, |keys| self.read(keys))
            .doing("reading from the store")
    }

    fn read(&self, keys: &[String]) -> Result<Vec<Option<Entry>>> {
        let ranges = if let [key] = keys {
            vec![self.ask("/v3/kv/range", &json!({ "key": self.key(key) }))?]
        } else {
            let gets = keys
                .iter()
                .map(|key| json!({ "request_range": { "key": self.key(key) } }));
            let answers = self.transact(gets)?;
            answers.into_iter().map(|answer| answer.range).collect()
        };
        let first = |range: Range| {
            let kv = range.kvs.into_iter().next();
            kv.map(|kv| self.entry(kv)).transpose()
        };
        ranges.into_iter().map(first).collect()
    }

    pub(super) fn list(&self, prefix: &str, after: &str, limit: u32) -> Result<Vec<Entry>> {
        // The first key after `after` is the same with a zero byte.
        let start = if after < prefix {
            prefix.to_owned()
        } else {
            format!("{after}\0")
        };
        let end = successor(&[self.prefix.as_bytes(), prefix.as_bytes()].concat());
        let request = json!({
            "key": self.key(&start),
            "range_end": base64(&end),
            "limit": limit.to_string(),
        });
        let range: Range = self
            .ask("/v3/kv/range", &request)
            .doing("reading from the store")?;
        range.kvs.into_iter().map(|kv| self.entry(kv)).collect()
    }

    pub(super) fn create(&self, new: &[(String, Vec<u8>)]) -> Result<Vec<Option<Entry>>> {
        let creations = new.iter().map(|(key, value)| {
            let key = self.key(key);
            nested(
                &json!({ "target": "CREATE", "result": "EQUAL", "key": key, "create_revision": "0" }),
                &json!({ "request_put": { "key": key, "value": base64(value) } }),
                &[json!({ "request_range": { "key": key } })],
            )
        });
        let answers = self.transact(creations).doing("writing to the store")?;
        let there = |answer: Response| match answer.txn {
            Txn {
                succeeded: true, ..
            } => Ok(None),
            Txn { responses, .. } => {
                let kv = responses
                    .into_iter()
                    .find_map(|one| one.range.kvs.into_iter().next());
                kv.map(|kv| self.entry(kv)).transpose()
            }
        };
        answers.into_iter().map(there).collect()
    }

    /// Where the answer to a swap was lost on its way it is asked again, and then says that somebody else was first.
    pub(super) fn swap(&self, changes: &[(Entry, Vec<u8>)]) -> Result<Vec<bool>> {
        let swaps = changes.iter().map(|(old, value)| {
            let key = self.key(&old.key);
            let put = json!({ "request_put": { "key": key, "value": base64(value) } });
            nested(&self.unchanged(old), &put, &[])
        });
        let answers = self.transact(swaps).doing("writing to the store")?;
        Ok(answers.iter().map(|answer| answer.txn.succeeded).collect())
    }

    pub(super) fn remove(&self, old: &Entry) -> Result<bool> {
        let delete = json!({ "request_delete_range": { "key": self.key(&old.key) } });
        let answers = self
            .transact(std::iter::once(nested(&self.unchanged(old), &delete, &[])))
            .doing("writing to the store")?;
        Ok(answers.iter().any(|answer| answer.txn.succeeded))
    }

    fn unchanged(&self, old: &Entry) -> Value {
        json!({
            "target": "MOD",
            "result": "EQUAL",
            "key": self.key(&old.key),
            "mod_revision": old.revision.to_string(),
        })
    }

    /// Does each operation by itself, as many as may be in one write of the cluster.
    fn transact(&self, operations: impl Iterator<Item = Value>) -> Result<Vec<Response>> {
        let operations: Vec<Value> = operations.collect();
        let mut answers = Vec::with_capacity(operations.len());
        for batch in operations.chunks(BATCH) {
            let txn: Txn = self.ask("/v3/kv/txn", &json!({ "success": batch }))?;
            if txn.responses.len() != batch.len() {
                return Err(Error::failure(format_args!(
                    "etcd answered {} of {} operations",
                    txn.responses.len(),
                    batch.len()
                )));
            }
            answers.extend(txn.responses);
        }
        Ok(answers)
    }

    /// Asks the endpoint that answered last, then the others.
    fn ask<T: serde::de::DeserializeOwned>(&self, path: &str, request: &Value) -> Result<T> {
        let body = serde_json::to_vec(request).map_err(Error::failure)?;
        let current = self.current.load(Ordering::Relaxed);
        let mut last = Error::temporary("etcd: no endpoint is configured");
        for (place, endpoint) in self
            .endpoints
            .iter()
            .enumerate()
            .cycle()
            .skip(current)
            .take(self.endpoints.len())
        {
            match self.ask_one(&format!("{endpoint}{path}"), &body) {
                Ok(answer) => {
                    self.current.store(place, Ordering::Relaxed);
                    return serde_json::from_slice(&answer)
                        .map_err(Error::failure)
                        .doing(format_args!("the answer of {endpoint}"));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn ask_one(&self, url: &str, body: &[u8]) -> Result<Vec<u8>> {
        let mut response = self
            .agent
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .send(body)
            .map_err(Error::temporary)
            .doing(url)?;
        let status = response.status();
        let answer = response
            .body_mut()
            .with_config()
            .limit(ANSWER_LEN_MAX)
            .read_to_vec()
            .map_err(Error::temporary)
            .doing(url)?;
        if status.is_success() {
            return Ok(answer);
        }
        let told: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let told = told.get("message").or_else(|| told.get("error"));
        let told = told.and_then(Value::as_str).unwrap_or("no reason given");
        Err(Error::temporary(format_args!("{url}: {status}: {told}")))
    }

    fn key(&self, key: &str) -> String {
        base64(&[self.prefix.as_bytes(), key.as_bytes()].concat())
    }

    fn entry(&self, kv: Kv) -> Result<Entry> {
        let key = String::from_utf8(kv.key.0).map_err(Error::failure)?;
        let key = key
            .strip_prefix(&self.prefix)
            .ok_or_else(|| Error::failure(format_args!("etcd answered with key {key:?}")))?;
        Ok(Entry {
            key: key.to_owned(),
            value: kv.value.0,
            revision: kv.mod_revision,
        })
    }
}

/// An operation that happens where its condition holds.
fn nested(compare: &Value, success: &Value, failure: &[Value]) -> Value {
    json!({ "request_txn": { "compare": [compare], "success": [success], "failure": failure } })
}

/// The first key that does not start with `prefix`. No prefix of ours ends with the highest byte.
fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}
