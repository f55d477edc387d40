// SPDX-License-Identifier: Apache-2.0
//! Certificates made byte by byte (RFC 5280, section 4.1), on curves.

use std::time::{Duration, UNIX_EPOCH};

use p256::ecdsa::signature::Signer as _;
use p256::pkcs8::EncodePublicKey as _;
use x509_cert::der::pem::{LineEnding, encode_string};

use super::super::*;
use crate::evidence::fixture::Key;

// Object identifiers, without their tag: ecdsa-with-SHA256, ecdsa-with-SHA384, commonName.
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// Arcs of 2.5.29: key usage, basic constraints, name constraints, extended key usage.
const KEY_USAGE: u8 = 15;
const BASIC_CONSTRAINTS: u8 = 19;
const NAME_CONSTRAINTS: u8 = 30;
const EXTENDED_KEY_USAGE: u8 = 37;

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let len = value.len();
    let mut bytes = vec![tag];
    match len {
        0..0x80 => bytes.push(u8::try_from(len).unwrap()),
        0x80..0x100 => bytes.extend([0x81, u8::try_from(len).unwrap()]),
        _ => {
            bytes.push(0x82);
            bytes.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
    }
    bytes.extend(value);
    bytes
}

/// An authority's key.
#[derive(Clone)]
enum Authority {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
}

impl Authority {
    fn p256(seed: u8) -> Self {
        Self::P256(p256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap())
    }

    fn p384(seed: u8) -> Self {
        Self::P384(p384::ecdsa::SigningKey::from_slice(&[seed; 48]).unwrap())
    }

    fn spki(&self) -> Vec<u8> {
        let document = match self {
            Self::P256(key) => key.verifying_key().to_public_key_der(),
            Self::P384(key) => key.verifying_key().to_public_key_der(),
        };
        document.unwrap().into_vec()
    }

    fn algorithm(&self) -> Vec<u8> {
        let oid = match self {
            Self::P256(_) => ECDSA_SHA256,
            Self::P384(_) => ECDSA_SHA384,
        };
        tlv(0x30, &[&tlv(0x06, &[oid])])
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Self::P384(key) => {
                let signature: p384::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
        }
    }
}

/// An extension of 2.5.29.
fn extension(arc: u8, is_critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if is_critical {
        &[0x01, 0x01, 0xff]
    } else {
        &[]
    };
    let oid = tlv(0x06, &[&[0x55, 0x1d, arc]]);
    tlv(0x30, &[&oid, critical, &tlv(0x04, &[value])])
}

fn constraints(is_authority: bool, path_len: Option<u8>) -> Vec<u8> {
    let authority: &[u8] = if is_authority {
        &[0x01, 0x01, 0xff]
    } else {
        &[]
    };
    let path_len = path_len.map_or_else(Vec::new, |len| tlv(0x02, &[&[len]]));
    extension(BASIC_CONSTRAINTS, true, &tlv(0x30, &[authority, &path_len]))
}

/// Bit 0 is the highest: 2 enciphers keys, 4 agrees on keys, 5 signs certificates.
fn usage(bit: u8) -> Vec<u8> {
    extension(KEY_USAGE, true, &tlv(0x03, &[&[7 - bit, 0x80 >> bit]]))
}

/// An extended key usage of TCG's, 2.23.133.8: 1 endorses.
fn purpose(last: u8) -> Vec<u8> {
    let oid = tlv(0x06, &[&[0x67, 0x81, 0x05, 0x08, last]]);
    extension(EXTENDED_KEY_USAGE, false, &tlv(0x30, &[&oid]))
}

/// What one certificate says.
#[derive(Clone)]
struct Made {
    subject: &'static str,
    issuer: &'static str,
    spki: Vec<u8>,
    extensions: Vec<Vec<u8>>,
    years: (u16, u16),
}

impl Made {
    fn authority(subject: &'static str, issuer: &'static str, key: &Authority) -> Self {
        Self {
            subject,
            issuer,
            spki: key.spki(),
            extensions: vec![constraints(true, None), usage(5)],
            years: (2020, 2060),
        }
    }

