// SPDX-License-Identifier: Apache-2.0
mod certificates;
mod keys;
mod patience;

use std::collections::BTreeMap;

use crate::support::mock::{Mock, Script, Twist};
use serde_json::json;

use super::*;
use crate::clock::limit;
use crate::config::{Role, Tcti};
use crate::error::Exit;
use crate::protocol::VolumeRecord;
use crate::support::swtpm::Swtpm;

const UUID: &str = "a6c7535f-0a9f-4c23-9524-fed431126906";
const OTHER: &str = "b6c7535f-0a9f-4c23-9524-fed431126906";

const FAST: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(5),
    first_pause: Duration::from_millis(20),
    longest_pause: Duration::from_millis(100),
    report: Duration::from_secs(5),
};

fn script(twist: Twist) -> Script {
    let resources = [
        (format!("nightlatch/volume-key/{UUID}"), vec![7; 32]),
        (format!("nightlatch/volume-key/{OTHER}"), vec![8; 32]),
        (
            "nightlatch/measurement/cluster".into(),
            [[1; 32], [2; 32]].concat(),
        ),
    ];
    Script {
        twist,
        extended: true,
        resources: BTreeMap::from(resources),
        record: json!({"key-id": "ab".repeat(32), "epoch": 7}),
    }
}

fn mock(twist: Twist) -> Mock {
    Mock::start(script(twist))
}

fn client(trust: Trust, urls: &[&str]) -> Client {
    Client {
        endpoints: urls.iter().map(|url| Endpoint::new(url)).collect(),
        trust,
        image_time: None,
        protocol: ServiceProtocol::Nightlatch,
        deadline: limit(Duration::from_secs(20)),
        ek_certificate: None,
        identity: None,
        timeouts: FAST,
    }
}

fn to(mock: &Mock) -> Client {
    client(Trust::Ca(mock.ca.clone().into_bytes()), &[&mock.url])
}

/// How long a hasty client waits.
fn haste() -> Duration {
    limit(Duration::from_secs(2))
}

/// Waits no longer than a test may take.
fn hasty(client: Client) -> Client {
    Client {
        deadline: haste(),
        timeouts: Timeouts {
            answer: limit(Duration::from_secs(1)),
            ..FAST
        },
        ..client
    }
}

fn wanted() -> KeyRequest {
    KeyRequest {
        volumes: vec![VolumeClaim {
            uuid: UUID.into(),
            role: Role::State,
            epoch: Some(6),
        }],
        cluster: true,
        logs: Logs {
            firmware: Some(b"firmware".to_vec()),
            user_space: None,
        },
        last_failure: Some(LastFailure {
            exit: 77,
            sentence: "its disk is old".into(),
            reset_count: 7,
        }),
    }
}

fn tpm() -> (Swtpm, Tpm) {
    let swtpm = Swtpm::start();
    let tpm = Tpm::open(&Tcti::Swtpm { port: swtpm.port() }).unwrap();
    (swtpm, tpm)
}

/// Asks a mock with this twist. Returns the refusal and the requests it took.
fn refusal(twist: Twist) -> (Error, Vec<String>) {
    let mock = mock(twist);
    let (_swtpm, mut tpm) = tpm();
    let mut client = to(&mock);
    if matches!(twist, Twist::Slow | Twist::Truncated | Twist::Busy(_)) {
        client = hasty(client);
    }
    let error = client.ask(&mut tpm, &wanted()).unwrap_err();
    // What is final stays so without another request.
    let requests = mock.requests();
    if error.exit() == Exit::Refused {
        let again = client.ask(&mut tpm, &wanted()).unwrap_err();
        assert_eq!(again.to_string(), error.to_string());
        assert_eq!(mock.requests(), requests);
    }
    (error, requests)
}

/// What a node tells of a volume that has the service's key.
fn told_of(record: VolumeRecord) -> VolumeReport {
    VolumeReport {
        record,
        own_secret: false,
        accepted: None,
    }
}

