// SPDX-License-Identifier: Apache-2.0
//! A node with a TPM that is none of ours: the client of the initrd's program and swtpm against the service.

use crate::client::{Client, KeyRequest};
use crate::config::{KeyService, Role, Tcti};
use crate::error::Exit;
use crate::key::cluster_id;
use crate::keyservice::registry;
use crate::keyservice::tests::rig::{Rig, policy};
use crate::keyservice::tests::{OTHER_UUID, UUID};
use crate::pcr::{Bank, Pcr};
use crate::protocol::{
    ATTEST_PATH, AUTH_PATH, Acceptance, Bytes, Challenge, VolumeRecord, VolumeReport,
};
use crate::support::machine::{Draft, Machine, volume};
use crate::support::swtpm::Swtpm;
use crate::tpm::{AkKind, Tpm};

fn open(swtpm: &Swtpm) -> Tpm {
    Tpm::open(&Tcti::Swtpm { port: swtpm.port() }).unwrap()
}

fn client(rig: &Rig) -> Client {
    let port = rig.caller.at.port();
    let text =
        format!("urls = [\"https://localhost:{port}\"]\nca = \"/cert.pem\"\ndeadline-s = 20\n");
    let service: KeyService = toml::from_str(&text).unwrap();
    let top = rig.path("cert.pem");
    Client::new(&service, top.parent().unwrap()).unwrap()
}

fn wanted() -> KeyRequest {
    KeyRequest {
        volumes: vec![
            volume(UUID, Role::State, None),
            volume(OTHER_UUID, Role::Root, None),
        ],
        cluster: true,
        ..KeyRequest::default()
    }
}

/// Enrols a TPM, whose PCR 11 is to be zero.
fn enrol(rig: &Rig, tpm: &mut Tpm) -> String {
    let identity = tpm.identity(AkKind::Ecdsa, None).unwrap();
    let id = hex::encode(Bank::Sha256.hash(&identity.ek_public));
    let text = policy(std::slice::from_ref(&id), &[0; 32]);
    let policy = crate::evidence::Policy::parse(&text, |_| unreachable!()).unwrap();
    rig.service.set_policy(policy);
    id
}

#[test]
fn the_client_of_the_initrd_gets_what_its_tpm_proves() {
    let (rig, swtpm) = (Rig::start(), Swtpm::start());
    let mut tpm = open(&swtpm);
    let error = client(&rig).ask(&mut tpm, &wanted()).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused, "{error}");
    assert_eq!(rig.last()["check"], "ek-trust");

    let id = enrol(&rig, &mut tpm);
    let mut given = client(&rig).ask(&mut tpm, &wanted()).unwrap();
    for uuid in [UUID, OTHER_UUID] {
        let got = given.volume(uuid).unwrap();
        let expected = rig.master_secret().derive(&rig.salt(), uuid).unwrap();
        assert_eq!(got.key.expose(), expected.expose());
        let record = got.remembered.clone().unwrap().record;
        assert_eq!(
            record,
            VolumeRecord {
                key_id: None,
                epoch: 0,
                nonce: None,
            }
        );
    }
    let cluster = given.cluster.as_ref().unwrap();
    assert_eq!(cluster.salt[..], rig.measurement_salt()[..]);
    cluster_id(&cluster.secret, &cluster.salt).unwrap();
    let record = VolumeRecord {
        key_id: Some("ab".repeat(32)),
        epoch: 1,
        nonce: None,
    };
    let told = VolumeReport {
        record: record.clone(),
        own_secret: true,
        accepted: Some(Acceptance::Stale),
    };
    let failed = given.report(&[(UUID.to_owned(), told)]);
    assert!(failed.is_empty(), "{failed:?}");
    let entry = registry::volume(&rig.service.store, &UUID.to_owned().try_into().unwrap());
    let entry = entry.unwrap().unwrap();
    assert_eq!(
        (entry.ek, entry.record, entry.own_secret),
        (id, record, true)
    );
    assert_eq!(entry.accepted.unwrap().what, Acceptance::Stale);

    // Once the clusterID is measured, nobody on that machine gets anything until it boots again.
    tpm.event(Pcr::SYSTEM_IDENTITY, b"cluster").unwrap();
    let error = client(&rig).ask(&mut tpm, &wanted()).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused, "{error}");
    assert_eq!(rig.last()["check"], "early-boot");
}

