// SPDX-License-Identifier: Apache-2.0
//! `nightlatchctl header check`: the rules of [`crate::header`], outside a boot. Nothing is ever written.
//!
//! **Never:** a byte written to the device it looks at.

use std::fmt;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Serialize;

use crate::config::Profile;
use crate::error::{Doing, Error, Result};
use crate::header::{
    AREA_LEN, Area, Candidate, Checked, Content, DATA_OFFSET, Expect, Probe, superblock,
};
use crate::pcr::{Bank, Pcr};

/// What an accepted header says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// The file or device.
    pub path: String,
    /// The profile whose template the header equals.
    pub profile: &'static str,
    /// The volume's UUID.
    pub uuid: String,
    /// What the volume is for, where the header says so.
    pub role: Option<&'static str>,
    /// The header's sequence number.
    pub seqid: u64,
    /// Whether the node had joined its cluster, by the token of profile `constellation`, which anybody can have written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initialized: Option<bool>,
    /// Every keyslot.
    pub keyslots: Vec<u8>,
    /// Whether something is left in the place of other keyslots, which the next boot clears.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub leftover: bool,
    /// The secret sealed to a TPM.
    pub tpm: Option<Sealed>,
    /// Whether dm-integrity's superblock was there to be checked.
    pub integrity_superblock: Superblock,
}

/// What a secret is sealed to, by its token. Only unsealing proves it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sealed {
    /// The keyslot it opens.
    pub keyslot: u8,
    /// The PCRs.
    pub pcrs: Vec<Pcr>,
    /// Their bank.
    pub bank: Bank,
    /// The digest of the policy, in hexadecimal.
    pub policy_hash: String,
}

/// Whether dm-integrity's superblock was looked at.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Superblock {
    /// It is what the kernel writes.
    Accepted,
    /// The file holds a header area and no more.
    Absent,
}

/// Checks the header on a device, in an image of one, or in a copy of the header area alone.
///
/// Without a profile the header is held to the one it was made for.
pub fn check(profile: Option<Profile>, path: &Path) -> Result<Report> {
    examine(profile, path).doing(format_args!("checking {}", path.display()))
}

/// The header that [`check`] accepts, all of it.
pub(super) fn accepted(path: &Path) -> Result<Checked> {
    read(None, path).map(|(candidate, _)| candidate.checked)
}

fn examine(profile: Option<Profile>, path: &Path) -> Result<Report> {
    let (candidate, integrity_superblock) = read(profile, path)?;
    Ok(Report::new(path, candidate, integrity_superblock))
}

/// The first copy that passes.
fn read(profile: Option<Profile>, path: &Path) -> Result<(Candidate, Superblock)> {
    let mut file = File::open(path)?;
    let len = file.seek(SeekFrom::End(0))?;
    let only_header = len == AREA_LEN as u64;
    let (area, probe) = if only_header {
        let mut bytes = vec![0; AREA_LEN];
        file.read_exact_at(&mut bytes, 0)?;
        (Area::from_vec(bytes)?, Probe::Skipped)
    } else {
        Area::read(&file, len)?
    };
    let copies = match area.classify(probe)? {
        Content::Luks(copies) => copies,
        Content::Blank => return Err(Error::refused("it is blank, there is no header to check")),
        Content::Interrupted(marker) => {
            return Err(Error::refused(format_args!(
                "provisioning of {} volume {} did not finish; the next boot starts it over",
                marker.role.as_str(),
                marker.uuid
            )));
        }
    };
    let expect = Expect {
        role: None,
        volume: None,
        device_len: (!only_header).then_some(len),
    };
    let profile = profile.unwrap_or_else(|| copies.claimed_profile());
    let candidates = copies.check(&area, profile, &expect)?;
    let first = candidates.into_iter().next();
    let first = first.ok_or_else(|| Error::failure("no copy of the header passed"))?;
    let integrity_superblock = if only_header {
        Superblock::Absent
    } else {
        let mut bytes = [0; superblock::SUPERBLOCK_LEN];
        file.read_exact_at(&mut bytes, DATA_OFFSET)?;
        superblock::check(&bytes, len)?;
        Superblock::Accepted
    };
    Ok((first, integrity_superblock))
}

