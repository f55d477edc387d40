// SPDX-License-Identifier: Apache-2.0
//! Writes what the fuzz targets start from, a directory for each, from the corpus of hostile headers, from logs of machines and
//! from what this program itself would write: seeds DIRECTORY

#![allow(
    dead_code,
    reason = "the corpus's modules are shared with the test that judges it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "a tool for tests, which fails by panicking"
)]

#[path = "attested.rs"]
mod attested;
#[path = "../corpus/hostile.rs"]
mod hostile;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;

use base64ct::{Base64, Encoding as _};
use nightlatch::anchor::failure::Failure;
use nightlatch::anchor::record::{Checkpoint, Entry, KeyId, Record, State};
use nightlatch::anchor::requests::{Request, Requests, Rotation, Wish};
use nightlatch::config::{Level, Profile, Role, VolumeName};
use nightlatch::error::Exit;
use nightlatch::header::{Marker, Stamp};
use nightlatch::key::Secret;
use nightlatch::key::pcr::PcrPublicKey;
use nightlatch::key::recovery::RecoveryKey;
use nightlatch::pcr::Bank;
use nightlatch::sealed::signature::policy_digest;
use serde_json::json;

use self::hostile::base::{Bases, UUID};
use self::hostile::draft::{COPY_LEN, Image, JSON_OFFSET};

fn main() {
    let place = std::env::args_os().nth(1).expect("a directory");
    let place = Path::new(&place);
    let bases = Bases::made_up();
    let good = Profile::ALL.map(|profile| bases.get(profile).clone().finish());
    let bad = hostile::all(&bases);
    let bad = bad.iter().map(|mutation| mutation.image(&bases));
    let first_boots = interrupted(&good[0]);
    let second = second_form(&bases);
    let images: Vec<Image> = good.into_iter().chain([second]).chain(bad).collect();
    let all = |seed: fn(&Image) -> Vec<Vec<u8>>| images.iter().flat_map(seed).collect::<Vec<_>>();
    write(place, "metadata", all(|image| vec![json(image)]));
    write(place, "token", all(tokens));
    write(place, "binary", [all(binary), first_boots].concat());
    write(place, "signature", pcr_signatures());
    write(place, "openssh", openssh());
    write(place, "record", [false, true].map(record).into());
    write(place, "recovery", recovery());
    write(place, "signature_list", signature_lists());
    write(place, "requests", vec![requests()]);
    write(place, "failure", vec![failure()]);
    write(place, "superblock", vec![superblock()]);
    write(place, "uki", unified_images());
    write(place, "initrd", initrds());
    write(
        place,
        "event_log",
        [attested::event_logs(), vec![started()]].concat(),
    );
    write(place, "evidence", attested::evidence());
    write(place, "answer", attested::answers());
    write(place, "wrapped", wrapped());
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("units/examples");
    let examples = fs::read_dir(top).expect("the examples");
    let examples = examples.map(|entry| fs::read(entry.expect("an example").path()).expect("text"));
    write(place, "config", examples.collect());
}

/// A key that is asked for, and a keyslot that is to go.
fn requests() -> Vec<u8> {
    let uuid = UUID.parse().expect("a UUID");
    let key = RecoveryKey::from_bytes(&[7; 32]).expect("a key");
    let mut requests = Requests::default();
    let secret = Wish::Rotate(Rotation::Secret);
    for wish in [Wish::Add(key), Wish::Remove(5), secret] {
        requests.push(Request { uuid, wish }).expect("room");
    }
    requests.content().to_vec()
}

fn failure() -> Vec<u8> {
    let failure = Failure {
        exit: Exit::Refused,
        sentence: "keying volume state: its disk is older than its last boot".into(),
        reset_count: 7,
    };
    failure.encode()
}

/// A header of ours with a recovery key.
fn second_form(bases: &Bases) -> Image {
    let mut draft = bases.ours.clone();
    draft.edit(|json| {
        let mut slot = json["keyslots"]["1"].clone();
        slot["area"]["offset"] = json!((32_768 + 4 * 385_024).to_string());
        json["keyslots"]["4"] = slot;
        json["digests"]["0"]["keyslots"] = json!(["0", "1", "4"]);
        json["tokens"]["0"]["profile"] = json!("nightlatch-2");
        json["tokens"]["2"] = json!({"type": "systemd-recovery", "keyslots": ["4"]});
    });
    draft.finish()
}

