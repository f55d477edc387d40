// SPDX-License-Identifier: Apache-2.0
//! What is valid and will hurt.

use toml::de::DeTable;

use super::condition::{of_sources, of_updates};
use super::findings::{Finding, offset_in_volume, offset_of};
use crate::config::{Config, ServiceUrl, Volume};
use crate::systemd::unit::unit_name;

/// What a name of a device is made from, where that is not the disk's place, and what follows.
const UNSTEADY: [(&str, &str); 4] = [
    (
        "/dev/disk/by-label/",
        "is made from what the disk says, and whichever disk says so gets it; name it by its place, by-path or by-id",
    ),
    (
        "/dev/disk/by-uuid/",
        "is made from what the disk says, and whichever disk says so gets it; name it by its place, by-path or by-id",
    ),
    (
        "/dev/sd",
        "depends on the order in which disks are found; name it by its place, by-path or by-id",
    ),
    (
        "/dev/vd",
        "depends on the order in which disks are found; name it by its place, by-path or by-id",
    ),
];

/// Where the key service listens unless told otherwise ([`crate::config`] must not know the service's own).
const SERVICE_PORT: u16 = 8443;

/// What may be valid and not meant, from the top down.
pub(super) fn warnings(text: &str, config: &Config) -> Vec<Finding> {
    let Ok(whole) = DeTable::parse(text) else {
        return Vec::new();
    };
    let of_service = config.service.iter().flat_map(|service| &service.urls);
    let of_service = of_service.flat_map(of_url).map(|said| {
        let at = offset_of(&whole, "service.urls");
        Finding::at(text, at, Some("service.urls".to_owned()), &said)
    });
    let of_volumes = config.volumes().enumerate().flat_map(|(number, volume)| {
        let whole = &whole;
        of_volume(config, volume)
            .into_iter()
            .map(move |(key, said)| {
                let at = offset_in_volume(whole, number, key);
                Finding::at(text, at, Some(format!("volume.{key}")), &said)
            })
    });
    of_service.chain(of_volumes).collect()
}

/// Each with the key that it is about.
fn of_volume(config: &Config, volume: &Volume) -> Vec<(&'static str, String)> {
    let mut said = Vec::new();
    let devices = [
        ("device", Some(&volume.device)),
        ("lower", volume.lower.as_ref()),
    ];
    for (key, device) in devices {
        let Some(device) = device else { continue };
        let unsteady = UNSTEADY
            .iter()
            .find(|(start, _)| device.as_str().starts_with(start));
        said.extend(unsteady.map(|(_, why)| (key, format!("{device} {why}"))));
    }
    let sources = of_sources(config, volume);
    said.extend(sources.into_iter().map(|why| ("sources", why)));
    said.extend(of_updates(config, volume));
    if let Some(mount) = &volume.mount {
        let unit = unit_name(mount.as_str(), "mount");
        if unit.contains('\\') {
            let why =
                format!("systemd calls its unit {unit}, and a drop-in for it has to be called so");
            said.push(("mount", why));
        }
    }
    said
}

/// Of an address of the key service.
fn of_url(url: &ServiceUrl) -> Vec<String> {
    let mut said = Vec::new();
    if url.is_named() {
        said.push(format!(
            "{url} has a name, and nothing in the initrd resolves names unless you put it there: give the IP address"
        ));
    }
    if !url.has_port() {
        said.push(format!(
            "{url} has no port, which is 443; nightlatchd listens on {SERVICE_PORT} unless told otherwise"
        ));
    }
    said
}
