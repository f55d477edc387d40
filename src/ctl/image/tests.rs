// SPDX-License-Identifier: Apache-2.0
mod signed;
pub(in crate::ctl) mod whole;

use std::fs;
use std::path::PathBuf;

use self::whole::{CONFIG, Initrd, RELEASE};
use super::*;
use crate::ctl::tests::run;
use crate::error::Exit;
use crate::initrd::tests::compressed;
use crate::support::initrd::{Made, archive};
use crate::support::unified::{program, signed};

const SERVICE: &str =
    "[service]\nurls = [\"https://10.0.0.2:8443\"]\nca = \"/etc/nightlatch/authority.pem\"\n";
pub(in crate::ctl) const LINE: &str = "roothash=00 nohibernate";

fn told(bytes: &[u8]) -> (Option<Exit>, String) {
    let answer = report(bytes).unwrap().answer(Path::new("x"));
    (answer.exit, answer.text)
}

/// The lines of what is missing.
fn missing(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("missing  "))
        .collect()
}

pub(in crate::ctl) fn certificate(name: &str) -> (String, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    let made = parameters.self_signed(&key).unwrap();
    (made.pem(), made.der().to_vec())
}

#[test]
fn a_whole_initrd_is_good_however_it_is_compressed() {
    let (pem, _) = certificate("owner");
    let whole = Initrd::whole(&pem).bytes();
    for (compression, packed) in compressed(&whole) {
        let (exit, text) = told(&packed);
        assert_eq!(
            (exit, missing(&text)),
            (None, Vec::new()),
            "{compression:?}"
        );
        assert!(
            text.contains(&format!("archive 1, {}", compression.as_str())),
            "{text}"
        );
        assert!(text.contains(&packed.len().to_string()), "{text}");
    }
}

/// Paths of what nightlatch has in an initrd and of what closes it, and what is said where one is not there.
fn of_nightlatch() -> Vec<(String, &'static str)> {
    let units = "usr/lib/systemd/system";
    vec![
        (
            "etc/initrd-release".to_owned(),
            "initrd: /etc/initrd-release is not there",
        ),
        (
            "usr/lib/systemd/system-generators/nightlatch-generator".to_owned(),
            "nightlatch-generator is no link",
        ),
        (
            format!("{units}/nightlatch.service"),
            "nightlatch: nightlatch.service is not there",
        ),
        (
            format!("{units}/nightlatch-reboot.timer"),
            "nightlatch-reboot.timer is not there",
        ),
        (
            format!("{units}/initrd-root-fs.target.requires/nightlatch.service"),
            "so nothing starts nightlatch",
        ),
        (
            "usr/lib/udev/rules.d/95-dm-notify.rules".to_owned(),
            "95-dm-notify.rules is not there",
        ),
        (
            "etc/nightlatch/authority.pem".to_owned(),
            "certificates: /etc/nightlatch/authority.pem is not there",
        ),
        (
            "etc/systemd/system-generators/systemd-debug-generator".to_owned(),
            "closed: systemd-debug-generator is there and not masked",
        ),
        (
            "etc/systemd/system-generators/systemd-cryptsetup-generator".to_owned(),
            "systemd-cryptsetup-generator is there",
        ),
        (
            "etc/systemd/system/debug-shell.service".to_owned(),
            "debug-shell.service is there and not masked",
        ),
        (
            "etc/systemd/system/service.d/99-nightlatch-closed.conf".to_owned(),
            "is not what it has to be",
        ),
    ]
}

/// The same of what else a boot needs.
fn of_others() -> Vec<(String, &'static str)> {
    let library = "usr/lib/x86_64-linux-gnu";
    let modules = format!("usr/lib/modules/{RELEASE}");
    vec![
        (
            "usr/bin/mkfs.btrfs".to_owned(),
            "programs: mkfs.btrfs is not there",
        ),
        (
            "usr/sbin/modprobe".to_owned(),
            "programs: modprobe is not there",
        ),
        (
            "usr/lib/systemd/systemd-veritysetup".to_owned(),
            "systemd-veritysetup is not there",
        ),
        (
            format!("{library}/libtss2-tctildr.so.0"),
            "libtss2-tctildr.so.0 is not there: /usr/lib/nightlatch/nightlatch needs it",
        ),
        (
            format!("{library}/libtss2-tcti-device.so.0"),
            "libtss2-tctildr loads it to reach the TPM",
        ),
        (
            format!("{library}/libtss2-rc.so.0"),
            "measures no phase of the boot without it",
        ),
        (
            format!("{modules}/kernel/dm-crypt.ko"),
            "modules: dm-crypt is neither there nor built into the kernel",
        ),
        (
            format!("{modules}/kernel/overlay.ko"),
            "overlay is neither there",
        ),
        (
            format!("{modules}/kernel/virtio_blk.ko"),
            "nothing drives a disk",
        ),
        (
            format!("{modules}/kernel/tpm_crb.ko"),
            "nothing drives a TPM",
        ),
        (
            format!("{modules}/kernel/raid6.ko"),
            "kernel/btrfs.ko needs kernel/raid6.ko, which is not there",
        ),
        (format!("{modules}/modules.dep"), "run depmod"),
        (format!("{modules}/modules.builtin"), "sha256 is neither"),
        (
            format!("{modules}/modules.builtin.modinfo"),
            "hmac is neither",
        ),
    ]
}

