// SPDX-License-Identifier: Apache-2.0
//! The documents of the key service against its configuration.

use nightlatch::evidence::Policy;
use nightlatch::keyservice::config::Config;

use crate::manuals;
use crate::markdown::{quoted, rows, section};
use crate::sources::read;

const LEAST: &str = "[tls]\ncertificate = \"/c\"\nkey = \"/k\"\n";
const ADMIN: &str =
    "[admin]\nlisten = \"[::1]:1\"\ncertificate = \"/c\"\nkey = \"/k\"\nclient-ca = \"/a\"\n";
const KMS: &str = "[kms]\nprovider = \"openbao\"\nkey = \"a/b\"\nurl = \"http://127.0.0.1:1\"\n\
                   credentials = \"file:/t\"\n";
const TABLES: [&str; 9] = [
    "",
    "tls",
    "admin",
    "secret",
    "kms",
    "store",
    "store.etcd",
    "session",
    "limits",
];

/// The least configuration that has `table`.
fn least(table: &str) -> String {
    match table {
        "" | "tls" | "store" => LEAST.to_owned(),
        "admin" => format!("{LEAST}{ADMIN}"),
        "kms" => format!("{LEAST}{KMS}"),
        "store.etcd" => format!("{LEAST}[store.etcd]\nendpoints = [\"http://127.0.0.1:1\"]\n"),
        _ => format!("{LEAST}[{table}]\n"),
    }
}

fn parsed(key: &str, value: &str) -> Result<Config, String> {
    let (table, short) = key.rsplit_once('.').unwrap_or(("", key));
    let line = format!("{short} = {value}\n");
    let text = match table {
        "" => format!("{line}{LEAST}"),
        "store" => format!("{LEAST}[store]\n{line}"),
        _ => format!("{}{line}", least(table)),
    };
    Config::parse(&text).map_err(|error| error.to_string())
}

/// All keys: serde lists them when it meets one it does not know.
fn keys() -> Vec<String> {
    let mut keys = Vec::new();
    for table in TABLES {
        let dot = if table.is_empty() { "" } else { "." };
        let error = parsed(&format!("{table}{dot}unheard-of"), "1").unwrap_err();
        let (_, expected) = error.split_once("expected ").expect(&error);
        let found = quoted(expected).into_iter();
        keys.extend(
            found
                .filter(|key| !(table.is_empty() && TABLES.contains(key)))
                .map(|key| format!("{table}{dot}{key}")),
        );
    }
    keys.sort();
    keys
}

#[test]
fn the_manual_of_the_key_services_configuration_has_every_key_and_its_default() {
    let page = read("units/man/nightlatchd.toml.5");
    let documented = manuals::keys(&page);
    assert_eq!(manuals::names(&documented), keys());
    for key in &documented {
        let name = key.name.as_str();
        if let Some(value) = key.value() {
            let (table, _) = name.rsplit_once('.').unwrap_or_default();
            let least = format!("{:?}", Config::parse(&least(table)).unwrap());
            let set = format!("{:?}", parsed(name, &value).unwrap());
            assert_eq!(set, least, "{name} is not {value}");
        }
        let is_required = ["tls.", "admin.", "store.etcd.endpoints"];
        let of_kms = ["kms.provider", "kms.key", "kms.url", "kms.credentials"];
        let is_required =
            is_required.iter().any(|start| name.starts_with(start)) || of_kms.contains(&name);
        assert_eq!(key.is_required(), is_required, "{name}");
    }
    Config::parse(manuals::example(&page)).unwrap();
}

/// The least policy, table by table.
const POLICY: [(&str, &str); 4] = [
    ("", "bank = \"sha256\"\n"),
    ("ek", "[ek]\nenrolled = [\"DIGEST\"]\n"),
    ("image", "[[image]]\nname = \"a\"\npcrs.7 = [\"DIGEST\"]\n"),
    (
        "role",
        "[[role]]\nname = \"b\"\nvolumes = [\"state\"]\nimages = [\"a\"]\n",
    ),
];

