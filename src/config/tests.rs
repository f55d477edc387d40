// SPDX-License-Identifier: Apache-2.0
//! Configurations that parse, and the exact words about those that do not.

mod absent;
mod anchor;
mod boot;
mod kept;
mod recovery;

use super::*;
use crate::error::Exit;

/// What a configuration needs besides a volume.
const BOOT: &str = "boot.authorities = [\"/etc/nightlatch/authority.pem\"]";

const STATE: &str = r#"[[volume]]
name = "state"
device = "/dev/disk/by-id/virtio-state"
role = "state"
format = "if-blank"
sources = ["tpm", "generate"]
mount = "/var/lib/state"
"#;

fn parse(text: &str) -> Result<Config> {
    Config::parse(&format!("{BOOT}\n{text}"))
}

fn refusal(text: &str) -> String {
    let error = parse(text).unwrap_err();
    assert_eq!(error.exit(), Exit::Config);
    error.to_string()
}

#[test]
fn a_short_configuration_gets_the_documented_defaults() {
    let config = parse(STATE).unwrap();
    let volume = config.volumes().next().unwrap();
    assert_eq!(volume.profile, Profile::Nightlatch1);
    assert_eq!(volume.file_system, FileSystem::Btrfs);
    assert_eq!(volume.kdf, Kdf::Argon2id);
    assert_eq!(volume.wipe, Wipe::Edges);
    assert_eq!(config.tpm.tcti, Tcti::Auto);
    assert_eq!(config.tpm.fence_pcr.index(), 12);
    assert_eq!(config.measure.cluster_pcr.index(), 15);
    assert_eq!(config.cluster_volume().unwrap().name.as_str(), "state");
    assert_eq!(config.device_timeout_s, 90);
}

#[test]
fn an_error_names_line_key_and_what_was_expected() {
    let cases = [
        (
            "sources",
            "sauces",
            "line 7: unknown field `sauces`, expected one of `name`, `device`, `role`, `profile`, `format`, `sources`, `required`, `wait-s`, `ephemeral`, `file-system`, `mount`, `mode`, `lower`, `kdf`, `wipe`, `recovery-key`, `identity-pcr`, `anchor`",
        ),
        (
            "\"state\"\ndevice",
            "\"State\"\ndevice",
            "line 3: name: expected a name of 1 to 32 lower-case letters and digits, found \"State\"",
        ),
        (
            "\"state\"\ndevice",
            "\"root\"\ndevice",
            "line 3: name: \"root\" is a name that systemd, device-mapper or the overlay needs itself, choose another one",
        ),
        (
            "/dev/disk/by-id/virtio-state",
            "/dev/../etc/passwd",
            "line 4: device: expected a path below /dev without \"..\" or white space, found \"/dev/../etc/passwd\"",
        ),
        (
            "\"if-blank\"",
            "\"always\"",
            "line 6: format: unknown variant `always`, expected `never` or `if-blank`",
        ),
        (
            "\"tpm\", \"generate\"",
            "",
            "line 2: volume state: sources: expected at least one of \"tpm\", \"service\", \"generate\", \"recovery\"",
        ),
        (
            ", \"generate\"",
            "",
            "line 2: volume state: format = \"if-blank\" needs the source \"generate\" or \"service\" for the first secret",
        ),
        (
            "format = \"if-blank\"",
            "",
            "line 2: volume state: the source \"generate\" needs format = \"if-blank\"",
        ),
        (
            "mount = \"/var/lib/state\"",
            "",
            "line 2: volume state: role \"state\" takes mount, and neither mode nor lower",
        ),
        (
            "role = \"state\"",
            "role = \"root\"",
            "line 2: volume state: role \"root\" takes mode = \"plain\" or mode = \"overlay\"",
        ),
    ];
    assert!(parse(STATE).is_ok());
    for (from, to, message) in cases {
        assert!(STATE.contains(from), "{from}");
        assert_eq!(refusal(&STATE.replace(from, to)), message);
    }
}

#[test]
fn what_no_single_value_shows_is_refused() {
    let with = |head: &str| format!("{head}\n{STATE}");
    let cases = [
        (
            "[tpm]\npcrs = []",
            "line 1: tpm.pcrs: expected at least one PCR, or any boot could unseal",
        ),
        (
            "[tpm]\npcrs = [16]",
            "line 3: pcrs: expected a PCR from 0 to 15, found 16",
        ),
        (
            "[tpm]\nfence-pcr = 8",
            "line 1: tpm.fence-pcr: expected one of tpm.pcrs, found 8: extending it would fence nothing",
        ),
        (
            "[tpm]\npcrs = [15]\nfence-pcr = 15",
            "line 1: tpm.fence-pcr: expected another PCR than measure.cluster-pcr, found 15 in both",
        ),
        (
            "[measure]\ncluster-volume = \"data\"",
            "line 1: measure.cluster-volume: expected the name of a volume, found \"data\"",
        ),
    ];
    assert!(parse(&with("[tpm]\npcrs = [7, 12, 13]")).is_ok());
    for (head, message) in cases {
        assert_eq!(refusal(&with(head)), message);
    }
}

