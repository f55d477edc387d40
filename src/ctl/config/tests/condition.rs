// SPDX-License-Identifier: Apache-2.0
//! Each order of the sources, and what is said of it.

use super::*;

const HEAD: &str = r#"[boot]
authorities = ["/etc/nightlatch/authority.pem"]

[service]
urls = ["https://192.0.2.1:8443"]
ca = "/etc/nightlatch/service-ca.pem"

"#;

/// What is said of a volume with these sources, where the clusterID comes from this.
fn told(sources: &[&str], cluster: &str) -> Vec<String> {
    let format = if sources.contains(&"generate") {
        "if-blank"
    } else {
        "never"
    };
    let text = format!(
        "{HEAD}[measure]\ncluster = \"{cluster}\"\n\n[[volume]]\nname = \"state\"\nrole = \"state\"\n\
         device = \"/dev/disk/by-id/virtio-state\"\nformat = \"{format}\"\nsources = {sources:?}\nmount = \"/var/lib/state\"\n"
    );
    let config = Config::parse(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    let volume = config.volumes().next().unwrap();
    of_sources(&config, volume)
}

#[test]
fn each_order_in_which_the_service_can_be_done_without_is_told() {
    let behind = "\"tpm\" opens the volume alone where \"service\" before it cannot be reached or denies: a host that blocks \
                  the network chooses that";
    let before = "\"tpm\" comes before \"service\", which is asked only where the TPM does not give the secret";
    let unknown = "which the service does not know until the volume is enrolled";
    let never = "and no boot enrols it while \"tpm\" comes before \"service\"";
    let lost = "of the node's own that is kept nowhere, so that no later boot opens it";
    let cases: [(&[&str], &[&str]); 6] = [
        (&["service", "tpm"], &[behind]),
        (&["tpm", "service"], &[before]),
        (&["service", "tpm", "generate"], &[behind, unknown]),
        (&["service", "generate", "tpm"], &[behind, unknown]),
        (&["tpm", "service", "generate"], &[before, never]),
        (&["service", "generate"], &[lost]),
    ];
    for (sources, parts) in cases {
        let told = told(sources, "volume");
        assert_eq!(told.len(), parts.len(), "{sources:?}: {told:#?}");
        for (sentence, part) in told.iter().zip(parts) {
            assert!(sentence.contains(part), "{sources:?}: {sentence}");
            // What to do stands at the end.
            let (_, to_do) = sentence.split_once("; ").unwrap();
            assert!(
                ["write ", "leave ", "put "]
                    .iter()
                    .any(|it| to_do.starts_with(it)),
                "{sentence}"
            );
        }
    }
}

#[test]
fn a_service_that_each_boot_needs_is_a_condition() {
    assert_eq!(told(&["service"], "volume"), [""; 0]);
    assert_eq!(told(&["service", "tpm"], "service"), [""; 0]);
    assert_eq!(told(&["tpm", "service", "generate"], "service"), [""; 0]);
    // The control: the same volume where the clusterID is the volume's.
    assert_eq!(told(&["service", "tpm"], "volume").len(), 1);
}

#[test]
fn nothing_is_said_where_no_service_is_a_source() {
    let text = include_str!("../../../../units/examples/state.toml");
    let config = Config::parse(text).unwrap();
    let volume = config.volumes().next().unwrap();
    assert!(volume.sources.contains(&Source::Tpm), "{text}");
    assert_eq!(of_sources(&config, volume), [""; 0]);
}

#[test]
fn what_keeps_updates_from_going_by_themselves_is_told() {
    let told = |sources: &str, level: &str| {
        let text = format!(
            "{HEAD}[[volume]]\nname = \"state\"\nrole = \"state\"\ndevice = \"/dev/disk/by-id/virtio-state\"\n\
             format = \"never\"\nsources = {sources}\nmount = \"/var/lib/state\"\nanchor = \"{level}\"\n"
        );
        let config = Config::parse(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
        let volume = config.volumes().next().unwrap();
        of_updates(&config, volume)
    };
    let both = "[\"service\", \"tpm\"]";
    for (sources, level, key) in [
        (both, "checkpoint", "anchor"),
        ("[\"service\"]", "epoch", "sources"),
    ] {
        let (about, said) = told(sources, level).unwrap();
        assert_eq!(about, key);
        assert!(said.contains("nightlatchctl nodes readmit"), "{said}");
    }
    for (sources, level) in [
        (both, "epoch"),
        (both, "identity"),
        ("[\"service\"]", "off"),
    ] {
        assert_eq!(told(sources, level), None);
    }
}
