// SPDX-License-Identifier: Apache-2.0
//! The anchor in a real (software) TPM, across resets and in the hands of the running system.

mod accepted;
mod away;
mod counting;
mod requests;
mod service;
mod stale;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use uuid::Uuid;

use super::count::Count;
use super::judge::{DeviceState, VolumeProof};
use super::record::{Accepted, Entry, State};
use super::*;
use crate::error::Exit;
use crate::header::BootNonce;
use crate::pcr::Pcr;
use crate::protocol::VolumeRecord;
use crate::support::swtpm::Swtpm;

const KEY_ID: [u8; 32] = [0x11; 32];
/// `TPM_CC_NV_Write` (TPM 2.0 part 2, section 6.5.2).
const NV_WRITE: u32 = 0x137;
const UUID: Uuid = Uuid::from_bytes([0x22; 16]);

/// The anchor of a configuration that wants one.
fn read(config: &Config, tpm: &mut Tpm) -> Result<Anchor> {
    Located::find(config, Policy::of(&config.tpm, None), tpm)?
        .unwrap()
        .read(tpm)
}

/// A node with the volumes `state` and `data`, its TPM, and a directory for `/`.
struct Node {
    swtpm: Swtpm,
    top: PathBuf,
}

impl Node {
    fn new() -> Self {
        let swtpm = Swtpm::start();
        let top = swtpm.dir().join("top");
        Self { swtpm, top }
    }

    fn config(&self, level: &str) -> Config {
        self.config_of(level, "")
    }

    /// With further lines for the volume `data`.
    fn config_of(&self, level: &str, of_data: &str) -> Config {
        let volume = |name: &str| {
            let more = if name == "data" { of_data } else { "" };
            format!(
                "[[volume]]\nname = \"{name}\"\nrole = \"state\"\ndevice = \"/dev/{name}\"\nmount = \"/{name}\"\n\
                 sources = [\"tpm\", \"generate\"]\nformat = \"if-blank\"\nanchor = \"{level}\"\n{more}"
            )
        };
        let port = self.swtpm.port();
        let tpm = format!(
            "boot.authorities = [\"/etc/nightlatch/authority.pem\"]\n[tpm]\ntcti = \"swtpm:port={port}\"\n"
        );
        Config::parse(&[tpm, volume("state"), volume("data")].concat()).unwrap()
    }

    /// Resets the machine and starts a boot of the same image.
    fn boot(&mut self, level: &str) -> (Config, Tpm, Anchor) {
        self.swtpm.reset();
        let config = self.config(level);
        let mut tpm = Tpm::open(&config.tpm.tcti).unwrap();
        let mut anchor = read(&config, &mut tpm).unwrap();
        anchor.count(&mut tpm).unwrap();
        (config, tpm, anchor)
    }

    /// A first boot that makes both volumes, to its end and past the fence.
    fn provision(&mut self, level: &str) {
        let (config, mut tpm, mut anchor) = self.boot(level);
        let mut epoch = 0;
        for volume in config.volumes() {
            assert_eq!(anchor.permit(volume, DeviceState::Blank).unwrap(), None);
            epoch = anchor
                .begin_provisioning(&mut tpm, volume, UUID, KEY_ID)
                .unwrap()
                .epoch;
        }
        anchor.advance(&mut tpm).unwrap();
        assert_eq!(anchor.counter().unwrap(), epoch);
        self.finish(&config, tpm, anchor);
    }

    /// The rest of every boot.
    fn finish(&self, config: &Config, mut tpm: Tpm, mut anchor: Anchor) {
        let volumes: Vec<_> = config.volumes().map(|volume| (volume, None)).collect();
        anchor.commit(&mut tpm, &volumes).unwrap();
        anchor
            .into_runtime(config)
            .unwrap()
            .leave(&self.top)
            .unwrap();
        tpm.event(config.tpm.fence_pcr, b"fence").unwrap();
    }
}

/// A volume whose header is of that epoch, and of the boot whose nonce the record has.
fn proven(anchor: &Anchor, epoch: u64) -> VolumeProof {
    let nonce = anchor.counted().unwrap().nonce;
    proven_of(Stamp { epoch, nonce })
}

fn proven_of(stamp: Stamp) -> VolumeProof {
    VolumeProof {
        uuid: UUID,
        key_id: KEY_ID,
        stamp,
    }
}

