// SPDX-License-Identifier: Apache-2.0
//! A configuration with many slips, and each of them told at its place.

use super::*;

const GOOD: &str = r#"[boot]
authorities = ["/etc/nightlatch/authority.pem"]

[service]
urls = ["https://192.0.2.1:8443"]
pin = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

[[volume]]
name = "state"
role = "state"
device = "/dev/disk/by-id/virtio-state"
sources = ["service"]
mount = "/var/lib/state"
"#;

/// Line, column, key and sentence of each finding.
fn found(text: &str) -> Vec<String> {
    let found = findings(text).err().unwrap_or_default();
    let texts = found.iter().map(|finding| finding.text(Path::new("f")));
    let texts = texts.map(|text| text.strip_prefix("f: line ").unwrap().to_owned());
    texts.collect()
}

/// The good one with other lines.
fn with(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(GOOD.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    })
}

#[test]
fn a_good_configuration_has_nothing_wrong_with_it() {
    assert_eq!(found(GOOD), [""; 0]);
    let config = findings(GOOD).unwrap();
    // But for its price: the service alone cannot carry it to another image.
    let [price] = &warnings(GOOD, &config)[..] else {
        panic!("{:?}", warnings(GOOD, &config));
    };
    let said = price.text(Path::new("f"));
    assert!(said.contains("takes an operator's word"), "{said}");
}

#[test]
fn every_error_is_told_in_one_run_at_the_key_it_is_about() {
    let text = with(&[
        (
            "[boot]\n",
            "device-timout-s = 5\n\n[boot]\nfence-pcr = 12\n",
        ),
        ("urls = [", "deadline-s = \"soon\"\nurls = ["),
        ("role = \"state\"", "role = \"stat\""),
        ("sources = [\"service\"]", "sources = [\"tmp\"]\nkdf = 3"),
        ("mount = \"/var/lib/state\"", "mount = \"/sysroot/var\""),
    ]);
    assert_eq!(
        found(&text),
        [
            "1, column 1: device-timout-s: the top level has no such key; did you mean \"device-timeout-s\"?",
            "4, column 1: boot.fence-pcr: [boot] has no such key: it belongs to [tpm]",
            "8, column 1: service.deadline-s: expected a whole number that is not too large, found the text \"soon\"",
            "14, column 1: volume.role: expected \"state\" or \"root\", found \"stat\"; did you mean \"state\"?",
            "16, column 1: volume.sources: expected \"tpm\", \"service\", \"generate\" or \"recovery\", found \"tmp\"; did you mean \"tpm\"?",
            "17, column 1: volume.kdf: expected a word in quotes",
            "18, column 1: volume.mount: expected a directory of the final system, as it is there, that systemd \
             mounts nothing on; found \"/sysroot/var\"",
        ]
    );
}

#[test]
fn rules_are_told_together_and_at_their_keys() {
    let text = with(&[
        (
            "[boot]\n",
            "device-timeout-s = 0\n\n[tpm]\npcrs = [7]\n\n[boot]\n",
        ),
        ("sources = [\"service\"]", "sources = [\"generate\"]"),
    ]);
    let found = found(&text);
    let starts = [
        "1, column 1: device-timeout-s: expected 1 to 86400, found 0; systemd waits for ever",
        "4, column 1: tpm.pcrs: expected 12 among them",
        "9, column 2: service: expected a volume with the source \"service\"",
        "17, column 1: volume.sources: volume state: sources: a secret from \"generate\" alone is kept nowhere",
        "13, column 1: volume.format: volume state: the source \"generate\" needs format",
    ];
    for start in starts {
        assert!(
            found.iter().any(|it| it.starts_with(start)),
            "{start}: {found:#?}"
        );
    }
}

#[test]
fn slips_of_the_language_are_named() {
    let one = with(&[("[[volume]]", "[volume]")]);
    assert_eq!(
        found(&one),
        ["8, column 2: volume: [volume] is one table, and volumes are a list: write [[volume]]"]
    );
    let two = format!("{one}\n[volume]\nname = \"b\"\n");
    assert!(
        found(&two)[0].contains("write [[volume]] for each"),
        "{:?}",
        found(&two)
    );
    let twice = with(&[("role =", "name = \"b\"\nrole =")]);
    assert_eq!(found(&twice), ["10, column 1: it is there twice"]);
    assert_eq!(
        found("")[0],
        "1, column 1: volume: expected at least one [[volume]]"
    );
}