#[test]
fn each_thing_that_is_missing_is_named() {
    let (pem, _) = certificate("owner");
    let whole = Initrd::whole(&pem);
    for (path, what) in of_nightlatch().into_iter().chain(of_others()) {
        let (exit, text) = told(&whole.without(&path).bytes());
        assert_eq!(exit, Some(Exit::Refused), "{path}: {text}");
        let lines = missing(&text);
        assert!(
            lines.len() == 1 && lines[0].contains(what),
            "{path}: {lines:?}"
        );
    }
    // What is not in the initrd at all need not be masked.
    let absent = whole.without("etc/systemd/system/debug-shell.service");
    let absent = absent.without("usr/lib/systemd/system/debug-shell.service");
    assert_eq!(told(&absent.bytes()).0, None);
}

#[test]
fn a_configuration_that_no_boot_would_take_is_an_error_of_the_configuration() {
    let (pem, _) = certificate("owner");
    let whole = Initrd::whole(&pem);
    let path = "etc/nightlatch/nightlatch.toml";
    for (made, what) in [
        (
            whole.without(path),
            "configuration: /etc/nightlatch/nightlatch.toml is not there",
        ),
        (
            whole.clone().put(path, Made::file("x = 1\n")).clone(),
            "line 1: unknown field `x`",
        ),
    ] {
        let (exit, text) = told(&made.bytes());
        assert_eq!(exit, Some(Exit::Config));
        assert!(missing(&text)[0].contains(what), "{text}");
    }
    let other = CONFIG.replace("[boot]", "[boot]\nother-volumes = true");
    let generator = "etc/systemd/system-generators/systemd-cryptsetup-generator";
    let made = whole
        .without(generator)
        .put(path, Made::file(other))
        .clone();
    assert_eq!(told(&made.bytes()).0, None);
}

#[test]
fn the_network_has_to_be_there_where_a_source_needs_it() {
    let (pem, _) = certificate("owner");
    let mut whole = Initrd::whole(&pem);
    let config = format!(
        "{}{SERVICE}",
        CONFIG.replace("\"tpm\", \"generate\"", "\"service\"")
    );
    whole.put("etc/nightlatch/nightlatch.toml", Made::file(config));
    let (_, text) = told(&whole.bytes());
    for what in [
        "systemd-networkd.service is not there",
        "network-online.target is not there",
        "no card is configured",
        "programs: /usr/lib/systemd/systemd-networkd is not there",
        "modules: af_packet is neither",
        "nothing drives a network card",
    ] {
        assert!(
            missing(&text).iter().any(|line| line.contains(what)),
            "{what}: {text}"
        );
    }
    whole.with_network();
    let (exit, text) = told(&whole.bytes());
    assert_eq!(exit, None, "{text}");
}

#[test]
fn an_initrd_of_somebody_else_is_told_whose_it_is() {
    let script = Made::Program(b"#!/bin/sh\n".to_vec());
    let functions = Made::file("#");
    let tools = archive([("init", &script), ("scripts/functions", &functions)]);
    let (exit, text) = told(&tools);
    assert_eq!(exit, Some(Exit::Refused));
    assert!(
        missing(&text)[0]
            .starts_with("initrd: initramfs-tools made it, and nightlatch does not run there"),
        "{text}"
    );
    let (exit, text) = told(&archive([("init", &script)]));
    assert_eq!(exit, Some(Exit::Refused));
    assert!(
        missing(&text)[0]
            .starts_with("initrd: expected systemd as /init, which starts nightlatch, found init"),
        "{text}"
    );
}

