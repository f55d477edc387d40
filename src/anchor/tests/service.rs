// SPDX-License-Identifier: Apache-2.0
//! What a key service remembers, and what is asked of it.

use super::*;
use crate::anchor::judge::Readmission;
use crate::header::NONCE_LEN;
use crate::protocol::EPOCHS_OF_AN_ANSWER;

/// A volume whose lost TPM has had another record.
fn told(epoch: u64) -> VolumeProof {
    proven_of(Stamp { epoch, nonce: None })
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
    RuntimeAnchor::take(&node.top).unwrap().change(ask).unwrap();
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
        nonce: None,
    };
    let judge = |record: &VolumeRecord, epoch: Option<u64>| {
        let stamp = epoch.map(|epoch| Stamp { epoch, nonce: None });
        judge::recorded(record, &[7; 32], stamp, None)
    };
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
        let old = Stamp {
            epoch: 4,
            nonce: None,
        };
        judge::recorded(&record(Some(key_id), 5), &[7; 32], Some(old), Some(kind)).is_ok()
    };
    assert!(accepting(7, Accepted::Rollback));
    assert!(!accepting(7, Accepted::New) && !accepting(8, Accepted::Rollback));
}

/// A header of the remembered epoch is the remembered one, where the service was told which that is.
#[test]
fn of_the_headers_of_one_epoch_a_key_service_remembers_one() {
    let nonce = |byte: u8| BootNonce::from_bytes([byte; NONCE_LEN]);
    let record = |nonce| VolumeRecord {
        key_id: Some(hex::encode(KEY_ID)),
        epoch: 8,
        nonce,
    };
    let judge = |known, epoch, nonce, accepted| {
        let stamp = Some(Stamp { epoch, nonce });
        judge::recorded(&record(known), &KEY_ID, stamp, accepted)
    };
    for (known, epoch, found) in [
        (nonce(1), 8, nonce(1)),
        // Of a later boot nothing was reported, and of before nothing is known.
        (nonce(1), 10, nonce(2)),
        (nonce(1), 10, None),
        (None, 8, nonce(2)),
        (None, 8, None),
    ] {
        judge(known, epoch, found, None).unwrap();
    }
    let said = "rule G26: the header is of epoch 8, which the key service remembers, and another boot wrote it, which was cut \
                off: attach the current disk";
    for found in [nonce(2), None] {
        let error = judge(nonce(1), 8, found, None).unwrap_err();
        assert_eq!(
            (error.exit(), error.to_string()),
            (Exit::Refused, said.into())
        );
        judge(nonce(1), 8, found, Some(Accepted::Rollback)).unwrap();
        judge(nonce(1), 8, found, Some(Accepted::New)).unwrap_err();
        let stamp = Stamp {
            epoch: 8,
            nonce: found,
        };
        let readmission = |known| Readmission {
            record: record(known),
            answered_s: 5,
            void_s: 0,
        };
        let error = judge::readmitted(&readmission(nonce(1)), &proven_of(stamp)).unwrap_err();
        assert_eq!(error.to_string(), said);
        judge::readmitted(&readmission(found), &proven_of(stamp)).unwrap();
    }
    // A header that has neither epoch nor nonce is not the one that was remembered.
    let never = VolumeRecord {
        epoch: 0,
        ..record(nonce(1))
    };
    judge::recorded(&never, &KEY_ID, None, None).unwrap_err();
    let unknown = VolumeRecord {
        nonce: None,
        ..never
    };
    judge::recorded(&unknown, &KEY_ID, None, None).unwrap();
}

