// SPDX-License-Identifier: Apache-2.0
//! Certificates told apart: a handshake in memory with a server that shows each, and what is said of it.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, PublicKeyData as _,
};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::{ClientConnection, ServerConfig, ServerConnection};
use sha2::{Digest as _, Sha256};

use super::super::{Failure, certificate};
use crate::clock::{now_s, utc};
use crate::https::tls::{TlsConnector, Trust};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

/// So many days from now, since 1970.
fn days(from_now: i64) -> Duration {
    let seconds = i64::try_from(now_s()).unwrap() + from_now * 86_400;
    Duration::from_secs(seconds.unsigned_abs())
}

/// A server with a certificate for `localhost`, with what a case changes of it.
struct Shown {
    certificate: Certificate,
    key: KeyPair,
}

fn shown(by: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Shown {
    let mut parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
    change(&mut parameters);
    let key = KeyPair::generate().unwrap();
    Shown {
        certificate: parameters.signed_by(&key, by).unwrap(),
        key,
    }
}

fn by_time(from: Duration, to: Duration) -> impl FnOnce(&mut CertificateParams) {
    move |parameters| {
        parameters.not_before = (UNIX_EPOCH + from).into();
        parameters.not_after = (UNIX_EPOCH + to).into();
    }
}

impl Shown {
    fn server(&self) -> ServerConnection {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.der().clone()], key)
            .unwrap();
        ServerConnection::new(Arc::new(config)).unwrap()
    }
}

/// The client's side of a handshake that this server answers.
fn handshake(trust: &Trust, made: Option<UnixTime>, shown: &Shown) -> Result<(), rustls::Error> {
    let connector = TlsConnector::new(trust, made).unwrap();
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(connector.config(), name).unwrap();
    let mut server = shown.server();
    while client.is_handshaking() {
        let mut sent = Vec::new();
        client.write_tls(&mut sent).unwrap();
        server.read_tls(&mut sent.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        let mut answered = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answered).unwrap();
        }
        let mut answered = answered.as_slice();
        while !answered.is_empty() {
            client.read_tls(&mut answered).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(())
}

/// What a node says of whoever has failed a handshake.
fn said(ended: Result<(), rustls::Error>) -> String {
    match certificate::failure(&ended.unwrap_err()) {
        Some(Failure::Untrusted(said)) => said,
        other => panic!("{other:?}"),
    }
}

fn trusting(authority: &Authority) -> Trust {
    Trust::Ca(authority.pem().into_bytes())
}

#[test]
fn each_thing_that_is_wrong_with_a_certificate_has_its_sentence() {
    let ours = authority("ours");
    let ca = trusting(&ours);
    let good = shown(&ours, |_| {});
    handshake(&ca, None, &good).unwrap();
    let pin = Trust::Pin([7; 32]);
    let theirs = shown(&authority("theirs"), |_| {});
    // Of the same name, with another key.
    let forged = shown(&authority("ours"), |_| {});
    let misnamed = shown(&ours, |parameters| {
        *parameters = CertificateParams::new(["other.example".to_owned()]).unwrap();
    });
    let nameless = shown(&ours, |parameters| {
        *parameters = CertificateParams::default();
    });
    let as_authority = shown(&ours, |parameters| {
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let of_a_client = shown(&ours, |parameters| {
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    for (trust, shown, expected) in [
        (
            &ca,
            &theirs,
            "service.pin describe: no authority of service.ca has issued it",
        ),
        (
            &ca,
            &forged,
            "service.pin describe: no authority of service.ca has issued it",
        ),
        (&pin, &good, "service.pin describe: its key is another one"),
        (
            &ca,
            &misnamed,
            "not for localhost, but for other.example: name the service",
        ),
        (
            &ca,
            &nameless,
            "not for localhost, but for no name at all: name the service",
        ),
        (
            &ca,
            &as_authority,
            "that of an authority (CA:TRUE), which no server may show",
        ),
        (&ca, &of_a_client, "extendedKeyUsage has serverAuth"),
    ] {
        let said = said(handshake(trust, None, shown));
        assert!(said.contains(expected), "{expected}: {said}");
    }
    // The pin alone counts where there is one.
    let spki = good.key.subject_public_key_info();
    let right = Trust::Pin(Sha256::digest(spki).into());
    handshake(&right, None, &good).unwrap();
}

#[test]
fn a_certificate_that_has_ended_or_not_begun_is_said_with_what_the_clock_says() {
    let ours = authority("ours");
    let ca = trusting(&ours);
    let ended = shown(&ours, by_time(days(-20), days(-10)));
    let said_of = said(handshake(&ca, None, &ended));
    let end = utc(days(-10).as_secs());
    let day = |text: &str| text[..10].to_owned();
    assert!(
        said_of.contains(&format!("its certificate has ended at {}", day(&end))),
        "{said_of}"
    );
    let today = day(&utc(now_s()));
    assert!(
        said_of.contains(&format!("this machine's clock says {today}")),
        "{said_of}"
    );

    let early = shown(&ours, by_time(days(10), days(20)));
    let said_of = said(handshake(&ca, None, &early));
    let start = day(&utc(days(10).as_secs()));
    assert!(
        said_of.contains(&format!("its certificate begins at {start}")),
        "{said_of}"
    );
    assert!(
        said_of.contains(&format!("this machine's clock says {today}")),
        "{said_of}"
    );
}

#[test]
fn no_certificate_is_judged_by_a_time_before_the_image_was_made() {
    let ours = authority("ours");
    let ca = trusting(&ours);
    let made = |at| Some(UnixTime::since_unix_epoch(at));
    // Good by this machine's clock, and ended by the time at which the image was made: the clock is behind.
    let short = shown(&ours, by_time(days(-10), days(10)));
    handshake(&ca, None, &short).unwrap();
    handshake(&ca, made(days(-30)), &short).unwrap();
    let said_of = said(handshake(&ca, made(days(20)), &short));
    assert!(
        said_of.contains("its certificate has ended at"),
        "{said_of}"
    );
    assert!(
        said_of.contains("which is before its image was made, at"),
        "{said_of}"
    );
    // One that begins after what the clock says is good, if it had begun when the image was made.
    let later = shown(&ours, by_time(days(10), days(30)));
    handshake(&ca, made(days(20)), &later).unwrap();
    assert!(handshake(&ca, None, &later).is_err());
}

#[test]
fn a_server_without_tls_is_said_to_be_one() {
    let ours = authority("ours");
    let connector = TlsConnector::new(&trusting(&ours), None).unwrap();
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        let name = "localhost".try_into().unwrap();
        let mut client = ClientConnection::new(connector.config(), name).unwrap();
        client.read_tls(&mut &answer[..]).unwrap();
        let ended = client.process_new_packets().map(drop);
        let said = said(ended);
        assert!(
            said.contains("it does not speak TLS, but plain HTTP"),
            "{said}"
        );
    }
}

#[test]
fn what_a_foreign_certificate_says_of_itself_does_not_reach_the_journal_as_it_is() {
    let ours = authority("ours");
    let long = format!("{}.example", "a".repeat(60));
    let names: Vec<String> = (0..20).map(|n| format!("{n}.{long}")).collect();
    let many = shown(&ours, |parameters| {
        *parameters = CertificateParams::new(names).unwrap();
    });
    let said = said(handshake(&trusting(&ours), None, &many));
    assert!(said.len() < 500, "{said}");
    assert!(
        said.chars().all(|c| c.is_ascii() && !c.is_ascii_control()),
        "{said}"
    );
}
