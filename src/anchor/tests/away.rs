// SPDX-License-Identifier: Apache-2.0
//! A volume that boots are without, in a real (software) TPM: what is written for it, when, and what fits it when it is back.

use super::record::RECORD_LEN;
use super::*;
use crate::tpm::FoundRecords;

/// `TPM_CC_NV_Increment` (TPM 2.0 part 2, section 6.5.2).
const NV_INCREMENT: u32 = 0x134;
/// `TPM_CC_NV_Read`.
const NV_READ: u32 = 0x14e;
/// What counting takes in a boot after one that came to its end.
const COUNTED: [u32; 3] = [NV_INCREMENT, NV_INCREMENT, NV_READ];
/// All that writing to the record takes: `StartAuthSession`, `PolicyNvWritten`, `PolicyAuthValue`, `PolicyOR`, `NV_Write`.
const WRITTEN: [u32; 5] = [0x176, 0x18f, 0x16b, 0x171, NV_WRITE];

/// A boot with these volumes alone, up to its count; the commands that counting took.
fn count_with(node: &mut Node, tpm: &mut Tpm, anchor: &mut Anchor, open: &[&Volume]) -> Vec<u32> {
    node.swtpm.commands();
    anchor.begin_renewal(tpm).unwrap();
    anchor.note_away(tpm, open).unwrap();
    anchor.advance(tpm).unwrap();
    anchor.note_back(tpm, open).unwrap();
    node.swtpm.commands()
}

/// A whole boot with these volumes alone.
fn boot_with(node: &mut Node, open: &[&Volume]) -> Vec<u32> {
    let (config, mut tpm, mut anchor) = node.boot("epoch");
    let commands = count_with(node, &mut tpm, &mut anchor, open);
    let volumes: Vec<_> = open.iter().map(|volume| (*volume, None)).collect();
    anchor.commit(&mut tpm, &volumes).unwrap();
    let runtime = anchor.into_runtime(&config).unwrap();
    runtime.leave(&node.top).unwrap();
    tpm.event(config.tpm.fence_pcr, b"fence").unwrap();
    commands
}

/// The version in the record's bytes.
fn version(node: &mut Node) -> u8 {
    let (config, mut tpm, anchor) = node.boot("epoch");
    let policy = Policy::of(&config.tpm, None);
    let found = tpm.find_records(anchor.places, policy, RECORD_LEN).unwrap();
    let FoundRecords { readable, .. } = found;
    let bytes = tpm.read_anchor(readable.unwrap(), policy, RECORD_LEN);
    bytes.unwrap().unwrap()[8]
}

/// An operator readmits the volume, and its disk is there.
fn readmit(anchor: &mut Anchor, volume: &Volume) {
    let stamp = Stamp {
        epoch: 1,
        nonce: None,
    };
    let record = VolumeRecord {
        key_id: Some(hex::encode(KEY_ID)),
        epoch: stamp.epoch,
        nonce: None,
    };
    let readmission = judge::Readmission {
        record,
        answered_s: 9,
        void_s: 0,
    };
    let readmitted = anchor.readmit(volume, &readmission, &proven_of(stamp));
    assert_eq!(readmitted.unwrap().kind, Allowed::Readmitted);
}

/// A blank disk in the place of a volume of which the TPM knows no more than that there may be one.
fn is_not_new(anchor: &Anchor, volume: &Volume) {
    let error = anchor.permit(volume, DeviceState::Blank).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    let said = format!("whether there was a volume {}", volume.name);
    assert!(error.to_string().contains(&said), "{error}");
}

fn last_open(node: &mut Node) -> Stamp {
    let (_, _, anchor) = node.boot("epoch");
    anchor.counted().unwrap().last_open()
}

