// SPDX-License-Identifier: Apache-2.0
//! A header whose evidence a real (software) TPM made, in the middle of a boot.

use std::path::PathBuf;

use base64ct::{Base64, Encoding};
use serde_json::json;

use super::*;
use crate::config::{Profile, Tcti};
use crate::ctl::tests::run;
use crate::error::Exit;
use crate::evidence::Ak;
use crate::evidence::eventlog::LOG_LEN_MAX;
use crate::header::fixture::{Fixture, UUID};
use crate::measure::{self, EventLog};
use crate::pcr::{Pcr, PcrSet};
use crate::support::swtpm::Swtpm;
use crate::tpm::{Policy, Quote, Tpm};

const IMAGE_LOG: &[u8] = include_bytes!("../../../tests/fixtures/evidence/image.log");
const POLICY: Policy = Policy {
    pcrs: PcrSet::of(&[Pcr::SECURE_BOOT, Pcr::KERNEL_IMAGE, Pcr::KERNEL_CONFIG]),
    bank: Bank::Sha256,
    key: None,
};
const CREATED: u64 = 3;

/// A node whose volume was made between two measurements of user space, and a directory of its files.
struct Node {
    swtpm: Swtpm,
    quote: Quote,
}

/// The id in the fixture's token.
fn key_id() -> [u8; 32] {
    std::array::from_fn(|at| 0x40 + u8::try_from(at).unwrap())
}

