// SPDX-License-Identifier: Apache-2.0
//! Commands, their answers, and the exact words about those that are wrong.

use std::fs;
use std::path::PathBuf;

mod last_failure;

use super::*;
use crate::config::{Enroll, Source};
use crate::status::{AwayStatus, Status};

const BOOT: &str = include_str!("../../tests/fixtures/status/boot.json");

/// A directory that is gone after the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("nightlatchctl-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Runs the command of these words, as [`main`] does.
pub(super) fn run(root: &Path, words: &[&str]) -> Result<Answer> {
    let words = [&["nightlatchctl"], words].concat();
    let cli = Cli::try_parse_from(words).map_err(|other| wrong(&other))?;
    super::run(root, &cli.verb)
}

fn at(root: &Path, words: &[&str]) -> Answer {
    run(root, words).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(words: &[&str]) -> (Exit, String) {
    match run(Path::new("/nonexistent"), words) {
        Err(error) => (error.exit(), error.to_string()),
        Ok(answer) => panic!("{}", answer.text),
    }
}

/// Constellation's published vector, as in `key`.
#[test]
fn derive_prints_the_published_vector() {
    let scratch = Scratch::new("vector");
    let secret = scratch.file("secret", &(0x00..=0x1f).collect::<Vec<u8>>());
    let salt = scratch.file("salt", &(0x20..=0x3f).collect::<Vec<u8>>());
    let key = "128c164378fe8767f998fbdfe4b4d6463ec5ae1b664ea5999bc27417607ae9b6";
    let words = [
        "derive",
        "--id",
        "clusterID",
        "--secret",
        &secret,
        "--salt",
        &salt,
    ];
    let answer = at(&scratch.0, &words);
    assert_eq!(answer.text, format!("{key}\n"));
    assert_eq!(answer.json, json!({"id": "clusterID", "key": key}));
}

#[test]
fn short_secrets_and_salts_are_refused() {
    let scratch = Scratch::new("short");
    let secret = scratch.file("secret", &[1; 16]);
    let salt = scratch.file("salt", &[2; 32]);
    let short_secret = scratch.file("short-secret", &[1; 15]);
    let short_salt = scratch.file("short-salt", &[2; 31]);
    let words = |secret, salt| ["derive", "--secret", secret, "--salt", salt, "--id", "x"];
    assert!(run(&scratch.0, &words(&secret, &salt)).is_ok());
    assert_eq!(
        refusal(&words(&short_secret, &salt)),
        (
            Exit::Refused,
            format!("reading the secret: {short_secret}: expected at least 16 bytes, found 15")
        )
    );
    assert_eq!(
        refusal(&words(&secret, &short_salt)),
        (
            Exit::Refused,
            format!("reading the salt: {short_salt}: expected at least 32 bytes, found 31")
        )
    );
}

#[test]
fn a_wrong_command_line_is_told_apart() {
    let cases: [(&[&str], &str); 12] = [
        (&[], "expected a command"),
        (&["config"], "expected a command"),
        (&["xyzzy", "x"], "unrecognized subcommand 'xyzzy'"),
        (
            &["polcy"],
            "unrecognized subcommand 'polcy'; tip: a similar subcommand exists: 'policy'",
        ),
        (
            &["config", "check"],
            "the following required arguments were not provided: <FILE>",
        ),
        (
            &["derive"],
            "the following required arguments were not provided: --secret <FILE>; --salt <FILE>; --id <ID>",
        ),
        (
            &["derive", "--id"],
            "a value is required for '--id <ID>' but none was supplied",
        ),
        (
            &["derive", "--sercet", "x"],
            "unexpected argument '--sercet' found; tip: a similar argument exists: '--secret'",
        ),
        (
            &["derive", "--id", "x", "--id", "y"],
            "the argument '--id <ID>' cannot be used multiple times",
        ),
        (
            &["header", "check", "--profile", "luks2-strct", "x"],
            "invalid value 'luks2-strct' for '--profile <NAME>'; \
             [possible values: nightlatch-1, luks2-strict, constellation]; \
             tip: a similar value exists: 'luks2-strict'",
        ),
        (
            &["evidence", "verify", "--select", "sha1:7", "x"],
            "invalid value 'sha1:7' for '--select <BANK:PCR,...>': expected PCRs such as sha256:7,11,12",
        ),
        (
            &["anchor", "forget", "UP"],
            "invalid value 'UP' for '<VOLUME>': expected a name of 1 to 32 lower-case letters and digits, found \"UP\"",
        ),
    ];
    for (words, message) in cases {
        let message = format!("{message}; try nightlatchctl --help");
        assert_eq!(refusal(words), (Exit::Usage, message));
    }
}

#[test]
fn config_check_says_what_is_good_and_what_is_given_up() {
    let scratch = Scratch::new("config");
    let good =
        include_bytes!("../../tests/fixtures/generator/state/root/etc/nightlatch/nightlatch.toml");
    let good = scratch.file("good.toml", good);
    let answer = at(&scratch.0, &["config", "check", &good]);
    let told: Vec<&str> = answer.text.lines().collect();
    assert_eq!(told[0], format!("{good}: valid: state, scratch"));
    assert!(
        told[1].starts_with(&format!(
            "warning: {good}: line 23, column 1: volume.mount: "
        )),
        "{told:?}"
    );
    assert_eq!(told.len(), 2);
    assert_eq!(answer.json["volumes"], json!(["state", "scratch"]));
    assert_eq!(
        answer.json["files"],
        json!(["/etc/nightlatch/authority.pem"])
    );
    assert_eq!(answer.json["warnings"][0]["line"], 23);
    assert_eq!((answer.exit, &answer.json["gives_up"]), (None, &json!([])));

    let lines = "boot = { secure-boot = \"not-required\", first-boot = \"trusted\", other-volumes = true }\n\
                 tpm.pcrs = [0, 2, 4, 9, 12]\n";
    let volume = "[[volume]]\nname = \"a\"\nrole = \"state\"\ndevice = \"/dev/a\"\nmount = \"/a\"\nsources = [\"tpm\"]\n";
    let less = scratch.file("less.toml", [lines, volume].concat().as_bytes());
    let answer = at(&scratch.0, &["config", "check", &less]);
    let told: Vec<&str> = answer.text.lines().collect();
    assert_eq!(told.len(), 5);
    assert!(
        told[1].starts_with("boot.secure-boot = \"not-required\": "),
        "{told:?}"
    );
    assert!(
        told[2].starts_with("boot.first-boot = \"trusted\": "),
        "{told:?}"
    );
    assert_eq!(answer.json["gives_up"], json!(&told[1..3]));
    assert!(told[3].starts_with("tpm.pcrs has 0: "), "{told:?}");
    assert!(told[4].starts_with("tpm.pcrs lacks 13: "), "{told:?}");
    assert_eq!(answer.json["costs"], json!(&told[3..]));
}

#[test]
fn config_check_tells_all_errors_and_where_for_machines_too() {
    let scratch = Scratch::new("config-bad");
    let bad = scratch.file("bad.toml", b"volume = []\nlist = 1\n");
    let answer = at(&scratch.0, &["config", "check", &bad]);
    assert_eq!(answer.exit, Some(Exit::Config));
    assert_eq!(answer.text.lines().count(), 3, "{}", answer.text);
    let first = "line 1, column 1: volume: expected at least one [[volume]]";
    assert!(
        answer.text.contains(&format!("{bad}: {first}\n")),
        "{}",
        answer.text
    );
    let json = &answer.json;
    assert_eq!(
        (&json["result"], &json["exit"]),
        (&json!("config"), &json!(78))
    );
    assert_eq!((&json["file"], &json["line"]), (&json!(bad), &json!(1)));
    let errors = json["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 3);
    let last = errors.last().unwrap();
    assert_eq!(
        (&last["line"], &last["column"], &last["key"]),
        (&json!(2), &json!(1), &json!("list"))
    );
    let error = run(&scratch.0, &["config", "check", "/nonexistent"])
        .err()
        .unwrap();
    assert_eq!(error.exit(), Exit::Config);
}

#[test]
fn enroll_says_whose_each_secret_is_and_asks_only_where_there_is_something_to_ask_for() {
    let scratch = Scratch::new("enroll");
    let mut status = Status::parse(BOOT).unwrap();
    status.volumes[0].own_secret = true;
    status.volumes[0].enroll = Some(Enroll::Auto);
    let mut served = status.volumes[1].clone();
    served.name = "served".into();
    served.source = Source::Service;
    let mut enrolled = status.volumes[0].clone();
    (enrolled.name, enrolled.enrolled, enrolled.enroll) = ("enrolled".into(), true, None);
    let mut other = status.volumes[1].clone();
    (other.name, other.enroll) = ("other".into(), Some(Enroll::Asked));
    status.volumes.extend([served, enrolled, other]);
    status.write(&scratch.0).unwrap();
    let answer = at(&scratch.0, &["enroll"]);
    let rows: Vec<Vec<&str>> = answer
        .text
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().take(4).collect())
        .collect();
    assert_eq!(
        rows,
        [
            ["state", "generate", "own", "service,"],
            ["system", "tpm", "unknown", "-"],
            ["served", "service", "service", "-"],
            ["enrolled", "generate", "service", "-"],
            ["other", "tpm", "unknown", "service,"],
        ]
    );
    assert_eq!(answer.json["volumes"][0]["enroll"], "auto");
    for (volume, expected) in [
        (
            "served",
            "the secret of volume served is the key service's already",
        ),
        (
            "enrolled",
            "the secret of volume enrolled is the key service's already",
        ),
        (
            "system",
            "the configuration does not name \"service\" before \"tpm\" among the sources of volume system: \
             the service would not be asked; change it in the image",
        ),
        (
            "absent",
            "enroll: this boot opened no volume absent; try nightlatchctl --help",
        ),
        // There is no anchor here to write the request to.
        (
            "state",
            "there is none: this boot opened no volume that has an anchor",
        ),
    ] {
        let error = run(&scratch.0, &["enroll", volume]).err().unwrap();
        assert!(error.to_string().ends_with(expected), "{error}");
    }
}

#[test]
fn status_exits_with_the_verdict_on_a_volume_that_is_away() {
    let scratch = Scratch::new("away");
    let mut status = Status::parse(BOOT).unwrap();
    status.write(&scratch.0).unwrap();
    assert_eq!(at(&scratch.0, &["status"]).exit, None);
    status.away.push(AwayStatus {
        name: "data".into(),
        role: status.volumes[0].role,
        device: "/dev/disk/by-id/virtio-data".into(),
        result: "unavailable".into(),
        exit: 69,
        error: "examining: the device has not appeared".into(),
    });
    status.write(&scratch.0).unwrap();
    let answer = run(&scratch.0, &["status"]).unwrap();
    assert_eq!(answer.exit, Some(Exit::Unavailable));
    assert!(answer.is_shown);
    assert!(answer.text.contains("AWAY"), "{}", answer.text);
    assert!(answer.text.contains("the device has not appeared"));
    assert_eq!(answer.json["away"][0]["name"], "data");
    // A boot that has failed has its own.
    (status.exit, status.result) = (77, "refused".into());
    status.write(&scratch.0).unwrap();
    assert_eq!(run(&scratch.0, &["status"]).unwrap().exit, None);
}

#[test]
fn status_shows_volumes_measurements_and_steps() {
    let scratch = Scratch::new("status");
    Status::parse(BOOT).unwrap().write(&scratch.0).unwrap();
    let answer = at(&scratch.0, &["status"]);
    let expected = include_str!("../../tests/fixtures/status/boot.txt");
    assert_eq!(answer.text, expected);
    assert_eq!(answer.json, serde_json::from_str::<Value>(BOOT).unwrap());

    let picture = scratch.0.join("boot.svg");
    at(
        &scratch.0,
        &["status", "--svg", &picture.display().to_string()],
    );
    assert!(fs::read_to_string(picture).unwrap().starts_with("<svg "));
}

#[test]
fn what_is_mounted_is_compared_and_the_verdict_is_shown_until_the_next_boot() {
    let scratch = Scratch::new("mounts");
    let device = |path: &Path| crate::mounted::device_of(path).unwrap();
    let mut status = Status::parse(BOOT).unwrap();
    status.mounts[0].at = "/run".into();
    fs::create_dir_all(scratch.0.join("run")).unwrap();
    status.mounts[0].device = device(&scratch.0.join("run"));
    status.write(&scratch.0).unwrap();
    let shown = |words: &str| {
        let answer = at(&scratch.0, &["status"]);
        let line = format!("in the running system: {words}\n");
        assert!(answer.text.contains(&line), "{}", answer.text);
        answer.json
    };
    shown("not compared yet, see nightlatch-mounts-check.service");

    let answer = at(&scratch.0, &["mounts", "check"]);
    assert_eq!(answer.text, "as they were opened: /run\n");
    let json = shown("as they were opened");
    assert_eq!(json["mounts_check"]["result"], "as-opened");

    status.mounts[0].device = "0:0".into();
    status.write(&scratch.0).unwrap();
    let error = run(&scratch.0, &["mounts", "check"]).err().unwrap();
    assert_eq!(error.exit(), Exit::Refused, "{error}");
    let json = shown(&error.to_string());
    assert_eq!(json["mounts_check"]["result"], "refused");
    assert_eq!(json["mounts_check"]["error"], error.to_string());

    // Another boot's verdict says nothing of this one.
    status.started_us += 1;
    status.write(&scratch.0).unwrap();
    shown("not compared yet, see nightlatch-mounts-check.service");
}

#[test]
fn without_a_record_its_path_is_named() {
    assert_eq!(
        refusal(&["status"]),
        (
            Exit::Unavailable,
            "reading /nonexistent/run/nightlatch/status.json: there is none: nightlatch opened nothing in this boot; \
             \"journalctl -b -u nightlatch\" has what it said"
                .into()
        )
    );
}
