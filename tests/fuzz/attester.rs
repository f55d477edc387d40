// SPDX-License-Identifier: Apache-2.0
//! A key that signs whatever it is given: a fuzzer does not find a signature by itself.

use nightlatch::evidence::bundle::restricted;
use nightlatch::evidence::{Attest, Bundle};
use nightlatch::protocol::Bytes;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::sec1::ToSec1Point as _;
use sha2::{Digest as _, Sha256};

/// ECDSA with SHA-256, as it is marshalled (TCG Algorithm Registry).
const ECDSA_SHA256: [u8; 4] = [0x00, 0x18, 0x00, 0x0b];

fn key() -> SigningKey {
    SigningKey::from_slice(&[7; 32]).expect("below the curve's order")
}

/// A `TPMT_PUBLIC` of a restricted signing key on P-256.
pub fn public() -> Vec<u8> {
    let point = key().verifying_key().as_affine().to_sec1_point(false);
    let [x, y] = [point.x(), point.y()].map(|part| sized(part.expect("not at infinity")));
    [
        &[0x00, 0x23, 0x00, 0x0b][..],
        &0x0005_0472_u32.to_be_bytes(),
        &[0x00, 0x00, 0x00, 0x10],
        &ECDSA_SHA256,
        &[0x00, 0x03, 0x00, 0x10],
        &x,
        &y,
    ]
    .concat()
}

/// Makes digest, key and signature of evidence right, where it has a quote over one bank.
pub fn sign(bundle: &mut Bundle) {
    let quote = &mut bundle.quote.0;
    let Ok(attest) = Attest::parse(quote) else {
        return;
    };
    let Some((bank, pcrs)) = attest.selection() else {
        return;
    };
    if let Ok(values) = bundle.pcrs.values(bank) {
        let all: Vec<u8> = restricted(values, pcrs).into_values().flatten().collect();
        // The last of its fields.
        quote.truncate(quote.len() - attest.pcr_digest.len() - 2);
        quote.extend(sized(&Sha256::digest(all)));
    }
    let signature: Signature = key().sign(quote);
    let (r, s) = signature.split_bytes();
    bundle.signature = Bytes([&ECDSA_SHA256[..], &sized(&r), &sized(&s)].concat());
    bundle.ak_public = Bytes(public());
}

/// A certificate as an administrator has it.
pub fn pem(der: &[u8]) -> String {
    let text = serde_json::to_string(&Bytes(der.to_vec())).expect("base64");
    let digits = text.trim_matches('"').as_bytes();
    let lines: Vec<&str> = digits
        .chunks(64)
        .map(|line| std::str::from_utf8(line).expect("ASCII"))
        .collect();
    let lines = lines.join("\n");
    format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
}

/// A `TPM2B`.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).expect("short");
    [&len.to_be_bytes(), bytes].concat()
}
