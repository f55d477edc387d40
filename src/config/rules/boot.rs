// SPDX-License-Identifier: Apache-2.0
//! What a boot must be, and what secrets are sealed to, have to fit each other.
//!
//! A policy is only good where the part that the booted program cannot make up is in it: whose signature counted, or which
//! programs and drivers the firmware started.

use crate::config::{
    Boot, Config, FilePath, FirstBoot, Format, Loader, PolicyBank, SecureBoot, Source, Volume,
};
use crate::pcr::{Bank, Pcr, PcrSet};

/// What has to be sealed to where no signature counts.
const WITHOUT_SIGNATURES: [Pcr; 4] = [
    Pcr::DRIVERS,
    Pcr::BOOT_PROGRAMS,
    // The firmware may try one boot option on several disks and measure nothing in between: an image on one of them that comes
    // back once it has measured itself, and on the other the kernel out of it, with another initrd.
    Pcr::LOADED_FILES,
    Pcr::KERNEL_CONFIG,
];

/// Whose signature counts, and what is sealed to for that.
pub(super) fn signed(config: &Config) -> Result<(), String> {
    let Config { boot, tpm, .. } = config;
    match boot.secure_boot {
        SecureBoot::Required => signatures(boot, tpm.pcrs),
        SecureBoot::NotRequired => without_signatures(boot, tpm.pcrs),
    }
}

/// What is signed of an image says only what its own parts are: that nothing else runs has to follow from the rest.
pub(super) fn signed_pcr(config: &Config) -> Result<(), String> {
    let Config { boot, tpm, .. } = config;
    let Some(signed) = &tpm.signed else {
        return Ok(());
    };
    if signed.keys.len() != 1 {
        return Err(format!(
            "tpm.signed.keys: expected one file, found {}",
            signed.keys.len()
        ));
    }
    if boot.secure_boot == SecureBoot::NotRequired {
        return Err(
            "tpm.signed: expected boot.secure-boot = \"required\": with \"not-required\" any program of the host's \
             extends PCR 11 as the image would"
                .into(),
        );
    }
    let from_outside = ["/.extra/", "/run/"];
    let is_from_outside = |file: &&FilePath| {
        let mut places = from_outside.iter();
        places.any(|place| file.as_str().starts_with(place))
    };
    if let Some(file) = signed.keys.iter().find(is_from_outside) {
        return Err(format!(
            "tpm.signed.keys: expected a file of the initrd, found {}: what lies there can come from outside of the image",
            file.as_str()
        ));
    }
    for pcr in [Pcr::KERNEL_IMAGE, Pcr::LOADED_FILES, Pcr::BOOT_PROGRAMS] {
        if tpm.pcrs.contains(pcr) {
            return Err(format!(
                "tpm.pcrs: expected no {pcr} beside tpm.signed: its value is another one in each image"
            ));
        }
    }
    Ok(())
}

/// What has to be sealed to in any case.
pub(super) fn sealed(config: &Config) -> Result<(), String> {
    let pcrs = config.tpm.pcrs;
    if pcrs.contains(Pcr::KERNEL_IMAGE) && !pcrs.contains(Pcr::BOOT_PROGRAMS) {
        return Err(
            "tpm.pcrs: expected 4 beside 11, which is extended by the program that was booted, whichever that is"
                .into(),
        );
    }
    if !pcrs.contains(Pcr::KERNEL_CONFIG) {
        return Err(
            "tpm.pcrs: expected 12 among them, or the host could add to the image once a secret is sealed".into(),
        );
    }
    Ok(())
}

