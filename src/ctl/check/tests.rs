// SPDX-License-Identifier: Apache-2.0
//! A node whose volume is sealed to what this boot measured, and images that it may boot next.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::*;
use crate::anchor::record::{RECORD_LEN, Record};
use crate::ctl::image::tests::whole::Initrd;
use crate::ctl::image::tests::{LINE, certificate, image as made_image};
use crate::ctl::tests::run;
use crate::header::Tpm2Token;
use crate::header::fixture::{Fixture, TPM2};
use crate::key::Secret;
use crate::key::pcr::PcrKey;
use crate::measure::{self, EventLog};
use crate::pcr::{Bank, Pcr};
use crate::sealed::signature::PcrSignatures;
use crate::support::firmware::{Firmware, LOG_PATH};
use crate::support::initrd::Made;
use crate::support::pcr_key;
use crate::support::swtpm::Swtpm;
use crate::support::unified::{program, signed};
use crate::tpm::{Handles, Tpm};
use crate::uki::Pe;

const BANK: Bank = Bank::Sha256;
const DEVICE: &str = "dev/disk/by-id/virtio-data";
const CONFIG: &str = "etc/nightlatch/nightlatch.toml";
const SERVICE: &str =
    "[service]\nurls = [\"https://10.0.0.2:8443\"]\nca = \"/etc/nightlatch/authority.pem\"\n";
const SEPARATOR_UNIT: &str = "usr/lib/systemd/system/systemd-pcrosseparator.service";

/// A machine with one volume.
struct Node {
    swtpm: Swtpm,
    top: PathBuf,
    pem: String,
    der: Vec<u8>,
    key: PcrKey,
    /// Further lines of `[tpm]`, and the sources of its volume.
    tpm: &'static str,
    sources: &'static str,
    /// What comes after the volume.
    more: &'static str,
}

impl Drop for Node {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.top).unwrap();
    }
}

impl Node {
    fn new(name: &str) -> Self {
        let top =
            std::env::temp_dir().join(format!("nightlatch-check-{name}-{}", std::process::id()));
        fs::create_dir_all(top.join(DEVICE).parent().unwrap()).unwrap();
        let (pem, der) = certificate("owner");
        Self {
            swtpm: Swtpm::start(),
            top,
            pem,
            der,
            key: pcr_key::new(),
            tpm: "",
            sources: "\"tpm\", \"generate\"",
            more: "",
        }
    }

    fn tpm(&self) -> Tpm {
        let port = self.swtpm.port();
        Tpm::open(&crate::config::Tcti::Swtpm { port }).unwrap()
    }

    fn initrd(&self) -> Initrd {
        let mut made = Initrd::whole(&self.pem);
        let port = self.swtpm.port();
        let Self {
            tpm, sources, more, ..
        } = self;
        let config = format!(
            "[boot]\nauthorities = [\"/etc/nightlatch/authority.pem\"]\n\
             [tpm]\ntcti = \"swtpm:port={port}\"\n{tpm}\n\
             [[volume]]\nname = \"data\"\nrole = \"state\"\ndevice = \"/{DEVICE}\"\nformat = \"if-blank\"\n\
             sources = [{sources}]\nmount = \"/var/lib/data\"\n{more}"
        );
        made.put(CONFIG, Made::file(config));
        made.put(
            "etc/nightlatch/pcr.pem",
            Made::file(self.key.public().pem()),
        );
        made
    }

    /// An image with this initrd and this word in its command line, and signatures of PCR 11 where the node seals to their key.
    fn plain(initrd: &Initrd, word: &str) -> Vec<u8> {
        let kernel = program(&[(".text", b"the kernel")]);
        made_image(&initrd.bytes(), &format!("{LINE} {word}"), &kernel, "257")
    }

    fn with_signatures(&self, plain: &[u8]) -> Vec<u8> {
        let signatures = self.signatures(plain).to_json().unwrap();
        let program = Pe::parse(plain).unwrap();
        program
            .with_section(".pcrsig", signatures.as_bytes())
            .unwrap()
    }

    fn signatures(&self, image: &[u8]) -> PcrSignatures {
        Uki::parse(image).unwrap().sign(&self.key, &[BANK]).unwrap()
    }