#[test]
fn a_readmitted_volume_is_the_one_that_the_service_remembers_and_no_older() {
    let record = VolumeRecord {
        key_id: Some(hex::encode(KEY_ID)),
        epoch: 7,
        nonce: None,
    };
    let readmitted = |record: &VolumeRecord, epoch| {
        let readmission = Readmission {
            record: record.clone(),
            answered_s: 5,
            void_s: 0,
        };
        judge::readmitted(&readmission, &told(epoch))
    };
    // The epochs of this very answer are the last ones there can be.
    for epoch in [7, 8, 6 * EPOCHS_OF_AN_ANSWER - 1] {
        readmitted(&record, epoch).unwrap();
    }
    let other = VolumeRecord {
        key_id: Some(hex::encode([0x12; 32])),
        ..record.clone()
    };
    let never_told = VolumeRecord {
        key_id: None,
        epoch: 0,
        nonce: None,
    };
    for (record, epoch, expected) in [
        (
            &record,
            6,
            "rule G26: the header is of epoch 6, and the key service remembers 7",
        ),
        (&other, 7, "rule D15: this is a volume with key"),
        (&never_told, 7, "rule D15: volume 22222222-"),
        (
            &record,
            6 * EPOCHS_OF_AN_ANSWER,
            "rule G26: the header's epoch 6442450944 is of a later time",
        ),
    ] {
        let error = readmitted(record, epoch).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
        assert_eq!(error.exit(), Exit::Refused);
    }
}

/// One volume is readmitted beside one that this very boot makes, on a TPM that counted less than the lost one.
#[test]
fn a_new_tpm_remembers_a_readmitted_volume_once_its_boot_has_succeeded_and_not_before() {
    let mut node = Node::new();
    let old = 57;
    let mut ahead = 0;
    for (interrupted, answered_s) in [(true, 3), (true, 7), (false, 8)] {
        ahead = answered_s * EPOCHS_OF_AN_ANSWER;
        let readmission = Readmission {
            record: VolumeRecord {
                key_id: Some(hex::encode(KEY_ID)),
                epoch: old,
                nonce: None,
            },
            answered_s,
            void_s: 0,
        };
        let (config, mut tpm, mut anchor) = node.boot("epoch");
        let [state, data] = [0, 1].map(|index| config.volumes().nth(index).unwrap());
        anchor.permit(state, DeviceState::Volume).unwrap_err();
        assert!(anchor.is_unknown(state));
        let exception = anchor.readmit(state, &readmission, &told(old)).unwrap();
        if anchor.is_to_be_renewed() {
            anchor.renew_record(&mut tpm, &[]).unwrap();
        }
        assert_eq!(exception.event(), "nightlatch:accept:readmitted:state");
        anchor.permit(data, DeviceState::Blank).unwrap();
        let made = anchor
            .begin_provisioning(&mut tpm, data, UUID, KEY_ID)
            .unwrap()
            .epoch;
        assert_eq!(anchor.next_stamp(state).unwrap().epoch, ahead + made);
        // As the exception is measured, into a PCR of the record's policy.
        tpm.event(config.tpm.fence_pcr, exception.event().as_bytes())
            .unwrap();
        anchor.advance(&mut tpm).unwrap();
        assert_eq!(anchor.counter().unwrap(), made);
        if !interrupted {
            node.finish(&config, tpm, anchor);
        }
    }

    let (config, mut tpm, mut anchor) = node.boot("epoch");
    let [state, data] = [0, 1].map(|index| config.volumes().nth(index).unwrap());
    for volume in [state, data] {
        assert_eq!(anchor.permit(volume, DeviceState::Volume).unwrap(), None);
    }
    let made = anchor.counter().unwrap();
    assert!(made < old);
    for (volume, epoch) in [(state, ahead + made), (data, made)] {
        anchor.verify(volume, &proven(&anchor, epoch)).unwrap();
        anchor
            .verify(volume, &proven(&anchor, epoch - 1))
            .unwrap_err();
        assert_eq!(anchor.next_stamp(volume).unwrap().epoch, epoch + 2);
    }
    anchor.advance(&mut tpm).unwrap();
    node.finish(&config, tpm, anchor);

    let (config, _, anchor) = node.boot("epoch");
    let state = config.volumes().next().unwrap();
    anchor
        .verify(state, &proven(&anchor, ahead + made + 2))
        .unwrap();
    let error = anchor
        .verify(state, &proven(&anchor, ahead + made))
        .unwrap_err();
    let said = format!(
        "rule G26: the header is of epoch {}, and the TPM counts {}:",
        ahead + made,
        ahead + made + 2
    );
    assert!(error.to_string().starts_with(&said), "{error}");
}
