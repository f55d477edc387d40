// SPDX-License-Identifier: Apache-2.0
//! What a key service remembers, and what is asked of it.

use super::*;

/// As `nightlatchctl enroll` does. The request holds until a boot says that it is fulfilled.
#[test]
fn a_request_to_enrol_is_kept_until_it_is_fulfilled() {
    let mut node = Node::new();
    node.provision("identity");
    let config = node.config("identity");
    let [state, data] = [0, 1].map(|index| config.volumes().nth(index).unwrap());
    let ask = |record: &mut Record| {
        let entry = record.get(&state.name).unwrap().clone();
        record.set(Entry {
            enroll: true,
            ..entry
        })
    };
    Running::take(&node.top).unwrap().change(ask).unwrap();
    for fulfilled in [false, true] {
        let (config, tpm, mut anchor) = node.boot("identity");
        assert!(anchor.is_enrolment_asked(state) && !anchor.is_enrolment_asked(data));
        if fulfilled {
            anchor.enrolled(state);
        }
        node.finish(&config, tpm, anchor);
    }
    let (_, _, anchor) = node.boot("identity");
    assert!(!anchor.is_enrolment_asked(state));
}

#[test]
fn what_a_key_service_remembers_is_compared_too() {
    let record = |key_id: Option<u8>, epoch| VolumeRecord {
        key_id: key_id.map(|byte| hex::encode([byte; 32])),
        epoch,
    };
    let judge = |record: &VolumeRecord, epoch| judge::recorded(record, &[7; 32], epoch, None);
    for (record, epoch) in [
        (record(None, 0), Some(0)),
        (record(Some(7), 5), Some(5)),
        (record(Some(7), 5), Some(6)),
        (record(Some(7), 0), None),
    ] {
        judge(&record, epoch).unwrap();
    }
    let error = judge(&record(Some(8), 5), Some(5)).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert!(
        error
            .to_string()
            .starts_with("rule D15: this is a volume with key 0707"),
        "{error}"
    );
    // A header without an epoch is older than any that has one.
    let error = judge(&record(Some(7), 5), None).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert!(
        error
            .to_string()
            .starts_with("rule G26: the header has no epoch, and the key service remembers 5"),
        "{error}"
    );
    let error = judge(&record(Some(7), 5), Some(4)).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert!(
        error
            .to_string()
            .starts_with("rule G26: the header is of epoch 4, and the key service remembers 5"),
        "{error}"
    );
    // What the operator accepted for this boot is about the epoch, and only about going back.
    let accepting = |key_id, kind| {
        judge::recorded(&record(Some(key_id), 5), &[7; 32], Some(4), Some(kind)).is_ok()
    };
    assert!(accepting(7, Accepted::Rollback));
    assert!(!accepting(7, Accepted::New) && !accepting(8, Accepted::Rollback));
}
