// SPDX-License-Identifier: Apache-2.0
//! `evidence`: what a TPM said when a volume was made, shown, checked and written out.

mod options;
mod report;

use std::fs;
use std::path::Path;

use serde_json::json;

use self::options::{Given, Options};
use self::report::Report;
use super::{Answer, header};
use crate::error::{Doing, Error, Result};
use crate::evidence::bundle::restricted;
use crate::evidence::eventlog::Log;
use crate::evidence::registers::{Registers, Values};
use crate::evidence::verify::{Statement, statement};
use crate::evidence::{Attest, Check, Refusal};
use crate::header::{Checked, Evidence, NightlatchToken};
use crate::pcr::Bank;

/// A volume that carries evidence of its creation.
struct Creation {
    uuid: String,
    token: NightlatchToken,
    evidence: Evidence,
}

/// Shows the evidence. Nothing is verified.
pub(super) fn show(path: &Path) -> Result<Answer> {
    let creation = Creation::of(path)?;
    let attest = Attest::parse(&creation.evidence.quote)?;
    let report = Report::new(path, &creation, &attest)?;
    Ok(Answer::new(report.text(), report.json()))
}

/// Verifies the evidence, as far as what is given allows.
pub(super) fn verify(words: &[&str]) -> Result<Answer> {
    let options = Options::parse(words)?;
    let path = options.path;
    verified(&options, path).doing(format_args!("verifying the evidence in {}", path.display()))
}

fn verified(options: &Options<'_>, path: &Path) -> Result<Answer> {
    let creation = Creation::of(path)?;
    let given = options.read()?;
    let statement = creation.verify()?;
    let (bank, pcrs) = selection(&statement)?;
    if let Some((wanted_bank, wanted)) = options.selection
        && (wanted_bank, wanted) != (bank, pcrs)
    {
        return Err(Refusal::new(
            Check::Selection,
            format_args!(
                "expected a quote over PCRs {wanted} of {wanted_bank}, found {pcrs} of {bank}"
            ),
        )
        .into());
    }
    if let Some(known) = &given.ak
        && known != statement.ak.spki_der()
    {
        return Err(Refusal::new(
            Check::AkKey,
            "another attestation key signed the quote than the one that was given",
        )
        .into());
    }
    if let Some(values) = &given.values {
        let values = restricted(values.values(bank)?, pcrs);
        statement.is_over(bank, pcrs, &values)?;
    }
    let moment = moment(&given, &statement, bank, pcrs)?;
    let values = match (&moment, &given.values) {
        (Some(moment), _) => Some(restricted(moment.values.clone(), pcrs)),
        (None, Some(values)) => Some(restricted(values.values(bank)?, pcrs)),
        (None, None) => None,
    };
    if let Some(directory) = options.export {
        export(directory, &creation, &statement, values.as_ref())
            .doing(format_args!("exporting to {}", directory.display()))?;
    }
    let report = Report::new(path, &creation, &statement.attest)?;
    let events: Vec<String> = moment
        .iter()
        .flat_map(|moment| moment.log.events(bank, pcrs))
        .map(|event| event.to_string())
        .collect();
    let mut text = report.text();
    text.push_str("verified: signature, statement, key, PCR selection, qualifying data");
    for (is_given, what) in [
        (given.ak.is_some(), "attestation key"),
        (given.values.is_some(), "PCR values"),
        (moment.is_some(), "event logs"),
    ] {
        if is_given {
            text.push_str(", ");
            text.push_str(what);
        }
    }
    text.push('\n');
    if given.ak.is_none() {
        text.push_str(
            "The key was compared with none: give --ak, or anybody may have made this evidence.\n",
        );
    }
    for event in &events {
        text.push_str("  ");
        text.push_str(event);
        text.push('\n');
    }
    let mut json = report.json();
    if let Some(json) = json.as_object_mut() {
        json.insert("result".into(), "verified".into());
        json.insert("known-ak".into(), given.ak.is_some().into());
        json.insert("pcrs-checked".into(), given.values.is_some().into());
        json.insert("logs-checked".into(), moment.is_some().into());
        json.insert("events".into(), json!(events));
    }
    Ok(Answer::new(text, json))
}