#[test]
fn a_volume_that_is_away_for_three_boots_comes_back_as_it_was_last_open_and_no_older() {
    let mut node = Node::new();
    node.provision("epoch");
    let config = node.config("epoch");
    let [state, data] = [0, 1].map(|index| config.volumes().nth(index).unwrap());
    let older = last_open(&mut node);
    assert_eq!(boot_with(&mut node, &[state, data]), COUNTED);
    let newest = last_open(&mut node);
    assert_eq!(version(&mut node), 1);

    // Written once, by the first boot without it, and before the count is at that boot's end.
    let [raised, rest] = [&COUNTED[..1], &COUNTED[1..]];
    assert_eq!(
        boot_with(&mut node, &[state]),
        [raised, &WRITTEN, rest].concat()
    );
    assert_eq!(version(&mut node), 2);
    for _ in 0..2 {
        assert_eq!(boot_with(&mut node, &[state]), COUNTED);
    }

    let (_, _, anchor) = node.boot("epoch");
    assert_eq!(anchor.permit(data, DeviceState::Volume).unwrap(), None);
    anchor.permit(data, DeviceState::Blank).unwrap_err();
    anchor.verify(data, &proven_of(newest)).unwrap();
    let of_other_boot = Stamp {
        nonce: BootNonce::draw().map(Some).unwrap(),
        ..newest
    };
    for (stamp, said) in [
        (older, "and the volume was away since it was open at"),
        (of_other_boot, "and not of the boot that it counted"),
    ] {
        let error = anchor.verify(data, &proven_of(stamp)).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused);
        assert!(error.to_string().contains(said), "{error}");
    }
    // The other one goes by the count, as ever.
    let count = anchor.counter().unwrap();
    anchor.verify(state, &proven(&anchor, count)).unwrap();
    anchor.verify(state, &proven_of(newest)).unwrap_err();

    // Back, in one write after the count; from then on it goes by the count as well.
    assert_eq!(
        boot_with(&mut node, &[state, data]),
        [&COUNTED[..], &WRITTEN].concat()
    );
    let (_, _, anchor) = node.boot("epoch");
    let count = anchor.counter().unwrap();
    anchor.verify(data, &proven(&anchor, count)).unwrap();
    anchor.verify(data, &proven_of(newest)).unwrap_err();
    assert_eq!(boot_with(&mut node, &[state, data]), COUNTED);
    assert_eq!(version(&mut node), 2);
}

/// Boots that are cut off while they note it, and while they take it back.
#[test]
fn what_a_boot_that_was_cut_off_says_of_a_volume_that_is_away_holds() {
    let mut node = Node::new();
    node.provision("epoch");
    let config = node.config("epoch");
    let [state, data] = [0, 1].map(|index| config.volumes().nth(index).unwrap());
    let newest = last_open(&mut node);

    // Noted, and cut off before the count.
    let (_, mut tpm, mut anchor) = node.boot("epoch");
    anchor.begin_renewal(&mut tpm).unwrap();
    anchor.note_away(&mut tpm, &[state]).unwrap();
    drop((tpm, anchor));
    let (_, _, anchor) = node.boot("epoch");
    anchor.verify(data, &proven_of(newest)).unwrap();
    boot_with(&mut node, &[state]);
    let (_, _, anchor) = node.boot("epoch");
    anchor.verify(data, &proven_of(newest)).unwrap();

    // It has a header of a boot that was counted, and was cut off before the entry was taken away.
    let (_, mut tpm, mut anchor) = node.boot("epoch");
    let later = anchor.next_stamp(data).unwrap();
    anchor.begin_renewal(&mut tpm).unwrap();
    anchor.note_away(&mut tpm, &[state, data]).unwrap();
    anchor.advance(&mut tpm).unwrap();
    drop((tpm, anchor));
    boot_with(&mut node, &[state]);
    let (_, _, anchor) = node.boot("epoch");
    for stamp in [newest, later] {
        anchor.verify(data, &proven_of(stamp)).unwrap();
    }
    let beyond = Stamp {
        epoch: later.epoch + 6,
        ..later
    };
    anchor.verify(data, &proven_of(beyond)).unwrap_err();
}

/// A record of version 1 that no volume is missing in stays one, and its volumes open in a boot of either program.
#[test]
fn boots_without_a_volume_of_a_lower_level_write_nothing() {
    let mut node = Node::new();
    node.provision("identity");
    let config = node.config("identity");
    let state = config.volumes().next().unwrap();
    let (_, mut tpm, mut anchor) = node.boot("identity");
    assert!(count_with(&mut node, &mut tpm, &mut anchor, &[state]).is_empty());
    drop((tpm, anchor));
    assert_eq!(version(&mut node), 1);
}

