// SPDX-License-Identifier: Apache-2.0
//! The documents of the key service against its configuration.

use nightlatch::keyservice::config::Config;

use crate::markdown::{quoted, rows, section};
use crate::sources::read;

const LEAST: &str = "[tls]\ncertificate = \"/c\"\nkey = \"/k\"\n";
const ADMIN: &str =
    "[admin]\nlisten = \"[::1]:1\"\ncertificate = \"/c\"\nkey = \"/k\"\nclient-ca = \"/a\"\n";
const TABLES: [&str; 8] = [
    "",
    "tls",
    "admin",
    "secret",
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
fn the_table_of_the_key_service_has_every_key_and_its_default() {
    let readme = read("README.md");
    let rows = rows(section(&readme, "### nightlatchd.toml"));
    let mut documented = Vec::new();
    for row in &rows {
        let [key, default, _meaning] = row.as_slice() else {
            panic!("not three cells: {row:?}");
        };
        let key = quoted(key)[0];
        documented.push(key.to_owned());
        if let [value] = quoted(default)[..] {
            let (table, _) = key.rsplit_once('.').unwrap_or_default();
            let least = format!("{:?}", Config::parse(&least(table)).unwrap());
            let set = format!("{:?}", parsed(key, value).unwrap());
            assert_eq!(set, least, "{key} is not {value}");
        }
        let is_required = ["tls.", "admin.", "store.etcd.endpoints"];
        let is_required = is_required.iter().any(|start| key.starts_with(start));
        assert_eq!(default == "required", is_required, "{key}");
    }
    documented.sort();
    assert_eq!(documented, keys());
}

#[test]
fn the_manual_of_the_key_services_configuration_has_every_key() {
    let page = read("units/man/nightlatchd.toml.5");
    let mut table = "";
    let mut documented = Vec::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix(".Ss ") {
            table = match heading {
                "Top level" => "",
                other => other.trim_matches(['[', ']']),
            };
        } else if let Some(key) = line.strip_prefix(".It Cm ") {
            let dot = if table.is_empty() { "" } else { "." };
            documented.push(format!("{table}{dot}{key}"));
        }
    }
    documented.sort();
    assert_eq!(documented, keys());
    let (_, example) = page.split_once(".Bd -literal -offset indent\n").unwrap();
    let (example, _) = example.split_once("\n.Ed").unwrap();
    Config::parse(example).unwrap();
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
    nightlatch::evidence::Policy::parse(&block("policy.toml"), |_| unreachable!()).unwrap();
}
