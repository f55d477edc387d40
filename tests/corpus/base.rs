// SPDX-License-Identifier: Apache-2.0
//! The accepted headers everything starts from, one for each profile, and the secrets they open with.

use std::path::Path;
use std::process::{Command, Stdio};

use base64ct::{Base64, Encoding as _};
use nightlatch::config::Profile;
use nightlatch::header::{AREA_LEN, Area, Expect};
use nightlatch::key::{Secret, volume_key_id};
use serde_json::{Value, json};

use super::draft::{self, COPY_LEN, Draft, JSON_OFFSET, KEYSLOTS_OFFSET};

/// The volumes' UUID.
pub(crate) const UUID: &str = "a6c7535f-0a9f-4c23-9524-fed431126906";
/// What opens keyslot 0: 32 bytes, as every volume secret.
pub(crate) const PASSPHRASE: [u8; 32] = *b"nightlatch corpus: 32 raw bytes.";
/// Bytes of a keyslot for a volume key of 96 bytes.
pub(crate) const AREA_SIZE: usize = 385_024;

/// The token `systemd-cryptenroll` 254 wrote for a key sealed to a software TPM.
const TPM2: &str = include_str!("tpm2-token.json");

/// A keyslot of a volume key of 96 bytes and the digest of that key, as cryptsetup wrote them.
pub(crate) struct Slot {
    json: Value,
    digest: Value,
    material: Vec<u8>,
}

/// The three headers.
#[derive(Clone)]
pub(crate) struct Bases {
    pub(crate) ours: Draft,
    pub(crate) strict: Draft,
    pub(crate) constellation: Draft,
}

/// The volume key of all of them.
pub(crate) fn volume_key() -> Secret {
    Secret::new((0..96).map(|at| at ^ 0x5a).collect())
}

impl Bases {
    /// With keyslots that real cryptsetup made, in the directory `place`.
    ///
    /// Without device-mapper it makes no volume with integrity. It does make keyslots for keys of any length that belong to
    /// no segment; the segment, which is only words, is put around them.
    pub(crate) fn real(place: &Path) -> Self {
        let [disk, key, passphrase, sealed] =
            ["made.img", "volume.key", "passphrase", "sealed"].map(|name| place.join(name));
        let disk_file = std::fs::File::create(&disk).unwrap();
        disk_file.set_len(32 << 20).unwrap();
        std::fs::write(&key, volume_key().expose()).unwrap();
        std::fs::write(&passphrase, PASSPHRASE).unwrap();
        // What a TPM would give, and nobody has here.
        std::fs::write(&sealed, Base64::encode_string(&PASSPHRASE)).unwrap();
        let run = |words: &str, added: &[&Path]| {
            let mut command = Command::new("cryptsetup");
            command
                .args(words.split(' '))
                .args(["--batch-mode", "--key-file"])
                .args([&passphrase, &disk])
                .args(added)
                .stdin(Stdio::null());
            let output = command.output().expect("cryptsetup is installed");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "cryptsetup {words}: {said}");
        };
        let cheap = "--pbkdf pbkdf2 --hash sha512 --pbkdf-force-iterations 1000";
        run(
            &format!("luksFormat --type luks2 --key-slot 9 {cheap}"),
            &[],
        );
        let key = key.display();
        let add = format!("luksAddKey --unbound --key-size 768 --volume-key-file {key}");
        run(&format!("{add} --key-slot 0 {cheap}"), &[&passphrase]);
        run(&format!("{add} --key-slot 1 {cheap}"), &[&sealed]);
        let least = "--pbkdf-force-iterations 4 --pbkdf-memory 32 --pbkdf-parallel 1";
        run(
            &format!("{add} --key-slot 2 --pbkdf argon2id {least}"),
            &[&passphrase],
        );

        let bytes = std::fs::read(&disk).unwrap();
        let json = Draft::new(bytes[..draft::DRAFT_LEN].to_vec()).json();
        let json: Value = serde_json::from_str(&json).unwrap();
        let slots = ["0", "1", "2"].map(|id| Slot::of(&json, id, &bytes));
        Self::around(&slots)
    }

    /// With key material that opens nothing. It parses the same and needs no cryptsetup.
    pub(crate) fn made_up() -> Self {
        let slots = ["0", "1", "2"].map(Slot::made_up);
        Self::around(&slots)
    }

    fn around([first, second, argon2]: &[Slot; 3]) -> Self {
        let id = Base64::encode_string(&volume_key_id(&volume_key(), UUID).unwrap());
        let token = json!({
            "type": "nightlatch", "keyslots": [], "profile": "nightlatch-1", "role": "state", "volume": "data",
            "measurement-salt": Base64::encode_string(&[0x21; 32]), "epoch": "7", "volume-key-id": id,
            "mac": Base64::encode_string(&[0; 32]),
        });
        let tpm2: Value = serde_json::from_str(TPM2).unwrap();
        let ours = header(&[first, second], &json!({"0": token, "1": tpm2}), true);
        let constellation = json!({"0": {
            "type": "constellation-state-disk", "keyslots": [], "diskIsInitialized": true,
        }});
        Self {
            ours: signed(&ours),
            strict: header(&[first], &json!({}), false),
            constellation: header(&[argon2], &constellation, false),
        }
    }

    pub(crate) fn get(&self, profile: Profile) -> &Draft {
        match profile {
            Profile::Nightlatch1 => &self.ours,
            Profile::Luks2Strict => &self.strict,
            Profile::Constellation => &self.constellation,
        }
    }
}

