// SPDX-License-Identifier: Apache-2.0
//! A node of the tests' own: a software TPM, a log, a disk with a header, and images that it boots.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::super::*;
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
use crate::support::firmware::Firmware;
use crate::support::initrd::Made;
use crate::support::pcr_key;
use crate::support::swtpm::Swtpm;
use crate::support::unified::{program, signed};
use crate::tpm::{Handles, Tpm};
use crate::uki::Pe;

pub(super) const BANK: Bank = Bank::Sha256;
pub(super) const DEVICE: &str = "dev/disk/by-id/virtio-data";
pub(super) const CONFIG: &str = "etc/nightlatch/nightlatch.toml";
pub(super) const SERVICE: &str =
    "[service]\nurls = [\"https://10.0.0.2:8443\"]\nca = \"/etc/nightlatch/authority.pem\"\n";
pub(super) const SEPARATOR_UNIT: &str = "usr/lib/systemd/system/systemd-pcrosseparator.service";

/// A machine with one volume.
pub(super) struct Node {
    pub(super) swtpm: Swtpm,
    pub(super) top: PathBuf,
    pub(super) pem: String,
    pub(super) der: Vec<u8>,
    pub(super) key: PcrKey,
    /// Further lines of `[tpm]`, and the sources of its volume.
    pub(super) tpm: &'static str,
    pub(super) sources: &'static str,
    /// What comes after the volume.
    pub(super) more: String,
    /// What the firmware has of lists of keys.
    pub(super) lists: Vec<(&'static str, Vec<u8>)>,
}

impl Drop for Node {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.top).unwrap();
    }
}

impl Node {
    pub(super) fn new(name: &str) -> Self {
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
            more: String::new(),
            lists: vec![("db", b"a list".to_vec())],
        }
    }

    pub(super) fn tpm(&self) -> Tpm {
        let port = self.swtpm.port();
        Tpm::open(&crate::config::Tcti::Swtpm { port }).unwrap()
    }

    pub(super) fn initrd(&self) -> Initrd {
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
    pub(super) fn plain(initrd: &Initrd, word: &str) -> Vec<u8> {
        let kernel = program(&[(".text", b"the kernel")]);
        made_image(&initrd.bytes(), &format!("{LINE} {word}"), &kernel, "257")
    }

    pub(super) fn with_signatures(&self, plain: &[u8]) -> Vec<u8> {
        let signatures = self.signatures(plain).to_json().unwrap();
        let program = Pe::parse(plain).unwrap();
        program
            .with_section(".pcrsig", signatures.as_bytes())
            .unwrap()
    }

    pub(super) fn signatures(&self, image: &[u8]) -> PcrSignatures {
        Uki::parse(image)
            .unwrap()
            .sign(&self.key, &[BANK], &[None])
            .unwrap()
    }

    /// An image of the owner's.
    pub(super) fn image(&self, word: &str) -> Vec<u8> {
        let plain = Node::plain(&self.initrd(), word);
        let whole = if self.tpm.contains("signed") {
            self.with_signatures(&plain)
        } else {
            plain
        };
        signed(whole, &self.der)
    }

    /// The same, where its initrd has what it takes to reach a key service.
    pub(super) fn image_with_network(&self, word: &str) -> Vec<u8> {
        let mut initrd = self.initrd();
        initrd.with_network();
        signed(Node::plain(&initrd, word), &self.der)
    }

    /// Boots an image up to where its volumes are opened: what firmware, stub and systemd measure.
    pub(super) fn start(&self, image: &[u8], is_separated: bool) -> Tpm {
        // The log of the boot before went with its memory.
        drop(fs::remove_file(self.top.join(measure::LOG_PATH)));
        let mut tpm = self.tpm();
        let uki = Uki::parse(image).unwrap();
        let preimage = uki.program.signed_bytes().unwrap().concat();
        let mut firmware = Firmware::with_lists(true, &self.lists)
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
    pub(super) fn boot_as(&self, image: &[u8], change: impl FnOnce(Fixture) -> Fixture) {
        let mut tpm = self.start(image, false);
        self.seal(&mut tpm, image, change);
        let log = EventLog::open(&self.top);
        let event = |data: &[u8]| tpm.event(Pcr::KERNEL_CONFIG, data);
        measure::fence(&log, Pcr::KERNEL_CONFIG, event).unwrap();
    }

    pub(super) fn boot(&self, image: &[u8]) {
        self.boot_as(image, |header| header);
    }

    /// Boots an image after a reset, and compares what the PCRs hold with what was said before.
    pub(super) fn holds_after(&mut self, image: &[u8], is_separated: bool, said: &Value) {
        self.swtpm.reset();
        let mut tpm = self.start(image, is_separated);
        for row in said["pcrs"].as_array().unwrap() {
            let index = u8::try_from(row["pcr"].as_u64().unwrap()).unwrap();
            let held = tpm.read(Pcr::try_from(index).unwrap()).unwrap();
            let held = held.into_iter().find(|(bank, _)| *bank == BANK).unwrap().1;
            assert_eq!(row["next"], hex::encode(held), "PCR {index}");
        }
    }

    pub(super) fn seal(
        &self,
        tpm: &mut Tpm,
        image: &[u8],
        change: impl FnOnce(Fixture) -> Fixture,
    ) {
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
            values: None,
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

    pub(super) fn config(&self) -> Config {
        let initrd = self.initrd().bytes();
        let parts = Part::all(&initrd).unwrap();
        let tree = Tree::of(&parts).unwrap();
        Config::parse(std::str::from_utf8(tree.file(CONFIG).unwrap()).unwrap()).unwrap()
    }

    /// Takes an index out of the TPM, as any program of the running system can.
    pub(super) fn undefine(&self, index: u32) {
        let index = format!("{index:#x}");
        let done = self.swtpm.tool("tpm2_nvundefine", &["-C", "o", &index]);
        assert!(done.status.success(), "{done:?}");
    }

    pub(super) fn check(&self, image: &[u8]) -> Result<Answer> {
        let file = self.top.join("next.efi");
        fs::write(&file, image).unwrap();
        run(&self.top, &["check", file.to_str().unwrap()])
    }

    /// The exit code, what opens the volume, and why.
    pub(super) fn opens(&self, image: &[u8]) -> (Option<Exit>, String, String) {
        let answer = self.check(image).unwrap();
        let volume = &answer.json["volumes"][0];
        let word = |name: &str| volume[name].as_str().unwrap_or_default().to_owned();
        (answer.exit, word("opens"), word("why"))
    }
}

pub(super) fn at(config: &Config) -> Handles {
    Handles {
        record: config.anchor.index.handle(),
        counter: config.anchor.counter.handle(),
    }
}
