// SPDX-License-Identifier: Apache-2.0
//! What an initrd has to have for a configuration: what builds images asks for it, and `image check` compares.
//!
//! **Never:** anything that depends on the machine that asks.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::config::{Config, FilePath, Format};
use crate::error::{Error, Result};

/// What opens and mounts, the image below an overlay and what it may be on, the TPM, and the disks of virtual machines.
const MODULES: [&str; 23] = [
    "dm-crypt",
    "dm-integrity",
    "dm-verity",
    "dm-bufio",
    "loop",
    "overlay",
    "erofs",
    "squashfs",
    "efivarfs",
    "tpm",
    "tpm_crb",
    "tpm_tis",
    "virtio_blk",
    "virtio_scsi",
    "virtio_pci",
    "virtio_console",
    "nvme",
    "sd_mod",
    "hv_storvsc",
    "hv_vmbus",
    "pci-hyperv",
    "xen-blkfront",
    "tpm_svsm",
];

/// `authenc(hmac(sha256),xts(aes))`, the kernel's crypto as libcryptsetup uses it, and the checksums of btrfs and ext4.
const CRYPTO: [&str; 19] = [
    "af_alg",
    "algif_skcipher",
    "algif_hash",
    "algif_aead",
    "authenc",
    "hmac",
    "sha256",
    "sha512",
    "xts",
    "cbc",
    "ecb",
    "essiv",
    "aes",
    "aesni_intel",
    "sha256_ssse3",
    "crypto_user",
    "crc32c",
    "blake2b_generic",
    "xxhash_generic",
];

/// The sockets that DHCP is spoken over, and cards of virtual machines.
const OF_NETWORK: [&str; 7] = [
    "af_packet",
    "virtio_net",
    "hv_netvsc",
    "ena",
    "gve",
    "mana",
    "vmxnet3",
];

/// The program itself, and udev's, which waits for devices.
const PROGRAMS: [&str; 2] = ["/usr/lib/nightlatch/nightlatch", "udevadm"];

/// The configuration with its defaults in it.
pub(super) fn effective(config: &Config) -> Result<Value> {
    let mut all = serde_json::to_value(config).map_err(Error::failure)?;
    let volumes = all.get_mut("volume").and_then(Value::as_array_mut);
    for (shown, volume) in volumes.into_iter().flatten().zip(config.volumes()) {
        // The default follows from the profile.
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("anchor".into(), volume.level().as_str().into());
        }
    }
    Ok(all)
}

/// Programs, modules, files and the network.
pub(super) fn of_initrd(config: &Config) -> Value {
    let files: Vec<&str> = config.files().map(FilePath::as_str).collect();
    json!({
        "programs": programs(config),
        "modules": modules(config),
        "file-systems": file_systems(config),
        "files": files,
        "network": config.needs_network(),
        "other-volumes": config.boot.other_volumes,
    })
}

/// Programs: by their paths, or by their names.
pub(super) fn programs(config: &Config) -> Vec<String> {
    let made = config.volumes().filter(|it| it.format == Format::IfBlank);
    let makers: BTreeSet<String> = made
        .map(|volume| format!("mkfs.{}", volume.file_system.as_str()))
        .collect();
    let programs = PROGRAMS.iter().map(ToString::to_string);
    programs.chain(makers).collect()
}

/// The file systems of the volumes.
pub(super) fn file_systems(config: &Config) -> BTreeSet<&'static str> {
    let volumes = config.volumes();
    volumes.map(|it| it.file_system.as_str()).collect()
}

/// Modules of the kernel, as far as it has them.
fn modules(config: &Config) -> Vec<&'static str> {
    let network: &[&str] = if config.needs_network() {
        &OF_NETWORK
    } else {
        &[]
    };
    let sets: [&[&'static str]; 3] = [&MODULES, &CRYPTO, network];
    let needed = sets.into_iter().flatten().copied();
    needed.chain(file_systems(config)).collect()
}

/// A list as lines, and else the value in one.
pub(super) fn lines(value: &Value) -> String {
    let items = value
        .as_array()
        .map_or(std::slice::from_ref(value), Vec::as_slice);
    let texts = items.iter().map(|item| match item.as_str() {
        Some(text) => text.to_owned(),
        None => item.to_string(),
    });
    texts.fold(String::new(), |all, line| all + &line + "\n")
}