#[test]
fn no_type_of_the_program_is_named() {
    for (from, to) in [
        (
            "urls = [\"https://192.0.2.1:8443\"]",
            "urls = \"https://192.0.2.1\"",
        ),
        (
            "[boot]\nauthorities = [\"/etc/nightlatch/authority.pem\"]",
            "boot = 3",
        ),
        ("name = \"state\"", "name = 3"),
        ("[boot]\n", "device-timeout-s = -1\n[boot]\n"),
        ("[boot]\n", "device-timeout-s = 99999999999\n[boot]\n"),
        ("[boot]\n", "[boot]\nother-volumes = \"yes\"\n"),
        ("[boot]\n", "[tpm]\nfence-pcr = 1.5\n[boot]\n"),
        ("sources = [\"service\"]", "sources = \"service\""),
        ("role = \"state\"", "role = 3"),
    ] {
        let found = found(&with(&[(from, to)]));
        assert!(!found.is_empty(), "{to}");
        for word in [
            "u8", "u32", "i64", "struct", "enum", "map", "sequence", "boolean", "variant", "field",
        ] {
            let is_word = |it: &String| {
                it.split(|c: char| !c.is_alphanumeric())
                    .any(|it| it == word)
            };
            assert!(!found.iter().any(is_word), "{to}: {word}: {found:?}");
        }
    }
}

#[test]
fn what_is_valid_and_will_hurt_is_warned_of() {
    let text = with(&[
        ("https://192.0.2.1:8443", "https://keys.example.org"),
        ("/dev/disk/by-id/virtio-state", "/dev/disk/by-label/state"),
        (
            "sources = [\"service\"]",
            "sources = [\"service\", \"tpm\"]",
        ),
        ("/var/lib/state", "/var/lib/pre-built"),
    ]);
    let config = findings(&text).unwrap();
    let told = warnings(&text, &config);
    let told: Vec<String> = told.iter().map(|it| it.text(Path::new("f"))).collect();
    let starts = [
        "f: line 5, column 1: service.urls: https://keys.example.org has a name",
        "f: line 5, column 1: service.urls: https://keys.example.org has no port, which is 443",
        "f: line 11, column 1: volume.device: /dev/disk/by-label/state is made from what the disk says",
        "f: line 12, column 1: volume.sources: \"tpm\" opens the volume alone where",
        "f: line 13, column 1: volume.mount: systemd calls its unit var-lib-pre\\x2dbuilt.mount",
    ];
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    for (told, start) in told.iter().zip(starts) {
        assert!(told.starts_with(start), "{told}");
    }
}

#[test]
fn a_text_of_slips_alone_comes_to_an_end() {
    let many: Vec<String> = (0..500).map(|at| format!("key-{at} = 1\n")).collect();
    assert_eq!(found(&many.concat()).len(), 100);
}

#[test]
fn what_an_initrd_needs_follows_from_the_configuration() {
    let needs = |text: &str| needs::of_initrd(&findings(text).unwrap());
    let here = needs(GOOD);
    assert_eq!(here["network"], true);
    assert_eq!(here["files"], json!(["/etc/nightlatch/authority.pem"]));
    assert_eq!(here["file-systems"], json!(["btrfs"]));
    // A volume that is never made needs no program to make it.
    assert_eq!(here["programs"].as_array().unwrap().len(), 2);
    let made = with(&[
        (
            "sources = [\"service\"]",
            "sources = [\"tpm\", \"generate\"]\nformat = \"if-blank\"\nfile-system = \"xfs\"",
        ),
        (
            "[service]\nurls = [\"https://192.0.2.1:8443\"]\npin = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n",
            "",
        ),
    ]);
    let here = needs(&made);
    assert_eq!(
        (&here["network"], &here["programs"][2]),
        (&json!(false), &json!("mkfs.xfs"))
    );
    let modules = |of: &Value, name: &str| of["modules"].as_array().unwrap().contains(&json!(name));
    assert!(modules(&here, "xfs") && !modules(&here, "btrfs") && !modules(&here, "virtio_net"));
    assert!(modules(&needs(GOOD), "btrfs") && modules(&needs(GOOD), "virtio_net"));

    for name in crate::ctl::cli::NEEDS {
        assert!(!here[name].is_null(), "{name}");
    }
    assert_eq!(
        needs::lines(&here["programs"]),
        "/usr/lib/nightlatch/nightlatch\nudevadm\nmkfs.xfs\n"
    );
    assert_eq!(needs::lines(&here["network"]), "false\n");
    let shown = needs::effective(&findings(GOOD).unwrap()).unwrap();
    assert_eq!(shown["volume"][0]["anchor"], "epoch");
    assert_eq!(shown["tpm"]["pcrs"], json!([4, 7, 11, 12, 13]));
    assert_eq!(shown["service"]["deadline-s"], 120);
    assert_eq!(
        shown["service"]["pin"],
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    );
}
