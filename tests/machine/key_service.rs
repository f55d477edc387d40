// SPDX-License-Identifier: Apache-2.0
//! Whole boots of a node whose keys come from a key service: the mock that the client is tested with, real disks, and a
//! TPM of the case's own.

use std::path::Path;

use base64ct::{Base64, Encoding};
use nightlatch::boot;
use nightlatch::config::{Config, Source};
use nightlatch::error::{Error, Exit};
use nightlatch::key::{Secret, cluster_id};
use nightlatch::status::{Recorder, Status};
use nightlatch::volume::{self, How};
use serde_json::{Value, json};

use crate::disk::{self, BOOT, Disk, close};
use crate::support::firmware::Firmware;
use crate::support::mock::Script;
pub(crate) use crate::support::mock::{Mock, Twist};
use crate::tpm_private::Private;

pub(crate) const DISK_MIB: u64 = 160;
pub(crate) const KEY: [u8; 32] = [7; 32];
pub(crate) const WRONG: [u8; 32] = [8; 32];
const KEYS: &str = "nightlatch/volume-key/*";

/// What a TPM's maker does with `tpm2_createek`.
pub(crate) const ENDORSEMENT_KEY: [&str; 6] = ["-c", "0x81010001", "-G", "rsa", "-u", "ek"];

/// A service that remembers nothing yet, and gives each volume the same key.
pub(crate) fn service() -> Mock {
    let cluster = [[1; 32], [2; 32]].concat();
    Mock::start(Script {
        twist: Twist::Nothing,
        extended: true,
        resources: [
            (KEYS.to_owned(), KEY.to_vec()),
            ("nightlatch/measurement/cluster".to_owned(), cluster),
        ]
        .into(),
        record: json!({"epoch": 0}),
    })
}

/// The configuration's table for it.
pub(crate) fn table(service: &Mock) -> String {
    let pin = Base64::encode_string(&service.pin);
    let url = &service.url;
    format!("[service]\nurls = [\"{url}\"]\npin = \"{pin}\"\ndeadline-s = 30\n")
}

/// The lines of a volume besides, that need not be there: they are further ones of the last table before the volumes.
pub(crate) fn optional(disk: &Disk, sources: &str) -> &'static str {
    let device = disk.as_str();
    let text = format!(
        "[[volume]]\nname = \"data\"\ndevice = \"{device}\"\nrole = \"state\"\nmount = \"/srv/data\"\nrequired = false\n\
         wait-s = 1\nformat = \"if-blank\"\nkdf = \"pbkdf2\"\nsources = [{sources}]\n"
    );
    Box::leak(text.into_boxed_str())
}

pub(crate) struct Node {
    pub(crate) disk: Disk,
    pub(crate) tpm: Private,
    pub(crate) service: Mock,
    pub(crate) lines: Vec<&'static str>,
    /// Further lines behind those of the table of the TPM.
    pub(crate) measure: &'static str,
    /// Further lines of the table of the service.
    pub(crate) terms: &'static str,
    /// What the firmware starts.
    pub(crate) firmware: Firmware,
}

/// As whoever provisions a machine does.
pub(crate) fn keep_endorsement_key(tpm: &Private) {
    tpm.tool("tpm2_createek", &ENDORSEMENT_KEY);
}

