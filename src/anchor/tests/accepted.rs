// SPDX-License-Identifier: Apache-2.0
//! What an operator has allowed on the node, for one boot that succeeds.

use super::*;

/// A boot with an acceptance measures it, the one after an interruption too.
#[test]
fn a_new_disk_that_was_accepted_is_an_exception_until_the_boot_has_succeeded() {
    let mut node = Node::new();
    node.provision("epoch");
    let config = node.config("epoch");
    let volume = config.volumes().next().unwrap();
    accept(&node, &volume.name, Accepted::New);
    for seen in [
        DeviceState::Blank,
        DeviceState::Blank,
        DeviceState::Interrupted(UUID),
    ] {
        let (_, mut tpm, mut anchor) = node.boot("epoch");
        let exception = anchor.permit(volume, seen).unwrap().unwrap();
        assert_eq!(exception.kind, Allowed::Accepted(Accepted::New));
        anchor
            .begin_provisioning(&mut tpm, volume, UUID, KEY_ID)
            .unwrap();
    }
}

/// The power goes when the old disk's header is of the new epoch, then when the boot is counted: from then on the disk does
/// not show any more that it is an old one.
#[test]
fn an_old_disk_that_was_accepted_is_an_exception_until_the_boot_has_succeeded() {
    let mut node = Node::new();
    node.provision("epoch");
    let (config, mut tpm, mut anchor) = node.boot("epoch");
    anchor.advance(&mut tpm).unwrap();
    let old = anchor.counter().unwrap() - 2;
    node.finish(&config, tpm, anchor);
    let volume = config.volumes().next().unwrap();
    accept(&node, &volume.name, Accepted::Rollback);
    for (epoch, counts) in [(old, false), (old + 4, true), (old + 4, true)] {
        let (_, mut tpm, mut anchor) = node.boot("epoch");
        let exception = anchor.permit(volume, DeviceState::Volume).unwrap().unwrap();
        assert_eq!(exception.event(), "nightlatch:accept:rollback:state");
        anchor.verify(volume, &proven(&anchor, epoch)).unwrap();
        if counts {
            anchor.advance(&mut tpm).unwrap();
        }
    }
    let (config, mut tpm, mut anchor) = node.boot("epoch");
    anchor.advance(&mut tpm).unwrap();
    node.finish(&config, tpm, anchor);
    let (_, _, anchor) = node.boot("epoch");
    assert_eq!(anchor.permit(volume, DeviceState::Volume).unwrap(), None);
    assert!(anchor.verify(volume, &proven(&anchor, old)).is_err());
}

/// Two images that read one record, as those of one builder's key do.
#[test]
fn an_image_that_asks_less_of_a_volume_goes_on_with_it_for_an_operators_word() {
    let mut node = Node::new();
    node.provision("epoch");
    let config = node.config("epoch");
    let name = config.volumes().next().unwrap().name.clone();
    let permit = |node: &mut Node, level: &str| {
        let (config, _, anchor) = node.boot(level);
        let volume = config.volumes().next().unwrap();
        anchor.permit(volume, DeviceState::Volume)
    };
    assert_eq!(permit(&mut node, "checkpoint").unwrap(), None);
    assert_eq!(permit(&mut node, "epoch").unwrap(), None);
    let refused = permit(&mut node, "identity").unwrap_err();
    assert_eq!(refused.exit(), Exit::Refused);
    assert!(
        refused.to_string().starts_with(
            "the TPM remembers volume state at level epoch, and the configuration of this image has anchor = \"identity\""
        ),
        "{refused}"
    );
    // The same where the volume is not anchored at all and another one is.
    let off = node.config("off");
    let (_, _, anchor) = node.boot("epoch");
    let refused = anchor.permit_unanchored(off.volumes().next().unwrap());
    assert_eq!(refused.unwrap_err().exit(), Exit::Refused);

    // With a word it goes on, and so does each later boot of it.
    let (config, mut tpm, mut anchor) = node.boot("epoch");
    anchor.advance(&mut tpm).unwrap();
    node.finish(&config, tpm, anchor);
    accept(&node, &name, Accepted::Rollback);
    let (config, mut tpm, mut anchor) = node.boot("identity");
    for volume in config.volumes().take(1) {
        anchor.permit(volume, DeviceState::Volume).unwrap().unwrap();
        anchor.commit(&mut tpm, &[(volume, None)]).unwrap();
    }
    drop((tpm, anchor));
    assert_eq!(permit(&mut node, "identity").unwrap(), None);
}

/// The volume is not in the image of the boot that succeeds.
#[test]
fn an_acceptance_ends_with_the_boot_that_succeeds_for_volumes_it_does_not_open_too() {
    let mut node = Node::new();
    node.provision("epoch");
    let config = node.config("epoch");
    let [state, data] = [0, 1].map(|index| config.volumes().nth(index).unwrap());
    accept(&node, &data.name, Accepted::Rollback);
    let (_, mut tpm, mut anchor) = node.boot("epoch");
    anchor.commit(&mut tpm, &[(state, None)]).unwrap();
    drop((tpm, anchor));
    let (_, _, anchor) = node.boot("epoch");
    assert_eq!(anchor.permit(data, DeviceState::Volume).unwrap(), None);
}
