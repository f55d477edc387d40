// SPDX-License-Identifier: Apache-2.0
//! What a key service remembers, and what is asked of it: beside the anchor and in its place.

use super::*;

#[test]
fn what_a_key_service_remembers_stands_in_for_a_tpm_that_forgot() {
    let record = VolumeRecord {
        key_id: Some(hex::encode(KEY_ID)),
        epoch: 7,
    };
    for epoch in [7, 8] {
        judge::recollected(Some(&record), &proven(epoch)).unwrap();
    }
    let other = VolumeRecord {
        key_id: Some(hex::encode([0x12; 32])),
        ..record.clone()
    };
    let registered = VolumeRecord {
        key_id: None,
        epoch: 0,
    };
    for (record, epoch, expected) in [
        (
            Some(&record),
            6,
            "rule G26: the header is of epoch 6, and the key service remembers 7",
        ),
        (Some(&other), 7, "rule D15: this is a volume with key"),
        (
            Some(&registered),
            7,
            "the TPM does not remember this volume",
        ),
        (None, 7, "the TPM does not remember this volume"),
    ] {
        let error = judge::recollected(record, &proven(epoch)).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
        assert_eq!(error.exit(), Exit::Refused);
    }
}

/// `TPM2_Clear` removes the anchor. The new counter is above the old one, which is what everything rests on.
#[test]
fn a_cleared_tpm_counts_on_and_remembers_again_what_it_is_told() {
    let mut node = Node::new();
    node.provision("epoch");
    for _ in 0..3 {
        let (config, mut tpm, mut anchor) = node.boot("epoch");
        anchor.advance(&mut tpm).unwrap();
        node.finish(&config, tpm, anchor);
    }
    let (_, _, anchor) = node.boot("epoch");
    let old = anchor.counter();
    assert!(node.swtpm.tool("tpm2_clear", &["-c", "p"]).status.success());

    let (config, mut tpm, mut anchor) = node.boot("epoch");
    let [state, data] = [0, 1].map(|index| config.volumes().nth(index).unwrap());
    assert!(anchor.is_unknown(state));
    // A header that another TPM counted further is not taken, and nothing of it remembered.
    let high = anchor.recollect(&mut tpm, state, &proven(old + 1000));
    assert!(high.unwrap_err().to_string().starts_with("rule G26: "));
    assert!(anchor.is_unknown(state) && anchor.counter() > old);
    // Not even after the next reset.
    let (_, mut tpm, mut anchor) = node.boot("epoch");
    assert!(anchor.is_unknown(state));

    // As high as the disk can be when the power goes between the header and the counter.
    let exception = anchor.recollect(&mut tpm, state, &proven(old + 1)).unwrap();
    assert_eq!(exception.event(), "nightlatch:accept:service-record:state");
    assert!(anchor.next_epoch().unwrap() > old + 1);
    drop((tpm, anchor));

    // The power went: the header still is the old one, and the exception is one again.
    let (config, mut tpm, mut anchor) = node.boot("epoch");
    let again = anchor.permit(state, Seen::Volume).unwrap();
    assert_eq!(again, Some(exception));
    anchor.verify(state, &proven(old + 1)).unwrap();
    anchor.permit(data, Seen::Volume).unwrap_err();
    anchor.advance(&mut tpm).unwrap();
    let current = anchor.counter();
    node.finish(&config, tpm, anchor);

    let (_, _, anchor) = node.boot("epoch");
    assert_eq!(anchor.permit(state, Seen::Volume).unwrap(), None);
    anchor.verify(state, &proven(current)).unwrap();
    anchor.verify(state, &proven(old + 1)).unwrap_err();
}

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
