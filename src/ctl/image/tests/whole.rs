// SPDX-License-Identifier: Apache-2.0
//! An initrd with all that its configuration needs, which tests take a part of away.

use std::collections::BTreeMap;

use crate::support::initrd::{Made, archive, elf};

/// Its configuration.
pub(in crate::ctl) const CONFIG: &str = r#"
[boot]
authorities = ["/etc/nightlatch/authority.pem"]
[[volume]]
name = "state"
role = "state"
device = "/dev/disk/by-id/virtio-state"
format = "if-blank"
sources = ["tpm", "generate"]
mount = "/var/lib/state"
[[volume]]
name = "system"
role = "root"
mode = "overlay"
lower = "/dev/mapper/root"
device = "/dev/disk/by-id/virtio-system"
format = "if-blank"
sources = ["tpm", "generate"]
"#;
/// The kernel that its modules are of.
pub(in crate::ctl) const RELEASE: &str = "6.12.0";

/// The files of an initrd, which a test takes some of away.
#[derive(Clone)]
pub(in crate::ctl) struct Initrd(BTreeMap<String, Made>);

impl Initrd {
    /// All that the configuration needs.
    pub(in crate::ctl) fn whole(pem: &str) -> Self {
        let mut made = Self(BTreeMap::new());
        let units = "usr/lib/systemd/system";
        made.put("init", Made::link("usr/lib/systemd/systemd"));
        made.put("lib", Made::link("usr/lib"));
        made.put("etc/initrd-release", Made::link("/etc/os-release"));
        made.put("etc/os-release", Made::file("ID=debian\n"));
        made.put("etc/nightlatch/nightlatch.toml", Made::file(CONFIG));
        made.put("etc/nightlatch/authority.pem", Made::file(pem));
        let nightlatch = elf(&["libtss2-tctildr.so.0", "libc.so.6"], "");
        made.put("usr/lib/nightlatch/nightlatch", Made::Program(nightlatch));
        let generator = "usr/lib/systemd/system-generators/nightlatch-generator";
        made.put(generator, Made::link("../../nightlatch/nightlatch"));
        for unit in [
            "service",
            "-volumes.target",
            "-reboot.service",
            "-reboot.timer",
        ] {
            let dot = if unit == "service" { "." } else { "" };
            made.put(
                &format!("{units}/nightlatch{dot}{unit}"),
                Made::file("[Unit]\n"),
            );
        }
        let wanted = format!("{units}/initrd-root-fs.target.requires/nightlatch.service");
        made.put(&wanted, Made::link("../nightlatch.service"));
        for name in ["90-nightlatch", "90-nightlatch-tpm", "95-dm-notify"] {
            made.put(
                &format!("usr/lib/udev/rules.d/{name}.rules"),
                Made::file("#\n"),
            );
        }
        let systemd = elf(
            &["libsystemd-shared.so", "libsystemd-core.so"],
            "/usr/lib/systemd",
        );
        made.put("usr/lib/systemd/systemd", Made::Program(systemd));
        made.put(
            "usr/lib/systemd/libsystemd-shared.so",
            Made::file(elf(&["libc.so.6"], "")),
        );
        // It has no place of its own to look for the other one, which is loaded by then.
        let core = elf(&["libsystemd-shared.so"], "");
        made.put("usr/lib/systemd/libsystemd-core.so", Made::file(core));
        for name in [
            "bin/udevadm",
            "bin/mkfs.btrfs",
            "sbin/modprobe",
            "lib/systemd/systemd-veritysetup",
        ] {
            made.put(
                &format!("usr/{name}"),
                Made::Program(elf(&["libc.so.6"], "")),
            );
        }
        let libraries = "usr/lib/x86_64-linux-gnu";
        for name in [
            "libc.so.6",
            "libtss2-tctildr.so.0",
            "libtss2-tcti-device.so.0",
            "libtss2-rc.so.0",
        ] {
            made.put(&format!("{libraries}/{name}"), Made::file(elf(&[], "")));
        }
        made.modules();
        made.close();
        made
    }