/// As the target takes them: each message once.
fn recovery() -> Vec<Vec<u8>> {
    let bytes = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let nonce = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    let volume = json!({
        "uuid": UUID, "key": bytes, "words": ["readmit"], "key-id": "ab", "epoch": 4,
    });
    let waiting = json!({
        "name": "state", "uuid": UUID, "role": "state", "key-id": "ab", "epoch": 4, "needs": ["key", "rollback"], "why": "",
    });
    let message = json!({
        "version": 1, "node": "1f", "nonce": nonce, "said-s": 1, "volumes": [volume],
    });
    let hello = json!({"version": 1, "nonce": nonce}).to_string();
    let len = u32::try_from(hello.len()).expect("a length").to_be_bytes();
    let framed = [&len[..], hello.as_bytes()].concat();
    let texts = [
        hello,
        json!({"version": 1, "blob": bytes, "secret": bytes}).to_string(),
        json!({"message": message.to_string(), "signature": ""}).to_string(),
        message.to_string(),
        json!({
            "version": 1, "nonce": nonce, "ek-public": bytes, "ak-public": bytes, "volumes": [waiting],
            "quote": {"signature": bytes, "message": bytes, "pcrs": ["00"]},
        })
        .to_string(),
        json!({"credential": bytes}).to_string(),
        json!({"volumes": [{"uuid": UUID}], "goes-on": true}).to_string(),
    ];
    let texts = texts.into_iter().map(String::into_bytes);
    let numbered = (0..).zip(texts.chain([framed]));
    numbered
        .map(|(what, text): (u8, _)| [&[what], &text[..]].concat())
        .collect()
}

/// As the target takes them: lines of keys, and signatures.
fn openssh() -> Vec<Vec<u8>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/openssh");
    let files = fs::read_dir(fixtures).expect("the fixtures");
    let seed = |path: std::path::PathBuf| {
        let text = fs::read(&path).expect("text");
        let what = u8::from(path.extension().is_some_and(|it| it == "sig"));
        [&[what], text.trim_ascii()].concat()
    };
    files
        .map(|file| seed(file.expect("a file").path()))
        .collect()
}

/// As the target takes them: a file of signatures, of values that nothing has, and the key that it looks for.
fn pcr_signatures() -> Vec<Vec<u8>> {
    let pem = include_bytes!("../fixtures/pcr-key.pem");
    let key = PcrPublicKey::from_pem(pem).expect("a key");
    let entry = json!({
        "pcrs": [11],
        "pkfp": key.to_string(),
        "pol": hex::encode(policy_digest(Bank::Sha256, &[0; 32])),
        "sig": Base64::encode_string(&[7; 256]),
    });
    let file = json!({"sha256": [entry.clone(), entry]}).to_string();
    let of_systemd = br#"{"sha256":[{"pcrs":[11],"pkfp":"00","ref":"initrd","pol":"00","tbs":"00","sig":"AA=="}]}"#;
    vec![
        [&[0], file.as_bytes()].concat(),
        [&[0], &of_systemd[..]].concat(),
        [&[1], &pem[..]].concat(),
    ]
}

/// As the target takes them: what a variable holds, and an update of it, with a signature in front and without.
fn signature_lists() -> Vec<Vec<u8>> {
    use nightlatch::evidence::signature_list::{SHA256, X509};
    let list = |kind: [u8; 16], entry: &[u8]| {
        let entry = [&[7; 16], entry].concat();
        let numbers = [28 + entry.len(), 0, entry.len()];
        let numbers = numbers.map(|it| u32::try_from(it).expect("a short list").to_le_bytes());
        [&kind[..], &numbers.concat(), &entry].concat()
    };
    let value = [list(X509, b"a certificate"), list(SHA256, &[1; 32])].concat();
    let update = [list(SHA256, &[1; 32]), list(SHA256, &[2; 32])].concat();
    // WIN_CERTIFICATE_UEFI_GUID behind a time, of kind EFI_CERT_TYPE_PKCS7_GUID, with nothing in it.
    let signature = "18000000 0002 f10e 9dd2af4adf68ee498aa9347d375665a7".replace(' ', "");
    let signature = hex::decode(signature).expect("digits");
    let signed = [&[7; 16], &signature[..], &update].concat();
    let len = u16::try_from(value.len())
        .expect("a short value")
        .to_le_bytes();
    [update, signed]
        .map(|update| [&len[..], &value, &update].concat())
        .into()
}

