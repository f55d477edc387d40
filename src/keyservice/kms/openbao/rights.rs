// SPDX-License-Identifier: Apache-2.0
//! What a token may do with the key, as the server tells it ("Query self token capabilities").

use serde_json::Value;

use super::{Ask, Data, Transit, body, printable};
use crate::keyservice::kms::{Answered, Class, Rights};

/// What a policy gives instead of single rights to the token of everything.
const ROOT: &str = "root";

impl Transit {
    /// Asks `sys/capabilities-self`, which the policy `default` allows.
    pub(in crate::keyservice::kms) fn rights(&self) -> Answered<Option<Rights>> {
        let (mount, name) = (self.key.mount(), self.key.name());
        let of = |verb: &str| format!("{mount}/{verb}/{name}");
        let needed = of("decrypt");
        let commands = [(of("encrypt"), "update"), (of("keys"), "read")];
        let others = [
            of("rewrap"),
            format!("{}/config", of("keys")),
            format!("{}/rotate", of("keys")),
            format!("{mount}/export/encryption-key/{name}"),
            of("backup"),
        ];
        let paths: Vec<&String> = [&needed]
            .into_iter()
            .chain(commands.iter().map(|(path, _)| path))
            .chain(&others)
            .collect();
        let body = body(&serde_json::json!({ "paths": paths }))?;
        let ask = Ask {
            path: "sys/capabilities-self".into(),
            right: "update",
        };
        let told = match self.ask::<Data<Value>>(&ask, Some(&body)) {
            Ok(told) => told.data,
            Err(failure) if failure.class == Class::Denied => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let has = |path: &String| -> Vec<&str> {
            let words = told.get(path).and_then(Value::as_array);
            let words = words.into_iter().flatten().filter_map(|word| word.as_str());
            words.filter(|word| *word != "deny").collect()
        };
        let mut rights = Rights::default();
        let mut judge = |path: &String, wanted: &str, is_needed: bool| {
            for word in has(path) {
                if word != wanted {
                    rights.excess.push(format!("{} on {path}", printable(word)));
                } else if !is_needed {
                    rights.only_commands.push(format!("{word} on {path}"));
                }
            }
            if is_needed && !has(path).iter().any(|word| [wanted, ROOT].contains(word)) {
                rights.missing.push(format!("{wanted} on {path}"));
            }
        };
        judge(&needed, "update", true);
        for (path, wanted) in &commands {
            judge(path, wanted, false);
        }
        for path in &others {
            judge(path, "", false);
        }
        Ok(Some(rights))
    }
}
