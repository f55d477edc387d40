// SPDX-License-Identifier: Apache-2.0
//! What the types accept, found out from outside: every key, its variants and its default.

use nightlatch::config::Config;

use crate::markdown::quoted;

/// The least a volume needs. Every other key may be added to it.
const LEAST: &str = r#"[boot]
authorities = ["/etc/nightlatch/authority.pem"]

[[volume]]
name = "state"
device = "/dev/disk/by-id/virtio-state"
role = "state"
sources = ["tpm"]
mount = "/var/lib/state"
"#;

/// The least a key service needs.
const SERVICE: &str = r#"[service]
urls = ["https://keys.example.org"]
pin = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
"#;

/// The least that an operator is named by.
const RECOVERY: &str = r#"[recovery]
operators = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAII5o1vrUzAiW9vFI4/TyrYDNOK/Gl/Ceg6qkkSPB2UKo"]
"#;

/// The tables keys may be in; the empty one is the top level.
pub(crate) const TABLES: [&str; 9] = [
    "",
    "boot",
    "tpm",
    "tpm.signed",
    "measure",
    "anchor",
    "service",
    "recovery",
    "volume",
];

/// The full names of all keys: serde lists them when it meets one it does not know.
pub(crate) fn all() -> Vec<String> {
    let mut keys = Vec::new();
    for table in TABLES {
        let error = refusal(&with(table, "unheard-of = 1"));
        let (_, expected) = error.split_once(", expected ").expect(&error);
        for key in quoted(expected) {
            let name = join(table, key);
            if !TABLES.contains(&name.as_str()) {
                keys.push(name);
            }
        }
    }
    keys
}

/// The words a key may be set to, where it is not free.
pub(crate) fn variants(key: &str) -> Option<Vec<String>> {
    for value in ["\"unheard-of\"", "[\"unheard-of\"]"] {
        // A key that takes any text has no words.
        let Err(error) = Config::parse(&set(key, value)) else {
            continue;
        };
        let error = error.to_string();
        if let Some((_, expected)) = error
            .contains("unknown variant")
            .then(|| error.split_once("expected "))
            .flatten()
        {
            return Some(quoted(expected).into_iter().map(str::to_owned).collect());
        }
    }
    None
}

/// Whether a configuration without the key is an error that asks for it.
pub(crate) fn is_required(key: &str) -> bool {
    let (_, short) = split(key);
    Config::parse(&without(key)).err().is_some_and(|error| {
        error
            .to_string()
            .contains(&format!("missing field `{short}`"))
    })
}

/// Whether setting the key to `value` is the same as not setting it.
pub(crate) fn is_default(key: &str, value: &str) -> bool {
    seen(&set(key, value)) == seen(&without(key))
}

fn seen(text: &str) -> String {
    let config = Config::parse(text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    let volumes: Vec<_> = config.volumes().collect();
    let (boot, tpm, measure, service) =
        (&config.boot, &config.tpm, &config.measure, &config.service);
    let (anchor, defects, recovery) = (&config.anchor, config.kernel_defects, &config.recovery);
    format!(
        "{boot:?} {tpm:?} {measure:?} {anchor:?} {service:?} {recovery:?} {defects:?} {} {volumes:?}",
        config.device_timeout_s
    )
}

fn refusal(text: &str) -> String {
    match Config::parse(text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(error) => error.to_string(),
    }
}

fn set(key: &str, value: &str) -> String {
    let (table, short) = split(key);
    let line = format!("{short} = {value}");
    match table {
        "volume" => format!("{}{line}\n", without(key)),
        "service" | "boot" | "recovery" => {
            let heading = format!("[{table}]\n");
            without(key).replacen(&heading, &format!("{heading}{line}\n"), 1)
        }
        _ => with(table, &line),
    }
}

fn without(key: &str) -> String {
    let (table, short) = split(key);
    let start = format!("{short} = ");
    let least = match table {
        "service" => format!("{SERVICE}{}", LEAST.replace("\"tpm\"", "\"service\"")),
        "recovery" => format!(
            "{RECOVERY}{}",
            LEAST.replace("\"tpm\"", "\"tpm\", \"recovery\"")
        ),
        "tpm.signed" => format!("[{table}]\n{LEAST}"),
        _ => LEAST.to_owned(),
    };
    least
        .split_inclusive('\n')
        .filter(|line| !line.starts_with(&start))
        .collect()
}

/// The least configuration with a line more in `table`.
fn with(table: &str, line: &str) -> String {
    match table {
        "" => format!("{line}\n{LEAST}"),
        "volume" => format!("{LEAST}{line}\n"),
        "boot" => LEAST.replacen("[boot]\n", &format!("[boot]\n{line}\n"), 1),
        _ => format!("[{table}]\n{line}\n{LEAST}"),
    }
}

fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

fn join(table: &str, key: &str) -> String {
    match table {
        "" => key.to_owned(),
        _ => format!("{table}.{key}"),
    }
}

#[test]
fn the_least_configuration_is_one() {
    assert!(Config::parse(LEAST).is_ok());
    assert!(all().contains(&"tpm.pcrs".to_owned()));
    assert_eq!(variants("volume.format").unwrap(), ["never", "if-blank"]);
    assert!(is_required("volume.name") && !is_required("volume.kdf"));
    assert!(is_default("volume.kdf", "\"argon2id\"") && !is_default("volume.kdf", "\"pbkdf2\""));
}
