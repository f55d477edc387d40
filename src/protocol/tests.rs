// SPDX-License-Identifier: Apache-2.0

use serde_json::json;

use super::*;
use crate::pcr::PCR_COUNT;

fn runtime_data() -> RuntimeData {
    RuntimeData {
        nonce: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".into(),
        tee_pubkey: EphemeralKey {
            kty: "EC".into(),
            crv: "P-256".into(),
            alg: "ECDH-ES+A256KW".into(),
            x: "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU".into(),
            y: "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0".into(),
        },
    }
}

/// The text was put together by hand from the protocol's description, and hashed by sha384sum.
#[test]
fn a_quote_is_qualified_with_the_digest_of_canonical_json() {
    let canonical = concat!(
        r#"{"additional-evidence":"","nonce":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","tee-pubkey":"#,
        r#"{"alg":"ECDH-ES+A256KW","crv":"P-256","kty":"EC","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","#,
        r#""y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}}"#
    );
    let data = runtime_data();
    let digest = data.digest("").unwrap();
    assert_eq!(digest, <[u8; 48]>::from(Sha384::digest(canonical)));
    assert_eq!(data.qualifying("").unwrap(), digest[..32]);
    assert_ne!(data.digest("{}").unwrap(), digest);
}

#[test]
fn a_server_without_the_extension_is_told_from_one_that_has_it() {
    let plain: Challenge = serde_json::from_str(r#"{"nonce":"AA==","extra-params":""}"#).unwrap();
    assert!(plain.credential().unwrap().is_none());
    let ours = r#"{"nonce":"AA==","extra-params":{"nightlatch":{"version":1,"blob":"AQ==","secret":"Ag=="}}}"#;
    let ours: Challenge = serde_json::from_str(ours).unwrap();
    assert_eq!(ours.credential().unwrap().unwrap().blob, Bytes(vec![1]));
    let broken = r#"{"nonce":"AA==","extra-params":{"nightlatch":{"version":1}}}"#;
    let broken: Challenge = serde_json::from_str(broken).unwrap();
    broken.credential().unwrap_err();
}

#[test]
fn the_messages_have_the_shapes_of_the_protocol() {
    let auth = AuthRequest {
        version: VERSION.into(),
        tee: TEE.into(),
        extra_params: AuthParams::default(),
    };
    assert_eq!(
        serde_json::to_string(&auth).unwrap(),
        r#"{"version":"0.4.0","tee":"tpm","extra-params":{"supported-hash-algorithms":[]}}"#
    );
    let attest = AttestRequest {
        init_data: None,
        runtime_data: runtime_data(),
        tee_evidence: TeeEvidence {
            primary_evidence: TpmEvidence {
                tpm_quote: TpmQuote {
                    signature: Bytes(vec![1]),
                    message: Bytes(vec![2]),
                    pcrs: vec!["00".repeat(32)],
                },
                ak_public: Bytes(vec![3]),
            },
            additional_evidence: String::new(),
        },
    };
    let value = serde_json::to_value(&attest).unwrap();
    assert!(value["init-data"].is_null());
    assert_eq!(value["runtime-data"]["tee-pubkey"]["crv"], "P-256");
    let primary = &value["tee-evidence"]["primary_evidence"];
    assert_eq!(primary["tpm_quote"]["message"], "Ag==");
    assert_eq!(primary["ak_public"], "Aw==");
    assert_eq!(value["tee-evidence"]["additional_evidence"], "");
}

/// The record as the version before has it.
#[derive(Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
struct OfBefore {
    #[serde(default)]
    key_id: Option<String>,
    #[serde(default)]
    epoch: u64,
}

/// A node or a service of before knows no nonces: it ignores one, and what is said without one is what it says itself.
#[test]
fn a_record_without_a_nonce_is_what_it_was_before_there_were_any() {
    let key_id = "ab".repeat(32);
    let before = format!(r#"{{"key-id":"{key_id}","epoch":7}}"#);
    let record = VolumeRecord {
        key_id: Some(key_id),
        epoch: 7,
        nonce: None,
    };
    assert_eq!(serde_json::to_string(&record).unwrap(), before);
    assert_eq!(
        serde_json::from_str::<VolumeRecord>(&before).unwrap(),
        record
    );
    let answer = before.replace('}', r#","readmitted-s":5}"#);
    let remembered = Remembered {
        record: record.clone(),
        readmitted_s: Some(5),
        void_s: None,
        rollback: None,
    };
    assert_eq!(serde_json::to_string(&remembered).unwrap(), answer);
    assert_eq!(
        serde_json::from_str::<Remembered>(&answer).unwrap(),
        remembered
    );

    let told = before.replace('}', r#","nonce":"0102030405060a"}"#);
    let nonce = BootNonce::from_bytes([1, 2, 3, 4, 5, 6, 10]);
    let with = VolumeRecord { nonce, ..record };
    assert_eq!(serde_json::to_string(&with).unwrap(), told);
    assert_eq!(serde_json::from_str::<VolumeRecord>(&told).unwrap(), with);
    let flat = told.replace('}', r#","readmitted-s":5}"#);
    assert_eq!(
        serde_json::from_str::<Remembered>(&flat).unwrap().record,
        with
    );
    for bad in ["00000000000000", "0102030405060A", "0102"] {
        let flat = flat.replace("0102030405060a", bad);
        serde_json::from_str::<Remembered>(&flat).unwrap_err();
    }
    let read = |text: &str| serde_json::from_str::<OfBefore>(text).unwrap();
    assert_eq!(read(&told), read(&before));
}

#[test]
fn what_takes_more_memory_than_it_is_worth_is_not_kept() {
    let request = |init_data: &str, count: usize| {
        let pcrs = vec!["00"; count];
        let key = json!({"kty": "EC", "crv": "P-256", "alg": "A", "x": "x", "y": "y"});
        let rest = json!({"nonce": "AA==", "tee-pubkey": key});
        let quote = json!({"signature": "AA==", "message": "AA==", "pcrs": pcrs});
        let text = format!(
            r#"{{"init-data":{init_data},"runtime-data":{rest},
                "tee-evidence":{{"primary_evidence":{{"tpm_quote":{quote},"ak_public":"AA=="}}}}}}"#
        );
        serde_json::from_str::<AttestRequest>(&text)
    };
    for init_data in ["null", "[0,[1,{}]]", r#"{"a":"b"}"#] {
        let read = request(init_data, PCR_COUNT).unwrap();
        assert_eq!(read.init_data, None);
        let pcrs = read.tee_evidence.primary_evidence.tpm_quote.pcrs;
        assert_eq!(pcrs.len(), PCR_COUNT);
    }
    let error = request("null", PCR_COUNT + 1).unwrap_err().to_string();
    assert!(
        error.starts_with("invalid length 25, expected the values of at most 24 PCRs"),
        "{error}"
    );
}

/// Both ways: a service of before reads the record alone, and what a node of before tells is a report.
#[test]
fn a_report_is_a_record_with_words_that_are_left_out_where_they_say_nothing() {
    let record: VolumeRecord = serde_json::from_value(json!({"epoch": 7})).unwrap();
    let mut all = vec![
        (false, None, json!({"epoch": 7})),
        (true, None, json!({"epoch": 7, "own-secret": true})),
    ];
    for what in Acceptance::ALL {
        let value = json!({"epoch": 7, "accepted": what.as_str()});
        all.push((false, Some(what), value));
    }
    for (own_secret, accepted, value) in all {
        let report = VolumeReport {
            record: record.clone(),
            own_secret,
            accepted,
        };
        assert_eq!(serde_json::to_value(&report).unwrap(), value);
        let body = value.to_string();
        assert_eq!(VolumeReport::parse(body.as_bytes()).unwrap(), report);
        assert_eq!(serde_json::from_str::<VolumeRecord>(&body).unwrap(), record);
    }
    for broken in [
        "",
        "{",
        "3",
        r#"{"epoch":-1}"#,
        r#"{"epoch":7,"own-secret":1}"#,
        r#"{"epoch":7,"accepted":1}"#,
        r#"{"epoch":7,"accepted":{"what":"stale"}}"#,
    ] {
        VolumeReport::parse(broken.as_bytes()).unwrap_err();
    }
    // A node of a later version may have a word that is not known here, and is heard all the same.
    let later = VolumeReport::parse(br#"{"epoch":7,"accepted":"recovered"}"#).unwrap();
    assert_eq!((later.record, later.accepted), (record, None));
}