#[test]
fn a_node_that_was_provisioned_is_remembered_and_its_boots_are_counted() {
    let mut node = Node::new();
    node.provision("epoch");
    for _ in 0..2 {
        let (config, mut tpm, mut anchor) = node.boot("epoch");
        let volume = config.volumes().next().unwrap();
        let before = anchor.counter().unwrap();
        assert_eq!(anchor.permit(volume, DeviceState::Volume).unwrap(), None);
        anchor.verify(volume, &proven(&anchor, before)).unwrap();
        anchor.verify(volume, &proven(&anchor, before + 2)).unwrap();
        for epoch in [before - 2, before - 1, before + 1, before + 4] {
            let error = anchor
                .verify(volume, &proven(&anchor, epoch))
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("rule G26: the header is of epoch"),
                "{error}"
            );
        }
        let other = VolumeProof {
            key_id: [0x12; 32],
            ..proven(&anchor, before)
        };
        let error = anchor.verify(volume, &other).unwrap_err().to_string();
        assert!(error.starts_with("rule D15: this is volume"), "{error}");
        assert!(anchor.permit(volume, DeviceState::Blank).is_err());
        assert!(
            anchor
                .permit(volume, DeviceState::Interrupted(UUID))
                .is_err()
        );
        anchor.advance(&mut tpm).unwrap();
        assert_eq!(anchor.counter().unwrap(), before + 2);
        node.finish(&config, tpm, anchor);
    }
}

#[test]
fn a_boot_that_changes_nothing_writes_nothing_but_the_count() {
    let mut node = Node::new();
    node.provision("epoch");
    let (config, mut tpm, mut anchor) = node.boot("epoch");
    anchor.advance(&mut tpm).unwrap();
    node.swtpm.commands();
    node.finish(&config, tpm, anchor);
    assert!(!node.swtpm.commands().contains(&NV_WRITE));
}

/// The record has no level for it, and the next boot has to be able to read the record.
#[test]
fn a_volume_that_is_not_anchored_any_more_leaves_the_record_readable() {
    let mut node = Node::new();
    node.provision("epoch");
    let (config, mut tpm, mut anchor) = node.boot("epoch");
    let off = node.config("off");
    let volumes: Vec<_> = off.volumes().map(|volume| (volume, None)).collect();
    anchor.commit(&mut tpm, &volumes).unwrap();
    drop((config, tpm, anchor));
    let (config, _tpm, anchor) = node.boot("epoch");
    let volume = config.volumes().next().unwrap();
    assert_eq!(anchor.permit(volume, DeviceState::Volume).unwrap(), None);
    // It was not counted meanwhile.
    anchor.verify(volume, &proven(&anchor, 0)).unwrap();
}

/// What the operator says in the running system, as `nightlatchctl anchor accept` does.
fn accept(node: &Node, name: &VolumeName, kind: Accepted) {
    RuntimeAnchor::take(&node.top)
        .unwrap()
        .change(|record| {
            let entry = record.get(name).cloned().unwrap();
            record.set(Entry {
                acceptance: Some(kind),
                ..entry
            })
        })
        .unwrap();
}

#[test]
fn a_first_boot_that_was_interrupted_starts_again_with_another_key() {
    let mut node = Node::new();
    let (config, mut tpm, mut anchor) = node.boot("epoch");
    let volume = config.volumes().next().unwrap();
    anchor
        .begin_provisioning(&mut tpm, volume, UUID, KEY_ID)
        .unwrap();
    drop((tpm, anchor));

    let (_, mut tpm, mut anchor) = node.boot("epoch");
    for seen in [
        DeviceState::Blank,
        DeviceState::Interrupted(UUID),
        DeviceState::Volume,
    ] {
        assert_eq!(anchor.permit(volume, seen).unwrap(), None);
    }
    let other = DeviceState::Interrupted(Uuid::from_bytes([0x33; 16]));
    let error = anchor.permit(volume, other).unwrap_err().to_string();
    assert!(error.contains("attach its disk"), "{error}");
    anchor
        .begin_provisioning(&mut tpm, volume, UUID, [0x44; 32])
        .unwrap();
    drop((tpm, anchor));

    let (_, _, anchor) = node.boot("epoch");
    let error = anchor
        .verify(volume, &proven(&anchor, anchor.counter().unwrap()))
        .unwrap_err();
    assert!(error.to_string().starts_with("rule D15"), "{error}");
}

