// SPDX-License-Identifier: Apache-2.0
//! Signatures, against those that AWS publishes (Signature Version 4 test suite) and those of its own client.

use super::*;

const BODY: &[u8] = b"{\"KeyId\":\"x\"}";

/// The key pair of the suite.
fn credentials(token: Option<&str>) -> Credentials {
    Credentials {
        id: "AKIDEXAMPLE".into(),
        secret: Zeroizing::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into()),
        token: token.map(|token| Zeroizing::new(token.to_owned())),
    }
}

/// The request of the suite.
fn post<'a>(body: &'a [u8], credentials: &'a Credentials) -> Post<'a> {
    Post {
        host: "example.amazonaws.com",
        content_type: "",
        target: "",
        body,
        region: "us-east-1",
        service: "service",
        at: "20150830T123600Z",
        credentials,
    }
}

#[test]
fn the_published_requests_are_signed_as_published() {
    let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRq\
         TflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE\
         8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLx\
         BA==";
    let at = ("x-amz-date", "20150830T123600Z");
    let host = ("host", "example.amazonaws.com");
    let form = ("content-type", "application/x-www-form-urlencoded");
    let credentials = credentials(None);
    for (name, headers, body, signature) in [
        (
            "post-vanilla",
            &[host, at][..],
            &b""[..],
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "post-x-www-form-urlencoded",
            &[form, host, at],
            b"Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            "post-sts-header-before",
            &[host, at, ("x-amz-security-token", token)],
            b"",
            "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
        ),
    ] {
        let digest = hex::encode(Sha256::digest(body));
        let signed = authorization(&post(body, &credentials), headers, &digest);
        let (head, found) = signed.rsplit_once("Signature=").unwrap();
        assert_eq!(found, signature, "{name}");
        let scope =
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, ";
        assert!(head.starts_with(scope), "{head}");
    }
}

/// The signatures are those of botocore 1.44 for the same requests.
#[test]
fn what_is_sent_is_signed_with_the_digest_of_its_body() {
    for (token, signature) in [
        (
            None,
            "07449fee0d3bac2314181a15c53677246bc0701738568d567b0df37d069be827",
        ),
        (
            Some("TOKEN/+=="),
            "64413875f919627b4e02c06a3d8d08bc1deabd36ec51f48a35f7ffbf8ca0ac87",
        ),
    ] {
        let credentials = credentials(token);
        let request = Post {
            host: "kms.eu-central-1.amazonaws.com",
            content_type: "application/x-amz-json-1.1",
            target: "TrentService.Decrypt",
            region: "eu-central-1",
            service: "kms",
            ..post(BODY, &credentials)
        };
        let signed = Signed::new(&request);
        assert!(
            signed.authorization.ends_with(signature),
            "{}",
            signed.authorization
        );
        let digest = hex::encode(Sha256::digest(BODY));
        assert_eq!(signed.headers[0], ("x-amz-content-sha256", digest));
        // Another body has another signature.
        let other = Signed::new(&Post {
            body: b"{}",
            ..request
        });
        assert_ne!(other.authorization, signed.authorization);
    }
}

#[test]
fn a_time_is_written_without_signs() {
    assert_eq!(time(1_440_938_160), "20150830T123600Z");
}
