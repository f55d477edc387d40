// SPDX-License-Identifier: Apache-2.0
//! What the kernel has to be told, because no file in the initrd can switch it off.

use std::path::Path;

use crate::command_line::CommandLine;
use crate::config::SecureBoot;
use crate::error::{Error, Result};

/// Keeps a hibernation image of somebody else's from being resumed.
const NO_HIBERNATION: &str = "nohibernate";
/// Keeps the firmware's variables, which the host writes, from being read: systemd takes one of them for a part of the command line
/// where Secure Boot is off (systemd, `proc-cmdline.c`).
const NO_VARIABLES: &str = "efi=noruntime";

/// Refuses a command line without the words that it needs.
pub(super) fn check(top: &Path, secure_boot: SecureBoot) -> Result<()> {
    let missing = missing(&CommandLine::load(top)?, secure_boot);
    if missing.is_empty() {
        return Ok(());
    }
    let words = missing.join(" and ");
    let them = if missing.len() > 1 { "them" } else { "it" };
    Err(Error::refused(format_args!(
        "the kernel's command line lacks {words}: add {them} to the command line of the image, which is measured"
    )))
}

fn missing(line: &CommandLine, secure_boot: SecureBoot) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if secure_boot == SecureBoot::NotRequired && !line.turns_variables_off() {
        missing.push(NO_VARIABLES);
    }
    if !line.turns_hibernation_off() {
        missing.push(NO_HIBERNATION);
    }
    missing
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::Exit;

    #[test]
    fn the_words_that_are_missing_are_named() {
        let of = |text: &str| {
            [SecureBoot::Required, SecureBoot::NotRequired]
                .map(|secure_boot| missing(&CommandLine::parse(text), secure_boot).join(" "))
        };
        assert_eq!(of("ro quiet nohibernate\n"), ["", NO_VARIABLES]);
        assert_eq!(of("efi=noruntime nohibernate\n"), ["", ""]);
        assert_eq!(of("efi=debug,noruntime nohibernate"), ["", ""]);
        assert_eq!(of("ro\n"), [NO_HIBERNATION, "efi=noruntime nohibernate"]);
        for other in [
            "nohibernate=1",
            "nohibernate.x",
            "x=\"a nohibernate b\"",
            "ro -- nohibernate",
            "noresume",
        ] {
            assert_eq!(of(other)[0], NO_HIBERNATION, "{other}");
        }
        for other in [
            "nohibernate efi=runtime",
            "nohibernate efi=noruntimes",
            "nohibernate efi=noruntime efi=runtime",
            "nohibernate xefi=noruntime",
        ] {
            assert_eq!(of(other)[1], NO_VARIABLES, "{other}");
        }
    }

    #[test]
    fn a_command_line_without_them_is_refused_in_one_sentence() {
        let top = std::env::temp_dir().join(format!("nightlatch-cmdline-{}", std::process::id()));
        fs::create_dir_all(top.join("proc")).unwrap();
        let refusal = |text: &str| {
            fs::write(top.join("proc/cmdline"), text).unwrap();
            check(&top, SecureBoot::NotRequired)
        };
        refusal("nohibernate efi=noruntime\n").unwrap();
        let error = refusal("efi=noruntime\n").unwrap_err();
        assert_eq!(error.exit(), Exit::Refused);
        assert_eq!(
            error.to_string(),
            "the kernel's command line lacks nohibernate: \
             add it to the command line of the image, which is measured"
        );
        assert_eq!(
            refusal("\n").unwrap_err().to_string(),
            "the kernel's command line lacks efi=noruntime and nohibernate: \
             add them to the command line of the image, which is measured"
        );
        fs::remove_dir_all(top).unwrap();
    }
}
