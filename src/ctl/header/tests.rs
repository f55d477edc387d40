// SPDX-License-Identifier: Apache-2.0
use std::fs;
use std::path::PathBuf;

use base64ct::{Base64, Encoding as _};

use super::*;
use crate::error::Exit;
use crate::header::fixture::{Fixture, UUID};
use crate::support::pcr_key;

/// A file that goes when the test does.
struct Image(PathBuf);

impl Image {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("nightlatch-{}-{name}", std::process::id()));
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
fn the_key_that_has_to_have_signed_is_reported() {
    let key = pcr_key::new();
    let pem = Base64::encode_string(key.public().pem().as_bytes());
    let signed = format!(r#""tpm2-pin":false,"tpm2_pubkey":"{pem}","tpm2_pubkey_pcrs":[11]"#);
    let bytes = Fixture::ours().with(r#""tpm2-pin":false"#, &signed).build();
    let image = Image::new("signed", &bytes);
    let report = check(None, &image.0).unwrap();
    let line = format!("\n  signed     PCR 11, by the key {}\n", key.public());
    assert!(report.to_string().contains(&line), "{report}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["tpm"]["key"], key.public().to_string());
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
