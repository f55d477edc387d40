// SPDX-License-Identifier: Apache-2.0
//! What a service answers, made into typed values. Pure: the bytes come from the network.

use std::time::Duration;

use base64ct::{Base64, Encoding};

use crate::client::Failure;
use crate::protocol::{
    Admission, COOKIE, Challenge, Credential, EXTENSION, Jwe, PROBLEM_PREFIX, Problem, Remembered,
};

/// Lengths a nonce may have, in bytes. Trustee's has 32.
const NONCE_LENS: std::ops::RangeInclusive<usize> = 16..=64;

/// The longest session cookie that is kept, in characters.
const COOKIE_LEN_MAX: usize = 4096;

/// The longest bearer token that is accepted, in characters. It is not used: the cookie does as well.
const TOKEN_LEN_MAX: usize = 128 * 1024;

/// How much of a problem's text is passed on, in characters.
const DETAIL_LEN_MAX: usize = 200;

/// The longest wait that is taken from a service. It may be gone by the time it asked for, and another one there.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

type Parsed<T> = Result<T, Failure>;

fn json<T: serde::de::DeserializeOwned>(body: &[u8], what: &str) -> Parsed<T> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::Final(format!("expected {what} in JSON: {error}")))
}

/// The answer of `/auth`, and what the extension says in it.
pub fn challenge(body: &[u8]) -> Parsed<(Challenge, Option<Credential>)> {
    let challenge: Challenge = json(body, "a nonce")?;
    let len = Base64::decode_vec(&challenge.nonce).map(|nonce| nonce.len());
    if !len.is_ok_and(|len| NONCE_LENS.contains(&len)) {
        return Err(Failure::Final(
            "expected a nonce of 32 bytes in base64".into(),
        ));
    }
    let credential = challenge
        .credential()
        .map_err(|error| Failure::Final(error.to_string()))?;
    match credential {
        Some(credential) if credential.version != EXTENSION => Err(Failure::Final(format!(
            "expected version {EXTENSION} of the extension, found {}",
            credential.version
        ))),
        credential => Ok((challenge, credential)),
    }
}

/// The answer of `/attest`.
pub fn admission(body: &[u8]) -> Parsed<()> {
    let admission: Admission = json(body, "a token")?;
    if admission.token.is_empty() || admission.token.len() > TOKEN_LEN_MAX {
        return Err(Failure::Final("expected a token".into()));
    }
    Ok(())
}

/// The answer of `/resource`.
pub fn resource(body: &[u8]) -> Parsed<Jwe> {
    json(body, "an encrypted key")
}

/// What the service remembers of a volume.
pub fn record(body: &[u8]) -> Parsed<Remembered> {
    let remembered: Remembered = json(body, "the record of a volume")?;
    let is_id = |id: &String| {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        id.len() == 64 && id.bytes().all(is_digit)
    };
    let id = remembered.record.key_id.as_ref();
    if id.is_some_and(|id| !is_id(id)) {
        return Err(Failure::Final(
            "expected a key-id of 64 hexadecimal digits".into(),
        ));
    }
    Ok(remembered)
}

/// Name and value of the session's cookie, from a `Set-Cookie` header (RFC 6265, section 4.1.1).
#[must_use]
pub fn cookie(header: &str) -> Option<String> {
    let pair = header.split(';').next()?.trim();
    let (name, value) = pair.split_once('=')?;
    let is_good = |b: u8| matches!(b, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e);
    let is_ours = name == COOKIE && !value.is_empty() && value.bytes().all(is_good);
    (is_ours && pair.len() <= COOKIE_LEN_MAX).then(|| pair.to_owned())
}

