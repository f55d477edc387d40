// SPDX-License-Identifier: Apache-2.0
//! A record that was made under other PCR values, and what takes its place.

use super::*;
use crate::protocol::EPOCHS_OF_AN_ANSWER;

/// A boot of the image that measures this.
fn boot(node: &mut Node, image: &[u8]) -> (Config, Tpm, Anchor) {
    node.swtpm.reset();
    let config = node.config("epoch");
    let mut tpm = Tpm::open(&config.tpm.tcti).unwrap();
    tpm.event(Pcr::KERNEL_IMAGE, image).unwrap();
    let mut anchor = read(&config, &mut tpm).unwrap();
    anchor.count(&mut tpm).unwrap();
    (config, tpm, anchor)
}

/// A node whose volumes the image `one` made, and the digest of the policy that these are sealed under.
fn provisioned() -> (Node, [u8; 32]) {
    let mut node = Node::new();
    let (config, mut tpm, mut anchor) = boot(&mut node, b"one");
    let policy = tpm.anchor_policy(Policy::of(&config.tpm, None)).unwrap();
    for volume in config.volumes() {
        anchor
            .begin_provisioning(&mut tpm, volume, UUID, KEY_ID)
            .unwrap();
    }
    anchor.advance(&mut tpm).unwrap();
    node.finish(&config, tpm, anchor);
    (node, policy)
}

/// What the service was told of a volume.
fn told(stamp: Stamp) -> VolumeRecord {
    VolumeRecord {
        key_id: Some(hex::encode(KEY_ID)),
        epoch: stamp.epoch,
        nonce: stamp.nonce,
    }
}

/// The stamp of the headers that [`provisioned`] left.
fn stamp(node: &mut Node) -> Stamp {
    let (_, _, anchor) = boot(node, b"one");
    let Count { counter, nonce } = anchor.counted().unwrap();
    let epoch = counter;
    Stamp { epoch, nonce }
}

/// Has both volumes carried over, by headers that were sealed under these policies.
fn carry_over(
    config: &Config,
    tpm: &mut Tpm,
    anchor: &mut Anchor,
    (stamp, sealed): (Stamp, [Option<[u8; 32]>; 2]),
) -> Result<()> {
    for (volume, sealed) in config.volumes().zip(sealed) {
        let exception =
            anchor.carry_over(tpm, volume, &told(stamp), (&proven_of(stamp), sealed), None)?;
        let event = format!("nightlatch:accept:stale:{}", volume.name);
        assert_eq!(exception.event(), event);
    }
    Ok(())
}

/// The record made anew and the headers written, up to the count.
fn go_on(config: &Config, tpm: &mut Tpm, anchor: &mut Anchor) -> Stamp {
    assert!(anchor.is_to_be_renewed());
    anchor.renew_record(tpm, &[]).unwrap();
    assert!(!anchor.is_to_be_renewed() && !anchor.is_stale());
    anchor.begin_renewal(tpm).unwrap();
    let volume = config.volumes().next().unwrap();
    anchor.next_stamp(volume).unwrap()
}

#[test]
fn the_record_goes_on_in_another_place_with_all_volumes_and_the_counter() {
    let (mut node, mut policy) = provisioned();
    let mut stamp = stamp(&mut node);
    let places = [0x0180_4e12, 0x0180_4e10];
    for (image, place) in [b"two", b"one"].into_iter().zip(places) {
        let (config, mut tpm, mut anchor) = boot(&mut node, image);
        assert!(anchor.is_stale());
        carry_over(
            &config,
            &mut tpm,
            &mut anchor,
            (stamp, [Some(policy), None]),
        )
        .unwrap();
        let next = go_on(&config, &mut tpm, &mut anchor);
        assert_eq!((next.epoch, next.nonce), (stamp.epoch + 2, stamp.nonce));
        assert_eq!(anchor.at.record, place);
        anchor.remove_others(&mut tpm).unwrap();
        anchor.advance(&mut tpm).unwrap();
        assert_eq!(anchor.counter().unwrap(), next.epoch);
        policy = tpm.anchor_policy(Policy::of(&config.tpm, None)).unwrap();
        node.finish(&config, tpm, anchor);

        let (config, _, anchor) = boot(&mut node, image);
        assert!(!anchor.is_stale());
        for volume in config.volumes() {
            assert_eq!(anchor.permit(volume, DeviceState::Volume).unwrap(), None);
            anchor.verify(volume, &proven_of(next)).unwrap();
            anchor.verify(volume, &proven_of(stamp)).unwrap_err();
        }
        stamp = next;
    }
}