impl Node {
    fn boot() -> Self {
        let swtpm = Swtpm::start();
        let mut tpm = Tpm::open(&Tcti::Swtpm { port: swtpm.port() }).unwrap();
        let banks = tpm.banks().unwrap();
        let firmware = Log::firmware(IMAGE_LOG).unwrap();
        for event in firmware.events(Bank::Sha256, Registers::from(POLICY.pcrs)) {
            let pcr = Pcr::try_from(event.pcr).unwrap();
            // What the other banks get makes no difference here.
            let digest = |bank: Bank| match bank {
                Bank::Sha256 => event.digest.clone(),
                Bank::Sha1 | Bank::Sha384 | Bank::Sha512 => bank.zero(),
            };
            let digests = banks.iter().map(|bank| (*bank, digest(*bank))).collect();
            tpm.extend(pcr, &digests).unwrap();
        }
        let log = EventLog::open(&swtpm.dir().join("root"));
        let pcr = Pcr::KERNEL_CONFIG;
        measure::acceptance(&log, pcr, "before", |data| tpm.event(pcr, data)).unwrap();
        let qualifying = Evidence::qualifying(Profile::Nightlatch1, UUID, &key_id(), CREATED);
        let quote = tpm.quote(&qualifying, POLICY).unwrap();
        let values: serde_json::Map<String, serde_json::Value> = POLICY
            .pcrs
            .iter()
            .map(|pcr| {
                let values = tpm.read(pcr).unwrap();
                let (_, value) = values
                    .iter()
                    .find(|(bank, _)| *bank == Bank::Sha256)
                    .unwrap();
                (pcr.to_string(), hex::encode(value).into())
            })
            .collect();
        measure::fence(&log, pcr, |data| tpm.event(pcr, data)).unwrap();
        let node = Self { swtpm, quote };
        let values = json!({"sha256": values});
        node.file("pcrs.json", values.to_string().as_bytes());
        node.file("firmware.log", IMAGE_LOG);
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.swtpm.dir().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    fn userspace_log(&self) -> String {
        let path = self.path("root/run/log/systemd/tpm2-measure.log");
        path.display().to_string()
    }

    /// A header with this evidence.
    fn header(&self, quote: &Quote, epoch: u64) -> String {
        let evidence = json!({
            "creation-epoch": epoch.to_string(),
            "ak": Base64::encode_string(&quote.ak),
            "quote": Base64::encode_string(&quote.attest),
            "signature": Base64::encode_string(&quote.signature),
        });
        let key = "\"volume-key-id\"";
        let header = Fixture::ours().with(key, &format!("\"evidence\":{evidence},{key}"));
        self.file("header", &header.build())
    }

    fn good(&self) -> String {
        self.header(&self.quote, CREATED)
    }
}

fn verify(words: &[&str]) -> Result<Answer> {
    run(
        Path::new("/nonexistent"),
        &[&["evidence", "verify"], words].concat(),
    )
}

fn accepted(words: &[&str]) -> Answer {
    verify(words).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(words: &[&str]) -> String {
    let error = verify(words).err().unwrap();
    assert_eq!(error.exit(), Exit::Refused);
    let text = error.to_string();
    let (start, why) = text.split_once(": check ").unwrap();
    assert!(start.starts_with("verifying the evidence in "), "{start}");
    why.to_owned()
}

#[test]
fn evidence_is_shown_and_verified_with_everything_there_is() {
    let node = Node::boot();
    let header = node.good();
    let shown = show(Path::new(&header)).unwrap();
    assert!(shown.text.starts_with(&format!("{header}: volume data\n")));
    assert_eq!(shown.json["uuid"], UUID);
    assert_eq!(shown.json["creation-epoch"], CREATED);
    assert_eq!(
        shown.json["pcrs"],
        json!([{"bank": "sha256", "pcrs": [7, 11, 12]}])
    );
    assert_eq!(shown.json["ak"], Base64::encode_string(&node.quote.ak));

    let alone = accepted(&[&header]);
    assert!(
        alone.text.contains("The key was compared with none"),
        "{}",
        alone.text
    );
    assert_eq!(alone.json["known-ak"], false);

    let ak = node.file("ak", &node.quote.ak);
    let (firmware, pcrs) = (node.path("firmware.log"), node.path("pcrs.json"));
    let (firmware, pcrs) = (firmware.display().to_string(), pcrs.display().to_string());
    let userspace = node.userspace_log();
    let all = [
        "--ak",
        &ak,
        "--firmware-log",
        &firmware,
        "--log",
        &userspace,
        "--pcrs",
        &pcrs,
    ];
    let answer = accepted(&[&all[..], &[&header]].concat());
    for key in ["known-ak", "pcrs-checked", "logs-checked"] {
        assert_eq!(answer.json[key], true, "{key}");
    }
    // The quote was made before the fence was raised: only what came before is told.
    let events = answer.json["events"].as_array().unwrap();
    let last = events.last().unwrap().as_str().unwrap();
    assert!(
        last.starts_with("PCR 12: nightlatch-accept \"before\""),
        "{last}"
    );
    let first = events.first().unwrap().as_str().unwrap();
    assert!(first.starts_with("PCR 7: Secure Boot off"), "{first}");
}

#[test]
fn tpm2_checkquote_accepts_what_is_exported() {
    let node = Node::boot();
    let header = node.good();
    let firmware = node.path("firmware.log").display().to_string();
    let (userspace, out) = (node.userspace_log(), node.path("out").display().to_string());
    let logs = ["--firmware-log", &firmware, "--log", &userspace];
    accepted(&[&logs[..], &["--export", &out, &header]].concat());
    let text = |name: &str| fs::read_to_string(node.path("out").join(name)).unwrap();
    let (qualifying, selection) = (text("qualifying"), text("selection"));
    assert_eq!(selection, "sha256:7,11,12");
    let check = |qualifying: &str| {
        let quote = [
            "-u",
            "out/ak.pem",
            "-m",
            "out/attest",
            "-s",
            "out/signature",
        ];
        let values = ["-f", "out/pcrs", "-l", &selection, "-q", qualifying];
        let arguments = [&quote[..], &values].concat();
        node.swtpm
            .tool("tpm2_checkquote", &arguments)
            .status
            .success()
    };
    assert!(check(&qualifying));
    assert!(!check(&qualifying.replace(char::is_alphabetic, "0")));
    let mut values = fs::read(node.path("out/pcrs")).unwrap();
    values[0] ^= 1;
    fs::write(node.path("out/pcrs"), values).unwrap();
    assert!(!check(&qualifying));
}

#[test]
fn the_key_may_be_known_in_any_form() {
    let node = Node::boot();
    let header = node.good();
    let out = node.path("out").display().to_string();
    accepted(&["--export", &out, &header]);
    let ak = Ak::parse(&node.quote.ak).unwrap();
    let len = u16::try_from(node.quote.ak.len()).unwrap().to_be_bytes();
    for known in [
        fs::read(node.path("out/ak.pem")).unwrap(),
        ak.spki_der().to_vec(),
        node.quote.ak.clone(),
        [&len[..], &node.quote.ak].concat(),
    ] {
        let file = node.file("ak", &known);
        let answer = accepted(&["--ak", &file, &header]);
        assert_eq!(answer.json["known-ak"], true);
    }
    let other = Node::boot();
    let file = node.file("ak", &other.quote.ak);
    assert_eq!(
        refusal(&["--ak", &file, &header]),
        "ak-key: another attestation key signed the quote than the one that was given"
    );
}

#[test]
fn the_selection_may_be_demanded() {
    let node = Node::boot();
    let header = node.good();
    accepted(&["--select", "sha256:7,11,12", &header]);
    for (wanted, text) in [
        ("sha256:7,11", "7+11 of sha256"),
        ("sha384:7,11,12", "7+11+12 of sha384"),
    ] {
        assert_eq!(
            refusal(&["--select", wanted, &header]),
            format!("selection: expected a quote over PCRs {text}, found 7+11+12 of sha256")
        );
    }
}

#[test]
fn evidence_of_another_volume_or_epoch_or_moment_is_refused() {
    let node = Node::boot();
    accepted(&[&node.good()]);
    assert!(refusal(&[&node.header(&node.quote, CREATED + 1)]).starts_with("nonce: "));

    let mut altered = node.quote.clone();
    *altered.attest.last_mut().unwrap() ^= 1;
    assert!(refusal(&[&node.header(&altered, CREATED)]).starts_with("signature: "));

    let header = node.good();
    let text = fs::read_to_string(node.path("pcrs.json")).unwrap();
    let pcrs = node.file("pcrs.json", text.as_bytes());
    accepted(&["--pcrs", &pcrs, &header]);
    let (start, end) = text
        .rsplit_once("\"}}")
        .map(|(start, _)| start.split_at(start.len() - 2))
        .unwrap();
    let other = if end == "00" { "11" } else { "00" };
    let pcrs = node.file("other.json", format!("{start}{other}\"}}}}").as_bytes());
    assert!(refusal(&["--pcrs", &pcrs, &header]).starts_with("digest: "));

    let userspace = node.userspace_log();
    let why = refusal(&["--log", &userspace, &header]);
    assert_eq!(
        why,
        "event-log: at no moment that the event logs tell of had PCRs 7+11+12 the values of the quote"
    );
    let long = node.file("long", &vec![0; LOG_LEN_MAX + 1]);
    assert!(refusal(&["--firmware-log", &long, &header]).starts_with("firmware-log: "));
}

#[test]
fn a_volume_without_evidence_says_so() {
    let node = Node::boot();
    let ours = node.file("ours", &Fixture::ours().build());
    let error = verify(&[&ours]).err().unwrap();
    assert_eq!(error.exit(), Exit::Refused);
    assert!(
        error
            .to_string()
            .ends_with("volume data carries no evidence of its creation")
    );
    let strict = node.file("strict", &Fixture::strict().build());
    let error = show(Path::new(&strict)).err().unwrap();
    assert!(error.to_string().ends_with("nobody attested it"), "{error}");
    show(Path::new(&node.good())).unwrap();
}