impl Creation {
    fn of(path: &Path) -> Result<Self> {
        let Checked {
            uuid, nightlatch, ..
        } = header::accepted(path).doing(format_args!("checking {}", path.display()))?;
        let token = nightlatch
            .ok_or_else(|| Error::refused("it is no volume of nightlatch: nobody attested it"))?;
        let evidence = token.evidence.clone().ok_or_else(|| {
            Error::refused(format_args!(
                "volume {} carries no evidence of its creation",
                token.volume
            ))
        })?;
        Ok(Self {
            uuid,
            token,
            evidence,
        })
    }

    /// Checks signature, statement, key and qualifying data, which comes from the header.
    fn verify(&self) -> Result<Statement> {
        let Evidence {
            epoch,
            ak,
            quote,
            signature,
        } = &self.evidence;
        let statement = statement(ak, quote, signature)?;
        let NightlatchToken {
            profile, key_id, ..
        } = &self.token;
        let qualifying = Evidence::qualifying(*profile, &self.uuid, key_id, *epoch);
        statement.is_about(&qualifying)?;
        Ok(statement)
    }
}

/// The bank and the PCRs of the quote, of which there has to be one.
fn selection(statement: &Statement) -> Result<(Bank, Registers)> {
    let selection = statement.attest.selection();
    let selection = selection.filter(|(bank, pcrs)| *bank != Bank::Sha1 && !pcrs.is_empty());
    Ok(selection.ok_or_else(|| {
        Refusal::new(
            Check::Selection,
            "expected a quote over some PCRs of one bank that is not SHA-1",
        )
    })?)
}

/// The moment of the boot at which the quote was made.
struct Moment {
    log: Log,
    values: Values,
}

/// Finds it in the event logs, where there are some. They went on afterwards.
fn moment(
    given: &Given,
    statement: &Statement,
    bank: Bank,
    pcrs: Registers,
) -> Result<Option<Moment>> {
    if given.firmware_log.is_none() && given.userspace_log.is_none() {
        return Ok(None);
    }
    let log = Log::of(
        given.firmware_log.as_deref(),
        given.userspace_log.as_deref(),
    )?;
    let found = log
        .moments(bank)?
        .into_iter()
        .enumerate()
        .find(|(_, values)| statement.is_digest_of(pcrs, values));
    let Some((number, values)) = found else {
        return Err(Refusal::new(
            Check::EventLog,
            format_args!(
                "at no moment that the event logs tell of had PCRs {pcrs} the values of the quote"
            ),
        )
        .into());
    };
    let log = log.until(number);
    Ok(Some(Moment { log, values }))
}

/// Writes the evidence as `tpm2_checkquote` takes it: `-u ak.pem -m attest -s signature -q $(cat qualifying)`, and, where the
/// values are known, `-f pcrs -l $(cat selection)`.
fn export(
    directory: &Path,
    creation: &Creation,
    statement: &Statement,
    values: Option<&Values>,
) -> Result<()> {
    fs::create_dir_all(directory)?;
    let write = |name: &str, bytes: &[u8]| fs::write(directory.join(name), bytes).doing(name);
    write("ak.pem", statement.ak.spki_pem()?.as_bytes())?;
    write("attest", &creation.evidence.quote)?;
    write("signature", &creation.evidence.signature)?;
    write(
        "qualifying",
        hex::encode(&statement.attest.extra_data).as_bytes(),
    )?;
    let (bank, pcrs) = selection(statement)?;
    let list: Vec<String> = pcrs.iter().map(|pcr| pcr.to_string()).collect();
    write("selection", format!("{bank}:{}", list.join(",")).as_bytes())?;
    if let Some(values) = values {
        let all: Vec<u8> = values.values().flatten().copied().collect();
        write("pcrs", &all)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
