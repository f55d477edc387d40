// SPDX-License-Identifier: Apache-2.0
use std::fs;

use serde_json::json;

use super::*;
use crate::config::{Config, Role, Tcti};
use crate::support::mock::{Mock, Script, Twist};
use crate::support::swtpm::Swtpm;

const ROOT: &str = "a6c7535f-0a9f-4c23-9524-fed431126906";
const DATA: &str = "b6c7535f-0a9f-4c23-9524-fed431126906";

struct Node {
    swtpm: Swtpm,
    service: Mock,
}

impl Node {
    /// Whose service knows each volume, and denies like this.
    fn new(twist: Twist) -> Self {
        let service = Mock::start(Script {
            twist,
            extended: true,
            resources: [("nightlatch/volume-key/*".to_owned(), vec![7; 32])].into(),
            record: json!({"epoch": 7}),
        });
        let swtpm = Swtpm::start();
        fs::write(swtpm.dir().join("ca.pem"), &service.ca).unwrap();
        Self { swtpm, service }
    }

    fn asks(&self, volumes: [&[&str]; 2]) -> Exchange {
        let text = format!(
            "boot.authorities = [\"/authority.pem\"]\n[service]\nurls = [\"{}\"]\nca = \"/ca.pem\"\n[[volume]]\nname = \"state\"\n\
             device = \"/dev/vdb\"\nrole = \"state\"\nmount = \"/srv\"\nsources = [\"service\"]\n",
            self.service.url
        );
        let config = Config::parse(&text).unwrap();
        let client = Client::new(config.service.as_ref().unwrap(), self.swtpm.dir()).unwrap();
        let mut exchange = Exchange::new(client);
        let claims = volumes.map(|uuids| uuids.iter().map(|uuid| claim(uuid)).collect());
        exchange.request(KeyRequest::default(), claims);
        let port = self.swtpm.port();
        exchange.ask_by(&mut Tpm::open(&Tcti::Swtpm { port }).unwrap());
        exchange
    }

    /// How often it was attested.
    fn attested(&self) -> usize {
        self.service.bodies("POST /kbs/v0/attest").len()
    }
}

fn claim(uuid: &str) -> VolumeClaim {
    VolumeClaim {
        uuid: uuid.into(),
        role: Role::State,
        epoch: Some(6),
    }
}

/// Whether there is a key for it; else what is said.
fn key(exchange: &Exchange, uuid: &str) -> std::result::Result<(), String> {
    let response = exchange.response_for(uuid);
    let key = response.and_then(|response| response.secret(uuid));
    key.map(drop).map_err(|error| error.to_string())
}

#[test]
fn a_denial_for_a_volume_that_need_not_be_there_does_not_cost_the_others() {
    let node = Node::new(Twist::DenyMore(1));
    let exchange = node.asks([&[ROOT], &[DATA]]);
    assert_eq!(key(&exchange, ROOT), Ok(()));
    let said = key(&exchange, DATA).unwrap_err();
    assert!(said.contains("VolumeDeny"), "{said}");
    assert_eq!(node.attested(), 2);
    // One whose header has been given the other's UUID.
    let exchange = node.asks([&[ROOT], &[ROOT]]);
    assert_eq!(key(&exchange, ROOT), Ok(()));

    // Where there is nothing to deny, both have their keys by one handshake.
    let node = Node::new(Twist::DenyMore(2));
    let exchange = node.asks([&[ROOT], &[DATA]]);
    assert_eq!(
        [ROOT, DATA].map(|uuid| key(&exchange, uuid)),
        [Ok(()), Ok(())]
    );
    assert_eq!(node.attested(), 1);
}

#[test]
fn a_denial_that_no_such_volume_explains_stays_one() {
    let node = Node::new(Twist::DenyMore(1));
    let exchange = node.asks([&[ROOT, DATA], &[]]);
    for uuid in [ROOT, DATA] {
        let said = key(&exchange, uuid).unwrap_err();
        assert!(said.contains("VolumeDeny"), "{said}");
    }
    assert_eq!(node.attested(), 1);
    // Nothing else is wanted: who is denied once is not asked for nothing.
    let exchange = node.asks([&[], &[ROOT, DATA]]);
    key(&exchange, ROOT).unwrap_err();
    assert_eq!(node.attested(), 2);
    // The machine itself is.
    let node = Node::new(Twist::Deny);
    let exchange = node.asks([&[ROOT], &[DATA]]);
    for uuid in [ROOT, DATA] {
        let said = key(&exchange, uuid).unwrap_err();
        assert!(said.contains("PolicyDeny"), "{said}");
    }
    assert_eq!(node.attested(), 2);
}