const AUTH: &str = "POST /kbs/v0/auth";
const ATTEST: &str = "POST /kbs/v0/attest";

#[test]
fn a_service_with_the_extension_gives_keys_cluster_and_record() {
    let mock = mock(Twist::Nothing);
    let (_swtpm, mut tpm) = tpm();
    let mut given = to(&mock).ask(&mut tpm, &wanted()).unwrap();
    assert_eq!(given.url, mock.url);
    let volume = given.volume(UUID).unwrap();
    assert_eq!(volume.key.expose(), [7; 32]);
    let record = volume.remembered.clone().unwrap().record;
    assert_eq!(record.epoch, 7);
    let cluster = given.cluster.as_ref().unwrap();
    assert_eq!(
        (cluster.secret.expose(), cluster.salt),
        (&[1; 32][..], [2; 32])
    );
    assert!(given.volume(OTHER).is_err());
    let failed = given.report(&[(UUID.to_owned(), told_of(record))]);
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(
        mock.requests(),
        [
            AUTH,
            ATTEST,
            "GET /kbs/v0/resource/nightlatch/volume-key/a6c7535f-0a9f-4c23-9524-fed431126906",
            "GET /kbs/v0/nightlatch/volume/a6c7535f-0a9f-4c23-9524-fed431126906",
            "GET /kbs/v0/resource/nightlatch/measurement/cluster",
            "POST /kbs/v0/nightlatch/volume/a6c7535f-0a9f-4c23-9524-fed431126906",
        ]
    );
    // One connection carries all of it.
    assert_eq!(mock.connections(), 1);
    let evidence = &mock.body(ATTEST)["tee-evidence"];
    let additional: serde_json::Value =
        serde_json::from_str(evidence["additional_evidence"].as_str().unwrap()).unwrap();
    let claims = &additional["nightlatch"];
    assert_eq!(
        claims["volumes"],
        json!([{"uuid": UUID, "role": "state", "epoch": 6}])
    );
    assert_eq!(claims["firmware-log"], "ZmlybXdhcmU=");
    assert!(claims.get("userspace-log").is_none());
    assert_eq!(
        mock.body(&mock.requests()[5]),
        json!({"key-id": "ab".repeat(32), "epoch": 7})
    );
}

#[test]
fn a_service_without_the_extension_gives_keys_to_who_asks_for_trustee_only() {
    let mock = Mock::start(Script {
        extended: false,
        ..script(Twist::Nothing)
    });
    let (_swtpm, mut tpm) = tpm();
    let error = to(&mock).ask(&mut tpm, &wanted()).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused, "{error}");
    assert_eq!(
        error.to_string(),
        format!(
            "{}: it does not know nightlatch's extension; a Trustee takes service.protocol = \"trustee\"",
            mock.url
        )
    );
    assert_eq!(mock.requests(), [AUTH]);

    let (_swtpm, mut tpm) = self::tpm();
    let mut client = Client {
        protocol: ServiceProtocol::Trustee,
        ..to(&mock)
    };
    let mut given = client.ask(&mut tpm, &wanted()).unwrap();
    assert_eq!(given.volume(UUID).unwrap().key.expose(), [7; 32]);
    assert_eq!(given.volume(UUID).unwrap().remembered, None);
    let record = VolumeRecord {
        key_id: None,
        epoch: 1,
        nonce: None,
    };
    let failed = given.report(&[(UUID.to_owned(), told_of(record))]);
    assert!(failed.is_empty(), "{failed:?}");
    assert!(
        mock.requests()
            .iter()
            .all(|line| !line.contains("/nightlatch/volume/"))
    );
    let introduced = &mock.body(AUTH)["extra-params"];
    assert!(
        introduced.get("nightlatch").is_none(),
        "Trustee alone is spoken"
    );
}