    /// An image of the owner's.
    fn image(&self, word: &str) -> Vec<u8> {
        let plain = Node::plain(&self.initrd(), word);
        let whole = if self.tpm.contains("signed") {
            self.with_signatures(&plain)
        } else {
            plain
        };
        signed(whole, &self.der)
    }

    /// The same, where its initrd has what it takes to reach a key service.
    fn image_with_network(&self, word: &str) -> Vec<u8> {
        let mut initrd = self.initrd();
        initrd.with_network();
        signed(Node::plain(&initrd, word), &self.der)
    }

    /// Boots an image up to where its volumes are opened: what firmware, stub and systemd measure.
    fn start(&self, image: &[u8], is_separated: bool) -> Tpm {
        // The log of the boot before went with its memory.
        drop(fs::remove_file(self.top.join(measure::LOG_PATH)));
        let mut tpm = self.tpm();
        let uki = Uki::parse(image).unwrap();
        let preimage = uki.program.signed_bytes().unwrap().concat();
        let mut firmware = Firmware::with_secure_boot(true)
            .authority(&self.der)
            .program(&preimage);
        for name in [".linux", ".cmdline", ".initrd", ".uname"] {
            firmware = firmware.section(name, uki.section(name).unwrap().unwrap());
        }
        firmware = firmware.loaded(&[b"the initrd", image].concat());
        firmware.start(&mut tpm, &self.top);
        let log = EventLog::open(&self.top);
        // As systemd-pcrphase does it, in the same format.
        let phase = measure::Event::string("phase", "enter-initrd");
        log.record(Pcr::KERNEL_IMAGE, phase, || {
            tpm.event(Pcr::KERNEL_IMAGE, b"enter-initrd")
        })
        .unwrap();
        let separated = [0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 14].into_iter();
        for pcr in separated.filter(|_| is_separated) {
            let pcr = Pcr::try_from(pcr).unwrap();
            let event = measure::Event::string("os-separator", "os-separator");
            log.record(pcr, event, || tpm.event(pcr, b"os-separator"))
                .unwrap();
        }
        tpm
    }

    /// The same, and the volume's secret and the anchor's record are sealed on the way; the header is what `change` makes of it.
    fn boot_as(&self, image: &[u8], change: impl FnOnce(Fixture) -> Fixture) {
        let mut tpm = self.start(image, false);
        self.seal(&mut tpm, image, change);
        let log = EventLog::open(&self.top);
        let event = |data: &[u8]| tpm.event(Pcr::KERNEL_CONFIG, data);
        measure::fence(&log, Pcr::KERNEL_CONFIG, event).unwrap();
    }

    fn boot(&self, image: &[u8]) {
        self.boot_as(image, |header| header);
    }

    /// Boots an image after a reset, and compares what the PCRs hold with what was said before.
    fn holds_after(&mut self, image: &[u8], is_separated: bool, said: &Value) {
        self.swtpm.reset();
        let mut tpm = self.start(image, is_separated);
        for row in said["pcrs"].as_array().unwrap() {
            let index = u8::try_from(row["pcr"].as_u64().unwrap()).unwrap();
            let held = tpm.read(Pcr::try_from(index).unwrap()).unwrap();
            let held = held.into_iter().find(|(bank, _)| *bank == BANK).unwrap().1;
            assert_eq!(row["next"], hex::encode(held), "PCR {index}");
        }
    }

    fn seal(&self, tpm: &mut Tpm, image: &[u8], change: impl FnOnce(Fixture) -> Fixture) {
        let config = self.config();
        let key = config.tpm.signed.as_ref().map(|_| self.key.public());
        let policy = Policy::of(&config.tpm, key);
        if let Some(key) = key {
            let value = pcr_key::pcr_11(tpm);
            tpm.approve(key, &self.signatures(image), BANK, &value)
                .unwrap();
        }
        let sealed = tpm.seal(&Secret::random().unwrap(), policy).unwrap();
        let token = Tpm2Token {
            keyslot: 1,
            private: sealed.private,
            public: sealed.public,
            pcrs: policy.pcrs.iter().collect(),
            bank: policy.bank,
            policy_hash: sealed.policy_hash,
            key: sealed.key,
            srk: sealed.srk,
        };
        let header = Fixture::ours().with(TPM2, &token.to_json().to_string());
        fs::write(self.top.join(DEVICE), change(header).build()).unwrap();
        let auth = Secret::random().unwrap();
        let record = Record::default().encode(&auth);
        assert_eq!(record.len(), RECORD_LEN);
        tpm.define_anchor(at(&config), policy, &auth, &record)
            .unwrap();
    }

