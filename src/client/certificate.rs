// SPDX-License-Identifier: Apache-2.0
//! What is wrong with whoever answers in the service's place, in a sentence that says what to do.
//!
//! Nothing of it was authenticated: anybody on the way can bring each of these about, and names and dates are his.
//!
//! **Never:** a failure that ends the wait for the real service before the deadline.

use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::{CertificateError, InvalidMessage};

use super::Failure;
use crate::clock::{now_s, utc};
use crate::https::tls::CA_AS_SERVER;

/// How many characters of a foreign certificate's names are shown.
const NAMES_LEN_MAX: usize = 200;

/// How the sentence begins where the certificate is simply another one.
const ANOTHER: &str = "its certificate is not the one that service.ca or service.pin describe";

/// What TLS finds wrong; none where it is trouble on the way.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "of all that can go wrong in a handshake these have something to be done about"
)]
pub(super) fn failure(error: &rustls::Error) -> Option<Failure> {
    use rustls::Error as Tls;
    let said = match error {
        Tls::InvalidCertificate(why) => of_certificate(why, now_s()),
        Tls::NoCertificatesPresented | Tls::UnsupportedNameType => {
            format!("{ANOTHER}: {error}")
        }
        // What begins an answer of HTTP is no record of TLS (RFC 8446, section 5.1).
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS, but plain HTTP or something else: name the port where the service speaks TLS in \
             service.urls"
                .to_owned()
        }
        Tls::PeerIncompatible(_) | Tls::AlertReceived(_) => format!("TLS 1.3: {error}"),
        _ => return None,
    };
    Some(Failure::Untrusted(said))
}

/// `now_s` is what this machine's clock says, which is not always what a certificate was judged by.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "of all that can go wrong in a handshake these have something to be done about"
)]
fn of_certificate(why: &CertificateError, now_s: u64) -> String {
    match why {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "its certificate has ended at {}, and {}: renew the certificate, or set the clock",
            date(*not_after),
            clock(*time, now_s)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "its certificate begins at {}, and {}: set the clock, or issue a certificate that begins earlier",
            date(*not_before),
            clock(*time, now_s)
        ),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "its certificate is not for {}, but for {}: name the service in service.urls as its certificate does",
            expected.to_str(),
            names(presented)
        ),
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "{ANOTHER}: no authority of service.ca has issued it; if that is meant, build an image with the new one"
        ),
        CertificateError::ApplicationVerificationFailure => format!(
            "{ANOTHER}: its key is another one; if that is meant, build an image with the new service.pin"
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not one for servers: issue one whose extendedKeyUsage has serverAuth".to_owned()
        }
        CertificateError::Other(other) if other.to_string() == CA_AS_SERVER => {
            "its certificate is that of an authority (CA:TRUE), which no server may show: issue another one for the service"
                .to_owned()
        }
        other => format!("{ANOTHER}: {other}"),
    }
}

fn date(at: UnixTime) -> String {
    utc(at.as_secs())
}

/// What the clock says, and by what a certificate was judged where that is another time.
fn clock(judged_by: UnixTime, now_s: u64) -> String {
    let image_s = judged_by.as_secs();
    // The second may have changed since.
    if image_s > now_s.saturating_add(Duration::from_secs(60).as_secs()) {
        format!(
            "this machine's clock says {}, which is before its image was made, at {}",
            utc(now_s),
            utc(image_s)
        )
    } else {
        format!("this machine's clock says {}", utc(image_s))
    }
}

/// Names as a certificate of somebody's has them, `DnsName("a.example")`: what may stand in a journal, and not too much of it.
fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name at all".to_owned();
    }
    let bare = |name: &String| {
        let inner = name
            .split_once('(')
            .map_or(name.as_str(), |(_, inner)| inner);
        inner.trim_end_matches(')').to_owned()
    };
    let list: Vec<String> = presented.iter().map(bare).collect();
    let plain = |c: &char| c.is_ascii_alphanumeric() || ", .:-*_".contains(*c);
    let list = list.join(", ");
    list.chars().filter(plain).take(NAMES_LEN_MAX).collect()
}