/// Until a boot of the new image has come to its end its record is provisional: the image of before can have gone on meanwhile.
#[test]
fn a_boot_that_is_cut_off_leaves_the_record_of_before_and_one_that_is_not_believed() {
    let (mut node, policy) = provisioned();
    let stamp = stamp(&mut node);
    let (config, mut tpm, mut anchor) = boot(&mut node, b"two");
    let second = tpm.anchor_policy(Policy::of(&config.tpm, None)).unwrap();
    carry_over(&config, &mut tpm, &mut anchor, (stamp, [Some(policy); 2])).unwrap();
    let next = go_on(&config, &mut tpm, &mut anchor);
    drop(tpm);
    let (config, _, anchor) = boot(&mut node, b"one");
    assert!(!anchor.is_stale() && anchor.has_others());
    for volume in config.volumes() {
        // What the other image has written can be on the disk, so each boot says so until one has come to its end.
        let said = anchor.permit(volume, DeviceState::Volume).unwrap();
        assert_eq!(said.unwrap().kind, Allowed::Stale);
        for written in [stamp, next] {
            anchor.verify(volume, &proven_of(written)).unwrap();
        }
    }
    let (config, mut tpm, mut anchor) = boot(&mut node, b"two");
    assert!(anchor.is_stale());
    for volume in config.volumes() {
        let error = anchor.permit(volume, DeviceState::Volume).unwrap_err();
        assert!(error.to_string().contains("was cut off"), "{error}");
    }
    // One header was sealed anew by then, and the other not.
    let sealed = [Some(second), Some(policy)];
    carry_over(&config, &mut tpm, &mut anchor, (stamp, sealed)).unwrap();
    go_on(&config, &mut tpm, &mut anchor);
    assert_eq!(anchor.at.record, 0x0180_4e12);
    drop(tpm);
    // A third image finds two, and takes the place of the one that no header names.
    let (config, mut tpm, mut anchor) = boot(&mut node, b"three");
    carry_over(&config, &mut tpm, &mut anchor, (stamp, [Some(policy); 2])).unwrap();
    go_on(&config, &mut tpm, &mut anchor);
    assert_eq!(anchor.at.record, 0x0180_4e12);
    drop(tpm);
    assert!(!boot(&mut node, b"one").2.is_stale());
    // Whoever removes the record of before has the new one no more believed than with it.
    let removed = node
        .swtpm
        .tool("tpm2_nvundefine", &["-C", "o", "0x1804e10"]);
    assert!(removed.status.success());
    let (_, _, anchor) = boot(&mut node, b"three");
    assert!(anchor.is_stale() && !anchor.has_others());
}