#[test]
fn two_volumes_may_not_share_name_device_root_or_mount() {
    let second = STATE
        .replace("\"state\"\ndevice", "\"data\"\ndevice")
        .replace("virtio-state", "virtio-data")
        .replace("/var/lib/state", "/srv");
    let both = |second: &str| format!("{STATE}{second}");
    assert!(parse(&both(&second)).is_ok());
    let cases = [
        (
            second.replace("\"data\"\n", "\"state\"\n"),
            "line 9: volume state: name: expected a name no other volume has",
        ),
        (
            second.replace("virtio-data", "virtio-state"),
            "line 9: volume data: device: volume state has it already",
        ),
        (
            second.replace("/srv", "/var/lib/state"),
            "line 9: volume data: mount: volume state is there already",
        ),
    ];
    for (second, message) in cases {
        assert_eq!(refusal(&both(&second)), message);
    }
}

#[test]
fn the_anchors_level_fits_its_volume() {
    let level = |line: &str| parse(&format!("{STATE}{line}"));
    let default = level("").unwrap();
    assert_eq!(default.volumes().next().unwrap().level(), Level::Epoch);
    let off = level("anchor = \"off\"").unwrap();
    assert_eq!(off.volumes().next().unwrap().level(), Level::Off);
    assert!(level("anchor = \"checkpoint\"").is_ok());
    let error = level("file-system = \"xfs\"\nanchor = \"checkpoint\"")
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("anchor = \"checkpoint\" needs file-system = \"btrfs\", found xfs"),
        "{error}"
    );
}

#[test]
fn foreign_profiles_are_taken_for_existing_volumes_beside_one_of_ours() {
    let second = STATE
        .replace("\"state\"\ndevice", "\"data\"\ndevice")
        .replace("virtio-state", "virtio-data")
        .replace("/var/lib/state", "/srv")
        .replace(", \"generate\"", "")
        .replace("\"if-blank\"", "\"never\"");
    for profile in [Profile::Luks2Strict, Profile::Constellation] {
        let name = profile.as_str();
        let foreign = format!("{second}profile = \"{name}\"\n");
        let config = parse(&format!("{STATE}{foreign}")).unwrap();
        let volume = config.volumes().nth(1).unwrap();
        assert_eq!((volume.profile, volume.level()), (profile, Level::Off));
        assert_eq!(
            refusal(&foreign),
            "line 1: measure.cluster-volume: expected a volume of profile nightlatch-1, whose token holds the salt, found data"
        );
        let blank = foreign
            .replace("\"never\"", "\"if-blank\"")
            .replace("[\"tpm\"]", "[\"tpm\", \"generate\"]");
        assert_eq!(
            refusal(&format!("{STATE}{blank}")),
            format!(
                "line 9: volume data: format = \"if-blank\" makes volumes of profile nightlatch-1 only, found {name}"
            )
        );
        let anchored = format!("{STATE}{foreign}anchor = \"epoch\"\n");
        assert_eq!(
            refusal(&anchored),
            format!(
                "line 9: volume data: anchor: expected \"off\" for a volume of profile {name}, which has no place for an epoch"
            )
        );
    }
}

#[test]
fn no_volume_at_all_is_refused() {
    assert_eq!(refusal(""), "line 1: missing field `volume`");
    assert_eq!(
        refusal("volume = []"),
        "line 1: volume: expected at least one [[volume]]"
    );
}

#[test]
fn the_tcti_is_one_of_three_kinds() {
    let tcti = |text: &str| Tcti::try_from(text.to_owned());
    assert_eq!(tcti("auto"), Ok(Tcti::Auto));
    assert_eq!(tcti("swtpm:port=2321"), Ok(Tcti::Swtpm { port: 2321 }));
    assert!(matches!(tcti("device:/dev/tpmrm0"), Ok(Tcti::Device(_))));
    for (text, number) in [
        ("auto", 0),
        ("swtpm:port=2321", 0),
        ("device:/dev/tpm1", 1),
        ("device:/dev/tpmrm12", 12),
        ("device:/dev/tpmrm0", 0),
        ("device:/dev/security/chip", 0),
    ] {
        assert_eq!(tcti(text).unwrap().number(), number, "{text}");
    }
    assert_eq!(
        tcti("tabrmd:"),
        Err(
            "expected \"auto\", \"device:/dev/tpm0\" or \"swtpm:port=NUMBER\", found \"tabrmd:\""
                .into()
        )
    );
}

