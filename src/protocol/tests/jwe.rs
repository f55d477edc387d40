// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::error::Exit;

fn sealed() -> (EphemeralKeyPair, Jwe) {
    let pair = EphemeralKeyPair::generate().unwrap();
    let jwe = Jwe::seal(&Secret::new(vec![7; 32]), &pair.public()).unwrap();
    (pair, jwe)
}

fn hex(text: &str) -> [u8; 32] {
    let bytes = Base64UrlUnpadded::decode_vec(text).unwrap();
    bytes.try_into().unwrap()
}

/// RFC 7518, appendix C: Alice's ephemeral key, Bob's key, and the key both get for A128GCM.
#[test]
fn key_agreement_equals_rfc_7518() {
    let alice = SecretKey::from_slice(&hex("0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo")).unwrap();
    let bob = point(
        "EC",
        "P-256",
        "weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ",
        "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck",
    )
    .unwrap();
    let z = diffie_hellman(alice.to_nonzero_scalar(), bob.as_affine());
    assert_eq!(
        z.raw_secret_bytes().to_vec(),
        [
            158, 86, 217, 29, 129, 113, 53, 211, 114, 131, 66, 131, 191, 132, 38, 156, 251, 49,
            110, 163, 218, 128, 106, 72, 246, 218, 167, 121, 140, 254, 144, 196
        ]
    );
    let key = concat_kdf(z.raw_secret_bytes(), "A128GCM", [b"Alice", b"Bob"], 128);
    assert_eq!(
        Base64UrlUnpadded::encode_string(&key[..16]),
        "VqqN6vgjbSBcIijNcacQGg"
    );
}

/// Expected value: Python's hashlib over the fields as RFC 7518 section 4.6.2 writes them out.
#[test]
fn the_wrapping_key_is_derived_as_trustee_does() {
    let z: Vec<u8> = (0..32).collect();
    assert_eq!(
        hex::encode(concat_kdf(&z, ALG, [b"", b""], 256)),
        "ead36a3ab953bb6e5a6709471c0fd35fcc62cf920994cede2f3aa2544e9f47ac"
    );
}

#[test]
fn what_is_sealed_is_opened() {
    let (pair, jwe) = sealed();
    assert_eq!(pair.open(&jwe).unwrap().expose(), [7; 32]);
    assert_eq!(jwe.protected.len(), 231);
    for len in [0, 1, 64, CONTENT_LEN_MAX] {
        let jwe = Jwe::seal(&Secret::new(vec![1; len]), &pair.public()).unwrap();
        assert_eq!(pair.open(&jwe).unwrap().expose(), vec![1; len]);
    }
    assert!(Jwe::seal(&Secret::new(vec![1; CONTENT_LEN_MAX + 1]), &pair.public()).is_err());
}

#[test]
fn another_key_opens_nothing() {
    let (_, jwe) = sealed();
    let error = EphemeralKeyPair::generate()
        .unwrap()
        .open(&jwe)
        .unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert_eq!(
        error.to_string(),
        "decrypting what the key service sent: its content key was not wrapped for this node"
    );
}

#[test]
fn each_part_altered_is_refused() {
    let (pair, jwe) = sealed();
    let parts: [fn(&mut Jwe) -> &mut String; 5] = [
        |jwe| &mut jwe.protected,
        |jwe| &mut jwe.encrypted_key,
        |jwe| &mut jwe.iv,
        |jwe| &mut jwe.ciphertext,
        |jwe| &mut jwe.tag,
    ];
    for part in parts {
        let changes: [fn(&str) -> String; 6] = [
            |text| text[1..].into(),
            |text| text[..text.len() - 1].into(),
            |text| format!("{text}A"),
            |text| format!("{text}="),
            |_| String::new(),
            |text| {
                let first = if text.starts_with('A') { 'B' } else { 'A' };
                format!("{first}{}", &text[1..])
            },
        ];
        for change in changes {
            let mut altered = jwe.clone();
            let text = change(part(&mut altered));
            *part(&mut altered) = text;
            let error = pair.open(&altered).unwrap_err();
            assert_eq!(error.exit(), Exit::Refused, "{altered:?}");
        }
    }
}

/// The text is what is authenticated, not what it means.
#[test]
fn a_header_that_says_the_same_in_other_words_is_refused() {
    let (pair, jwe) = sealed();
    let header = Base64UrlUnpadded::decode_vec(&jwe.protected).unwrap();
    let spaced = [&header[..header.len() - 1], b" }"].concat();
    let altered = Jwe {
        protected: Base64UrlUnpadded::encode_string(&spaced),
        ..jwe
    };
    assert_eq!(
        pair.open(&altered).unwrap_err().to_string(),
        "decrypting what the key service sent: it was altered, or encrypted with another key"
    );
}

#[test]
fn a_header_with_more_than_is_understood_is_refused() {
    let (pair, jwe) = sealed();
    let header = Base64UrlUnpadded::decode_vec(&jwe.protected).unwrap();
    let header = String::from_utf8(header).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(header.contains(from), "{header}");
        Base64UrlUnpadded::encode_string(header.replacen(from, to, 1).as_bytes())
    };
    for (from, to) in [
        ("{", "{\"apu\":\"QQ\","),
        ("{", "{\"apv\":\"QQ\","),
        ("{", "{\"crit\":[\"b64\"],"),
        ("{", "{\"zip\":\"DEF\","),
        ("A256GCM", "A128GCM"),
        ("ECDH-ES+A256KW", "ECDH-ES"),
        ("P-256", "P-521"),
        ("EC\"", "OKP\""),
    ] {
        let altered = Jwe {
            protected: changed(from, to),
            ..jwe.clone()
        };
        let message = pair.open(&altered).unwrap_err().to_string();
        assert!(message.contains("expected"), "{to}: {message}");
    }
    let long = Jwe {
        protected: "A".repeat(PROTECTED_LEN_MAX + 1),
        ..jwe.clone()
    };
    assert!(pair.open(&long).is_err());
    let long = Jwe {
        ciphertext: "A".repeat(2 * CONTENT_LEN_MAX),
        ..jwe
    };
    assert!(pair.open(&long).is_err());
}

#[test]
fn a_key_that_is_not_on_the_curve_is_refused() {
    let good = EphemeralKeyPair::generate().unwrap().public();
    good.check().unwrap();
    let secret = Secret::new(vec![7; 32]);
    let zero = Base64UrlUnpadded::encode_string(&[0; 32]);
    let bad: [fn(&mut EphemeralKey, &str); 6] = [
        |key, _| std::mem::swap(&mut key.x, &mut key.y),
        |key, zero| (key.x, key.y) = (zero.into(), zero.into()),
        |key, _| key.kty = "RSA".into(),
        |key, _| key.crv = "P-384".into(),
        |key, _| key.alg = "ECDH-ES".into(),
        |key, _| key.x.push('='),
    ];
    for change in bad {
        let mut key = good.clone();
        change(&mut key, &zero);
        assert!(Jwe::seal(&secret, &key).is_err(), "{key:?}");
        assert_eq!(key.check().unwrap_err().exit(), Exit::Refused);
    }
}

#[test]
fn a_key_pair_does_not_print_itself() {
    let pair = EphemeralKeyPair::generate().unwrap();
    assert_eq!(format!("{pair:?}"), "EphemeralKeyPair(..)");
}
