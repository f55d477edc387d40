// SPDX-License-Identifier: Apache-2.0
//! What an operator is asked and told of nodes that wait.

use std::io::{self, Write as _};

use serde_json::{Value, json};

use super::limits;
use super::node::Attested;
use crate::ctl::Answer;
use crate::error::{Error, Exit, Result};
use crate::protocol::recovery::{Verdicts, WaitingVolume};

/// What came of a node.
pub(super) struct Outcome {
    pub(super) attested: Option<Attested>,
    pub(super) result: Result<Verdicts>,
}

/// What is asked before a key is sent.
pub(super) fn question(address: &str, attested: &Attested, unlisted: &[String]) -> String {
    let unlisted = unlisted.iter().map(|why| format!("  {why}\n"));
    let unlisted: String = unlisted.collect();
    let volumes = attested.volumes.iter().map(|volume| {
        let WaitingVolume {
            name, uuid, why, ..
        } = volume;
        let known = match (&volume.key_id, volume.epoch) {
            (Some(key_id), Some(epoch)) => format!(", key {key_id}, epoch {epoch}"),
            _ => String::new(),
        };
        let needs: Vec<&str> = volume.needs.iter().map(|need| need.as_str()).collect();
        format!(
            "  {name} {uuid}{known}\n    needs {}: {why}\n",
            needs.join(", ")
        )
    });
    let volumes: String = volumes.collect();
    printable(&format!(
        "{address} is the node of endorsement key\n  {}\nand has booted image {}. It waits for\n{volumes}{unlisted}{}Its keys are sent to it",
        attested.ek,
        attested.image,
        limits::of(&attested.volumes)
    ))
}

/// What a node says is text, and no control of a terminal.
fn printable(text: &str) -> String {
    let is_control = |c: char| c.is_control() && c != '\n';
    text.replace(is_control, "\u{fffd}")
}

/// What came of it, on one line.
pub(super) fn line(address: &str, outcome: &Outcome) -> String {
    let said = match &outcome.result {
        Ok(verdicts) if verdicts.goes_on => "recovered".to_owned(),
        Ok(verdicts) => {
            let wrong = verdicts.volumes.iter();
            let wrong = wrong.filter_map(|it| Some(format!("{}: {}", it.uuid, it.wrong.as_ref()?)));
            let wrong: Vec<String> = verdicts.refused.clone().into_iter().chain(wrong).collect();
            if wrong.is_empty() {
                "the keys are right, and it waits for more".to_owned()
            } else {
                format!("not recovered: {}", wrong.join("; "))
            }
        }
        Err(error) => format!("not recovered: {error}"),
    };
    format!(
        "{}\n",
        printable(&format!("{address}: {said}")).replace('\n', " ")
    )
}

/// One line for each node as it is done.
pub(super) fn tell(line: &str) {
    // The answer says it again.
    drop(io::stderr().write_all(line.as_bytes()));
}

/// The command's own answer, with the verdict of all.
pub(super) fn answer(outcomes: &[(&str, Outcome)]) -> Answer {
    let is_recovered = |outcome: &Outcome| outcome.result.as_ref().is_ok_and(|it| it.goes_on);
    let recovered = outcomes.iter().filter(|(_, it)| is_recovered(it)).count();
    let text = format!("{recovered} of {} nodes recovered\n", outcomes.len());
    let nodes: Vec<Value> = outcomes
        .iter()
        .map(|(address, it)| described(address, it))
        .collect();
    let json = json!({"recovered": recovered, "nodes": nodes});
    if recovered == outcomes.len() {
        return Answer::new(text, json);
    }
    let exits = outcomes
        .iter()
        .filter_map(|(_, it)| it.result.as_ref().err());
    let mut exits = exits.map(Error::exit);
    let exit = match exits.next() {
        Some(first) if exits.all(|other| other == first) => first,
        _ => Exit::Refused,
    };
    Answer::refused(exit, text, json)
}

fn described(address: &str, outcome: &Outcome) -> Value {
    let attested = outcome.attested.as_ref();
    let (verdicts, error) = match &outcome.result {
        Ok(verdicts) => (Some(verdicts), verdicts.refused.clone()),
        Err(error) => (None, Some(error.to_string())),
    };
    json!({
        "address": address,
        "ek": attested.map(|it| &it.ek),
        "image": attested.map(|it| &it.image),
        "recovered": verdicts.is_some_and(|it| it.goes_on),
        "volumes": verdicts.map(|it| &it.volumes),
        "error": error,
    })
}
