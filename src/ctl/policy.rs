// SPDX-License-Identifier: Apache-2.0
//! `policy`: whether a key service's policy is good, and what it makes of a machine.
//!
//! **Never:** a key service asked: a policy is judged as a file.

mod authority;
mod image;
mod sign;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::json;

pub(super) use self::image::image;
pub(super) use self::sign::sign;
use crate::ctl::Answer;
use crate::error::{Doing, Error, Result};
use crate::evidence::{Bundle, Policy, Refusal};

/// Reads a policy and the certificates it names, and says what it leaves open.
pub(super) fn check(path: &Path) -> Result<Answer> {
    let policy = Policy::load(path)?;
    let images: Vec<&str> = policy.images().collect();
    let roles: Vec<&str> = policy.roles().collect();
    let warnings = policy.warnings();
    let mut text = format!(
        "{}: valid: images {}; roles {}\n",
        path.display(),
        images.join(", "),
        roles.join(", ")
    );
    for warning in &warnings {
        // Writing to a string cannot fail.
        writeln!(text, "warning: {warning}").map_err(Error::failure)?;
    }
    let json = json!({
        "result": "valid",
        "images": images,
        "roles": roles,
        "warnings": warnings,
    });
    Ok(Answer::new(text, json))
}

/// Says which image a machine booted, or what differs from the nearest.
pub(super) fn explain(policy: &Path, evidence: &Path) -> Result<Answer> {
    let policy = Policy::load(policy)?;
    judged(&policy, evidence).doing(format_args!("judging {}", evidence.display()))
}

fn judged(policy: &Policy, evidence: &Path) -> Result<Answer> {
    let bundle = fs::read_to_string(evidence)
        .map_err(Error::from)
        .and_then(|text| Ok(Bundle::parse(&text)?))?;
    let verified = bundle.verify()?;
    let image = policy.image(&verified).map_err(Refusal::from)?;
    let early = policy.early(&verified);
    let mut text = format!("image {image}\n");
    for event in &verified.events {
        // Writing to a string cannot fail.
        writeln!(text, "  {event}").map_err(Error::failure)?;
    }
    if let Err(refusal) = &early {
        writeln!(text, "no key would be released now: {refusal}").map_err(Error::failure)?;
    }
    let events: Vec<String> = verified.events.iter().map(ToString::to_string).collect();
    let json = json!({
        "result": "matched",
        "image": image,
        "roles": policy.roles_of(image).collect::<Vec<_>>(),
        "early": early.is_ok(),
        "events": events,
    });
    Ok(Answer::new(text, json))
}

#[cfg(test)]
mod tests;
