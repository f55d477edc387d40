// SPDX-License-Identifier: Apache-2.0
//! What a token may do with the key, as the server tells it ("Query self token capabilities").

use serde_json::Value;

use super::{Ask, Data, Transit};
use crate::keyservice::kms::request::{body, printable};
use crate::keyservice::kms::{Answered, Class, Rights};

/// What a policy gives instead of single rights to the token of everything, and what it says of a path without any.
const ROOT: &str = "root";
const DENY: &str = "deny";

/// Who needs a right.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Need {
    Service,
    Commands,
    Nobody,
}

/// A path, the right on it that somebody needs, and who does.
type Row = (String, &'static str, Need);

impl Transit {
    /// Asks `sys/capabilities-self`, which the policy `default` allows.
    pub(super) fn ask_rights(&self) -> Answered<Option<Rights>> {
        let rows = self.rows();
        let paths: Vec<&String> = rows.iter().map(|(path, ..)| path).collect();
        let body = body(&serde_json::json!({ "paths": paths }))?;
        let ask = Ask {
            path: "sys/capabilities-self".into(),
            right: "update",
        };
        match self.ask::<Data<Value>>(&ask, Some(&body)) {
            Ok(told) => Ok(Some(judged(&rows, &told.data))),
            Err(failure) if failure.class == Class::Denied => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// All that a token could do with the key.
    fn rows(&self) -> Vec<Row> {
        let (mount, name) = (self.key.mount(), self.key.name());
        let row = |path: String, right, need| (format!("{mount}/{path}"), right, need);
        vec![
            row(format!("decrypt/{name}"), "update", Need::Service),
            row(format!("encrypt/{name}"), "update", Need::Commands),
            row(format!("keys/{name}"), "read", Need::Commands),
            row(format!("rewrap/{name}"), "", Need::Nobody),
            row(format!("keys/{name}/config"), "", Need::Nobody),
            row(format!("keys/{name}/rotate"), "", Need::Nobody),
            row(format!("export/encryption-key/{name}"), "", Need::Nobody),
            row(format!("backup/{name}"), "", Need::Nobody),
        ]
    }
}

fn judged(rows: &[Row], told: &Value) -> Rights {
    let mut rights = Rights::default();
    for (path, wanted, need) in rows {
        let words = told.get(path).and_then(Value::as_array);
        let words = words.into_iter().flatten().filter_map(Value::as_str);
        let words: Vec<&str> = words.filter(|word| *word != DENY).collect();
        let has = |right: &str| words.contains(&right);
        if *need == Need::Service && !has(wanted) && !has(ROOT) {
            rights.missing.push(format!("{wanted} on {path}"));
        }
        if *need == Need::Commands && has(wanted) {
            rights.only_commands.push(format!("{wanted} on {path}"));
        }
        let others = words.iter().filter(|word| *word != wanted);
        let others = others.map(|word| format!("{} on {path}", printable(word)));
        rights.excess.extend(others);
    }
    rights
}