impl Report {
    fn new(path: &Path, candidate: Candidate, integrity_superblock: Superblock) -> Self {
        let (seqid, leftover) = (candidate.seqid, candidate.has_leftover());
        let checked = candidate.checked;
        Self {
            path: path.display().to_string(),
            profile: checked.profile.as_str(),
            uuid: checked.uuid,
            role: checked.nightlatch.map(|token| token.role.as_str()),
            seqid,
            initialized: checked.initialized,
            keyslots: checked.keyslots,
            leftover,
            tpm: checked.tpm.map(|token| Sealed {
                keyslot: token.keyslot,
                pcrs: token.pcrs,
                bank: token.bank,
                policy_hash: hex::encode(token.policy_hash),
            }),
            integrity_superblock,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: accepted as {}", self.path, self.profile)?;
        writeln!(f, "  uuid       {}", self.uuid)?;
        if let Some(role) = self.role {
            writeln!(f, "  role       {role}")?;
        }
        writeln!(f, "  seqid      {}", self.seqid)?;
        if let Some(initialized) = self.initialized {
            let word = if initialized { "yes" } else { "no" };
            writeln!(f, "  joined     {word}, says its token")?;
        }
        writeln!(f, "  keyslots   {}", list(&self.keyslots))?;
        if self.leftover {
            let what = "of other keyslots, which the next boot clears";
            writeln!(f, "  leftover   {what}")?;
        }
        if let Some(tpm) = &self.tpm {
            let pcrs = list(&tpm.pcrs);
            writeln!(
                f,
                "  tpm        keyslot {}, PCRs {pcrs} of {}",
                tpm.keyslot, tpm.bank
            )?;
        }
        match self.integrity_superblock {
            Superblock::Accepted => write!(f, "  integrity  superblock accepted"),
            Superblock::Absent => write!(f, "  integrity  no superblock in a copy of the header"),
        }
    }
}

fn list(items: &[impl fmt::Display]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(" ")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::error::Exit;
    use crate::header::fixture::{Fixture, UUID};

    /// A file that goes when the test does.
    struct Image(PathBuf);

    impl Image {
        fn new(name: &str, bytes: &[u8]) -> Self {
            let path =
                std::env::temp_dir().join(format!("nightlatch-{}-{name}", std::process::id()));
            fs::write(&path, bytes).unwrap();
            Self(path)
        }
    }

    impl Drop for Image {
        fn drop(&mut self) {
            fs::remove_file(&self.0).unwrap();
        }
    }

    /// A whole disk with our header and a fitting superblock.
    fn disk() -> Vec<u8> {
        let mut disk = Fixture::ours().build();
        disk.extend(superblock::tests::superblock());
        disk.resize(64 << 20, 0);
        disk
    }

    #[test]
    fn an_accepted_image_is_reported_for_people_and_for_machines_and_left_alone() {
        let bytes = disk();
        let image = Image::new("accepted", &bytes);
        let report = check(None, &image.0).unwrap();
        let path = image.0.display();
        assert_eq!(
            report.to_string(),
            format!(
                "{path}: accepted as nightlatch-1\n  uuid       {UUID}\n  role       state\n  seqid      3\n  \
                 keyslots   0 1\n  tpm        keyslot 1, PCRs 7 11 12 of sha256\n  integrity  superblock accepted"
            )
        );
        assert_eq!(
            serde_json::to_value(&report).unwrap(),
            serde_json::json!({
                "path": path.to_string(),
                "profile": "nightlatch-1",
                "uuid": UUID,
                "role": "state",
                "seqid": 3,
                "keyslots": [0, 1],
                "tpm": {
                    "keyslot": 1,
                    "pcrs": [7, 11, 12],
                    "bank": "sha256",
                    "policy-hash": "8ce5a74bf207172cc78feb4024174b5422a63fa219045a85f16e94e1c76caec1",
                },
                "integrity-superblock": "accepted",
            })
        );
        assert!(
            fs::read(&image.0).unwrap() == bytes,
            "the image was written to"
        );
    }

    #[test]
    fn a_changed_secret_and_what_is_left_of_the_old_one_are_reported() {
        let clean = Fixture::rekeyed().build();
        let mut cut = clean.clone();
        cut[32_768] = 1;
        for (name, bytes, leftover) in [("clean", clean, false), ("cut", cut, true)] {
            let image = Image::new(name, &bytes);
            let report = check(None, &image.0).unwrap();
            assert_eq!(
                (&report.keyslots[..], report.leftover),
                (&[2, 3][..], leftover)
            );
            let text = report.to_string();
            assert_eq!(text.contains("\n  leftover   of other keyslots"), leftover);
            let json = serde_json::to_value(&report).unwrap();
            assert_eq!(json.get("leftover").is_some(), leftover);
        }
    }

    #[test]
    fn a_copy_of_the_header_area_alone_is_enough() {
        let image = Image::new("header", &Fixture::strict().build());
        let report = check(Some(Profile::Luks2Strict), &image.0).unwrap();
        assert_eq!((report.profile, report.role), ("luks2-strict", None));
        assert!(
            report
                .to_string()
                .ends_with("no superblock in a copy of the header")
        );
    }

    #[test]
    fn a_state_disk_of_constellation_is_held_to_its_profile_and_left_alone() {
        let bytes = Fixture::constellation().build();
        let image = Image::new("constellation", &bytes);
        for profile in [None, Some(Profile::Constellation)] {
            let report = check(profile, &image.0).unwrap();
            assert_eq!(report.profile, "constellation");
            let text = report.to_string();
            assert!(
                text.contains("\n  joined     yes, says its token\n"),
                "{text}"
            );
            let json = serde_json::to_value(&report).unwrap();
            assert_eq!(json["initialized"], true);
        }
        assert!(
            fs::read(&image.0).unwrap() == bytes,
            "the image was written to"
        );
    }

    #[test]
    fn what_is_no_accepted_header_is_refused_with_the_reason() {
        let mut flagged = disk();
        flagged[(16 << 20) + 24] = 0x0a;
        let blank = vec![0; 64 << 20];
        for (name, bytes, profile, expected) in [
            (
                "flagged",
                flagged,
                None,
                "rule E21: integrity superblock: flags: expected 8, found 10",
            ),
            (
                "blank",
                blank,
                None,
                "it is blank, there is no header to check",
            ),
            (
                "other",
                disk(),
                Some(Profile::Luks2Strict),
                "rule C13: tokens: expected no token \"nightlatch\" in a stock volume, found one",
            ),
        ] {
            let image = Image::new(name, &bytes);
            let error = check(profile, &image.0).unwrap_err();
            assert_eq!(error.exit(), Exit::Refused);
            assert_eq!(
                error.to_string(),
                format!("checking {}: {expected}", image.0.display())
            );
        }
    }
}
