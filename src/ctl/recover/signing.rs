// SPDX-License-Identifier: Apache-2.0
//! The operator's signature, by OpenSSH: so the key may be in a file with a passphrase, in an agent, or in a security key.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Doing, Error, Result};
use crate::protocol::recovery::NAMESPACE;

/// Signs `message`, which goes through a pipe and to no file. A passphrase is asked for at the terminal.
pub(super) fn sign(identity: &Path, message: &[u8]) -> Result<String> {
    sign_now(identity, message).doing("signing with ssh-keygen")
}

fn sign_now(identity: &Path, message: &[u8]) -> Result<String> {
    let mut child = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"])
        .arg(identity)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Error::unavailable)?;
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(message));
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(Error::refused(format_args!(
            "it ended with {} for {}",
            output.status,
            identity.display()
        )));
    }
    written.transpose()?;
    String::from_utf8(output.stdout).map_err(Error::failure)
}
