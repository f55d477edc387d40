// SPDX-License-Identifier: Apache-2.0
//! `image check`: whether an initrd has what its configuration needs and is closed, and whether the image around it is one that
//! opens only our way.
//!
//! **Never:** anything of the image is run, mounted or unpacked to a disk.

mod closed;
mod files;
mod modules;
mod programs;
mod report;
mod sizes;
mod unified;

use std::path::Path;

use self::report::Report;
use self::sizes::Size;
use crate::ctl::{Answer, input};
use crate::error::{Doing, Error, Exit, Result};
use crate::initrd::{Part, Tree};
use crate::uki::Uki;

/// What a program of UEFI starts with.
const PROGRAM: &[u8] = b"MZ";

/// Checks a unified kernel image or an initrd, whichever the file is.
pub(super) fn check(path: &Path) -> Result<Answer> {
    let bytes = input::read(path, input::IMAGE_LEN_MAX).map_err(Error::config);
    let report = bytes
        .and_then(|bytes| report(&bytes))
        .doing(path.display())?;
    Ok(report.answer(path))
}

fn report(bytes: &[u8]) -> Result<Report> {
    let mut report = Report::default();
    if bytes.starts_with(PROGRAM) {
        let uki = Uki::parse(bytes)?;
        for (name, len) in uki.sizes() {
            report.size(Size::section(name, len));
        }
        match uki.section(unified::INITRD)? {
            Some(packed) => initrd(packed, Some(&uki), &mut report).doing("section .initrd")?,
            None => report.missing("initrd", "the image has none: put nightlatch's into it"),
        }
    } else {
        initrd(bytes, None, &mut report)?;
    }
    Ok(report)
}

/// What is missing in an image whose initrd is unpacked, a sentence each, and the exit code of that; nothing where nothing is.
pub(super) fn missing(uki: &Uki<'_>, tree: &Tree<'_>) -> Result<Option<(Exit, Vec<String>)>> {
    let mut report = Report::default();
    inside(tree, Some(uki), &mut report)?;
    Ok(report.missing_ones())
}

/// What is in the initrd, and in the image that has it.
fn initrd(packed: &[u8], uki: Option<&Uki<'_>>, report: &mut Report) -> Result<()> {
    let parts = Part::all(packed)?;
    let tree = Tree::of(&parts)?;
    for size in sizes::of(&parts, &tree) {
        report.size(size);
    }
    inside(&tree, uki, report)
}

/// The same of one that is unpacked.
fn inside(tree: &Tree<'_>, uki: Option<&Uki<'_>>, report: &mut Report) -> Result<()> {
    if !files::is_of_systemd(tree, report) {
        return Ok(());
    }
    files::of_nightlatch(tree, report);
    let Some(config) = files::config(tree, report) else {
        return Ok(());
    };
    files::named(tree, &config, report);
    files::network(tree, &config, report);
    programs::check(tree, &config, report);
    let release = uki.map(unified::release).transpose()?.flatten();
    modules::check(tree, &config, release, report);
    closed::check(tree, &config, report);
    if let Some(uki) = uki {
        return unified::check(uki, &config, tree, report);
    }
    report.note(
        "image",
        "this is an initrd alone: check the unified kernel image that is made of it for command line, stub and signatures",
    );
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