    fn config(&self) -> Config {
        let initrd = self.initrd().bytes();
        let parts = Part::all(&initrd).unwrap();
        let tree = Tree::of(&parts).unwrap();
        Config::parse(std::str::from_utf8(tree.file(CONFIG).unwrap()).unwrap()).unwrap()
    }

    fn check(&self, image: &[u8]) -> Result<Answer> {
        let file = self.top.join("next.efi");
        fs::write(&file, image).unwrap();
        run(&self.top, &["check", file.to_str().unwrap()])
    }

    /// The exit code, what opens the volume, and why.
    fn opens(&self, image: &[u8]) -> (Option<Exit>, String, String) {
        let answer = self.check(image).unwrap();
        let volume = &answer.json["volumes"][0];
        let word = |name: &str| volume[name].as_str().unwrap_or_default().to_owned();
        (answer.exit, word("opens"), word("why"))
    }
}

fn at(config: &Config) -> Handles {
    Handles {
        record: config.anchor.index.handle(),
        counter: config.anchor.counter.handle(),
    }
}

/// The PCRs that will have another value.
fn changed(json: &Value) -> Vec<u64> {
    let pcrs = json["pcrs"].as_array().unwrap().iter();
    let changed = pcrs.filter(|it| it["same"] == false);
    changed.map(|it| it["pcr"].as_u64().unwrap()).collect()
}

const NOTHING_ELSE: &str = "PCRs 4, 11 will have other values than its secret is sealed to; and no key service is among its sources";

#[test]
fn the_image_that_runs_opens_and_another_one_does_not() {
    let mut node = Node::new("values");
    let image = node.image("one");
    node.boot(&image);
    let answer = node.check(&image).unwrap();
    assert_eq!(answer.exit, None, "{}", answer.text);
    let json = answer.json;
    assert_eq!(json["result"], "opens");
    assert_eq!(
        (&json["running"], &json["volumes"][0]["opens"]),
        (&true.into(), &"tpm".into())
    );
    assert_eq!(changed(&json), [0; 0]);
    assert!(
        json["pcrs"]
            .as_array()
            .unwrap()
            .iter()
            .all(|it| it["same"] == true),
        "{json}"
    );

    let other = node.image("two");
    let answer = node.check(&other).unwrap();
    assert_eq!(answer.exit, Some(Exit::Refused));
    assert_eq!(changed(&answer.json), [4, 11]);
    assert_eq!(answer.json["volumes"][0]["why"], NOTHING_ELSE);
    assert_eq!(answer.json["exit"], 77);
    assert!(
        answer
            .text
            .ends_with("without one only this boot's image opens it\n"),
        "{}",
        answer.text
    );
    node.holds_after(&other, false, &answer.json);
}

#[test]
fn systemds_separator_is_told_from_the_initrd() {
    let mut node = Node::new("separator");
    node.boot(&node.image("one"));
    let mut initrd = node.initrd();
    initrd.put(SEPARATOR_UNIT, Made::file("[Unit]\n"));
    let other = signed(Node::plain(&initrd, "one"), &node.der);
    let answer = node.check(&other).unwrap();
    assert_eq!(changed(&answer.json), [4, 7, 11, 12, 13]);
    let assumed = answer.json["assumed"][1].as_str().unwrap();
    assert!(
        assumed.contains("the initrd has systemd-pcrosseparator.service"),
        "{assumed}"
    );
    node.holds_after(&other, true, &answer.json);

    // One that is masked does not run.
    node.swtpm.replace();
    node.boot(&node.image("one"));
    let mut initrd = node.initrd();
    initrd.put(SEPARATOR_UNIT, Made::file("[Unit]\n"));
    let mask = SEPARATOR_UNIT.replace("usr/lib", "etc");
    initrd.put(&mask, Made::link("/dev/null"));
    let masked = signed(Node::plain(&initrd, "one"), &node.der);
    assert_eq!(changed(&node.check(&masked).unwrap().json), [4, 11]);
}