#[test]
fn a_pin_is_enough_and_another_one_is_refused_before_anything_is_said() {
    let mock = mock(Twist::Nothing);
    let (_swtpm, mut tpm) = tpm();
    let mut pinned = client(Trust::Pin(mock.pin), &[&mock.url]);
    pinned.ask(&mut tpm, &wanted()).unwrap();
    let told = mock.requests().len();
    let other = Mock::start(script(Twist::Nothing));
    for trust in [
        Trust::Pin(other.pin),
        Trust::Ca(other.ca.clone().into_bytes()),
    ] {
        // Long enough for a handshake on a busy machine: what never ended says nothing of the certificate.
        let mut suspicious = Client {
            deadline: limit(Duration::from_secs(4)),
            ..client(trust, &[&mock.url])
        };
        let error = suspicious.ask(&mut tpm, &wanted()).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused, "{error}");
        let said = format!(
            "{}: its certificate is not the one that service.ca or service.pin describe: ",
            mock.url
        );
        assert!(error.to_string().contains(&said), "{error}");
    }
    // The name counts where an authority vouches for it.
    let address = mock.url.replace("localhost", "127.0.0.1");
    let ca = Trust::Ca(mock.ca.clone().into_bytes());
    let mut misnamed = hasty(client(ca, &[&address]));
    assert!(misnamed.ask(&mut tpm, &wanted()).is_err());
    assert_eq!(mock.requests().len(), told);
}

#[test]
fn a_denial_is_final() {
    for (twist, said, requests) in [
        (
            Twist::Deny,
            "it denied this machine: PolicyDeny (401: as the test says); its audit log says why",
            2,
        ),
        (
            Twist::Expired,
            "it denied this machine: SessionExpired (401: as the test says); its audit log says why",
            2,
        ),
        (
            Twist::Never,
            "it denied this machine: TokenNotFound (401: as the test says); its audit log says why",
            1,
        ),
    ] {
        let (error, seen) = refusal(twist);
        assert_eq!(error.exit(), Exit::Refused, "{error}");
        assert!(error.to_string().ends_with(said), "{error}");
        assert_eq!(seen.len(), requests, "{seen:?}");
    }
}

#[test]
fn what_no_service_of_ours_does_is_refused() {
    for (twist, said) in [
        (Twist::Oversized, "its answer is longer than 262144 bytes"),
        (Twist::Redirect, "it redirects (302), which is not followed"),
        (Twist::NoCookie, "it gave no session cookie"),
        (
            Twist::OtherCredential,
            "activating the credential: the service made it for another TPM or another attestation key",
        ),
    ] {
        let (error, seen) = refusal(twist);
        assert_eq!(error.exit(), Exit::Refused, "{twist:?}: {error}");
        assert!(error.to_string().ends_with(said), "{twist:?}: {error}");
        assert_eq!(seen, [AUTH], "{twist:?}");
    }
}

#[test]
fn authorities_that_are_none_are_a_broken_configuration() {
    for pem in [
        "",
        "nonsense",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let error = TlsConnector::new(&Trust::Ca(pem.into()), None).unwrap_err();
        assert_eq!(error.exit(), Exit::Config, "{error}");
    }
}

#[test]
fn the_mock_reads_signatures_whose_numbers_begin_with_zeros() {
    use p256::ecdsa::signature::Signer as _;
    let key = p256::ecdsa::SigningKey::from_slice(&[3; 32]).unwrap();
    let point = key.verifying_key().to_sec1_point(false);
    // The algorithm and the kind of curve, which the mock does not look at.
    let spki = [&[0; 26][..], point.as_bytes()].concat();
    let mut seen = [false; 2];
    for count in 0_u32.. {
        let message = count.to_be_bytes();
        let signature: p256::ecdsa::Signature = key.sign(&message);
        let (r, s) = signature.split_bytes();
        let begins = [r[0] == 0, s[0] == 0];
        if begins != [false; 2] {
            let parts: [&[u8]; 4] = [&[0, 0x18, 0, 0x0b, 0, 32], &r, &[0, 32], &s];
            crate::support::mock::judge::verify(&spki, &message, &parts.concat());
            seen = [seen[0] | begins[0], seen[1] | begins[1]];
        }
        if seen == [true; 2] {
            break;
        }
    }
}