/// A wrapped master secret, which a recovery key opens too and which none does.
fn wrapped() -> Vec<Vec<u8>> {
    let jwe = r#"{"ciphertext":"AA","encrypted_key":"AA","iv":"AA","protected":"AA","tag":"AA"}"#;
    let file = |recovery: &str| {
        let kms = "dmF1bHQ6djE6QUFBQQ==";
        let sealed = "zrUEnEURGj9P+SnP0IXi/aLVrjKvFj2hbBuv9EY1pflfLIqq";
        format!(
            r#"{{"id":"master","kek":"openbao:transit/nightlatch:v1","kms":"{kms}","nonce":"QEFCQ0RFRkdISUpL"{recovery},"sealed":"{sealed}","version":1}}"#
        )
    };
    let files = [file(""), file(&format!(r#","recovery":{jwe}"#))];
    files.map(String::into_bytes).into()
}

/// As the target takes it: the log of a start with Secure Boot.
fn started() -> Vec<u8> {
    let log = support::firmware::Firmware::signed().log(&[Bank::Sha1, Bank::Sha256]);
    let len = u16::try_from(log.len()).expect("a short log");
    [&[0], &len.to_le_bytes()[..], &log].concat()
}

fn write(place: &Path, target: &str, mut seeds: Vec<Vec<u8>>) {
    let place = place.join(target);
    fs::create_dir_all(&place).expect("a directory for the seeds");
    seeds.sort_unstable();
    seeds.dedup();
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(place.join(format!("seed-{number}")), seed).expect("room for a seed");
    }
}

/// The text of the first copy.
fn json(image: &Image) -> Vec<u8> {
    let area = &image.start[JSON_OFFSET..COPY_LEN];
    let len = area.iter().position(|byte| *byte == 0);
    area[..len.unwrap_or(area.len())].to_vec()
}

fn tokens(image: &Image) -> Vec<Vec<u8>> {
    let json = serde_json::from_slice(&json(image)).unwrap_or(serde_json::Value::Null);
    let tokens = json["tokens"].as_object();
    let tokens = tokens.into_iter().flat_map(serde_json::Map::values);
    tokens.map(|token| token.to_string().into_bytes()).collect()
}

/// As the target takes it, for each profile: both checksums right, both binary headers, the metadata.
fn binary(image: &Image) -> Vec<Vec<u8>> {
    let part = |at: usize| &image.start[at..at + JSON_OFFSET];
    let metadata = json(image);
    let rest = [part(0), part(COPY_LEN), &metadata].concat();
    let profiles = 0..u8::try_from(Profile::ALL.len()).expect("a few");
    profiles
        .map(|profile| [&[profile << 3], rest.as_slice()].concat())
        .collect()
}

/// As the target takes it: what a first boot leaves that was interrupted before, between and behind the binary headers.
fn interrupted(image: &Image) -> Vec<Vec<u8>> {
    let part = |at: usize| &image.start[at..at + JSON_OFFSET];
    let blank = [0; JSON_OFFSET];
    let marker = Marker {
        uuid: UUID.into(),
        role: Role::State,
    };
    let metadata = json(image);
    [
        (&blank[..], &blank[..], &[][..]),
        (part(0), &blank, &[]),
        (part(0), part(COPY_LEN), &metadata),
    ]
    .map(|(first, second, rest)| [&[4], first, second, &marker.encode(), rest].concat())
    .into()
}

/// One of each version: the later one has a volume that is away.
fn record(has_away: bool) -> Vec<u8> {
    let mut record = Record::default();
    for (name, level) in [("state", Level::Epoch), ("data", Level::Checkpoint)] {
        let entry = Entry {
            name: VolumeName::try_from(name.to_owned()).expect("a name"),
            uuid: uuid::Uuid::from_u128(7),
            key_id: KeyId::of(&[9; 32]),
            state: State::Ready,
            level,
            acceptance: None,
            checkpoint: (level == Level::Checkpoint).then_some(Checkpoint {
                fsid: [5; 16],
                generation: 8,
            }),
            ahead: if level == Level::Epoch { 57 } else { 0 },
            enroll: level == Level::Epoch,
            away: (has_away && level == Level::Epoch).then_some(Stamp {
                epoch: 40,
                nonce: None,
            }),
        };
        record.set(entry).expect("room for two volumes");
    }
    record.encode(&Secret::new(vec![3; 32])).to_vec()
}

/// A device of 64 MiB, and what the kernel writes there.
fn unified_images() -> Vec<Vec<u8>> {
    let plain = support::unified::image(&[(".cmdline", b"quiet\n"), (".osrel", b"ID=x")]);
    let signed = support::unified::signed(plain.clone(), b"a signature");
    vec![
        support::unified::program(&[(".text", b"code")]),
        plain,
        signed,
    ]
}

/// An archive as it is, compressed, and one behind the other.
fn initrds() -> Vec<Vec<u8>> {
    use support::initrd::{Made, archive, elf};
    let program = Made::Program(elf(&["libc.so.6"], "$ORIGIN"));
    let made = archive([
        ("init", &Made::link("usr/bin/a")),
        ("usr/bin/a", &program),
        ("usr/bin/b", &Made::Name(1, b"shared".to_vec())),
        ("usr/bin/c", &Made::Name(1, Vec::new())),
    ]);
    let compressed = support::initrd::compressed(&made);
    let both = [&compressed[3], &made[..]].concat();
    compressed.into_iter().chain([both]).collect()
}

fn superblock() -> Vec<u8> {
    let fields: [&[u8]; 7] = [
        &(64_u64 << 20).to_le_bytes(),
        b"integrt\0\x04\x0f",
        &32_u16.to_le_bytes(),
        &3_u32.to_le_bytes(),
        &96_736_u64.to_le_bytes(),
        &8_u32.to_le_bytes(),
        &[3, 12],
    ];
    fields.concat()
}