#[test]
fn an_image_that_the_key_has_signed_opens() {
    let mut node = Node::new("signed");
    node.tpm = "[tpm.signed]\nkeys = [\"/etc/nightlatch/pcr.pem\"]";
    node.boot(&node.image("one"));
    let tpm = (None, "tpm".to_owned(), String::new());
    assert_eq!(node.opens(&node.image("one")), tpm);
    let other = node.image("two");
    assert_eq!(node.opens(&other), tpm);

    // Not without the signature, which ends the boot before a disk is read.
    let plain = Node::plain(&node.initrd(), "two");
    let answer = node.check(&signed(plain.clone(), &node.der)).unwrap();
    assert_eq!(answer.exit, Some(Exit::Refused));
    let missing = answer.json["missing"][0].as_str().unwrap();
    assert!(
        missing.starts_with("signature of PCR 11: it has no section .pcrsig"),
        "{missing}"
    );

    // Nor with another key than the one that was sealed to.
    node.key = pcr_key::new();
    let (exit, opens, why) = node.opens(&node.image("two"));
    assert_eq!((exit, opens.as_str()), (Some(Exit::Refused), "nothing"));
    assert!(why.contains("and another key, which is not what"), "{why}");
}

#[test]
fn a_pcr_that_no_file_tells_is_only_known_of_the_image_that_runs() {
    let mut node = Node::new("loaded");
    node.tpm = "pcrs = [7, 12, 13, 14]\n[tpm.signed]\nkeys = [\"/etc/nightlatch/pcr.pem\"]";
    let image = node.image("one");
    node.boot(&image);
    assert_eq!(node.opens(&image), (None, "tpm".into(), String::new()));
    let answer = node.check(&node.image("two")).unwrap();
    assert_eq!(answer.exit, Some(Exit::Unavailable), "{}", answer.text);
    let json = answer.json;
    assert_eq!(json["volumes"][0]["opens"], "unknown");
    let mut pcrs = json["pcrs"].as_array().unwrap().iter();
    let last = pcrs.find(|it| it["pcr"] == 14).unwrap();
    let why = last["why"].as_str().unwrap();
    assert!(why.contains("the file does not say"), "{why}");
    // What is certain is told all the same.
    node.swtpm.replace();
    node.tpm = "pcrs = [4, 7, 9, 11, 12, 13]";
    let image = node.image("one");
    node.boot(&image);
    assert_eq!(node.opens(&image).1, "tpm");
    let (exit, _, why) = node.opens(&node.image("two"));
    assert_eq!((exit, why.as_str()), (Some(Exit::Refused), NOTHING_ELSE));
}

#[test]
fn who_else_signs_for_secure_boot_changes_pcr_7() {
    let mut node = Node::new("signer");
    let (pem, der) = certificate("another owner");
    node.pem.push_str(&pem);
    node.tpm = "[tpm.signed]\nkeys = [\"/etc/nightlatch/pcr.pem\"]";
    node.boot(&node.image("one"));
    let plain = node.with_signatures(&Node::plain(&node.initrd(), "two"));
    assert_eq!(node.opens(&signed(plain.clone(), &node.der)).0, None);
    let answer = node.check(&signed(plain, &der)).unwrap();
    assert_eq!(answer.exit, Some(Exit::Refused));
    assert_eq!(changed(&answer.json), [7]);
    let why = answer.json["volumes"][0]["why"].as_str().unwrap();
    assert!(
        why.starts_with("PCR 7 will have another value than its secret is sealed to"),
        "{why}"
    );

    // With a service it is the firmware's db that nobody has looked at.
    node.sources = "\"tpm\", \"service\"";
    node.more = SERVICE;
    let mut initrd = node.initrd();
    initrd.with_network();
    let plain = node.with_signatures(&Node::plain(&initrd, "two"));
    let (exit, opens, why) = node.opens(&signed(plain, &der));
    assert_eq!((exit, opens.as_str()), (Some(Exit::Unavailable), "unknown"));
    assert!(
        why.ends_with("whether the firmware's db has the image's signer is not known"),
        "{why}"
    );
}