impl Node {
    pub(crate) fn new(lines: &[&'static str]) -> Self {
        let tpm = Private::start();
        keep_endorsement_key(&tpm);
        let service = service();
        Self {
            disk: Disk::in_memory(DISK_MIB),
            tpm,
            service,
            lines: lines.to_vec(),
            measure: "",
            terms: "",
            firmware: Firmware::signed(),
        }
    }

    pub(crate) fn config(&self) -> Config {
        Config::parse(&format!(
            "{BOOT}[tpm]\ntcti = \"swtpm:port={}\"\n{}\n{}{}\n{}",
            self.tpm.port(),
            self.measure,
            table(&self.service),
            self.terms,
            disk::lines(&self.disk, &self.lines)
        ))
        .unwrap()
    }

    /// One boot, to the moment the power goes.
    pub(crate) fn boot(&mut self) -> Result<Status, Error> {
        self.boot_until(|| Ok(()))
    }

    /// One boot, which hands over like this.
    pub(crate) fn boot_until(
        &mut self,
        hand_over: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Status, Error> {
        self.tpm.reset_to(&self.firmware);
        self.tpm.commands();
        let config = self.config();
        let record = Recorder::start();
        let result = boot::with_volumes_open(Path::new("/"), &config, &record, |_, _| hand_over());
        let status = record.finish(&result);
        close();
        for volume in config.volumes() {
            volume::close(volume).unwrap();
        }
        result.map(|()| status)
    }

    /// A boot that must succeed: whether the volume is new, and where its secret came from.
    pub(crate) fn opens(&mut self) -> (How, Source) {
        let status = self.boot().unwrap();
        (status.volumes[0].how, status.volumes[0].source)
    }

    pub(crate) fn gives(&self, key: [u8; 32]) {
        self.service.change(|script| {
            script.resources.insert(KEYS.to_owned(), key.to_vec());
        });
    }

    pub(crate) fn twist(&self, twist: Twist) {
        self.service.change(|script| script.twist = twist);
    }
}

#[test]
fn a_node_gets_its_key_and_its_cluster_from_the_service_in_every_boot() {
    let mut node = Node::new(&["sources = [\"service\"]"]);
    node.measure = "[measure]\ncluster = \"service\"";
    let first = node.boot().unwrap();
    assert_eq!(
        (first.volumes[0].how, first.volumes[0].source),
        (How::Formatted, Source::Service)
    );
    assert_eq!(first.service.unwrap().url, node.service.url);
    let path = format!("POST /kbs/v0/nightlatch/volume/{}", first.volumes[0].uuid);
    let told = node.service.body(&path);
    let second = node.boot().unwrap();
    // One of them looks for the sentence of a boot that failed.
    assert_eq!(node.tpm.commands(), 28);
    assert_eq!(
        (second.volumes[0].how, second.volumes[0].source),
        (How::Unlocked, Source::Service)
    );
    let id = cluster_id(&Secret::new(vec![1; 32]), &[2; 32]).unwrap();
    for status in [&first.cluster_id, &second.cluster_id] {
        assert_eq!(*status, Some(hex::encode(&id)));
    }
    let told_again = node.service.body(&path);
    assert_eq!(told["key-id"], told_again["key-id"]);
    assert_eq!(
        told["epoch"].as_u64().unwrap() + 2,
        told_again["epoch"].as_u64().unwrap()
    );

    // The control for the other cases: without the service there is nothing else to open it with.
    node.twist(Twist::Deny);
    let error = node.boot().unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert!(
        error
            .to_string()
            .contains("it denied this machine: PolicyDeny"),
        "{error}"
    );
    node.twist(Twist::Nothing);
    assert_eq!(node.opens(), (How::Unlocked, Source::Service));
}

#[test]
fn a_wrong_key_and_a_denial_lead_to_the_next_source() {
    let mut node = Node::new(&["sources = [\"service\", \"tpm\"]"]);
    assert_eq!(node.opens(), (How::Formatted, Source::Service));
    node.gives(WRONG);
    for _ in 0..2 {
        assert_eq!(node.opens(), (How::Unlocked, Source::Tpm));
    }
    node.gives(KEY);
    for twist in [Twist::Deny, Twist::DenyKeys, Twist::Short] {
        node.twist(twist);
        assert_eq!(node.opens(), (How::Unlocked, Source::Tpm), "{twist:?}");
    }
    node.twist(Twist::Nothing);
    assert_eq!(node.opens(), (How::Unlocked, Source::Service));
}

#[test]
fn a_node_whose_first_source_is_the_tpm_asks_the_service_only_where_that_fails() {
    let mut node = Node::new(&["sources = [\"tpm\", \"service\"]", "anchor = \"off\""]);
    assert_eq!(node.opens(), (How::Formatted, Source::Service));
    let asked = node.service.requests().len();
    assert_eq!(node.opens(), (How::Unlocked, Source::Tpm));
    assert_eq!(node.service.requests().len(), asked);
    // Another command line: what was sealed stays sealed.
    node.measure = "pcrs = [7, 12, 13]";
    assert_eq!(node.opens(), (How::Unlocked, Source::Service));
}

/// Who runs the TPM can put it back together with the disk. The service's record remains.
#[test]
fn a_disk_and_a_tpm_that_were_put_back_are_refused_by_the_services_record() {
    let mut node = Node::new(&["sources = [\"service\"]"]);
    node.opens();
    let (disk, tpm) = (node.disk.save(), node.tpm.state());
    node.opens();
    node.tpm.restore(&tpm);
    node.disk.load(&disk);
    let error = node.boot().unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert!(
        error
            .to_string()
            .contains("rule G26: the header is of epoch"),
        "{error}"
    );
    assert!(
        error.to_string().contains("and the key service remembers"),
        "{error}"
    );
}

#[test]
fn another_volume_in_its_place_is_refused_by_the_services_record() {
    let mut node = Node::new(&["sources = [\"service\"]", "anchor = \"off\""]);
    let uuid = node.boot().unwrap().volumes[0].uuid.clone();
    assert_eq!(node.opens(), (How::Unlocked, Source::Service));
    let path = format!("/kbs/v0/nightlatch/volume/{uuid}");
    node.service
        .tell(&path, json!({"key-id": "ab".repeat(32), "epoch": 0}));
    let error = node.boot().unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert!(
        error
            .to_string()
            .contains("rule D15: this is a volume with key"),
        "{error}"
    );
}

/// A disk that need not be there, and for which the service denies the machine, as it does for one that was put back.
#[test]
fn a_disk_that_the_service_denies_does_not_cost_the_others_their_keys() {
    let data = Disk::in_memory(DISK_MIB);
    let mut node = Node::new(&["sources = [\"service\"]"]);
    node.terms = optional(&data, "\"service\"");
    node.measure = "[measure]\ncluster = \"service\"";
    let boot = |node: &mut Node| {
        let mut claimed = 0;
        let status = node.boot().unwrap();
        let away: Vec<String> = status.away.iter().map(|it| it.error.clone()).collect();
        if let Some(request) = node.service.bodies("POST /kbs/v0/attest").last() {
            let additional = &request["tee-evidence"]["additional_evidence"];
            let additional: Value = serde_json::from_str(additional.as_str().unwrap()).unwrap();
            claimed = additional["nightlatch"]["volumes"]
                .as_array()
                .unwrap()
                .len();
        }
        (status.volumes.len(), away, claimed)
    };
    for _ in 0..2 {
        assert_eq!(boot(&mut node), (2, vec![], 2));
    }
    node.twist(Twist::DenyMore(1));
    let (open, away, claimed) = boot(&mut node);
    assert_eq!((open, claimed), (1, 1));
    assert!(away[0].contains("VolumeDeny"), "{away:?}");
    node.twist(Twist::Nothing);
    assert_eq!(boot(&mut node), (2, vec![], 2));

    // A blank disk in its place, on which none is made, is none for the service either.
    disk::run("blkdiscard", &["--zeroout", data.as_str()], b"");
    let (open, away, claimed) = boot(&mut node);
    assert_eq!((open, claimed), (1, 1));
    assert!(away[0].contains("rule F23"), "{away:?}");
}
