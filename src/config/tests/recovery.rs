// SPDX-License-Identifier: Apache-2.0
//! Who may push a key, and where volumes may have that source.

use super::*;

const OPERATOR: &str = include_str!("../../../tests/fixtures/openssh/operator.pub");
const OTHER: &str = include_str!("../../../tests/fixtures/openssh/security-key.pub");

fn with(table: &str, sources: &str) -> String {
    let volume = STATE
        .replace(", \"generate\"", "")
        .replace("[\"tpm\"]", sources);
    let volume = volume.replace("format = \"if-blank\"", "");
    let at = volume.find("[[volume]]").unwrap();
    let (before, after) = volume.split_at(at);
    format!("{before}{table}\n{after}")
}

#[test]
fn a_node_listens_for_whom_its_configuration_names() {
    let table = format!(
        "[recovery]\noperators = [{:?}, {:?}]\n",
        OPERATOR.trim(),
        OTHER.trim()
    );
    let config = parse(&with(&table, "[\"tpm\", \"recovery\"]")).unwrap();
    assert!(config.needs_recovery() && config.needs_network() && !config.needs_service());
    let recovery = config.recovery.as_ref().unwrap();
    assert_eq!((recovery.port, recovery.wait().as_secs()), (9999, 900));
    let keys = recovery.operators(Path::new("/nowhere")).unwrap();
    let lines: Vec<String> = keys.iter().map(ToString::to_string).collect();
    assert_eq!(lines, [OPERATOR.trim(), OTHER.trim()]);
}

#[test]
fn more_operators_may_be_in_a_file_of_the_initrd() {
    let top = std::env::temp_dir().join(format!("nightlatch-operators-{}", std::process::id()));
    fs::create_dir_all(&top).unwrap();
    let config = parse(&with(
        "[recovery]\noperators-file = \"/keys\"\n",
        "[\"recovery\"]",
    ))
    .unwrap();
    assert_eq!(
        config.files().filter(|it| it.as_str() == "/keys").count(),
        1
    );
    let operators = || config.recovery.as_ref().unwrap().operators(&top);
    fs::write(
        top.join("keys"),
        format!("# operators\n\n{OPERATOR}{OTHER}"),
    )
    .unwrap();
    assert_eq!(operators().unwrap().len(), 2);
    for (text, why) in [
        ("# nobody\n", "the key of at least one operator"),
        ("ssh-rsa AAAA\n", "recovery.operators-file"),
    ] {
        fs::write(top.join("keys"), text).unwrap();
        let error = operators().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    fs::remove_dir_all(&top).unwrap();
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let key = format!("operators = [{:?}]", OPERATOR.trim());
    let last = "[\"tpm\", \"recovery\"]";
    for (table, sources, why) in [
        (String::new(), last, "expected a table [recovery]"),
        (
            format!("[recovery]\n{key}"),
            "[\"tpm\"]",
            "expected a volume with the source \"recovery\"",
        ),
        (
            "[recovery]".into(),
            last,
            "expected operators, or operators-file",
        ),
        (
            format!("[recovery]\n{key}\nwait-s = 3601"),
            last,
            "expected 1 to 3600, found 3601",
        ),
        (
            format!("[recovery]\n{key}\nwait-s = 0"),
            last,
            "expected 1 to 3600, found 0",
        ),
        (
            format!("[recovery]\n{key}\nport = 0"),
            last,
            "expected 1024 to 65535",
        ),
        (
            format!("[recovery]\noperators = [{0:?}, {0:?}]", OPERATOR.trim()),
            last,
            "is there twice",
        ),
        (
            format!("[recovery]\n{key}"),
            "[\"recovery\", \"tpm\"]",
            "every other source has to come before it",
        ),
        (
            "[recovery]\noperators = [\"ssh-rsa AAAA\"]".into(),
            last,
            "a line of a .pub file",
        ),
    ] {
        let error = parse(&with(&table, sources)).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
}
