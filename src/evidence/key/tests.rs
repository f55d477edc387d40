// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::evidence::fixture::{EK_ATTRIBUTES, EK_POLICY, Key};
use crate::support::swtpm::Swtpm;

const AES_128_CFB: [u8; 6] = [0, 6, 0, 128, 0, 0x43];
const NO_SCHEME: [u8; 2] = [0, 0x10];

fn tool(swtpm: &Swtpm, name: &str, args: &[&str]) {
    let output = swtpm.tool(name, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?}: {errors}");
}

fn read(swtpm: &Swtpm, name: &str) -> Vec<u8> {
    std::fs::read(swtpm.dir().join(name)).unwrap()
}

/// The public area in a `TPM2B_PUBLIC`.
fn area(sized: &[u8]) -> &[u8] {
    sized.split_at(2).1
}

#[test]
fn keys_and_quotes_of_both_algorithms_from_another_program_are_verified() {
    for (kind, scheme) in [("rsa", "rsassa"), ("ecc", "ecdsa")] {
        let swtpm = Swtpm::start();
        tool(
            &swtpm,
            "tpm2_createek",
            &["-G", kind, "-c", "ek", "-u", "ek.pub"],
        );
        let ak = [
            "-C", "ek", "-c", "ak", "-G", kind, "-s", scheme, "-g", "sha256",
        ];
        let out = ["-u", "ak.pub", "-f", "tss", "-n", "ak.name"];
        tool(&swtpm, "tpm2_createak", &[&ak[..], &out].concat());
        let quote = ["-c", "ak", "-l", "sha256:0,7", "-q", "00ff", "-m", "attest"];
        let signature = ["-s", "signature", "-g", "sha256"];
        tool(&swtpm, "tpm2_quote", &[&quote[..], &signature].concat());

        let public = read(&swtpm, "ak.pub");
        let ak = Ak::parse(area(&public)).unwrap();
        assert_eq!(ak.name().as_bytes(), read(&swtpm, "ak.name"));
        let print = ["-t", "TPM2B_PUBLIC", "-f", "der", "ak.pub"];
        assert_eq!(swtpm.tool("tpm2_print", &print).stdout, ak.spki_der());

        let (mut attest, signature) = (read(&swtpm, "attest"), read(&swtpm, "signature"));
        ak.verify(&attest, &signature).unwrap();
        let parsed = crate::evidence::Attest::parse(&attest).unwrap();
        assert_eq!(parsed.extra_data, [0x00, 0xff]);
        attest[20] ^= 1;
        let refusal = ak.verify(&attest, &signature).unwrap_err();
        assert_eq!(refusal.check, Check::Signature);

        // An endorsement key is no attestation key, nor the other way round.
        let endorsement = read(&swtpm, "ek.pub");
        Ek::parse(area(&endorsement)).unwrap();
        let refusal = Ak::parse(area(&endorsement)).unwrap_err();
        assert_eq!(refusal.check, Check::AkAttributes);
        let refusal = Ek::parse(area(&public)).unwrap_err();
        assert_eq!(refusal.check, Check::EkTemplate);
    }
}

#[test]
fn an_endorsement_key_is_of_the_templates_and_of_nothing_else() {
    let key = Key::new(3);
    let policy = hex::decode(EK_POLICY).unwrap();
    let good = key.endorsement();
    assert_eq!(Ek::parse(&good).unwrap().id()[..], Bank::Sha256.hash(&good));

    // Each attribute the template has taken away, and each it has not added; userWithAuth is the high range's.
    for bit in 0..32 {
        let attributes = EK_ATTRIBUTES ^ (1 << bit);
        let public = key.area_with(attributes, &policy, &AES_128_CFB, &NO_SCHEME);
        let refusal = Ek::parse(&public).unwrap_err();
        assert_eq!(refusal.check, Check::EkTemplate, "{bit}");
    }
    let mut other = policy.clone();
    other[31] ^= 1;
    for (policy, symmetric, scheme) in [
        (&other[..], &AES_128_CFB[..], &NO_SCHEME[..]),
        (&policy[..31], &AES_128_CFB, &NO_SCHEME),
        (&[], &AES_128_CFB, &NO_SCHEME),
        (&policy, &[0, 6, 1, 0, 0, 0x43], &NO_SCHEME),
        (&policy, &[0, 6, 0, 128, 0, 0x44], &NO_SCHEME),
        (&policy, &[0, 0x10], &NO_SCHEME),
        (&policy, &AES_128_CFB, &[0, 0x18, 0, 0x0b]),
    ] {
        let public = key.area_with(EK_ATTRIBUTES, policy, symmetric, scheme);
        let refusal = Ek::parse(&public).unwrap_err();
        assert_eq!(refusal.check, Check::EkTemplate, "{}", hex::encode(public));
    }
}

