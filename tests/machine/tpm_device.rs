// SPDX-License-Identifier: Apache-2.0
//! The machine's TPM by way of its device nodes, alone and beside others who use it.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};

use nightlatch::config::Tcti;
use nightlatch::error::Exit;
use nightlatch::pcr::{Bank, Pcr, PcrSet};
use nightlatch::tpm::{Policy, Tpm};
use nightlatch::volume::{self, Found, SecretProviders};

use crate::disk::{self, Disk, SECRET, close, run, secret};
use crate::stock::luks_format;

const EXCLUSIVE: &str = "/dev/tpm0";
const SHARED: &str = "/dev/tpmrm0";
const POLICY: Policy = Policy {
    pcrs: PcrSet::of(&[Pcr::SECURE_BOOT, Pcr::KERNEL_IMAGE, Pcr::KERNEL_CONFIG]),
    bank: Bank::Sha256,
    key: None,
};

/// The nodes of the TPM this process has open.
fn open_nodes() -> Vec<String> {
    let descriptors = fs::read_dir("/proc/self/fd").unwrap();
    let mut nodes: Vec<String> = descriptors
        // The descriptor of the listing itself is gone by now.
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .filter_map(|target| Some(target.to_str()?.to_owned()))
        .filter(|target| target.starts_with("/dev/tpm"))
        .collect();
    nodes.dedup();
    nodes
}

/// Another process that has the exclusive node open until it is dropped.
struct Holder(Child);

impl Holder {
    fn start() -> Self {
        let node = File::options()
            .read(true)
            .write(true)
            .open(EXCLUSIVE)
            .unwrap();
        Self(
            Command::new("sleep")
                .arg("600")
                .stdin(node)
                .spawn()
                .unwrap(),
        )
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn auto() -> Tpm {
    Tpm::open(&Tcti::Auto).unwrap()
}

#[test]
fn the_exclusive_node_is_taken_where_it_is_free_and_the_shared_one_where_it_is_not() {
    assert!(Path::new(SHARED).exists());
    assert!(open_nodes().is_empty());
    let tpm = auto();
    assert_eq!(open_nodes(), [EXCLUSIVE]);
    drop(tpm);
    assert!(open_nodes().is_empty());

    let holder = Holder::start();
    let mut tpm = auto();
    assert_eq!(open_nodes(), [SHARED]);
    assert!(tpm.banks().unwrap().contains(&Bank::Sha256));
    tpm.require_zero(Pcr::SYSTEM_IDENTITY).unwrap();
    drop((tpm, holder));

    let _tpm = auto();
    assert_eq!(open_nodes(), [EXCLUSIVE]);
}

#[test]
fn the_exclusive_node_by_name_is_not_replaced_by_another() {
    let by_name = Tcti::Device(EXCLUSIVE.to_owned().try_into().unwrap());
    let holder = Holder::start();
    let error = Tpm::open(&by_name).unwrap_err();
    assert_eq!(error.exit(), Exit::Temporary);
    assert_eq!(
        error.to_string(),
        "opening the TPM: /dev/tpm0 is held by another program"
    );
    drop(holder);
    Tpm::open(&by_name).unwrap();
}

#[test]
fn what_one_node_seals_either_unseals() {
    let sealed = auto().seal(&secret(), POLICY).unwrap();
    let unsealed = auto().unseal(&sealed, POLICY).unwrap();
    assert_eq!(unsealed.expose(), SECRET);

    let _holder = Holder::start();
    let mut shared = auto();
    assert_eq!(open_nodes(), [SHARED]);
    assert_eq!(shared.unseal(&sealed, POLICY).unwrap().expose(), SECRET);
    let sealed = shared.seal(&secret(), POLICY).unwrap();
    assert_eq!(shared.unseal(&sealed, POLICY).unwrap().expose(), SECRET);
}

/// The storage root key is one that systemd made, where this is the first case to need it.
#[test]
fn we_open_a_volume_that_systemd_cryptenroll_sealed() {
    let disk = Disk::virtio("blank4g");
    let config = disk::config_beside_ours(
        &disk,
        &[
            "profile = \"luks2-strict\"",
            "format = \"never\"",
            "sources = [\"tpm\"]",
        ],
    );
    let volume = config.volumes().nth(1).unwrap();
    luks_format(&disk, &["--integrity=hmac-sha256", "--integrity-no-wipe"]);
    fs::write("/tmp/key", SECRET).unwrap();
    let enroll = |pcrs: &str| {
        let pcrs = format!("--tpm2-pcrs={pcrs}");
        let device = ["--tpm2-device=auto", "--wipe-slot=tpm2", disk.as_str()];
        let unlock = ["--unlock-key-file=/tmp/key", &pcrs];
        run("systemd-cryptenroll", &[&unlock[..], &device].concat(), b"");
    };
    let unlock = || {
        let Found::Existing(existing) = volume::examine(volume).unwrap() else {
            panic!("expected an existing volume");
        };
        let mut tpm = auto();
        existing.unlock(
            volume,
            Policy::of(&config.tpm, None),
            SecretProviders::tpm(|sealed| tpm.unseal(sealed, Policy::of(&config.tpm, None))),
        )
    };

    enroll("7");
    let error = unlock().unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert_eq!(
        error.to_string(),
        "rule C13: the token is sealed to sha256 7, the configuration says sha256 4+7+11+12+13"
    );

    enroll("4+7+11+12+13");
    let keyed = unlock().unwrap();
    assert_ne!(keyed.keyslot, 0);
    volume::open(volume, keyed, None).unwrap();
    close();
}