const SERVICE: &str = r#"[service]
urls = ["https://keys.example.org:8080/", "https://[fd00::1]/kbs"]
ca = "/etc/nightlatch/ca.pem"

[[volume]]
name = "state"
device = "/dev/disk/by-id/virtio-state"
role = "state"
format = "if-blank"
sources = ["service", "tpm", "generate"]
mount = "/var/lib/state"
"#;

#[test]
fn a_service_gets_the_documented_defaults() {
    let config = parse(SERVICE).unwrap();
    assert!(config.needs_service());
    let service = config.service.unwrap();
    let urls: Vec<_> = service.urls.iter().map(ServiceUrl::as_str).collect();
    assert_eq!(
        urls,
        ["https://keys.example.org:8080", "https://[fd00::1]/kbs"]
    );
    assert_eq!(service.protocol, ServiceProtocol::Nightlatch);
    assert_eq!(service.deadline_s, 120);
    assert_eq!(config.measure.cluster, ClusterFrom::Volume);
    assert!(!parse(STATE).unwrap().needs_service());
}

#[test]
fn what_cannot_be_meant_of_a_service_is_an_error() {
    let url = "\"https://keys.example.org:8080/\"";
    let pin = "pin = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"";
    let ca = "ca = \"/etc/nightlatch/ca.pem\"";
    for (from, to, said) in [
        (
            url,
            "\"http://keys.example.org\"",
            "expected https://HOST[:PORT][/PATH]",
        ),
        (
            url,
            "\"https://user@keys.example.org\"",
            "expected https://HOST[:PORT][/PATH]",
        ),
        (
            url,
            "\"https://keys.example.org:0\"",
            "expected https://HOST[:PORT][/PATH]",
        ),
        (
            url,
            "\"https://keys.example.org/?a=b\"",
            "expected https://HOST[:PORT][/PATH]",
        ),
        (
            url,
            "\"https://keys.example.org/../a\"",
            "expected https://HOST[:PORT][/PATH]",
        ),
        (
            url,
            "\"https://[fd00::1\"",
            "expected https://HOST[:PORT][/PATH]",
        ),
        (
            url,
            "\"https:///kbs\"",
            "expected https://HOST[:PORT][/PATH]",
        ),
        (
            url,
            "\"https://[fd00::1]/kbs\"",
            "https://[fd00::1]/kbs is there twice",
        ),
        (ca, "", "expected either ca or pin"),
        (ca, &format!("{ca}\n{pin}"), "expected either ca or pin"),
        (ca, "ca = \"ca.pem\"", "expected an absolute path"),
        (ca, "pin = \"AAEC\"", "32 bytes in base64"),
        (
            ca,
            &format!("{ca}\ndeadline-s = 0"),
            "deadline-s: expected 1 to 86400, found 0",
        ),
        (
            "\"service\", \"tpm\", \"generate\"",
            "\"generate\", \"service\"",
            "\"service\" has to come before it",
        ),
        (
            "\"service\", \"tpm\", \"generate\"",
            "\"service\", \"service\"",
            "\"service\" is there twice",
        ),
        (
            "\"service\", \"tpm\", \"generate\"",
            "\"tpm\", \"generate\"",
            "expected a volume with the source \"service\"",
        ),
        (
            "[service]",
            "[measure]\ncluster = \"service\"\ncluster-volume = \"state\"\n[service]",
            "means nothing with cluster",
        ),
    ] {
        assert!(SERVICE.contains(from), "{from}");
        let message = refusal(&SERVICE.replacen(from, to, 1));
        assert!(message.contains(said), "{to}: {message}");
    }
    let pinned = SERVICE.replace(ca, pin);
    assert_eq!(
        parse(&pinned)
            .unwrap()
            .service
            .unwrap()
            .pin
            .unwrap()
            .digest()[31],
        31
    );
    let without = STATE.replace("\"tpm\",", "\"service\",");
    assert!(refusal(&without).contains("expected a table [service]"));
    let only = SERVICE.replace(", \"tpm\", \"generate\"", "");
    parse(&only).unwrap();
    let cluster = SERVICE.replace("\"service\", \"tpm\"", "\"tpm\"");
    let cluster = format!("measure.cluster = \"service\"\n{cluster}");
    assert!(parse(&cluster).unwrap().needs_service());
}
