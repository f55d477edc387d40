// SPDX-License-Identifier: Apache-2.0
//! What machines and a key service say to each other, and the logs machines send along, as the targets take it.

use std::collections::BTreeMap;
use std::path::Path;

use nightlatch::config::Role;
use nightlatch::evidence::bundle::Pcrs;
use nightlatch::evidence::{Ak, Bundle, Ek, credential};
use nightlatch::key::Secret;
use nightlatch::pcr::Bank;
use nightlatch::protocol::{
    AttestRequest, Bytes, Challenge, Credential, EXTENSION, Jwe, PROBLEM_PREFIX,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use serde_json::json;

use crate::UUID;
use crate::support::machine::{Machine, volume};

/// Nonces are 32 bytes in base64.
const NONCE: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// The ways in which the byte in front of a log may be set: digests made right, and left.
const SEALED: [u8; 2] = [0, 1];

/// The firmware logs that were taken from machines, with the values their PCRs had then.
fn machines() -> [(Vec<u8>, BTreeMap<String, String>); 2] {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/evidence");
    ["image", "loader"].map(|name| {
        let read = |end: &str| std::fs::read(place.join(format!("{name}.{end}"))).expect("a log");
        let values = String::from_utf8(read("pcrs")).expect("text");
        // PCR, SHA-256, SHA-1.
        let values = values.lines().map(|line| {
            let mut words = line.split(' ').map(ToOwned::to_owned);
            (
                words.next().expect("a PCR"),
                words.next().expect("its value"),
            )
        });
        (read("log"), values.collect())
    })
}

/// systemd's log, as this program adds to it: text, a clusterID, and a record of no PCR.
fn userspace() -> Vec<u8> {
    let cluster = [7; 32];
    let record = |measured: &[u8], content: serde_json::Value| {
        let digests = [Bank::Sha1, Bank::Sha256].map(
            |bank| json!({"hashAlg": bank.as_str(), "digest": hex::encode(bank.hash(measured))}),
        );
        let record = json!({
            "pcr": 15, "digests": digests, "content_type": "systemd", "content": content,
        });
        format!("\u{1e}{record}\n")
    };
    let phase = json!({"string": "enter-initrd", "eventType": "phase", "bootId": "00"});
    let id = json!({"clusterId": hex::encode(cluster), "eventType": "nightlatch-cluster-id"});
    let records = [
        record(b"enter-initrd", phase),
        record(&cluster, id),
        "\u{1e}{\"nv_index\":1,\"digests\":[]}\n".into(),
    ];
    records.concat().into_bytes()
}

/// As the target takes them.
pub(super) fn event_logs() -> Vec<Vec<u8>> {
    let [image, loader] = machines().map(|(log, _)| log);
    let userspace = userspace();
    let pairs = [
        (&image, &userspace),
        (&loader, &Vec::new()),
        (&Vec::new(), &userspace),
    ];
    let seed = |how: u8, firmware: &[u8], userspace: &[u8]| {
        let len = u16::try_from(firmware.len()).expect("a short log");
        [&[how], &len.to_le_bytes()[..], firmware, userspace].concat()
    };
    SEALED
        .into_iter()
        .flat_map(|how| pairs.map(|(firmware, userspace)| seed(how, firmware, userspace)))
        .collect()
}

/// As the target takes it: files of evidence, both bodies, and the parts that are no JSON.
pub(super) fn evidence() -> Vec<Vec<u8>> {
    let machine = Machine::new(1);
    let challenge = challenge(&machine);
    let claims = [
        volume(UUID, Role::State, Some(7)),
        volume(UUID, Role::Root, None),
    ];
    let mut draft = machine.draft(&challenge, &claims);
    let request = draft.request();
    let [(firmware, values), _] = machines();
    draft.claims.firmware_log = Some(Bytes(firmware));
    draft.claims.userspace_log = Some(Bytes(userspace()));
    let with_logs = draft.request();
    let firmware_log = draft.claims.firmware_log.as_ref();
    let bundle = bundle(&machine, &request, firmware_log, values);

    let chain = chain(&machine);
    let mut introduction = machine.introduction();
    if let Some(introduction) = &mut introduction.extra_params.nightlatch {
        introduction.ek_certificate = Some(Bytes(chain.certificate.clone()));
    }
    let parts = [machine.ek_public(), chain.certificate, chain.root];
    let parts = parts.iter().flat_map(|part| {
        let len = u16::try_from(part.len()).expect("a short part");
        [&len.to_be_bytes(), part.as_slice()].concat()
    });
    // With 4, the signature is left as it is.
    vec![
        [&[0][..], &bundle].concat(),
        [&[4][..], &bundle].concat(),
        [&[1][..], &text(&introduction)].concat(),
        [&[2][..], &text(&request)].concat(),
        [&[2][..], &text(&with_logs)].concat(),
        [3].into_iter().chain(parts).collect(),
    ]
}

fn challenge(machine: &Machine) -> Challenge {
    let ek = Ek::parse(&machine.ek_public()).expect("a good key");
    let ak = Ak::parse(&machine.ak_public()).expect("a good key");
    let made = credential::make(&ek, &ak.name(), &[7; 32]).expect("a credential");
    let credential = Credential {
        version: EXTENSION,
        blob: Bytes(made.id_object[2..].to_vec()),
        secret: Bytes(made.encrypted_secret[2..].to_vec()),
    };
    Challenge {
        nonce: NONCE.into(),
        extra_params: json!({ "nightlatch": credential }),
    }
}

/// A file of evidence with what a real machine logged. The target signs it anew.
fn bundle(
    machine: &Machine,
    request: &AttestRequest,
    firmware_log: Option<&Bytes>,
    values: BTreeMap<String, String>,
) -> Vec<u8> {
    let quote = request.tee_evidence.primary_evidence.tpm_quote.clone();
    text(&Bundle {
        ak_public: Bytes(machine.ak_public()),
        quote: quote.message,
        signature: quote.signature,
        pcrs: Pcrs::Banks(BTreeMap::from([(Bank::Sha256, values)])),
        firmware_log: firmware_log.cloned(),
        userspace_log: None,
    })
}

fn text(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON")
}

/// A certificate of a machine's endorsement key and who issued it, both DER.
struct Chain {
    certificate: Vec<u8>,
    root: Vec<u8>,
}

/// A point on P-256 whose private key somebody else has.
struct Point(Vec<u8>);

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

fn chain(machine: &Machine) -> Chain {
    let named = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let mut root = named("vendor");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().expect("a key");
    let root = CertifiedIssuer::self_signed(root, key).expect("a root");
    let mut leaf = named("TPM");
    leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    let ek = Ek::parse(&machine.ek_public()).expect("a good key");
    // An uncompressed point is the last 65 bytes.
    let spki = ek.spki_der();
    let point = Point(spki[spki.len() - 65..].to_vec());
    let certificate = leaf.signed_by(&point, &root).expect("a certificate");
    Chain {
        certificate: certificate.der().to_vec(),
        root: root.der().to_vec(),
    }
}

/// As the target takes them: each kind of answer, and an encrypted key with each part genuine but for one.
pub(super) fn answers() -> Vec<Vec<u8>> {
    let machine = Machine::new(1);
    let problem = json!({"type": format!("{PROBLEM_PREFIX}PolicyDeny"), "detail": "no\u{1b}[1m"});
    let draft = machine.draft(&challenge(&machine), &[]);
    let to = &draft.runtime_data.tee_pubkey;
    let jwe = Jwe::seal(&Secret::new(vec![7; 32]), to).expect("a good key");
    let plain = [
        (0, text(&challenge(&machine))),
        (0, text(&json!({"nonce": NONCE, "extra-params": ""}))),
        (1, text(&json!({"token": "a.b.c"}))),
        (2, text(&json!({"key-id": "ab".repeat(32), "epoch": 7}))),
        (
            2,
            text(
                &json!({"key-id": "ab".repeat(32), "epoch": 7, "nonce": "01".repeat(7), "readmitted-s": 5}),
            ),
        ),
        (3, b"kbs-session-id=abc.DEF-_~%3D; Path=/; Secure".to_vec()),
        (4, [&401_u16.to_be_bytes()[..], &text(&problem)].concat()),
    ];
    let genuine = [0, 31, 31 ^ 1, 31 ^ 2, 31 ^ 4, 31 ^ 8, 31 ^ 16];
    let encrypted = genuine.map(|parts: u8| (5 | parts << 3, text(&jwe)));
    let all = plain.into_iter().chain(encrypted);
    all.map(|(how, body)| [&[how], body.as_slice()].concat())
        .collect()
}
