// SPDX-License-Identifier: Apache-2.0
//! `evidence`: what a TPM said when a volume was made, shown, checked and written out.
//!
//! **Never:** a TPM: what is verified is bytes, wherever they are from.

mod options;
mod report;

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::config::Profile;
use crate::ctl::cli::Verify;
use crate::ctl::evidence::options::Given;
use crate::ctl::evidence::report::Report;
use crate::ctl::{Answer, header};
use crate::error::{Doing, Error, Result};
use crate::evidence::bundle::restricted;
use crate::evidence::eventlog::{Event, Log};
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
pub(super) fn verify(options: &Verify) -> Result<Answer> {
    let path = &options.device;
    verified(options, path).doing(format_args!("verifying the evidence in {}", path.display()))
}

fn verified(options: &Verify, path: &Path) -> Result<Answer> {
    let creation = Creation::of(path)?;
    let given = Given::read(options)?;
    let statement = creation.verify()?;
    let (bank, pcrs) = selection(&statement, options)?;
    if let Some(known) = &given.ak
        && known != statement.ak.spki_der()
    {
        return Err(Refusal::new(
            Check::AkKey,
            "another attestation key signed the quote than the one that was given",
        )
        .into());
    }
    let mut values = None;
    if let Some(given) = &given.values {
        let given = restricted(given.values(bank)?, pcrs);
        statement.is_over(bank, pcrs, &given)?;
        values = Some(given);
    }
    let moment = moment(&given, &statement, bank, pcrs)?;
    if let Some(moment) = &moment {
        values = Some(restricted(moment.values.clone(), pcrs));
    }
    if let Some(directory) = &options.export {
        let selection = selected(bank, pcrs);
        export(
            directory,
            &creation,
            &statement,
            &selection,
            values.as_ref(),
        )
        .doing(format_args!("exporting to {}", directory.display()))?;
    }
    let report = Report::new(path, &creation, &statement.attest)?;
    let events = moment.map(|moment| moment.log.events(bank, pcrs));
    Ok(answer(&report, &given, events.as_deref()))
}

/// What was verified, and what could not be. `events` are there where event logs were given.
fn answer(report: &Report, given: &Given, events: Option<&[Event]>) -> Answer {
    let mut text = report.text();
    text.push_str("verified: signature, statement, key, PCR selection, qualifying data");
    for (is_given, what) in [
        (given.ak.is_some(), ", attestation key"),
        (given.values.is_some(), ", PCR values"),
        (events.is_some(), ", event logs"),
    ] {
        text.push_str(if is_given { what } else { "" });
    }
    text.push('\n');
    if given.ak.is_none() {
        text.push_str(
            "The key was compared with none: give --ak, or anybody may have made this evidence.\n",
        );
    }
    let told = events.unwrap_or_default().iter().map(ToString::to_string);
    let told: Vec<String> = told.collect();
    text.extend(told.iter().map(|event| format!("  {event}\n")));
    let mut json = report.json();
    if let Some(json) = json.as_object_mut() {
        json.insert("result".into(), "verified".into());
        json.insert("known-ak".into(), given.ak.is_some().into());
        json.insert("pcrs-checked".into(), given.values.is_some().into());
        json.insert("logs-checked".into(), events.is_some().into());
        json.insert("events".into(), json!(told));
    }
    Answer::new(text, json)
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
        let NightlatchToken { key_id, .. } = &self.token;
        // Every volume of ours is made in the first form, and what was said of it then stays.
        let profile = Profile::Nightlatch1;
        let qualifying = Evidence::qualifying(profile, &self.uuid, key_id, *epoch);
        statement.is_about(&qualifying)?;
        Ok(statement)
    }
}

/// The bank and the PCRs of the quote, of which there has to be one, and the one that is demanded.
fn selection(statement: &Statement, options: &Verify) -> Result<(Bank, Registers)> {
    let refusal = |why: String| Refusal::new(Check::Selection, why);
    let found = statement.attest.selection();
    let (bank, pcrs) = found
        .filter(|(bank, pcrs)| *bank != Bank::Sha1 && !pcrs.is_empty())
        .ok_or_else(|| {
            refusal("expected a quote over some PCRs of one bank that is not SHA-1".into())
        })?;
    match options.select {
        Some(wanted) if wanted != (bank, pcrs) => {
            let (wanted_bank, wanted) = wanted;
            Err(refusal(format!(
                "expected a quote over PCRs {wanted} of {wanted_bank}, found {pcrs} of {bank}"
            ))
            .into())
        }
        _ => Ok((bank, pcrs)),
    }
}

/// A selection as tpm2-tools write it: `sha256:7,11,12`.
fn selected(bank: Bank, pcrs: Registers) -> String {
    let list: Vec<String> = pcrs.iter().map(|pcr| pcr.to_string()).collect();
    format!("{bank}:{}", list.join(","))
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
    selection: &str,
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
    write("selection", selection.as_bytes())?;
    if let Some(values) = values {
        let all: Vec<u8> = values.values().flatten().copied().collect();
        write("pcrs", &all)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