/// The TPM is another one, and a key service lets one of two volumes go on.
#[test]
fn a_volume_that_is_away_as_the_record_is_made_is_not_taken_for_a_new_one() {
    let mut node = Node::new();
    let (config, mut tpm, mut anchor) = node.boot("epoch");
    let [state, data] = [0, 1].map(|index| config.volumes().nth(index).unwrap());
    readmit(&mut anchor, state);
    anchor.renew_record(&mut tpm, &[data]).unwrap();
    count_with(&mut node, &mut tpm, &mut anchor, &[state]);
    anchor.commit(&mut tpm, &[(state, None)]).unwrap();
    let runtime = anchor.into_runtime(&config).unwrap();
    runtime.leave(&node.top).unwrap();
    drop(tpm);

    let (_, _, anchor) = node.boot("epoch");
    anchor.permit(state, DeviceState::Volume).unwrap();
    is_not_new(&anchor, data);
    assert!(!anchor.may_be_made(data, DeviceState::Blank));
    let error = anchor.permit(data, DeviceState::Volume).unwrap_err();
    assert!(
        error.to_string().contains("does not remember this volume"),
        "{error}"
    );
    assert!(anchor.is_unknown(data));
    // Later boots without it leave it at that.
    assert_eq!(boot_with(&mut node, &[state]), COUNTED);

    // The operator's word ends it, for a new one or for the volume.
    accept(&node, &data.name, Accepted::New);
    let (_, mut tpm, mut anchor) = node.boot("epoch");
    anchor.permit(data, DeviceState::Blank).unwrap().unwrap();
    assert!(anchor.may_be_made(data, DeviceState::Blank));
    readmit(&mut anchor, data);
    count_with(&mut node, &mut tpm, &mut anchor, &[state, data]);
    anchor
        .commit(&mut tpm, &[(state, None), (data, None)])
        .unwrap();
    drop((tpm, anchor));
    let (_, _, anchor) = node.boot("epoch");
    assert_eq!(anchor.permit(data, DeviceState::Volume).unwrap(), None);
}

/// A volume that was readmitted, and failed before it was opened, has the header that it had, and is not remembered.
#[test]
fn a_readmitted_volume_that_is_not_opened_takes_the_word_again() {
    let mut node = Node::new();
    node.provision("epoch");
    let config = node.config("epoch");
    let [state, data] = [0, 1].map(|index| config.volumes().nth(index).unwrap());
    RuntimeAnchor::take(&node.top)
        .unwrap()
        .change(|record| {
            assert!(record.remove(&data.name));
            Ok(())
        })
        .unwrap();
    let (_, mut tpm, mut anchor) = node.boot("epoch");
    readmit(&mut anchor, data);
    anchor.renew_record(&mut tpm, &[]).unwrap();
    count_with(&mut node, &mut tpm, &mut anchor, &[state]);
    anchor.commit(&mut tpm, &[(state, None)]).unwrap();
    drop((tpm, anchor));
    let (_, _, anchor) = node.boot("epoch");
    assert!(anchor.is_unknown(data));
    is_not_new(&anchor, data);
}

/// The TPM has forgotten one volume, so it may have forgotten that there is another.
#[test]
fn a_blank_disk_beside_a_readmitted_volume_is_refused_or_measured() {
    let mut node = Node::new();
    let optional = node.config_of("epoch", "required = false\n");
    let optional = optional.volumes().nth(1).unwrap();
    let (config, mut tpm, mut anchor) = node.boot("epoch");
    let [state, data] = [0, 1].map(|index| config.volumes().nth(index).unwrap());
    for volume in [data, optional] {
        assert_eq!(anchor.permit(volume, DeviceState::Blank).unwrap(), None);
    }
    readmit(&mut anchor, state);
    is_not_new(&anchor, optional);
    let made = anchor.permit(data, DeviceState::Blank).unwrap().unwrap();
    assert_eq!(made.event(), "nightlatch:accept:new:data");

    // Which makes the record; it is to know of the readmitted volume all the same, and of the other in its place, from here on.
    anchor
        .begin_provisioning(&mut tpm, data, UUID, KEY_ID)
        .unwrap();
    assert!(anchor.is_to_be_renewed());
    anchor.renew_record(&mut tpm, &[]).unwrap();
    drop((tpm, anchor));
    let (_, _, anchor) = node.boot("epoch");
    anchor.permit(data, DeviceState::Blank).unwrap();
    assert!(anchor.is_unknown(state));
    is_not_new(&anchor, state);
}

/// The record is written for the sake of the volume that is away, and a host cuts that boot off: the word that let an older disk go on
/// in it is not in there.
#[test]
fn a_word_that_was_pushed_is_not_written_with_a_volume_that_is_away() {
    let mut node = Node::new();
    node.provision("epoch");
    let config = node.config("epoch");
    let [state, data] = [0, 1].map(|index| config.volumes().nth(index).unwrap());
    let older = proven_of(last_open(&mut node));
    boot_with(&mut node, &[state, data]);

    let (_, mut tpm, mut anchor) = node.boot("epoch");
    anchor.verify(state, &older).unwrap_err();
    anchor.roll_back(state).unwrap();
    anchor.verify(state, &older).unwrap();
    count_with(&mut node, &mut tpm, &mut anchor, &[state]);
    drop((tpm, anchor));

    assert_eq!(version(&mut node), 2);
    let (_, _, anchor) = node.boot("epoch");
    assert_eq!(anchor.entry(state).unwrap().acceptance, None);
    anchor.verify(state, &older).unwrap_err();
}