#[test]
fn an_rsa_endorsement_key_has_the_default_exponent() {
    let with = |exponent: u32| {
        let area = [
            &[0, 1, 0, 0x0b][..],
            &EK_ATTRIBUTES.to_be_bytes(),
            &crate::evidence::fixture::sized(&hex::decode(EK_POLICY).unwrap()),
            &AES_128_CFB,
            &NO_SCHEME,
            &[8, 0],
            &exponent.to_be_bytes(),
            &crate::evidence::fixture::sized(&[0xff; 256]),
        ];
        Ek::parse(&area.concat()).map_err(|refusal| refusal.check)
    };
    with(0).unwrap();
    assert_eq!(with(65537).unwrap_err(), Check::EkTemplate);
}

/// A TPM may leave leading zeros of a number out; it is the same key then, and the same machine.
#[test]
fn a_key_has_one_id_however_its_numbers_are_written() {
    // The first key of this kind whose first coordinate starts with a zero.
    let whole = (1..5000).find_map(|number| {
        let public = Key::numbered(number).endorsement();
        let at = public.len() - 66;
        (public[at] == 0).then_some(public)
    });
    let whole = whole.unwrap();
    let (start, unique) = whole.split_at(whole.len() - 68);
    let short = [start, &[0, 31], &unique[3..]].concat();
    let long = [start, &[0, 33, 0], &unique[2..]].concat();
    let id = Ek::parse(&whole).unwrap().id();
    assert_eq!(Ek::parse(&short).unwrap().id(), id);
    assert_eq!(Ek::parse(&long).unwrap_err().check, Check::EkTemplate);
}

#[test]
fn what_is_no_key_is_refused() {
    let public = Key::new(3).public();
    Ak::parse(&public).unwrap();
    for len in 0..public.len() {
        let refusal = Ak::parse(&public[..len]).unwrap_err();
        assert_eq!(refusal.check, Check::Encoding, "{len}");
    }
    let with = |at: usize, byte: u8| {
        let mut public = public.clone();
        public[at] = byte;
        Ak::parse(&public).unwrap_err()
    };
    let last = public.len() - 1;
    assert_eq!(with(last, !public[last]).check, Check::AkScheme);
    assert_eq!(
        with(1, 0x08).to_string(),
        "check encoding: attestation key: expected an RSA or ECC key, found 0x0008"
    );
    assert_eq!(
        with(3, 0x04).to_string(),
        "check encoding: attestation key: expected a name with SHA-256, found 0x0004"
    );
}

#[test]
fn an_rsa_key_has_2048_bits_and_the_usual_exponent() {
    let with = |bits: u16, exponent: u32, modulus: &[u8]| {
        let area = [
            &[0, 1, 0, 0x0b][..],
            &0x0005_0472_u32.to_be_bytes(),
            &[0, 0, 0, 0x10, 0, 0x14, 0, 0x0b],
            &bits.to_be_bytes(),
            &exponent.to_be_bytes(),
            &crate::evidence::fixture::sized(modulus),
        ];
        Ak::parse(&area.concat()).map_err(|refusal| refusal.check)
    };
    let odd = [0xff; 256];
    with(2048, 0, &odd).unwrap();
    with(2048, 65537, &odd).unwrap();
    let mut small = odd;
    small[0] = 0x7f;
    let mut even = odd;
    even[255] = 0xfe;
    assert_eq!(with(2048, 3, &odd), Err(Check::Encoding));
    assert_eq!(with(1024, 0, &odd[..128]), Err(Check::Encoding));
    assert_eq!(with(2048, 0, &odd[..255]), Err(Check::AkScheme));
    assert_eq!(with(2048, 0, &small), Err(Check::AkScheme));
    assert_eq!(with(2048, 0, &even), Err(Check::AkScheme));
}

#[test]
fn a_signature_is_read_strictly() {
    let key = Key::new(3);
    let ak = Ak::parse(&key.public()).unwrap();
    let good = key.sign(b"message");
    ak.verify(b"message", &good).unwrap();
    for len in 0..good.len() {
        let refusal = ak.verify(b"message", &good[..len]).unwrap_err();
        assert_eq!(refusal.check, Check::Encoding, "{len}");
    }
    let zero = [&[0, 0x18, 0, 0x0b, 0, 1, 0][..], &[0, 1, 0]].concat();
    let sha1 = [&[0, 0x18, 0, 0x04][..], &good[4..]].concat();
    for bad in [zero, sha1, [&good[..], &[0]].concat()] {
        assert_eq!(
            ak.verify(b"message", &bad).unwrap_err().check,
            Check::Encoding
        );
    }
    let rsassa = [&[0, 0x14, 0, 0x0b, 1, 0][..], &[1; 256]].concat();
    let refusal = ak.verify(b"message", &rsassa).unwrap_err();
    assert_eq!(refusal.check, Check::Signature);
}
