// SPDX-License-Identifier: Apache-2.0
//! What the mock looks at and makes: evidence, signatures, credentials and certificates.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData as _};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, SignatureScheme};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha384};

use super::Session;
use crate::support::swtpm::alone;

pub(super) fn base64(bytes: &[u8]) -> String {
    use base64ct::{Base64, Encoding as _};
    Base64::encode_string(bytes)
}

pub(super) fn unbase64(value: &Value) -> Vec<u8> {
    use base64ct::{Base64, Encoding as _};
    Base64::decode_vec(value.as_str().unwrap()).unwrap()
}

/// All that Trustee's verifier checks, and what it does not: the session's nonce, the hash, the signature, the values.
pub(super) fn check_evidence(session: &Session, request: &Value) {
    let runtime = &request["runtime-data"];
    assert_eq!(runtime["nonce"], session.nonce.as_str());
    assert!(request["init-data"].is_null());
    let evidence = &request["tee-evidence"];
    let (additional, key) = (&evidence["additional_evidence"], &runtime["tee-pubkey"]);
    // RFC 8785, written out: the members in order, no white space.
    let canonical = format!(
        r#"{{"additional-evidence":{additional},"nonce":{},"tee-pubkey":{{"alg":{},"crv":{},"kty":{},"x":{},"y":{}}}}}"#,
        runtime["nonce"], key["alg"], key["crv"], key["kty"], key["x"], key["y"]
    );
    let digest = Sha384::digest(canonical.as_bytes());
    let quote = &evidence["primary_evidence"]["tpm_quote"];
    let message = unbase64(&quote["message"]);
    // Magic, type, the signer's name in 2 + 34 bytes, then what the quote is qualified with (TPM 2.0 part 2, section 10.12).
    assert_eq!(message[..6], [0xff, 0x54, 0x43, 0x47, 0x80, 0x18]);
    assert_eq!(message[42..44], [0, 32]);
    assert_eq!(message[44..76], digest[..32]);
    let pcrs = quote["pcrs"].as_array().unwrap();
    assert_eq!(pcrs.len(), 24);
    let values: Vec<u8> = pcrs
        .iter()
        .flat_map(|value| hex::decode(value.as_str().unwrap()).unwrap())
        .collect();
    let end = [
        &[0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0xff, 0xff, 0, 32][..],
        &Sha256::digest(&values),
    ];
    assert!(message.ends_with(&end.concat()));
    let spki = unbase64(&evidence["primary_evidence"]["ak_public"]);
    verify(&spki, &message, &unbase64(&quote["signature"]));
}

/// That a signature of a TPM's is good, by one who did not write the service: rustls' verifiers, which take DER.
pub(crate) fn verify(spki: &[u8], message: &[u8], signature: &[u8]) {
    let (scheme, key, signature) = match signature[..4] {
        // RSASSA, SHA-256, then the signature with its length.
        [0, 0x14, 0, 0x0b] => (
            SignatureScheme::RSA_PKCS1_SHA256,
            &spki[24..],
            signature[6..].to_vec(),
        ),
        // ECDSA, SHA-256, then two numbers with their lengths.
        [0, 0x18, 0, 0x0b] => {
            let len = usize::from(signature[5]);
            // Some TPMs keep the zeros in front, some do not.
            let numbers = [&signature[6..6 + len], &signature[8 + len..]]
                .map(|number| [&[0; 32][number.len()..], number].concat())
                .concat();
            let der = p256::ecdsa::Signature::from_slice(&numbers)
                .unwrap()
                .to_der();
            (
                SignatureScheme::ECDSA_NISTP256_SHA256,
                &spki[26..],
                der.as_bytes().to_vec(),
            )
        }
        _ => panic!("another kind of signature"),
    };
    let algorithms = ring::default_provider().signature_verification_algorithms;
    let known = algorithms
        .mapping
        .iter()
        .find(|(known, _)| *known == scheme);
    let is_good = |algorithm: &&dyn rustls::pki_types::SignatureVerificationAlgorithm| {
        algorithm.verify_signature(key, message, &signature).is_ok()
    };
    assert!(
        known.unwrap().1.iter().any(is_good),
        "the signature is wrong"
    );
}

/// A credential from `tpm2_makecredential`.
pub(super) fn credential(introduced: &Value, secret: &[u8]) -> Value {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("nightlatch-credential-{}-{number}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir(&dir).unwrap();
    let ek = unbase64(&introduced["ek-public"]);
    let len = u16::try_from(ek.len()).unwrap().to_be_bytes();
    std::fs::write(dir.join("ek"), [&len[..], &ek].concat()).unwrap();
    std::fs::write(dir.join("secret"), secret).unwrap();
    let ak = Sha256::digest(unbase64(&introduced["ak-public"]));
    let output = alone("tpm2_makecredential")
        .args(["-T", "none", "-u", "ek", "-s", "secret", "-o", "out", "-n"])
        .arg(format!("000b{}", hex::encode(ak)))
        .current_dir(&dir)
        .output()
        .unwrap();
    // It warns on every run that it needs no TPM.
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let out = std::fs::read(dir.join("out")).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let len = usize::from(u16::from_be_bytes([out[8], out[9]]));
    json!({"version": 1, "blob": base64(&out[10..10 + len]), "secret": base64(&out[12 + len..])})
}

/// A certificate for `localhost` by an authority of its own, with that authority and the pin of the key.
pub(super) fn certificates() -> (Arc<ServerConfig>, String, [u8; 32]) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(DnType::CommonName, "a test's authority");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let pin = Sha256::digest(key.subject_public_key_info()).into();
    let own = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let own = own.signed_by(&key, &authority).unwrap();
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], der)
        .unwrap();
    (Arc::new(config), authority.pem(), pin)
}