    fn modules(&mut self) {
        let place = format!("usr/lib/modules/{RELEASE}");
        let loadable = [
            "dm-crypt",
            "dm-integrity",
            "dm-verity",
            "authenc",
            "xts",
            "btrfs",
            "overlay",
            "virtio_blk",
            "tpm_crb",
            "raid6",
        ];
        for name in loadable {
            self.put(&format!("{place}/kernel/{name}.ko"), Made::file("module"));
        }
        let list =
            "kernel/btrfs.ko: kernel/raid6.ko\nkernel/xts.ko:\nkernel/absent.ko: kernel/other.ko\n";
        self.put(&format!("{place}/modules.dep"), Made::file(list));
        let built_in = "kernel/crypto/sha256_generic.ko\n";
        self.put(&format!("{place}/modules.builtin"), Made::file(built_in));
        let aliases = "hash.alias=crypto-hmac\0hash.license=GPL\0";
        self.put(
            &format!("{place}/modules.builtin.modinfo"),
            Made::file(aliases),
        );
    }

    /// As `mkosi/close-initrd` does it, which a test of the harness holds against the same lists.
    fn close(&mut self) {
        let list = |text: &str| {
            let names = text
                .lines()
                .filter(|line| !line.starts_with('#') && !line.is_empty());
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        let masked = include_str!("../../../../units/initrd/masked");
        for name in list(masked) {
            let place = if name.ends_with("-generator") {
                "system-generators"
            } else {
                "system"
            };
            self.put(
                &format!("usr/lib/systemd/{place}/{name}"),
                Made::file("open"),
            );
            self.put(
                &format!("etc/systemd/{place}/{name}"),
                Made::link("/dev/null"),
            );
        }
        let volumes = "etc/systemd/system-generators/systemd-cryptsetup-generator";
        self.put(volumes, Made::link("/dev/null"));
        self.put(&volumes.replace("etc", "usr/lib"), Made::file("open"));
        let no_loaded = include_str!("../../../../units/initrd/no-loaded-credentials.conf");
        let closed = "99-nightlatch-closed.conf";
        for unit in list(include_str!("../../../../units/initrd/without-credentials")) {
            self.put(
                &format!("etc/systemd/system/{unit}.d/{closed}"),
                Made::file(no_loaded),
            );
        }
        let no_imported = include_str!("../../../../units/initrd/no-imported-credentials.conf");
        self.put(
            &format!("etc/systemd/system/service.d/{closed}"),
            Made::file(no_imported),
        );
        let system = include_str!("../../../../units/initrd/system.conf");
        self.put(
            &format!("etc/systemd/system.conf.d/{closed}"),
            Made::file(system),
        );
    }

    /// What it takes to reach a key service.
    pub(in crate::ctl) fn with_network(&mut self) {
        for name in [
            "systemd-networkd.service",
            "systemd-networkd-wait-online.service",
            "network-online.target",
        ] {
            self.put(
                &format!("usr/lib/systemd/system/{name}"),
                Made::file("[Unit]\n"),
            );
        }
        for name in ["systemd-networkd", "systemd-networkd-wait-online"] {
            self.put(
                &format!("usr/lib/systemd/{name}"),
                Made::Program(elf(&[], "")),
            );
        }
        for name in ["af_packet", "virtio_net"] {
            self.put(
                &format!("usr/lib/modules/{RELEASE}/kernel/{name}.ko"),
                Made::file("module"),
            );
        }
        self.put(
            "usr/lib/systemd/network/80-nightlatch.network",
            Made::file("[Match]\n"),
        );
    }

    pub(in crate::ctl) fn put(&mut self, path: &str, file: Made) -> &mut Self {
        self.0.insert(path.to_owned(), file);
        self
    }

    pub(in crate::ctl) fn without(&self, path: &str) -> Self {
        let mut made = self.clone();
        assert!(made.0.remove(path).is_some(), "{path}");
        made
    }

    pub(in crate::ctl) fn bytes(&self) -> Vec<u8> {
        archive(self.0.iter().map(|(path, file)| (path.as_str(), file)))
    }
}
