// SPDX-License-Identifier: Apache-2.0
//! What machines send to be judged, as the key service and `nightlatchctl` take it. The first byte says what follows: a file
//! of evidence, the body of `/auth`, the body of `/attest` (all JSON), or the parts that are DER or marshalled.

#![no_main]

#[path = "../attester.rs"]
mod attester;

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use nightlatch::evidence::bundle::Pcrs;
use nightlatch::evidence::{
    Ak, Attest, Authorities, Bundle, Check, Ek, Policy, Verified, credential, key,
};
use nightlatch::pcr::PCR_COUNT;
use nightlatch::protocol::{Additional, AttestRequest, AuthRequest, Bytes};

const POLICY: &str = r#"
    [ek]
    enrolled = ["0000000000000000000000000000000000000000000000000000000000000000"]
    [[image]]
    name = "usual"
    secure-boot = true
    command-line = ["quiet ro"]
    uki-hash = ["1111111111111111111111111111111111111111111111111111111111111111"]
    pcrs.11 = ["2222222222222222222222222222222222222222222222222222222222222222"]
    [[role]]
    name = "worker"
    volumes = ["state"]
    images = ["usual"]
"#;

static POLICY_READ: LazyLock<Policy> =
    LazyLock::new(|| Policy::parse(POLICY, |_| Ok(String::new())).expect("a good policy"));

fuzz_target!(|input: &[u8]| {
    let Some((how, input)) = input.split_first() else {
        return;
    };
    // Without a signature that is right little but signatures would be tested.
    let is_signed = how & 4 == 0;
    match how % 4 {
        0 => {
            let text = std::str::from_utf8(input).unwrap_or_default();
            if let Ok(bundle) = Bundle::parse(text) {
                judge(bundle, is_signed);
            }
        }
        1 => introduction(input),
        2 => request(input, is_signed),
        _ => parts(input),
    }
});

fn judge(mut bundle: Bundle, is_signed: bool) {
    if is_signed {
        attester::sign(&mut bundle);
    }
    let text = serde_json::to_string(&bundle).expect("JSON");
    assert_eq!(Bundle::parse(&text).as_ref(), Ok(&bundle));
    match bundle.verify() {
        Ok(verified) => accepted(&bundle, &verified),
        // These need somebody who asked, or an endorsement key.
        Err(refusal) => assert!(
            !matches!(
                refusal.check,
                Check::Nonce | Check::EkTrust | Check::EkChain | Check::EkKey
            ),
            "{refusal}"
        ),
    }
}

fn accepted(bundle: &Bundle, verified: &Verified) {
    let attest = Attest::parse(&bundle.quote.0).expect("it was verified");
    let (bank, pcrs) = attest.selection().expect("it was verified");
    assert_eq!(verified.bank, bank);
    assert!(verified.pcrs.keys().copied().eq(pcrs.iter()));
    // What is told was measured into a PCR whose value follows from the logs.
    for event in &verified.events {
        assert!(verified.explained.contains(event.pcr), "{event}");
    }
    let early = POLICY_READ.early(verified);
    let zero = verified
        .pcrs
        .get(&15)
        .is_some_and(|value| *value == bank.zero());
    assert_eq!(early.is_ok(), zero);
    if let Err(explanation) = POLICY_READ.image(verified) {
        assert!(!explanation.to_string().is_empty());
    }
}

fn introduction(body: &[u8]) {
    let Ok(request) = serde_json::from_slice::<AuthRequest>(body) else {
        return;
    };
    let Some(introduction) = request.extra_params.nightlatch else {
        return;
    };
    let (Ok(ek), Ok(ak)) = (
        Ek::parse(&introduction.ek_public.0),
        Ak::parse(&introduction.ak_public.0),
    ) else {
        return;
    };
    let certificate = introduction.ek_certificate.as_ref();
    let certificate = certificate.map(|bytes| bytes.0.as_slice());
    let trust = POLICY_READ.trusts(&ek, certificate, &[], now());
    assert_eq!(trust.map_err(|refusal| refusal.check), Err(Check::EkTrust));
    // Length, HMAC and the encrypted secret, each with its own length.
    let made = credential::make(&ek, &ak.name(), &[7; 32]).expect("a credential for a good key");
    assert_eq!(made.id_object.len(), 2 + 2 + 32 + 2 + 32);
    assert_eq!(
        key::known(&introduction.ak_public.0).as_deref(),
        Ok(ak.spki_der())
    );
}

fn request(body: &[u8], is_signed: bool) {
    let Ok(request) = serde_json::from_slice::<AttestRequest>(body) else {
        return;
    };
    let (data, evidence) = (&request.runtime_data, &request.tee_evidence);
    // The key of what is given out is checked, and then it can be encrypted to.
    let secret = nightlatch::key::Secret::new(vec![7; 32]);
    let sealed = nightlatch::protocol::Jwe::seal(&secret, &data.tee_pubkey);
    assert_eq!(data.tee_pubkey.check().is_ok(), sealed.is_ok());
    let qualifying = data.qualifying(&evidence.additional_evidence);
    assert!(qualifying.is_ok());
    let Ok(additional) = serde_json::from_str::<Additional>(&evidence.additional_evidence) else {
        return;
    };
    let quote = evidence.primary_evidence.tpm_quote.clone();
    if quote.pcrs.len() == PCR_COUNT {
        let bundle = Bundle {
            ak_public: Bytes(attester::public()),
            quote: quote.message,
            signature: quote.signature,
            pcrs: Pcrs::List(quote.pcrs),
            firmware_log: additional.nightlatch.firmware_log,
            userspace_log: additional.nightlatch.userspace_log,
        };
        judge(bundle, is_signed);
    }
}

/// Each with its length in front, two bytes, big-endian: an endorsement key, its certificate, a root's, others'.
fn parts(mut input: &[u8]) {
    let mut parts = Vec::new();
    while let Some((len, rest)) = input.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes(*len)).min(rest.len());
        let (part, left) = rest.split_at(len);
        parts.push(part.to_vec());
        input = left;
    }
    let [ek, certificate, root, others @ ..] = parts.as_slice() else {
        return;
    };
    let (Ok(ek), Ok(authorities)) = (
        Ek::parse(ek),
        Authorities::from_pem(&attester::pem(root), ""),
    ) else {
        return;
    };
    if let Err(refusal) = authorities.verify(certificate, others, &ek, now()) {
        assert!(
            matches!(
                refusal.check,
                Check::Encoding | Check::EkKey | Check::EkChain
            ),
            "{refusal}"
        );
    }
}

/// The same in every run.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}
