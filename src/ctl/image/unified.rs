// SPDX-License-Identifier: Apache-2.0
//! What a unified kernel image has to be around its initrd: its command line, its stub, and who signed what.

use super::report::Report;
use crate::command_line::CommandLine;
use crate::config::{Config, SecureBoot};
use crate::error::{Doing, Error, Result};
use crate::evidence::start::{certificates, refused_beside_signed};
use crate::initrd::Tree;
use crate::key::pcr::PcrPublicKey;
use crate::pcr::Pcr;
use crate::uki::Uki;

/// Where the initrd is.
pub(super) const INITRD: &str = ".initrd";
/// Which release the kernel is of (UAPI's unified kernel image specification).
const RELEASE: &str = ".uname";
/// The mapping that systemd-veritysetup-generator makes of `roothash=`.
const VERIFIED_ROOT: &str = "/dev/mapper/root";

/// The release of the kernel inside, where the image says it.
pub(super) fn release<'a>(uki: &Uki<'a>) -> Result<Option<&'a str>> {
    let Some(bytes) = uki.section(RELEASE)? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(bytes)
        .map_err(Error::refused)
        .doing("section .uname")?;
    Ok(Some(text.trim_end_matches(['\0', '\n'])))
}

/// Compares the image with the configuration in its initrd.
pub(super) fn check(
    uki: &Uki<'_>,
    config: &Config,
    tree: &Tree<'_>,
    report: &mut Report,
) -> Result<()> {
    command_line(uki, config, report);
    stub(uki, config, report);
    signature_of_pcr_11(uki, config, tree, report);
    signatures(uki, config, tree, report)
}

fn command_line(uki: &Uki<'_>, config: &Config, report: &mut Report) {
    let text = uki.command_line().unwrap_or_default();
    let line = CommandLine::parse(text);
    let below = config.volumes().filter_map(|volume| volume.lower.as_ref());
    let needs_hash = below
        .into_iter()
        .any(|device| device.as_str() == VERIFIED_ROOT);
    let needs_no_variables = config.boot.secure_boot == SecureBoot::NotRequired;
    let lacks = [
        ("nohibernate", !line.turns_hibernation_off()),
        (
            "efi=noruntime",
            needs_no_variables && !line.turns_variables_off(),
        ),
        ("roothash=", needs_hash && line.value("roothash").is_none()),
    ];
    let lacking = lacks.iter().filter(|(_, is_lacking)| *is_lacking);
    let lacking = lacking
        .map(|(word, _)| format!("it lacks {word}: add it to the image's, which is measured"));
    report.all_or("command line", lacking.collect(), text);
}

fn stub(uki: &Uki<'_>, config: &Config, report: &mut Report) {
    match uki.stub_that_hands_on() {
        None => report.good("stub", "it takes no initrd that somebody left for it"),
        Some(version) if config.tpm.pcrs.contains(Pcr::LOADED_FILES) => report.note(
            "stub",
            format!("systemd-stub {version} takes an initrd that somebody left for it, and PCR 9, which is sealed to, tells"),
        ),
        Some(version) => report.missing(
            "stub",
            format!(
                "systemd-stub {version} puts an initrd that somebody left for it in front of the image's own, and nothing that is \
                 sealed to tells: use the stub of systemd 260 or earlier{}",
                match config.tpm.signed {
                    None => ", or have 9 in tpm.pcrs",
                    Some(_) => "",
                }
            ),
        ),
    }
}

/// Where secrets are sealed to a key that signs images, this one has to carry its signature, as the boot looks for it.
fn signature_of_pcr_11(uki: &Uki<'_>, config: &Config, tree: &Tree<'_>, report: &mut Report) {
    let what = "signature of PCR 11";
    let Some(signed) = &config.tpm.signed else {
        return;
    };
    for file in &signed.keys {
        // What is missing or broken has been told.
        let Some(Ok(key)) = tree.file(file.as_str()).map(PcrPublicKey::from_pem) else {
            continue;
        };
        match uki.check_signed(&key, config.tpm.bank.into(), None) {
            Ok(()) => report.good(what, format!("by the key of the configuration, {key}")),
            Err(error) => report.missing(
                what,
                format!(
                    "{error}: its boot would be refused; run nightlatchctl policy sign on the image before it is signed for \
                     Secure Boot"
                ),
            ),
        }
    }
}

/// The image has to carry a signature of an authority, and the kernel inside none.
fn signatures(uki: &Uki<'_>, config: &Config, tree: &Tree<'_>, report: &mut Report) -> Result<()> {
    let what = "signatures";
    if config.boot.secure_boot == SecureBoot::NotRequired {
        report.good(what, "the configuration asks for none");
        return Ok(());
    }
    let kernel = uki.kernel()?;
    let (mut is_signed, mut is_kernel_signed) = (false, false);
    let mut missing = Vec::new();
    for file in &config.boot.authorities {
        // What is missing or broken has been told.
        let listed = tree.file(file.as_str()).map(certificates);
        for certificate in listed.into_iter().flatten().flatten() {
            is_signed |= uki
                .program
                .names_signer(&certificate)
                .doing(file.as_str())?;
            is_kernel_signed |= kernel.names_signer(&certificate).doing(file.as_str())?;
            if config.tpm.signed.is_some() {
                missing.extend(refused_beside_signed(&certificate));
            }
        }
    }
    if is_kernel_signed {
        missing.push(
            "the kernel inside carries a signature of boot.authorities: under that key anybody starts it with another initrd; \
             build the image without, ukify has --no-sign-kernel"
                .to_owned(),
        );
    }
    if !is_signed {
        missing.push(
            "the image carries none of boot.authorities, so its boot would be refused: sign it"
                .to_owned(),
        );
    }
    report.all_or(
        what,
        missing,
        "the image carries one of boot.authorities, and the kernel inside none",
    );
    Ok(())
}