/// An image around the initrd.
pub(in crate::ctl) fn image(initrd: &[u8], line: &str, kernel: &[u8], version: &str) -> Vec<u8> {
    let magic = format!("#### LoaderInfo: systemd-stub {version} ####");
    program(&[
        (".cmdline", line.as_bytes()),
        (".uname", RELEASE.as_bytes()),
        (".sdmagic", magic.as_bytes()),
        (".initrd", initrd),
        (".linux", kernel),
    ])
}

#[test]
fn the_image_around_it_has_to_be_one_that_opens_only_our_way() {
    let (pem, der) = certificate("owner");
    let initrd = Initrd::whole(&pem);
    let bytes = initrd.bytes();
    let kernel = program(&[(".text", b"the kernel")]);
    let (exit, text) = told(&signed(image(&bytes, LINE, &kernel, "257"), &der));
    assert_eq!((exit, missing(&text)), (None, Vec::new()));
    let signed_kernel = signed(kernel.clone(), &der);
    for (made, what) in [
        (
            image(&bytes, LINE, &kernel, "257"),
            "signatures: the image carries none of boot.authorities",
        ),
        (
            signed(image(&bytes, "roothash=00", &kernel, "257"), &der),
            "command line: it lacks nohibernate",
        ),
        (
            signed(image(&bytes, "nohibernate", &kernel, "257"), &der),
            "command line: it lacks roothash=",
        ),
        (
            signed(image(&bytes, LINE, &kernel, "261"), &der),
            "stub: systemd-stub 261 puts an initrd",
        ),
        (
            signed(image(&bytes, LINE, &signed_kernel, "257"), &der),
            "signatures: the kernel inside carries a signature",
        ),
    ] {
        let (exit, text) = told(&made);
        let lines = missing(&text);
        assert_eq!(exit, Some(Exit::Refused), "{what}");
        assert!(
            lines.len() == 1 && lines[0].starts_with(what),
            "{what}: {lines:?}"
        );
    }
    // With what the kernel was handed among the PCRs, such a stub is good enough.
    let nine = format!("[tpm]\npcrs = [4, 7, 9, 11, 12, 13]\n{CONFIG}");
    let made = initrd
        .clone()
        .put("etc/nightlatch/nightlatch.toml", Made::file(nine))
        .bytes();
    let (exit, text) = told(&signed(image(&made, LINE, &kernel, "261"), &der));
    assert_eq!(exit, None, "{text}");
    assert!(text.contains("note     stub: systemd-stub 261"), "{text}");
    // Modules of another kernel are none.
    let other = image(&bytes, LINE, &kernel, "257");
    let at = other
        .windows(RELEASE.len())
        .position(|window| window == RELEASE.as_bytes());
    let mut other = signed(other, &der);
    other[at.unwrap()] = b'7';
    assert_eq!(
        missing(&told(&other).1),
        ["modules: the initrd has no modules of 7.12.0: put those of the image's kernel into it"]
    );
    // Nor is an image without an initrd.
    let bare = program(&[(".linux", &kernel)]);
    assert_eq!(
        missing(&told(&bare).1),
        ["initrd: the image has none: put nightlatch's into it"]
    );
}

/// A file, gone after the test.
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

#[test]
fn machines_are_told_the_same() {
    let (pem, _) = certificate("owner");
    let path = std::env::temp_dir().join(format!("nightlatch-image-{}", std::process::id()));
    let file = File(path);
    let name = file.0.to_str().unwrap();
    let check = |bytes: &[u8]| {
        fs::write(&file.0, bytes).unwrap();
        run(Path::new("/nonexistent"), &["image", "check", name])
    };
    let whole = Initrd::whole(&pem);
    let json = check(&whole.bytes()).unwrap().json;
    assert_eq!(json["result"], "complete");
    assert!(json.get("exit").is_none() && json["file"] == name);
    let modules = json["sizes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|size| size["part"] == "initrd, modules");
    assert_eq!(modules.unwrap()["files"], 13);
    let json = check(&whole.without("usr/bin/udevadm").bytes())
        .unwrap()
        .json;
    assert_eq!(
        (json["result"].as_str(), json["exit"].as_u64()),
        (Some("refused"), Some(77))
    );
    assert!(
        json["error"]
            .as_str()
            .unwrap()
            .contains("programs: udevadm is not there")
    );
    let error = check(b"GIF89a").err().unwrap();
    assert_eq!(error.exit(), Exit::Refused);
    assert!(error.to_string().starts_with(name), "{error}");
}