/// The least policy with `line` in `table`, or without the line that begins with it.
fn policy(table: &str, line: &str) -> Result<Policy, String> {
    let tables = POLICY.map(|(name, text)| match name == table {
        true if text.contains(&format!("\n{line} = ")) => {
            let lines = text.split_inclusive('\n');
            lines.filter(|it| !it.starts_with(line)).collect()
        }
        true => format!("{text}{line}\n"),
        false => text.to_owned(),
    });
    let text = tables.concat().replace("DIGEST", &"00".repeat(32));
    Policy::parse(&text, |_| Ok(CERTIFICATE.to_owned())).map_err(|error| error.to_string())
}

/// Nobody looks into a certificate before there is one to compare with it.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

#[test]
fn the_manual_of_the_policy_has_every_key_and_says_which_are_required() {
    let page = read("units/man/nightlatch-policy.5");
    let documented = manuals::keys(&page);
    let mut real = Vec::new();
    for (table, _) in POLICY {
        let error = policy(table, "unheard-of = 1").unwrap_err();
        let (_, expected) = error.split_once("expected ").expect(&error);
        let dot = if table.is_empty() { "" } else { "." };
        let is_key = |key: &&str| !POLICY.iter().any(|(name, _)| name == key);
        let keys = quoted(expected).into_iter().filter(is_key);
        real.extend(keys.map(|key| format!("{table}{dot}{key}")));
    }
    real.sort();
    assert_eq!(manuals::names(&documented), real);
    for key in &documented {
        let (table, short) = key.name.split_once('.').unwrap_or(("", &key.name));
        let is_there = POLICY
            .iter()
            .any(|(name, text)| *name == table && text.contains(&format!("\n{short} = ")));
        // Of the digests of endorsement keys or their roots one has to be there, and so it is in the least policy.
        let is_required = is_there && policy(table, short).is_err() && table != "ek";
        assert_eq!(key.is_required(), is_required, "{}", key.name);
        if let Some(value) = key.value().filter(|_| !is_there && short != "bank") {
            let least = format!("{:?}", policy("", "").unwrap());
            let set = format!(
                "{:?}",
                policy(table, &format!("{short} = {value}")).unwrap()
            );
            assert_eq!(set, least, "{}", key.name);
        }
    }
    Policy::parse(manuals::example(&page), |_| Ok(CERTIFICATE.to_owned())).unwrap();
}

/// What the page for operators explains of a denial is what the audit log has.
#[test]
fn the_table_of_checks_is_that_of_the_evidence() {
    let page = read("units/doc/operate.md");
    let rows = rows(section(&page, "## Denials"));
    let mut documented: Vec<&str> = rows.iter().flat_map(|row| quoted(&row[0])).collect();
    documented.sort_unstable();
    let source = read("src/evidence.rs");
    let (_, words) = source.split_once("impl Check {").unwrap();
    let (words, _) = words.split_once("\n}\n").unwrap();
    let words = words.lines().filter_map(|line| line.split_once(" => \""));
    let mut real: Vec<&str> = words
        .map(|(_, word)| word.trim_end_matches("\","))
        .collect();
    real.sort_unstable();
    assert_eq!(documented, real);
}

/// The manifest holds a configuration and a policy as blocks of text.
#[test]
fn what_the_manifest_for_kubernetes_holds_can_be_used() {
    let manifest = read("units/examples/kubernetes.yaml");
    let block = |name: &str| -> String {
        let (_, rest) = manifest.split_once(&format!("\n  {name}: |\n")).unwrap();
        rest.lines()
            .map_while(|line| line.strip_prefix("    "))
            .flat_map(|line| [line, "\n"])
            .collect()
    };
    Config::parse(&block("nightlatchd.toml")).unwrap();
    Policy::parse(&block("policy.toml"), |_| unreachable!()).unwrap();
}
