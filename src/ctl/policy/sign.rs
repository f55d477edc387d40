// SPDX-License-Identifier: Apache-2.0
//! `policy sign`: an image gets signatures of what PCR 11 will be in its boots, so that nodes which are sealed to the signing key
//! open with it as they did with the image before.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::authority::{Authority, refuse_signed_kernel};
use crate::ctl::cli::PolicySign;
use crate::ctl::{Answer, input};
use crate::error::{Doing, Error, Exit, Result};
use crate::key::Secret;
use crate::key::pcr::{PcrKey, PcrPublicKey};
use crate::pcr::Bank;
use crate::sealed::floor::{Floor, Floors};
use crate::uki::{PUBLIC_KEY, SIGNATURES, Uki};

/// Signs, and writes the image with its signatures.
pub(in crate::ctl) fn sign(options: &PolicySign) -> Result<Answer> {
    // In one piece, so that no copy of the key stays behind.
    let key = fs::read(&options.key)
        .map_err(Error::from)
        .and_then(|text| PcrKey::from_pem(&Secret::new(text)))
        .doing(options.key.display())?;
    let file = &options.image;
    let bytes = input::read(file, input::IMAGE_LEN_MAX).doing(file.display())?;
    let signed = signed(&bytes, &key, options).doing(file.display())?;
    let target = match &options.out {
        Some(out) => out.clone(),
        // A link stays one.
        None => fs::canonicalize(file).doing(file.display())?,
    };
    let mode = fs::metadata(file).doing(file.display())?.permissions();
    publish(&target, &signed.image, mode).doing(format_args!("writing {}", target.display()))?;
    Ok(signed.answer(&target))
}

/// An image with its signatures, and what they are of.
struct Signed {
    image: Vec<u8>,
    key: String,
    /// The floors that it is signed for.
    floors: Option<Floors>,
    /// Each bank with a phase and the value that PCR 11 has in it.
    values: Vec<(Bank, &'static str, String)>,
}

fn signed(bytes: &[u8], key: &PcrKey, options: &PolicySign) -> Result<Signed> {
    let uki = Uki::parse(bytes)?;
    if uki.program.has_section(SIGNATURES) {
        return Err(Error::refused(format_args!(
            "section {SIGNATURES}: the image has signatures of PCR values already: sign an image that was built without them"
        )));
    }
    if let Some(text) = uki.section(PUBLIC_KEY)? {
        let other = PcrPublicKey::from_pem(text).doing(format_args!("section {PUBLIC_KEY}"))?;
        if other.fingerprint() != key.public().fingerprint() {
            return Err(Error::refused(format_args!(
                "section {PUBLIC_KEY}: it has another key than the one that signs: build the image with this one, or without"
            )));
        }
    }
    let authorities = Authority::all(&options.authorities)?;
    refuse_signed_kernel(&uki, &authorities)?;
    if let Some(version) = uki.stub_that_hands_on() {
        return Err(hands_on(version));
    }
    refuse_own_key(key.public(), &authorities)?;
    let banks = match &options.banks[..] {
        [] => &[Bank::Sha256],
        banks => banks,
    };
    let (floors, purposes) = purposes(options)?;
    let signatures = uki.sign(key, banks, &purposes)?;
    let image = uki
        .program
        .with_section(SIGNATURES, signatures.to_json()?.as_bytes())?;
    let values = banks.iter().flat_map(|bank| {
        let values = uki.signed_values(*bank);
        values.map(|(phase, value)| {
            (
                *bank,
                phase.unwrap_or("before any phase"),
                hex::encode(value),
            )
        })
    });
    Ok(Signed {
        image,
        key: hex::encode(key.public().fingerprint()),
        floors,
        values: values.collect(),
    })
}

/// What it is signed for: floors, and nodes without one unless the oldest floor is said.
fn purposes(options: &PolicySign) -> Result<(Option<Floors>, Vec<Option<Floor>>)> {
    let Some(own) = options.floor else {
        return Ok((None, vec![None]));
    };
    let first = Floor::try_from(1).map_err(Error::failure)?;
    let floors = Floors::new(own, options.oldest.unwrap_or(first))
        .map_err(|error| Error::new(Exit::Usage, format_args!("--oldest: {error}")))?;
    let without = options.oldest.is_none().then_some(None);
    let purposes = without.into_iter().chain(floors.iter().map(Some));
    Ok((Some(floors), purposes.collect()))
}

/// Whoever starts such an image may have it run an initrd of its own, and where a key signs images nothing tells.
fn hands_on(version: &str) -> Error {
    Error::refused(format_args!(
        "the image starts with systemd-stub {version}, which puts an initrd that somebody left for it in front of the image's own: \
         QEMU's -initrd is one, and only PCR 9 tells, which is another one in each image; build the image with the stub of \
         systemd 260 or earlier: once signed it would open each node of this key for good"
    ))
}

/// A key that starts programs is not the one that says which of them are images.
fn refuse_own_key(key: &PcrPublicKey, authorities: &[Authority]) -> Result<()> {
    match authorities.iter().find(|authority| authority.is_of(key)) {
        None => Ok(()),
        Some(authority) => Err(Error::refused(format_args!(
            "{} is of the same key: whoever starts programs would say which of them are images; make one for this \
             alone with \"openssl genrsa -out pcr.key 2048\"",
            authority.file
        ))),
    }
}

impl Signed {
    fn answer(&self, target: &Path) -> Answer {
        let mut lines = vec![format!("{}: signed by key {}", target.display(), self.key)];
        lines.extend(self.floors.map(|floors| format!("  for {floors}")));
        lines.extend(
            self.values
                .iter()
                .map(|(bank, phase, value)| format!("  PCR 11 ({bank}), {phase}: {value}")),
        );
        let values: Vec<Value> = self
            .values
            .iter()
            .map(|(bank, phase, value)| json!({"bank": bank, "phase": phase, "pcr-11": value}))
            .collect();
        let json = json!({
            "result": "signed",
            "file": target,
            "key": self.key,
            "floor": self.floors.map(Floors::own),
            "oldest": self.floors.map(Floors::oldest),
            "signatures": values,
        });
        Answer::new(lines.join("\n") + "\n", json)
    }
}

/// A reader sees the file as it was or the whole new one, never a part.
fn publish(target: &Path, bytes: &[u8], mode: Permissions) -> Result<()> {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let unfinished: PathBuf = target.with_file_name(name);
    let written = File::create_new(&unfinished)
        .doing(format_args!(
            "{}, which a run that was ended may have left: remove it then",
            unfinished.display()
        ))
        .map(|mut file| -> std::io::Result<()> {
            file.set_permissions(mode)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&unfinished, target)
        })?;
    written.map_err(|error| {
        // What is left of it is the lesser trouble.
        drop(fs::remove_file(&unfinished));
        error.into()
    })
}

#[cfg(test)]
mod tests;
