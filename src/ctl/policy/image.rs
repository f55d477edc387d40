// SPDX-License-Identifier: Apache-2.0
//! `policy image`: what a policy has to say of an image, from its files, so that nobody has to boot it to know.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::authority::{Authority, refuse_signed_kernel};
use crate::ctl::cli::PolicyImage;
use crate::ctl::{Answer, input};
use crate::error::{Doing, Error, Result};
use crate::pcr::{Bank, Pcr};
use crate::sealed::floor::Floor;
use crate::uki::{Addition, Pe, Uki};

/// The only bank that the key service's protocol quotes.
const BANK: Bank = Bank::Sha256;
/// Those that nodes seal to.
const SIGNED_BANKS: [Bank; 2] = [Bank::Sha256, Bank::Sha384];
/// How often a command line from outside is measured: by the stub, and by systemd-boot before.
const BY_STUB: usize = 1;
const BY_LOADER: usize = 2;

/// Prints the table of an image.
pub(in crate::ctl) fn image(options: &PolicyImage) -> Result<Answer> {
    let file = &options.image;
    let bytes = read(file)?;
    let table = Uki::parse(&bytes)
        .and_then(|uki| Table::new(file, &uki, options))
        .doing(file)?;
    Ok(Answer::new(table.text(), table.json()))
}

