// SPDX-License-Identifier: Apache-2.0
//! What this program says to a header, as a boot asks: first what can be said before the key is known, then the MAC.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nightlatch::config::{Profile, Role, VolumeName};
use nightlatch::error::{Error, Exit};
use nightlatch::header::{AREA_LEN, Area, Candidate, Content, Expect};
use nix::time::{ClockId, clock_gettime};

use crate::ALLOCATED;
use crate::hostile::base::volume_key;
use crate::hostile::draft::Image;

/// Length of the device a header is on.
pub(crate) const DEVICE_LEN: u64 = 64 << 20;

/// A disk image in a file.
pub(crate) struct Disk(pub(crate) PathBuf);

/// The verdict on a header.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Refused before anybody asked for a key, with this sentence.
    Template(String),
    /// Refused by what only the volume's key can make.
    Mac(String),
    /// Opened, from these bytes.
    Accepted(Box<Candidate>),
}

/// What a verdict took.
pub(crate) struct Cost {
    pub(crate) cpu_us: u128,
    pub(crate) memory: usize,
}

impl Disk {
    pub(crate) fn new(path: &Path, image: &Image) -> Self {
        let mut file = File::create(path).unwrap();
        file.write_all(&image.start).unwrap();
        for (at, what) in &image.late {
            file.seek(SeekFrom::Start(*at)).unwrap();
            file.write_all(what).unwrap();
        }
        file.set_len(DEVICE_LEN).unwrap();
        Self(path.to_owned())
    }

    /// Whether the header area still is what was written, all of it.
    pub(crate) fn is(&self, image: &Image) -> bool {
        let zero = |block: &[u8]| block == [0; 4096];
        let mut bytes = self.start(AREA_LEN);
        for (at, what) in &image.late {
            let at = usize::try_from(*at).unwrap();
            if bytes[at..at + what.len()] != **what {
                return false;
            }
            bytes[at..at + what.len()].fill(0);
        }
        let (start, rest) = bytes.split_at(image.start.len());
        start == image.start && rest.chunks(4096).all(zero)
    }

    /// The first bytes of the file.
    pub(crate) fn start(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let file = File::open(&self.0).unwrap();
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    /// The verdict under `profile`, and its cost.
    pub(crate) fn judge(&self, profile: Profile) -> (Verdict, Cost) {
        // For reading alone: this program has no other way to change the disk.
        let file = OpenOptions::new().read(true).open(&self.0).unwrap();
        let before = ALLOCATED.current_usage();
        ALLOCATED.reset_peak_usage();
        let started = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
        let verdict = verdict(&file, profile);
        let ended = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
        let cost = Cost {
            cpu_us: std::time::Duration::from(ended)
                .saturating_sub(started.into())
                .as_micros(),
            memory: ALLOCATED.peak_usage() - before,
        };
        (verdict, cost)
    }
}

fn verdict(file: &File, profile: Profile) -> Verdict {
    let candidates = match template(file, profile) {
        Ok(candidates) => candidates,
        Err(error) => return Verdict::Template(sentence(&error)),
    };
    let key = volume_key();
    let mut refusal = None;
    for candidate in candidates {
        match candidate.authenticate(&key) {
            Ok(()) => return Verdict::Accepted(candidate.into()),
            Err(error) => refusal = refusal.or(Some(sentence(&error))),
        }
    }
    Verdict::Mac(refusal.expect("an accepted template yields a candidate"))
}

fn template(file: &File, profile: Profile) -> Result<Vec<Candidate>, Error> {
    let (area, probe) = Area::read(file, DEVICE_LEN)?;
    let Content::Luks(copies) = area.classify(probe)? else {
        return Err(Error::refused("it was not taken for a LUKS2 volume"));
    };
    let ours = profile == Profile::Nightlatch1;
    let name = || VolumeName::try_from("data".to_owned()).unwrap();
    let expect = Expect {
        role: ours.then_some(Role::State),
        volume: ours.then(name),
        device_len: Some(DEVICE_LEN),
    };
    copies.check(&area, profile, &expect)
}

fn sentence(error: &Error) -> String {
    assert_eq!(error.exit(), Exit::Refused, "{error}");
    error.to_string()
}