#[test]
fn a_key_service_carries_a_volume_over_where_it_has_its_secret() {
    let mut node = Node::new("service");
    node.sources = "\"tpm\", \"service\"";
    node.more = SERVICE;
    let one = node.image_with_network("one");
    node.boot(&one);
    assert_eq!(node.opens(&one).1, "tpm");
    let two = node.image_with_network("two");
    let answer = node.check(&two).unwrap();
    assert_eq!(answer.exit, None, "{}", answer.text);
    assert_eq!(answer.json["volumes"][0]["opens"], "service");
    let to_do = answer.json["to-do"][0].as_str().unwrap();
    assert!(to_do.contains("nightlatchctl policy image"), "{to_do}");

    // Not where an operator has to say so each time.
    node.tpm = "stale = \"operator\"";
    let (exit, opens, why) = node.opens(&node.image_with_network("two"));
    assert_eq!((exit, opens.as_str()), (Some(Exit::Refused), "nothing"));
    assert!(
        why.ends_with("so it takes an operator's word at the key service"),
        "{why}"
    );

    // Nor where the secret is the node's own, or the TPM's record is gone.
    node.tpm = "";
    node.swtpm.replace();
    let (one, two) = (
        node.image_with_network("one"),
        node.image_with_network("two"),
    );
    node.boot_as(&one, |header| header.with_own_secret());
    let (exit, _, why) = node.opens(&two);
    assert_eq!(exit, Some(Exit::Refused));
    assert!(
        why.ends_with("the node's own, which the key service does not have"),
        "{why}"
    );
    let at = at(&node.config());
    let undefine = |index: u32| {
        let index = format!("{index:#x}");
        let done = node.swtpm.tool("tpm2_nvundefine", &["-C", "o", &index]);
        assert!(done.status.success(), "{done:?}");
    };
    undefine(at.record);
    let (exit, _, why) = node.opens(&one);
    assert_eq!(exit, Some(Exit::Refused));
    assert!(
        why.starts_with("the TPM has no record of the anchor"),
        "{why}"
    );
    undefine(at.counter);
    let why = node.opens(&one).2;
    assert!(
        why.starts_with("the TPM's counter of boots is gone"),
        "{why}"
    );
}

#[test]
fn what_cannot_be_told_is_said_and_not_guessed() {
    let node = Node::new("unknown");
    let image = node.image("one");
    let unavailable = |node: &Node, what: &str| {
        let error = node.check(&image).err().unwrap();
        assert_eq!(error.exit(), Exit::Unavailable, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    };
    unavailable(&node, "there is none");
    node.boot(&image);
    assert_eq!(node.opens(&image).0, None);

    // A device that is not there, and one that is blank.
    let device = node.top.join(DEVICE);
    let header = fs::read(&device).unwrap();
    fs::remove_file(&device).unwrap();
    let (exit, opens, why) = node.opens(&image);
    assert_eq!(
        (exit, opens.as_str()),
        (Some(Exit::Unavailable), "unknown"),
        "{why}"
    );
    fs::File::create(&device)
        .unwrap()
        .set_len(64 << 20)
        .unwrap();
    let (exit, _, why) = node.opens(&image);
    assert_eq!(exit, Some(Exit::Unavailable), "{why}");
    assert!(why.starts_with("its device is blank"), "{why}");
    // A header that breaks a rule is refused by the boot as well.
    let mut broken = header.clone();
    broken[4096 + 1] ^= 1;
    broken[16384 + 4096 + 1] ^= 1;
    fs::write(&device, broken).unwrap();
    assert_eq!(node.opens(&image).0, Some(Exit::Refused));
    fs::write(&device, header).unwrap();
    assert_eq!(node.opens(&image).0, None);

    // A log that does not explain what the TPM holds says nothing of the next boot.
    let path = node.top.join(LOG_PATH);
    let log = fs::read(&path).unwrap();
    node.tpm().event(Pcr::SECURE_BOOT, b"more").unwrap();
    unavailable(&node, "does not replay to PCR 7");
    fs::write(&path, &log[..log.len() - 1]).unwrap();
    unavailable(&node, "reading what this boot measured");
}