    fn signed_by(&self, key: &Authority) -> Vec<u8> {
        let name = |name: &str| {
            let value = tlv(0x0c, &[name.as_bytes()]);
            let pair = tlv(0x30, &[&tlv(0x06, &[COMMON_NAME]), &value]);
            tlv(0x30, &[&tlv(0x31, &[&pair])])
        };
        let time = |year: u16| match year {
            2050.. => tlv(0x18, &[format!("{year}0101000000Z").as_bytes()]),
            _ => tlv(0x17, &[format!("{:02}0101000000Z", year % 100).as_bytes()]),
        };
        let (from, to) = self.years;
        let parts: Vec<&[u8]> = self.extensions.iter().map(Vec::as_slice).collect();
        let signed = tlv(
            0x30,
            &[
                &tlv(0xa0, &[&[0x02, 0x01, 0x02]]),
                &[0x02, 0x01, 0x07],
                &key.algorithm(),
                &name(self.issuer),
                &tlv(0x30, &[&time(from), &time(to)]),
                &name(self.subject),
                &self.spki,
                &tlv(0xa3, &[&tlv(0x30, &parts)]),
            ],
        );
        let signature = tlv(0x03, &[&[0], &key.sign(&signed)]);
        tlv(0x30, &[&signed, &key.algorithm(), &signature])
    }
}

/// An endorsement key and everything that vouches for it.
pub(in crate::evidence) struct Certified {
    pub(in crate::evidence) roots: String,
    pub(in crate::evidence) intermediates: String,
    pub(in crate::evidence) certificate: Vec<u8>,
    pub(in crate::evidence) ek: Ek,
    pub(in crate::evidence) now: SystemTime,
}

/// One that is accepted.
pub(in crate::evidence) fn certified() -> Certified {
    Chain::good().certified()
}

fn ek() -> Ek {
    Ek::parse(&Key::new(9).endorsement()).unwrap()
}

/// A root on P-384, an intermediate on P-256, and an endorsement certificate.
struct Chain {
    root: Made,
    issuer: Made,
    leaf: Made,
    /// The certificate between root and issuer, where there is one more.
    between: Option<Made>,
    year: u64,
}

impl Chain {
    fn good() -> Self {
        let spki = ek().spki_der().to_vec();
        let mut issuer = Made::authority("issuer", "root", &Authority::p256(2));
        issuer.extensions[0] = constraints(true, Some(0));
        Self {
            root: Made::authority("root", "root", &Authority::p384(1)),
            issuer,
            leaf: Made {
                subject: "tpm",
                issuer: "issuer",
                spki,
                extensions: vec![constraints(false, None), usage(4), purpose(1)],
                years: (2025, 2055),
            },
            between: None,
            year: 2030,
        }
    }

    fn certified(&self) -> Certified {
        let text = |der: &[u8]| encode_string("CERTIFICATE", LineEnding::LF, der).unwrap();
        let (root, issuer) = (Authority::p384(1), Authority::p256(2));
        let mut others = String::new();
        if let Some(between) = &self.between {
            others += &text(&between.signed_by(&root));
            others += &text(&self.issuer.signed_by(&Authority::p256(3)));
        } else {
            others += &text(&self.issuer.signed_by(&root));
        }
        // Near enough, in years of 365.25 days.
        let seconds = (self.year - 1970) * 31_557_600 + 86_400;
        Certified {
            roots: text(&self.root.signed_by(&root)),
            intermediates: others,
            certificate: self.leaf.signed_by(&issuer),
            ek: ek(),
            now: UNIX_EPOCH + Duration::from_secs(seconds),
        }
    }

    fn verdict(&self) -> Result<(), String> {
        let chain = self.certified();
        Authorities::from_pem(&chain.roots, &chain.intermediates)
            .unwrap()
            .verify(&chain.certificate, &[], &chain.ek, chain.now)
            .map_err(|refusal| {
                assert_eq!(refusal.check, Check::EkChain);
                refusal.why
            })
    }

    fn refusal(change: impl FnOnce(&mut Self)) -> String {
        let mut chain = Self::good();
        change(&mut chain);
        chain.verdict().unwrap_err()
    }
}

