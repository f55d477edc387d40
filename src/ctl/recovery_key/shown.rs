// SPDX-License-Identifier: Apache-2.0
//! A recovery key shown once, and what shows that it was kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, IsTerminal as _, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use zeroize::Zeroizing;

use super::KEY_FILE_LEN_MAX;
use crate::ctl::{input, usage};
use crate::error::{Error, Result};
use crate::key::recovery::RecoveryKey;

/// How often a key may be typed.
const TRIES: usize = 3;
/// Where the kernel has the terminals of logins over a network (devpts(5)); all others are the machine's console.
const NETWORK_TERMINALS: &str = "/dev/pts/";

/// Shows the key on the terminal and has it typed back.
pub(super) fn on_terminal(key: &RecoveryKey) -> Result<()> {
    require_terminal("--confirm-file")?;
    ask(key, io::stdin().lock(), io::stderr())
}

/// A key from the terminal, which does not show it.
pub(super) fn asked_for() -> Result<RecoveryKey> {
    require_terminal("--key-file")?;
    let stdin = io::stdin();
    let _silent = Silent::on(&stdin)?;
    eprint_line("recovery key: ")?;
    let line = line(stdin.lock())?;
    eprint_line("\n")?;
    RecoveryKey::parse(line.as_bytes())
}

/// Writes the key into a new file that its owner alone reads, and reads it back from there.
pub(super) fn keep(key: &RecoveryKey, path: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    let file = options.create_new(true).write(true).mode(0o600);
    let mut file = file.open(path)?;
    let written = file
        .write_all(key.text().as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_directory(path));
    written?;
    let back = input::read(path, KEY_FILE_LEN_MAX).map(Zeroizing::new)?;
    if RecoveryKey::parse(&back)?.is(key) {
        Ok(())
    } else {
        Err(Error::failure("it gives back another key than was written"))
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// What is shown and typed goes over a login that the host does not read.
fn require_terminal(instead: &str) -> Result<()> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(usage(&format!(
            "recovery-key: there is no terminal to ask on: use {instead} FILE"
        )));
    }
    for descriptor in [0, 2] {
        let terminal = fs::read_link(format!("/proc/self/fd/{descriptor}"))?;
        if !terminal.starts_with(NETWORK_TERMINALS) {
            return Err(Error::refused(format_args!(
                "{} is the machine's console, which the host reads: log in over the network, or use {instead} FILE",
                terminal.display()
            )));
        }
    }
    Ok(())
}

fn ask(key: &RecoveryKey, mut from: impl BufRead, mut to: impl Write) -> Result<()> {
    let text = key.text();
    writeln!(
        to,
        "{}\n\n    {}\n\nThis key opens the volume wherever it is, and is not shown again. Keep it outside of this machine.",
        picture(&text)?.as_str(),
        text.as_str()
    )?;
    for left in (0..TRIES).rev() {
        write!(to, "Type it back: ")?;
        to.flush()?;
        let line = line(&mut from)?;
        match RecoveryKey::parse(line.as_bytes()) {
            Ok(typed) if typed.is(key) => return Ok(()),
            Ok(_) => writeln!(to, "It is another key.")?,
            Err(error) => writeln!(to, "{error}.")?,
        }
        if line.is_empty() || left == 0 {
            break;
        }
    }
    Err(Error::refused(
        "the key was not typed back, so nothing was asked for and it opens nothing",
    ))
}

/// The text as a QR code, two rows of it in a line; dark on light on a terminal that writes light on dark.
fn picture(text: &str) -> Result<Zeroizing<String>> {
    let code = QrCode::new(text.as_bytes())
        .map_err(|error| Error::failure(format_args!("QR code: {error}")))?;
    let picture = code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .build();
    Ok(Zeroizing::new(picture))
}

fn line(mut from: impl BufRead) -> Result<Zeroizing<String>> {
    // Reserved at once, so that no shorter copy stays behind.
    let mut line = Zeroizing::new(String::with_capacity(KEY_FILE_LEN_MAX));
    from.read_line(&mut line)?;
    Ok(line)
}

fn eprint_line(text: &str) -> Result<()> {
    let mut to = io::stderr();
    to.write_all(text.as_bytes())?;
    Ok(to.flush()?)
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silent<'a, T: AsFd> {
    terminal: &'a T,
    before: Termios,
}

impl<'a, T: AsFd> Silent<'a, T> {
    fn on(terminal: &'a T) -> Result<Self> {
        let before = tcgetattr(terminal).map_err(io::Error::from)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(terminal, SetArg::TCSAFLUSH, &silent).map_err(io::Error::from)?;
        Ok(Self { terminal, before })
    }
}

impl<T: AsFd> Drop for Silent<'_, T> {
    fn drop(&mut self) {
        if let Err(errno) = tcsetattr(self.terminal, SetArg::TCSANOW, &self.before) {
            log::debug!("the terminal stays silent: {errno}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    fn key() -> RecoveryKey {
        RecoveryKey::from_bytes(&(0..32).collect::<Vec<u8>>()).unwrap()
    }

    #[test]
    fn a_key_is_shown_and_has_to_come_back() {
        let text = key().text().to_string();
        let other = RecoveryKey::random().unwrap().text().to_string();
        for typed in [
            format!("{text}\n"),
            format!("{}\n", text.replace('-', "")),
            format!("{other}\nx\n{text}\n"),
        ] {
            let mut said = Vec::new();
            ask(&key(), typed.as_bytes(), &mut said).unwrap();
            let said = String::from_utf8(said).unwrap();
            assert!(said.contains(&format!("\n    {text}\n")));
            // Once as text, and never what was typed.
            assert_eq!(said.matches(&text).count(), 1);
            assert!(!said.contains(&other));
        }
        for typed in [
            String::new(),
            format!("{other}\n"),
            format!("{other}\n{other}\n{other}\n{text}\n"),
        ] {
            let error = ask(&key(), typed.as_bytes(), Vec::new()).unwrap_err();
            assert_eq!(error.exit(), Exit::Refused);
        }
    }

    /// Version 5 with a quiet zone of 4: 45 modules wide, two rows in a line.
    #[test]
    fn the_picture_is_a_qr_code_of_the_text() {
        let picture = picture(&key().text()).unwrap();
        let lines: Vec<&str> = picture.lines().collect();
        let width = lines[0].chars().count();
        assert!(lines.iter().all(|line| line.chars().count() == width));
        assert_eq!(lines.len(), width.div_ceil(2));
        assert!(width >= 37 + 8, "{width}");
        // The quiet zone is light, which is what a terminal writes.
        assert!(lines[0].chars().all(|c| c == '\u{2588}'));
    }

    #[test]
    fn a_key_is_kept_in_a_file_that_was_not_there() {
        let path = std::env::temp_dir().join(format!("nightlatchctl-kept-{}", std::process::id()));
        keep(&key(), &path).unwrap();
        let kept = fs::read_to_string(&path).unwrap();
        assert_eq!(kept, format!("{}\n", key().text().as_str()));
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        assert!(keep(&key(), &path).is_err());
        fs::remove_file(&path).unwrap();
    }
}