#[test]
fn a_volume_the_tpm_does_not_remember_is_refused() {
    let mut node = Node::new();
    let (config, ..) = node.boot("epoch");
    let volume = config.volumes().next().unwrap();
    let (_, _, anchor) = node.boot("epoch");
    let error = anchor
        .permit(volume, DeviceState::Volume)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("the TPM does not remember this volume"),
        "{error}"
    );
    assert_eq!(anchor.permit(volume, DeviceState::Blank).unwrap(), None);
}

#[test]
fn another_boot_chain_cannot_read_the_record() {
    let mut node = Node::new();
    node.provision("epoch");
    node.swtpm.reset();
    let config = node.config("epoch");
    let mut tpm = Tpm::open(&config.tpm.tcti).unwrap();
    tpm.event(Pcr::KERNEL_IMAGE, b"another kernel").unwrap();
    let mut anchor = read(&config, &mut tpm).unwrap();
    assert!(anchor.is_stale());
    let volume = config.volumes().next().unwrap();
    for seen in [DeviceState::Volume, DeviceState::Blank] {
        let error = anchor.permit(volume, seen).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused, "{error}");
        let said = "the TPM's record was made under other PCR values";
        assert!(error.to_string().starts_with(said), "{error}");
    }
    // That the boots were counted can be read all the same.
    anchor.count(&mut tpm).unwrap();
    assert_eq!(anchor.counter().unwrap(), 2);
    drop(tpm);
    let (_, _, anchor) = node.boot("epoch");
    assert!(!anchor.is_stale());
    anchor.permit(volume, DeviceState::Volume).unwrap();
}

#[test]
fn the_running_system_reads_and_changes_the_record_behind_the_fence() {
    let mut node = Node::new();
    node.provision("epoch");
    let file = node.top.join("run/nightlatch/anchor.key");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let running = RuntimeAnchor::take(&node.top).unwrap();
    let (record, counter) = running.show().unwrap();
    assert_eq!(record.entries().count(), 2);
    assert!(record.entries().all(|entry| entry.state == State::Ready));
    let name = record.entries().next().unwrap().name.clone();
    drop(running);
    accept(&node, &name, Accepted::Rollback);

    let (config, mut tpm, mut anchor) = node.boot("epoch");
    let volume = config.volumes().next().unwrap();
    let exception = anchor.permit(volume, DeviceState::Volume).unwrap().unwrap();
    assert_eq!(exception.event(), "nightlatch:accept:rollback:state");
    anchor
        .verify(volume, &proven(&anchor, counter - 2))
        .unwrap();
    // It is one volume's, and of one kind.
    let other = config.volumes().nth(1).unwrap();
    assert_eq!(anchor.permit(other, DeviceState::Volume).unwrap(), None);
    assert!(anchor.verify(other, &proven(&anchor, counter - 2)).is_err());
    assert!(anchor.permit(volume, DeviceState::Blank).is_err());
    anchor.advance(&mut tpm).unwrap();
    node.finish(&config, tpm, anchor);

    let (_, _, anchor) = node.boot("epoch");
    assert!(
        anchor
            .verify(volume, &proven(&anchor, counter - 2))
            .is_err()
    );
}

#[test]
fn without_a_key_of_this_boot_nobody_changes_the_record() {
    let mut node = Node::new();
    node.provision("identity");
    let nobody = node.top.join("elsewhere");
    let error = RuntimeAnchor::take(&nobody).unwrap_err();
    assert_eq!(error.exit(), Exit::Unavailable, "{error}");
    let file = node.top.join("run/nightlatch/anchor.key");
    let text = fs::read_to_string(&file).unwrap();
    let (before, after) = text.split_once("\"auth\":\"").unwrap();
    let wrong = format!("{before}\"auth\":\"{}{}", "00".repeat(32), &after[64..]);
    fs::write(&file, wrong).unwrap();
    assert!(RuntimeAnchor::take(&node.top).unwrap().show().is_err());
    fs::write(&file, text).unwrap();
    RuntimeAnchor::take(&node.top).unwrap().show().unwrap();
}

#[test]
fn with_every_level_off_the_tpm_is_not_asked() {
    let node = Node::new();
    let config = node.config("off");
    let mut tpm = Tpm::open(&config.tpm.tcti).unwrap();
    assert!(
        Located::find(&config, Policy::of(&config.tpm, None), &mut tpm)
            .unwrap()
            .is_none()
    );
}