/// How long a `Retry-After` of seconds asks to wait (RFC 9110, section 10.2.3), within reason. A date, which says nothing
/// without a clock that is trusted, is ignored.
#[must_use]
pub fn retry_after(header: &str) -> Option<Duration> {
    let is_number = !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = is_number.then(|| header.parse().unwrap_or(u64::MAX))?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// What an answer with another status than 200 means; `wait` is what it says of when to come back.
#[must_use]
pub fn failure(status: u16, body: &[u8], wait: Option<Duration>) -> Failure {
    let problem = serde_json::from_slice::<Problem>(body).ok();
    let said = match &problem {
        Some(problem) => {
            let kind = problem.kind.strip_prefix(PROBLEM_PREFIX);
            format!(
                "{} ({status}: {})",
                plain(kind.unwrap_or(&problem.kind)),
                plain(&problem.detail)
            )
        }
        None => format!("status {status}"),
    };
    match status {
        408 | 425 | 429 | 500..=599 => match wait {
            Some(wait) => Failure::Busy(said, wait),
            None => Failure::Later(said),
        },
        300..=399 => Failure::Final(format!("it redirects ({status}), which is not followed")),
        400 if problem.is_none() => Failure::Final(format!("it does not understand us: {said}")),
        401 | 403 => Failure::Denied(said),
        _ => Failure::Final(said),
    }
}

/// Text from outside for a log: short, and nothing but printable ASCII.
fn plain(text: &str) -> String {
    text.chars()
        .take(DETAIL_LEN_MAX)
        .map(|c| {
            if c == ' ' || c.is_ascii_graphic() {
                c
            } else {
                '?'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sessions_cookie_is_kept() {
        let good =
            "kbs-session-id=abc.DEF-_~%3D; Path=/; Secure; Expires=Wed, 21 Oct 2026 07:28:00 GMT";
        assert_eq!(cookie(good).unwrap(), "kbs-session-id=abc.DEF-_~%3D");
        for bad in [
            "",
            "kbs-session-id",
            "kbs-session-id=",
            "other=abc",
            "kbs-session-id=a\r\nHost: b",
            "kbs-session-id=a b",
        ] {
            assert_eq!(cookie(bad), None, "{bad:?}");
        }
        assert_eq!(cookie(&format!("{COOKIE}={}", "a".repeat(5000))), None);
    }

    #[test]
    fn a_nonce_is_32_bytes_of_base64() {
        let good = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let body = |nonce: &str| format!(r#"{{"nonce":"{nonce}","extra-params":""}}"#);
        let (given, credential) = challenge(body(good).as_bytes()).unwrap();
        assert!(given.nonce == good && credential.is_none());
        for bad in ["", "AA==", "****", &good[1..], &good.repeat(40)] {
            assert!(challenge(body(bad).as_bytes()).is_err(), "{bad}");
        }
        let version = r#"{"nonce":"NONCE","extra-params":{"nightlatch":{"version":2,"blob":"AA==","secret":"AA=="}}}"#;
        assert!(challenge(version.replace("NONCE", good).as_bytes()).is_err());
        let version = version.replace(":2,", ":1,").replace("NONCE", good);
        assert!(challenge(version.as_bytes()).unwrap().1.is_some());
    }

    #[test]
    fn a_record_has_an_id_of_the_right_length() {
        let id = "ab".repeat(32);
        let body = |id: &str| format!(r#"{{"key-id":"{id}","epoch":7}}"#);
        assert_eq!(
            record(body(&id).as_bytes()).unwrap().record.key_id,
            Some(id.clone())
        );
        assert_eq!(record(b"{}").unwrap().record.epoch, 0);
        for bad in [&id[1..], &id.to_uppercase(), "", "zz"] {
            assert!(record(body(bad).as_bytes()).is_err(), "{bad}");
        }
    }

    /// Only the very word of a service that knows readmissions counts.
    #[test]
    fn a_volume_is_readmitted_where_the_service_says_when_and_by_nothing_else() {
        let body = |text: &str| format!(r#"{{"key-id":"{}","epoch":7{text}}}"#, "ab".repeat(32));
        let readmitted = |text: &str| record(body(text).as_bytes()).map(|it| it.readmitted_s);
        assert_eq!(readmitted(r#","readmitted-s":7"#), Ok(Some(7)));
        for text in [
            "",
            r#","readmitted":true"#,
            r#","Readmitted-s":7"#,
            r#","readmitted-s":null"#,
        ] {
            assert_eq!(readmitted(text), Ok(None), "{text}");
        }
        for text in ["true", "\"7\"", "-7", "{}", "7,\"readmitted-s\":7"] {
            let text = format!(r#","readmitted-s":{text}"#);
            assert!(readmitted(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wait_is_a_number_of_seconds_within_reason() {
        let seconds = |header: &str| retry_after(header).map(|wait| wait.as_secs());
        for (header, wait) in [("0", 0), ("7", 7), ("60", 60), ("61", 60)] {
            assert_eq!(seconds(header), Some(wait));
        }
        assert_eq!(seconds(&"9".repeat(40)), Some(60));
        for bad in ["", "-1", "+1", "1.5", " 1", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(seconds(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_denial_is_told_from_trouble_that_passes() {
        let problem =
            |word: &str| format!(r#"{{"type":"{PROBLEM_PREFIX}{word}","detail":"no\u001b[1m"}}"#);
        let denied = failure(401, problem("PolicyDeny").as_bytes(), None);
        assert_eq!(denied, Failure::Denied("PolicyDeny (401: no?[1m)".into()));
        for status in [408, 429, 500, 503] {
            assert!(
                matches!(failure(status, b"", None), Failure::Later(_)),
                "{status}"
            );
            let wait = Duration::from_secs(7);
            let busy = Failure::Busy(format!("status {status}"), wait);
            assert_eq!(failure(status, b"", Some(wait)), busy);
        }
        for status in [200, 301, 400, 404, 418] {
            assert!(
                matches!(failure(status, b"", None), Failure::Final(_)),
                "{status}"
            );
        }
    }
}