impl Slot {
    fn of(json: &Value, id: &str, bytes: &[u8]) -> Self {
        let slot = json["keyslots"][id].clone();
        let offset: usize = slot["area"]["offset"].as_str().unwrap().parse().unwrap();
        let mut digests = json["digests"].as_object().unwrap().values();
        let digest = digests.find(|digest| digest["keyslots"] == json!([id]));
        Self {
            digest: digest.unwrap().clone(),
            material: bytes[offset..offset + AREA_SIZE].to_vec(),
            json: slot,
        }
    }

    fn made_up(id: &str) -> Self {
        let salt = Base64::encode_string(&[0x42; 32]);
        let pbkdf2 = json!({"type": "pbkdf2", "hash": "sha512", "iterations": 1000, "salt": salt});
        let argon2 = json!({"type": "argon2id", "time": 4, "memory": 32, "cpus": 1, "salt": salt});
        let (kdf, hash) = match id {
            "2" => (argon2, "sha256"),
            _ => (pbkdf2, "sha512"),
        };
        let digest = Base64::encode_string(&[0x17; 64][..if id == "2" { 32 } else { 64 }]);
        Self {
            json: json!({
                "type": "luks2", "key_size": 96, "af": {"type": "luks1", "stripes": 4000, "hash": hash},
                "area": {"type": "raw", "offset": "0", "size": AREA_SIZE.to_string(), "encryption": "aes-xts-plain64",
                    "key_size": 64},
                "kdf": kdf,
            }),
            digest: json!({
                "type": "pbkdf2", "keyslots": [], "segments": [], "hash": hash, "iterations": 1000, "salt": salt,
                "digest": digest,
            }),
            material: vec![0xa5; 384_000],
        }
    }
}

/// Both copies of a header and its keyslots.
fn header(slots: &[&Slot], tokens: &Value, named: bool) -> Draft {
    let mut draft = Draft::new(Vec::new());
    let mut keyslots = json!({});
    for (id, slot) in slots.iter().enumerate() {
        let offset = KEYSLOTS_OFFSET + id * AREA_SIZE;
        draft.put(offset, &slot.material);
        let mut json = slot.json.clone();
        json["area"]["offset"] = json!(offset.to_string());
        keyslots[id.to_string()] = json;
    }
    let ids: Vec<String> = (0..slots.len()).map(|id| id.to_string()).collect();
    let mut digest = slots[0].digest.clone();
    digest["keyslots"] = json!(ids);
    digest["segments"] = json!(["0"]);
    let json = json!({
        "keyslots": keyslots,
        "tokens": tokens,
        "segments": {"0": {
            "type": "crypt", "offset": "16777216", "size": "dynamic", "iv_tweak": "0", "encryption": "aes-xts-plain64",
            "sector_size": 4096,
            "integrity": {"type": "hmac(sha256)", "journal_encryption": "none", "journal_integrity": "none"},
        }},
        "digests": {"0": digest},
        "config": {"json_size": "12288", "keyslots_size": "16744448"},
    });
    for (start, magic) in [(0, b"LUKS\xba\xbe"), (COPY_LEN, b"SKUL\xba\xbe")] {
        let start_field = u64::try_from(start).unwrap();
        draft.put(start + draft::MAGIC, magic);
        draft.put(start + draft::VERSION, &2_u16.to_be_bytes());
        draft.put(start + draft::HDR_SIZE, &16_384_u64.to_be_bytes());
        draft.put(start + draft::SEQID, &3_u64.to_be_bytes());
        draft.put(start + draft::CSUM_ALG, b"sha256");
        draft.put(start + draft::SALT, &[if start == 0 { 1 } else { 2 }; 64]);
        draft.put(start + draft::UUID, UUID.as_bytes());
        draft.put(start + draft::HDR_OFFSET, &start_field.to_be_bytes());
        if named {
            draft.put(start + draft::LABEL, b"nightlatch");
            draft.put(start + draft::SUBSYSTEM, b"state");
        }
        draft.put(start + JSON_OFFSET, json.to_string().as_bytes());
    }
    draft
}

/// The header with its MAC.
fn signed(draft: &Draft) -> Draft {
    let mut area = draft.clone().finish().start;
    area.resize(AREA_LEN, 0);
    let area = Area::from_vec(area).unwrap();
    let signed = area.sign(&Expect::default(), &volume_key()).unwrap();
    Draft::new(signed.parts().concat())
}