#[test]
fn a_record_that_no_header_names_is_one_that_is_gone() {
    let (mut node, policy) = provisioned();
    let stamp = stamp(&mut node);
    let refused = |sealed, said: &str, node: &mut Node| {
        let (config, mut tpm, mut anchor) = boot(node, b"two");
        let carried = carry_over(&config, &mut tpm, &mut anchor, (stamp, sealed));
        let error = carried
            .and_then(|()| anchor.renew_record(&mut tpm, &[]))
            .unwrap_err();
        assert_eq!(error.exit(), Exit::Refused);
        assert!(error.to_string().contains(said), "{error}");
        assert!(error.to_string().contains("nodes readmit"), "{error}");
    };
    refused(
        [Some([7; 32]), Some(policy)],
        "header names is gone",
        &mut node,
    );
    refused(
        [None; 2],
        "no volume has a secret that is sealed",
        &mut node,
    );
    // The control, with both records named by the two headers once it is cut off.
    let (config, mut tpm, mut anchor) = boot(&mut node, b"two");
    let second = tpm.anchor_policy(Policy::of(&config.tpm, None)).unwrap();
    carry_over(
        &config,
        &mut tpm,
        &mut anchor,
        (stamp, [None, Some(policy)]),
    )
    .unwrap();
    go_on(&config, &mut tpm, &mut anchor);
    drop(tpm);
    let (config, mut tpm, mut anchor) = boot(&mut node, b"three");
    let both = [Some(second), Some(policy)];
    carry_over(&config, &mut tpm, &mut anchor, (stamp, both)).unwrap();
    let error = anchor.renew_record(&mut tpm, &[]).unwrap_err().to_string();
    assert!(
        error.contains("boot the image of that update once"),
        "{error}"
    );
}

#[test]
fn what_stands_in_is_the_volumes_and_no_older_than_counter_and_service_say() {
    let stamp = |epoch, nonce: Option<u8>| Stamp {
        epoch,
        nonce: nonce.and_then(|byte| BootNonce::from_bytes([byte; 7])),
    };
    let judge = |record: &VolumeRecord, counter, found| {
        judge::stale::verify(record, counter, Level::Epoch, &proven_of(found))
    };
    let now = stamp(6, Some(1));
    // The service has heard of it, or of a boot before; the header is of the last boot, or of one that was cut off.
    for (record, counter, found, nonce) in [
        (told(now), 6, now, now.nonce),
        (told(now), 7, now, now.nonce),
        (told(stamp(2, Some(3))), 6, now, now.nonce),
        (told(now), 7, stamp(8, Some(2)), None),
        (told(now), 6, stamp(8, Some(2)), None),
        (told(stamp(5, None)), 5, stamp(5, None), None),
    ] {
        let continued = judge(&record, counter, found).unwrap();
        assert_eq!((continued.ahead, continued.nonce), (0, nonce));
    }
    let never = VolumeRecord {
        key_id: None,
        ..told(now)
    };
    let other = VolumeRecord {
        key_id: Some("ab".repeat(32)),
        ..told(now)
    };
    let answered = stamp(6 + 9 * EPOCHS_OF_AN_ANSWER, Some(1));
    for (record, counter, found, said) in [
        (never, 6, now, "was never told which key"),
        (other, 6, now, "rule D15: this is a volume with key"),
        (
            told(stamp(8, Some(1))),
            6,
            now,
            "and the key service remembers 8",
        ),
        (
            told(stamp(6, Some(2))),
            6,
            now,
            "another boot wrote it, which was cut off",
        ),
        (told(stamp(4, Some(1))), 8, now, "the TPM's counter is at 8"),
        (told(stamp(4, Some(1))), 2, now, "the TPM's counter is at 2"),
        (told(now), 6, answered, "follows from an operator's word"),
    ] {
        let error = judge(&record, counter, found).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused);
        assert!(error.to_string().contains(said), "{error}");
    }
    // The control: told of that answer's epochs, they go on.
    let continued = judge(&told(answered), 7, answered).unwrap();
    let ahead = i64::try_from(9 * EPOCHS_OF_AN_ANSWER).unwrap();
    assert_eq!((continued.ahead, continued.nonce), (ahead, now.nonce));
}

#[test]
fn two_volumes_of_one_epoch_and_two_boots_are_refused() {
    let of = |byte: u8| BootNonce::from_bytes([byte; 7]);
    let common = |all: &[Option<u8>]| {
        let nonces = all.iter().flatten().filter_map(|byte| of(*byte));
        judge::stale::common_nonce(nonces)
    };
    assert_eq!(common(&[None, Some(1), Some(1)]).unwrap(), of(1));
    assert_eq!(common(&[None, None]).unwrap(), None);
    let error = common(&[Some(1), None, Some(2)]).unwrap_err().to_string();
    assert!(
        error.starts_with("rule G26: the volumes have headers"),
        "{error}"
    );
}

