// SPDX-License-Identifier: Apache-2.0
//! A node with one disk and a TPM of its own, for cases of several whole boots of the real program on real btrfs.

use std::fmt;
use std::path::Path;

use nightlatch::config::Config;
use nightlatch::error::{Error, Exit};
use nightlatch::status::VolumeStatus;
use nightlatch::tpm::Policy;
use nightlatch::volume::{self, Found, How, SecretProviders};

use crate::boots;
use crate::disk::{self, BOOT, Disk, Saved, close, run};
use crate::tpm_private::Private;

const DISK_MIB: u64 = 160;

/// What came of a boot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Opened,
    New,
    Refused,
    /// A sector could not be read: opened, and then stopped where it matters.
    ReadError,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opened => "opened",
            Self::New => "new",
            Self::Refused => "refused",
            Self::ReadError => "error",
        })
    }
}

/// The state of a node with its power off.
pub(crate) struct Off {
    pub(crate) disk: Saved,
    pub(crate) tpm: Vec<u8>,
}

/// A node with one disk and its TPM.
pub(crate) struct Node {
    pub(crate) level: &'static str,
    pub(crate) disk: Disk,
    pub(crate) tpm: Private,
}

impl Node {
    pub(crate) fn new(level: &'static str) -> Self {
        Self {
            level,
            disk: Disk::in_memory(DISK_MIB),
            tpm: Private::start(),
        }
    }

    pub(crate) fn config(&self) -> Config {
        let volume = disk::lines(
            &self.disk,
            &["kdf = \"pbkdf2\"", &format!("anchor = \"{}\"", self.level)],
        );
        Config::parse(&format!(
            "{BOOT}[tpm]\ntcti = \"swtpm:port={}\"\n{volume}",
            self.tpm.port()
        ))
        .unwrap()
    }

    /// One boot, with `work` while the volume is mounted, to the moment the power goes.
    pub(crate) fn boot(&mut self, work: impl FnOnce(&Self)) -> Result<VolumeStatus, Error> {
        self.tpm.reset();
        let volume = boots::boot(&self.config(), || work(self))?;
        assert_eq!(volume.anchor.as_str(), self.level);
        Ok(volume)
    }

    /// Leaves a file, and a checkpoint where there are any.
    pub(crate) fn work(&self, name: &str) {
        std::fs::write(Path::new("/mnt").join(name), content(name)).unwrap();
        run("sync", &["-f", "/mnt"], b"");
        if self.level != "off" {
            run("/payload/bin/nightlatchctl", &["anchor", "checkpoint"], b"");
        }
    }

    /// A whole boot that must succeed, and what is left after it.
    pub(crate) fn next(&mut self, name: &str) -> Off {
        self.boot(|node| node.work(name)).unwrap();
        self.off()
    }

    pub(crate) fn off(&self) -> Off {
        Off {
            disk: self.disk.save(),
            tpm: self.tpm.state(),
        }
    }

    pub(crate) fn put_back(&mut self, state: &Off) {
        self.tpm.restore(&state.tpm);
        self.disk.load(&state.disk);
    }

    pub(crate) fn blank(&self) {
        run("blkdiscard", &["--zeroout", self.disk.as_str()], b"");
    }

    /// What can be read is what was once written; what cannot, the kernel has found a wrong tag on.
    pub(crate) fn verdict(&mut self) -> Verdict {
        let wrong_tags = wrong_tags();
        let mut readable = true;
        let files = |_: &Self| {
            for file in std::fs::read_dir("/mnt").unwrap() {
                let file = file.unwrap();
                match std::fs::read(file.path()) {
                    Ok(bytes) => {
                        let name = file.file_name().into_string().unwrap();
                        assert!(bytes == content(&name).into_bytes(), "{name} is changed");
                    }
                    Err(_) => readable = false,
                }
            }
        };
        let verdict = match self.boot(files) {
            Ok(volume) if volume.how == How::Formatted => Verdict::New,
            Ok(_) if readable => Verdict::Opened,
            Ok(_) => Verdict::ReadError,
            Err(error) if cannot_be_read(&error) => Verdict::ReadError,
            Err(error) if error.exit() == Exit::Refused => {
                println!("    {error}");
                Verdict::Refused
            }
            Err(error) => panic!("{error}"),
        };
        if verdict == Verdict::ReadError {
            assert!(wrong_tags < self::wrong_tags(), "it failed otherwise");
        }
        verdict
    }

    /// Opens the volume without the anchor, as somebody who has this machine's TPM and its key would, to change what is
    /// below the file system with tags that are valid.
    pub(crate) fn with_mapping(&mut self, work: impl FnOnce()) {
        self.tpm.reset();
        let config = self.config();
        let volume = disk::volume(&config);
        let Found::Existing(existing) = volume::examine(volume).unwrap() else {
            panic!("expected a volume");
        };
        let mut tpm = self.tpm.open();
        let keyed = existing
            .unlock(
                volume,
                policy(&config),
                SecretProviders::tpm(|sealed| tpm.unseal(sealed, policy(&config))),
            )
            .unwrap();
        volume::open(volume, keyed, None).unwrap();
        work();
        close();
    }
}

/// A superblock that has a wrong tag keeps the file system from being mounted: by systemd, or to be looked at.
fn cannot_be_read(error: &Error) -> bool {
    let said = error.to_string();
    said.contains("I/O error")
        || said.contains("the file system cannot be read: Input/output error")
}

/// What a file of this name holds.
fn content(name: &str) -> String {
    name.repeat(9000)
}

/// How many sectors the kernel has found a wrong tag on, as its log says: of some it says how often it kept silent.
fn wrong_tags() -> usize {
    let log = run("dmesg", &[], b"");
    log.lines()
        .filter(|line| line.contains("INTEGRITY AEAD ERROR"))
        .count()
}

pub(crate) fn policy(config: &Config) -> Policy {
    Policy::of(&config.tpm, None)
}
