// SPDX-License-Identifier: Apache-2.0
use std::path::Path;

use super::*;
use crate::config::Role;
use crate::sources::service::ServiceSession;

fn config() -> Config {
    let volume = |name: &str, more: &str| {
        format!(
            "[[volume]]\nname = \"{name}\"\ndevice = \"/dev/{name}\"\nrole = \"state\"\nmount = \"/srv/{name}\"\n\
             sources = [\"tpm\", \"recovery\"]\n{more}"
        )
    };
    let operator = include_str!("../../../tests/fixtures/openssh/operator.pub");
    let text = format!(
        "boot.authorities = [\"/authority.pem\"]\n[recovery]\noperators = [\"{}\"]\n",
        operator.trim()
    );
    Config::parse(
        &[
            text,
            volume("state", ""),
            volume("data", "required = false\n"),
        ]
        .concat(),
    )
    .unwrap()
}

/// A session that waits for a moment, on any port.
fn session() -> OperatorSession {
    OperatorSession(Some(Operators {
        keys: Vec::new(),
        port: 0,
        wait: Duration::from_millis(300),
        service_pause: SERVICE_PAUSE,
        ek_certificate: None,
        state: Mutex::default(),
    }))
}

/// A volume that waits for its key.
fn waits(session: &OperatorSession, volume: &Volume) -> Error {
    let waiting = WaitingVolume {
        name: volume.name.to_string(),
        uuid: volume.name.to_string(),
        role: Role::State,
        key_id: None,
        epoch: None,
        needs: Vec::new(),
        why: String::new(),
    };
    session.note(
        volume,
        waiting,
        Refusal::new(Error::refused("its seal is stale"), &[Need::Key]),
    )
}

/// A boot in which these volumes wait, and one of them is called for or not: how often it was tried.
fn boot(waiting: &[&str], is_called_for: bool) -> (Result<()>, usize) {
    let (config, session) = (config(), session());
    let top = Path::new("/");
    let service = ServiceSession::open(top, &config).unwrap();
    let boot = Waiting {
        top,
        config: &config,
        service: &service,
    };
    let mut tries = 0;
    let done = session.attempt(boot, || {
        tries += 1;
        session.note_reached();
        let waiting = |volume: &&Volume| waiting.contains(&volume.name.as_str());
        let errors = config.volumes().filter(waiting).map(|volume| {
            if !volume.required && is_called_for {
                session.call_for(volume);
            }
            (volume, waits(&session, volume))
        });
        let errors: Vec<_> = errors.collect();
        let mut ending = errors
            .into_iter()
            .filter(|(volume, _)| volume.required || session.awaits(volume).unwrap());
        ending.next().map_or(Ok(()), |(_, error)| Err(error))
    });
    (done, tries)
}

#[test]
fn a_volume_that_need_not_be_there_is_waited_for_once_where_its_operator_said_so() {
    let (done, tries) = boot(&["data"], false);
    done.unwrap();
    assert_eq!(tries, 1);
    // Nobody comes: the second try goes on without it.
    let (done, tries) = boot(&["data"], true);
    done.unwrap();
    assert_eq!(tries, 2);
    // One that has to be there is not given up.
    let (done, tries) = boot(&["state", "data"], true);
    let error = done.unwrap_err().to_string();
    assert!(error.contains("no operator within"), "{error}");
    assert_eq!(tries, 1);
}