/// A process that may open the TPM's device can remove the counter. The record alone says nothing of age.
#[test]
fn a_counter_that_is_gone_is_made_anew_for_an_operators_word() {
    let (mut node, _) = provisioned();
    let stamp = stamp(&mut node);
    let remove = |node: &Node| {
        let undefined = node
            .swtpm
            .tool("tpm2_nvundefine", &["-C", "o", "0x1804e11"]);
        assert!(undefined.status.success());
    };
    remove(&node);
    for image in [b"one", b"two"] {
        let (config, mut tpm, mut anchor) = boot(&mut node, image);
        assert!(anchor.has_lost_counter());
        for (volume, seen) in config
            .volumes()
            .zip([DeviceState::Volume, DeviceState::Blank])
        {
            let error = anchor.permit(volume, seen).unwrap_err();
            assert_eq!(error.exit(), Exit::Refused);
            assert!(error.to_string().contains("somebody removed it"), "{error}");
        }
        for (number, volume) in config.volumes().enumerate() {
            let readmission = judge::Readmission {
                record: told(stamp),
                answered_s: 5,
                void_s: 0,
            };
            let exception = anchor.readmit(volume, &readmission, &proven_of(stamp));
            assert_eq!(exception.unwrap().kind, Allowed::Readmitted, "{number}");
        }
        anchor.renew_record(&mut tpm, &[]).unwrap();
        // Above what any boot before has left, cut off or not.
        assert!(anchor.counter().unwrap() > stamp.epoch + 1);
        let volume = config.volumes().next().unwrap();
        assert!(anchor.next_stamp(volume).unwrap().epoch > 5 * EPOCHS_OF_AN_ANSWER);
        anchor.begin_renewal(&mut tpm).unwrap();
        anchor.remove_others(&mut tpm).unwrap();
        anchor.advance(&mut tpm).unwrap();
        node.finish(&config, tpm, anchor);
        let (config, _, anchor) = boot(&mut node, image);
        for volume in config.volumes() {
            assert_eq!(anchor.permit(volume, DeviceState::Volume).unwrap(), None);
        }
        remove(&node);
    }
}

/// An update beside which a volume is away: what was known of it is lost with the record that cannot be read.
#[test]
fn a_record_made_anew_without_a_volume_refuses_a_blank_disk_in_its_place() {
    let (mut node, policy) = provisioned();
    let stamp = stamp(&mut node);
    let (config, mut tpm, mut anchor) = boot(&mut node, b"two");
    let [state, data] = [0, 1].map(|index| config.volumes().nth(index).unwrap());
    let of_header = (&proven_of(stamp), Some(policy));
    for volume in [state, data] {
        anchor
            .carry_over(&mut tpm, volume, &told(stamp), of_header, None)
            .unwrap();
    }
    // Refused for something else, once it was taken up.
    anchor.withdraw(data);
    anchor.renew_record(&mut tpm, &[data]).unwrap();
    anchor.begin_renewal(&mut tpm).unwrap();
    anchor.remove_others(&mut tpm).unwrap();
    anchor.note_away(&mut tpm, &[state]).unwrap();
    anchor.advance(&mut tpm).unwrap();
    anchor.commit(&mut tpm, &[(state, None)]).unwrap();
    drop(tpm);
    let (_, _, anchor) = boot(&mut node, b"two");
    assert!(!anchor.is_stale());
    assert_eq!(anchor.permit(state, DeviceState::Volume).unwrap(), None);
    for seen in [DeviceState::Blank, DeviceState::Volume] {
        let error = anchor.permit(data, seen).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused, "{error}");
    }
    assert!(anchor.is_unknown(data));
}