#[test]
fn a_chain_on_both_curves_is_accepted() {
    Chain::good().verdict().unwrap();
}

#[test]
fn every_certificate_has_to_be_valid_at_the_time() {
    let expired = "it expired at";
    assert!(Chain::refusal(|it| it.year = 2057).contains(expired));
    assert!(Chain::refusal(|it| it.year = 2024).contains("it is valid from"));
    for change in [
        (|it| it.root.years.1 = 2029) as fn(&mut Chain),
        |it| it.issuer.years.1 = 2029,
        |it| it.leaf.years.1 = 2029,
    ] {
        assert!(Chain::refusal(change).contains(expired));
    }
}

#[test]
fn an_issuer_has_to_be_an_authority() {
    let no_authority = "certificate of CN=issuer: it is not that of an authority";
    assert_eq!(
        Chain::refusal(|it| it.issuer.extensions[0] = constraints(false, None)),
        no_authority
    );
    assert_eq!(
        Chain::refusal(|it| drop(it.issuer.extensions.remove(0))),
        no_authority
    );
    assert_eq!(
        Chain::refusal(|it| it.issuer.extensions[1] = usage(2)),
        "certificate of CN=issuer: its key may not sign certificates"
    );
    assert_eq!(
        Chain::refusal(|it| it.root.extensions[0] = constraints(false, None)),
        "certificate of CN=root: it is not that of an authority"
    );
}

#[test]
fn a_limit_on_the_length_of_the_path_is_kept() {
    let longer = |limit: Option<u8>| {
        let mut chain = Chain::good();
        let mut between = Made::authority("between", "root", &Authority::p256(3));
        between.extensions[0] = constraints(true, limit);
        chain.between = Some(between);
        chain.issuer.issuer = "between";
        chain.verdict()
    };
    longer(None).unwrap();
    longer(Some(1)).unwrap();
    assert_eq!(
        longer(Some(0)).unwrap_err(),
        "certificate of CN=between: it allows no 1 authorities below it"
    );
}

#[test]
fn critical_extensions_have_to_be_understood() {
    let named = |is_critical| extension(NAME_CONSTRAINTS, is_critical, &[0x30, 0x00]);
    for place in [
        (|it, extension| it.leaf.extensions.push(extension)) as fn(&mut Chain, Vec<u8>),
        |it, extension| it.issuer.extensions.push(extension),
        |it, extension| it.root.extensions.push(extension),
    ] {
        let why = Chain::refusal(|it| place(it, named(true)));
        assert!(
            why.ends_with("critical extension 2.5.29.30 is not understood"),
            "{why}"
        );
        let mut chain = Chain::good();
        place(&mut chain, named(false));
        chain.verdict().unwrap();
    }
}

#[test]
fn an_endorsement_certificate_is_for_an_endorsement_key() {
    assert_eq!(
        Chain::refusal(|it| it.leaf.extensions[0] = constraints(true, None)),
        "certificate of CN=tpm: it is that of an authority"
    );
    // 2 is right for RSA.
    assert_eq!(
        Chain::refusal(|it| it.leaf.extensions[1] = usage(2)),
        "certificate of CN=tpm: its key may not be used to encipher"
    );
    let why = "certificate of CN=tpm: it does not say that its key may be used to endorse";
    assert_eq!(Chain::refusal(|it| it.leaf.extensions[2] = purpose(2)), why);
    assert_eq!(Chain::refusal(|it| drop(it.leaf.extensions.pop())), why);
    Chain::good().verdict().unwrap();
}

#[test]
fn names_alone_do_not_make_an_issuer() {
    let why = Chain::refusal(|it| it.issuer.spki = Authority::p256(8).spki());
    assert_eq!(
        why,
        "certificate of CN=tpm: nobody who is trusted issued it"
    );
    let why = Chain::refusal(|it| it.leaf.issuer = "somebody");
    assert_eq!(
        why,
        "certificate of CN=tpm: nobody who is trusted issued it"
    );
    let why = Chain::refusal(|it| it.root.subject = "somebody");
    assert_eq!(
        why,
        "certificate of CN=issuer: nobody who is trusted issued it"
    );
}