fn signatures(boot: &Boot, pcrs: PcrSet) -> Result<(), String> {
    if boot.authorities.is_empty() {
        return Err(
            "boot.authorities: expected the certificates that may vouch for what the firmware runs, \
             or any key would do that the host puts there; or secure-boot = \"not-required\""
                .into(),
        );
    }
    for (index, file) in boot.authorities.iter().enumerate() {
        if boot.authorities.iter().take(index).any(|it| it == file) {
            return Err(format!(
                "boot.authorities: {} is there twice",
                file.as_str()
            ));
        }
    }
    if !pcrs.contains(Pcr::SECURE_BOOT) {
        return Err(
            "tpm.pcrs: expected 7 among them with boot.secure-boot = \"required\", \
             or a boot without it could unseal"
                .into(),
        );
    }
    if !pcrs.contains(Pcr::SYSTEM_EXTENSIONS) {
        return Err(
            "tpm.pcrs: expected 13 among them with boot.secure-boot = \"required\", \
             or an extension that the host adds to the initrd could unseal"
                .into(),
        );
    }
    if boot.first_boot.is_some() && boot.loader.is_none() {
        return Err(
            "boot.first-boot means nothing with secure-boot = \"required\" and no loader".into(),
        );
    }
    Ok(())
}

fn without_signatures(boot: &Boot, pcrs: PcrSet) -> Result<(), String> {
    if !boot.authorities.is_empty() {
        return Err("boot.authorities means nothing with secure-boot = \"not-required\"".into());
    }
    if WITHOUT_SIGNATURES.iter().all(|pcr| pcrs.contains(*pcr)) {
        return Ok(());
    }
    Err(format!(
        "tpm.pcrs: expected 2, 4, 9 and 12 among them with boot.secure-boot = \"not-required\", found {pcrs}: \
         nothing else says which drivers, programs and initrd ran"
    ))
}

/// The values that PCRs are to have fit their bank and are sealed to.
pub(super) fn additions(config: &Config) -> Result<(), String> {
    let Config { boot, tpm, .. } = config;
    let bank = Bank::from(tpm.bank);
    for pcr in [Pcr::KERNEL_CONFIG, Pcr::SYSTEM_EXTENSIONS] {
        let Some(value) = boot.added(pcr) else {
            continue;
        };
        if !value.is_of(bank) {
            let digits = match tpm.bank {
                PolicyBank::Sha256 => 64,
                PolicyBank::Sha384 => 96,
            };
            return Err(format!(
                "boot.pcr-{pcr}: expected {digits} digits, for tpm.bank is {bank}"
            ));
        }
        if !tpm.pcrs.contains(pcr) {
            return Err(format!(
                "boot.pcr-{pcr}: expected {pcr} among tpm.pcrs, found {}",
                tpm.pcrs
            ));
        }
    }
    Ok(())
}

/// As long as the shortest digest that firmware measures, SHA-1's: what has as many digits is no version.
const DIGEST_DIGITS_MIN: usize = 40;

/// A digest of the firmware's is of the bank, or it would be taken for a version that no firmware has.
pub(super) fn firmware(config: &Config) -> Result<(), String> {
    let Some(listed) = &config.boot.firmware else {
        return Ok(());
    };
    let digits = Bank::from(config.tpm.bank).zero().len().saturating_mul(2);
    let is_of_another_bank = |text: &&String| {
        text.len() >= DIGEST_DIGITS_MIN
            && text.len() != digits
            && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    match listed.iter().find(is_of_another_bank) {
        Some(text) => Err(format!(
            "boot.firmware: expected {digits} digits in a digest, for tpm.bank is {}, found {}: {text}",
            Bank::from(config.tpm.bank),
            text.len()
        )),
        None => Ok(()),
    }
}

/// Whoever can bring a boot about that measures as this one does may not have a volume made for it.
pub(super) fn first_secret(boot: &Boot, volume: &Volume) -> Result<(), String> {
    let makes_its_own =
        volume.format == Format::IfBlank && volume.sources.contains(&Source::Generate);
    if !makes_its_own || boot.first_boot == Some(FirstBoot::Trusted) {
        return Ok(());
    }
    let because = match (boot.secure_boot, boot.loader) {
        (SecureBoot::Required, None) => return Ok(()),
        (SecureBoot::Required, Some(Loader::SystemdBoot)) => {
            "boot.loader = \"systemd-boot\", which takes an initrd from the ESP"
        }
        (SecureBoot::NotRequired, _) => "boot.secure-boot = \"not-required\"",
    };
    Err(format!(
        "sources: the host chooses what the first boot is with {because}, so its secret has to come from the \
         key service and not from \"generate\"; or boot.first-boot = \"trusted\" says that volumes are made where \
         the host is trusted"
    ))
}