/// The table of an image, as a policy has it.
struct Table {
    name: String,
    images: Vec<String>,
    loaders: Vec<String>,
    kernels: Vec<String>,
    initrds: Vec<String>,
    command_lines: Vec<String>,
    authorities: Vec<String>,
    /// PCRs 11 to 13, each with what its values stand for.
    pcrs: [(u8, &'static str, Vec<String>); 3],
    /// The keys that are said to have signed its value of PCR 11. A policy does not name them.
    signed_by: BTreeSet<String>,
    /// The highest floor that its signatures name. It says so itself: nothing is verified.
    floor: Option<Floor>,
    warnings: Vec<String>,
}

impl Table {
    fn new(file: &str, uki: &Uki<'_>, options: &PolicyImage) -> Result<Self> {
        let mut warnings = signatures(uki, &options.authorities)?;
        let signed_by = uki.signed_by(&SIGNED_BANKS)?;
        if signed_by.as_ref().is_some_and(BTreeSet::is_empty) {
            warnings
                .push("the image carries signatures of PCR 11, and none of its own value".into());
        }
        if let Some(version) = uki
            .stub_that_hands_on()
            .filter(|_| options.initrd_hashes.is_empty())
        {
            return Err(hands_on(version));
        }
        let loader = options
            .boot_loader
            .as_deref()
            .map(hash_of_file)
            .transpose()?;
        let own = uki.command_line().map(str::to_owned).into_iter();
        let given = options.command_lines.iter().cloned();
        // With Secure Boot the stub starts the kernel past the firmware, which measures nothing then.
        let kernel = match options.authorities[..] {
            [] => Some(hash(&uki.kernel()?)?),
            [..] => None,
        };
        Ok(Self {
            name: options.name.clone().unwrap_or_else(|| stem(file)),
            images: vec![hash(&uki.program)?],
            loaders: loader.into_iter().collect(),
            kernels: kernel.into_iter().collect(),
            initrds: options.initrd_hashes.clone(),
            command_lines: own.chain(given).collect(),
            authorities: options.authorities.iter().map(|it| base(it)).collect(),
            pcrs: pcrs(uki, options),
            signed_by: signed_by.unwrap_or_default(),
            floor: uki.floor(&SIGNED_BANKS)?,
            warnings,
        })
    }

    fn text(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        lines.extend(self.warnings.iter().map(|it| format!("# warning: {it}")));
        lines.push("[[image]]".into());
        lines.push(format!("name = {}", quoted(&self.name)));
        lines.push(format!("secure-boot = {}", !self.authorities.is_empty()));
        for (key, values) in self.lists() {
            if !values.is_empty() {
                lines.push(format!("{key} = {}", list(values)));
            }
        }
        lines.push("[image.pcrs]".into());
        for (pcr, meaning, values) in &self.pcrs {
            lines.push(format!("# {meaning}"));
            if *pcr == Pcr::KERNEL_IMAGE.index() {
                let keys = self.signed_by.iter();
                lines.extend(keys.map(|key| format!("# Signed by the key {key}.")));
                lines.extend(
                    self.floor
                        .map(|floor| format!("# Signed for floor {floor}.")),
                );
            }
            lines.push(format!("{pcr} = {}", list(values)));
        }
        lines.join("\n") + "\n"
    }

    fn json(&self) -> Value {
        let pcrs = self.pcrs.iter();
        let pcrs: Value = pcrs
            .map(|(pcr, _, values)| (pcr.to_string(), json!(values)))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let mut image = json!({
            "name": self.name,
            "secure-boot": !self.authorities.is_empty(),
            "pcrs": pcrs,
        });
        if let Some(image) = image.as_object_mut() {
            for (key, values) in self.lists() {
                image.insert(key.into(), json!(values));
            }
        }
        json!({
            "result": "made",
            "image": image,
            "signed-by": self.signed_by,
            "floor": self.floor,
            "warnings": self.warnings,
        })
    }

    fn lists(&self) -> [(&'static str, &[String]); 6] {
        [
            ("authorities", &self.authorities),
            ("loader-hash", &self.loaders),
            ("uki-hash", &self.images),
            ("kernel-hash", &self.kernels),
            ("initrd-hash", &self.initrds),
            ("command-line", &self.command_lines),
        ]
    }
}

/// A host can have such an image run what it likes, and no register that a node seals to by default tells.
fn hands_on(version: &str) -> Error {
    Error::refused(format_args!(
        "the image starts with systemd-stub {version}, which puts an initrd that somebody left for it in front of the \
         image's own: QEMU's -initrd is one, under Secure Boot as well, and only PCR 9 tells; build the image with the stub of \
         systemd 260 or earlier, which does not start then; or have 9 in tpm.pcrs of the configuration and give \
         --initrd-hash, what the kernel measures of the initrd"
    ))
}

/// Says where the image carries no signature of an authority, and refuses one whose kernel does.
fn signatures(uki: &Uki<'_>, authorities: &[String]) -> Result<Vec<String>> {
    let authorities = Authority::all(authorities)?;
    refuse_signed_kernel(uki, &authorities)?;
    let mut warnings = Vec::new();
    for authority in &authorities {
        if !authority.has_signed(&uki.program)? {
            warnings.push(format!(
                "the image carries no signature of {}",
                authority.file
            ));
        }
    }
    Ok(warnings)
}

fn pcrs(uki: &Uki<'_>, options: &PolicyImage) -> [(u8, &'static str, Vec<String>); 3] {
    let mut times = vec![BY_STUB];
    times.extend(options.boot_loader.as_ref().map(|_| BY_LOADER));
    let additions: Vec<Addition<'_>> = options
        .command_lines
        .iter()
        .flat_map(|text| {
            times.iter().map(|times| Addition {
                text,
                times: *times,
            })
        })
        .collect();
    let digits = |values: Vec<Vec<u8>>| values.iter().map(hex::encode).collect();
    [
        (
            11,
            "The image, when its initrd asks for keys.",
            digits(vec![uki.kernel_image(BANK)]),
        ),
        (
            12,
            "Nothing from outside, or a command line above; each second value is that of systemd 261 \
             and later.",
            digits(Addition::kernel_config(BANK, &additions)),
        ),
        (
            13,
            "No extension of the initrd, in the same way.",
            digits(Addition::no_extension(BANK)),
        ),
    ]
}

fn hash_of_file(file: &str) -> Result<String> {
    let bytes = read(file)?;
    Pe::parse(&bytes)
        .and_then(|program| hash(&program))
        .doing(file)
}

fn hash(program: &Pe<'_>) -> Result<String> {
    program.authenticode(BANK).map(hex::encode)
}

fn read(file: &str) -> Result<Vec<u8>> {
    input::read(Path::new(file), input::IMAGE_LEN_MAX).doing(file)
}

/// The file's name: certificates are beside the policy.
fn base(file: &str) -> String {
    let name = Path::new(file).file_name();
    name.map_or_else(
        || file.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

fn stem(file: &str) -> String {
    let name = Path::new(file).file_stem();
    name.map_or_else(
        || file.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

fn list(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    format!("[{}]", values.join(", "))
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests;