/// As with `measure.cluster = "service"` and no volume that has the source `service`.
#[test]
fn the_client_of_the_initrd_may_want_the_clusters_secret_alone() {
    let (rig, swtpm) = (Rig::start(), Swtpm::start());
    let mut tpm = open(&swtpm);
    enrol(&rig, &mut tpm);
    let wanted = KeyRequest {
        cluster: true,
        ..KeyRequest::default()
    };
    let given = client(&rig).ask(&mut tpm, &wanted).unwrap();
    assert_eq!(
        given.cluster.as_ref().unwrap().salt[..],
        rig.measurement_salt()[..]
    );
}

/// RSA and elliptic curves, for both keys, the endorsement key at the place the TCG reserves for it.
#[test]
fn keys_of_both_algorithms_are_accepted_and_a_stranger_in_between_is_not() {
    for (ek, kind) in [
        ("rsa", AkKind::Ecdsa),
        ("rsa", AkKind::Rsassa),
        ("ecc", AkKind::Ecdsa),
        ("ecc", AkKind::Rsassa),
    ] {
        let (rig, swtpm) = (Rig::start(), Swtpm::start());
        let handle = if ek == "rsa" {
            "0x81010001"
        } else {
            "0x81010002"
        };
        let args = ["-c", handle, "-G", ek, "-u", "persisted.tss"];
        assert!(swtpm.tool("tpm2_createek", &args).status.success());
        let mut tpm = open(&swtpm);
        enrol(&rig, &mut tpm);
        let identity = tpm.identity(kind, None).unwrap();
        let introduce = |ak: &[u8]| {
            let mut request = Machine::new(1).introduction();
            let introduction = request.extra_params.nightlatch.as_mut().unwrap();
            introduction.ek_public = Bytes(identity.ek_public.clone());
            introduction.ak_public = Bytes(ak.to_vec());
            let heard = rig.caller.post(AUTH_PATH, None, &request);
            (heard.json::<Challenge>(), heard.session())
        };
        let (challenge, session) = introduce(&identity.ak_public);
        let credential = challenge.credential().unwrap().unwrap();
        let secret = tpm
            .activate(kind, &credential.blob.0, &credential.secret.0)
            .unwrap();
        let mut draft = Machine::new(1).draft(&challenge, &[volume(UUID, Role::State, None)]);
        draft.claims.credential = Bytes(secret.expose().to_vec());
        let request = quoted(&draft, &mut tpm, kind, &identity.ak_spki);
        let heard = rig.caller.post(ATTEST_PATH, Some(&session), &request);
        assert_eq!(heard.status, 200, "{ek} {kind:?}: {:?}", rig.last());
        let secret = rig.caller.resource(
            &heard.session(),
            &draft,
            &format!("nightlatch/volume-key/{UUID}"),
        );
        assert_eq!(secret.len(), 32);

        // A key that is not in this TPM: the TPM does not open what was made for it.
        let (challenge, _) = introduce(&Machine::new(2).ak_public());
        let credential = challenge.credential().unwrap().unwrap();
        tpm.activate(kind, &credential.blob.0, &credential.secret.0)
            .unwrap_err();
    }
}

/// The draft with what the TPM says in place of what the test says.
fn quoted(
    draft: &Draft,
    tpm: &mut Tpm,
    kind: AkKind,
    spki: &[u8],
) -> crate::protocol::AttestRequest {
    let mut request = draft.request();
    let additional = request.tee_evidence.additional_evidence.clone();
    let qualifying = request.runtime_data.qualifying(&additional).unwrap();
    let evidence = tpm.attest(kind, &qualifying).unwrap();
    let primary = &mut request.tee_evidence.primary_evidence;
    primary.ak_public = Bytes(spki.to_vec());
    primary.tpm_quote.message = Bytes(evidence.quote.attest);
    primary.tpm_quote.signature = Bytes(evidence.quote.signature);
    primary.tpm_quote.pcrs = evidence.pcrs.iter().map(hex::encode).collect();
    request
}
