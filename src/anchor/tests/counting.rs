// SPDX-License-Identifier: Apache-2.0
//! The nonce that headers and record have in common: drawn after a boot that was cut off, kept otherwise, and new to a record
//! of before.

use super::*;

/// `TPM_CC_NV_Increment` (TPM 2.0 part 2, section 6.5.2).
const NV_INCREMENT: u32 = 0x134;
/// All that writing to the record takes: `StartAuthSession`, `PolicyNvWritten`, `PolicyAuthValue`, `PolicyOR`, `NV_Write`.
const WRITTEN: [u32; 5] = [0x176, 0x18f, 0x16b, 0x171, NV_WRITE];
/// `TPM_CC_NV_Read`.
const NV_READ: u32 = 0x14e;

/// A boot's stamp for its first volume, and the commands that it takes to count it.
fn counted(
    node: &mut Node,
    config: &Config,
    tpm: &mut Tpm,
    anchor: &mut Anchor,
) -> (Stamp, Vec<u32>) {
    let stamp = anchor.next_stamp(config.volumes().next().unwrap()).unwrap();
    node.swtpm.commands();
    anchor.begin_renewal(tpm).unwrap();
    anchor.advance(tpm).unwrap();
    (stamp, node.swtpm.commands())
}

#[test]
fn a_boot_after_one_that_was_cut_off_draws_a_nonce_and_the_header_of_that_one_is_refused() {
    let mut node = Node::new();
    node.provision("epoch");
    let (config, mut tpm, mut anchor) = node.boot("epoch");
    let volume = config.volumes().next().unwrap();
    let cut = anchor.next_stamp(volume).unwrap();
    anchor.begin_renewal(&mut tpm).unwrap();
    drop((tpm, anchor));

    let (_, mut tpm, mut anchor) = node.boot("epoch");
    // Until a boot has written all its headers, those of the one that was cut off are as good as the ones before.
    anchor.verify(volume, &proven_of(cut)).unwrap();
    anchor
        .verify(volume, &proven(&anchor, cut.epoch - 2))
        .unwrap();
    let (stamp, commands) = counted(&mut node, &config, &mut tpm, &mut anchor);
    assert_eq!(commands, [&WRITTEN[..], &[NV_INCREMENT, NV_READ]].concat());
    assert_eq!(stamp.epoch, cut.epoch);
    assert_ne!(stamp.nonce, cut.nonce);
    node.finish(&config, tpm, anchor);

    let (_, mut tpm, mut anchor) = node.boot("epoch");
    anchor.verify(volume, &proven_of(stamp)).unwrap();
    let error = anchor.verify(volume, &proven_of(cut)).unwrap_err();
    let said = format!(
        "rule G26: the header is of epoch {}, as the TPM counts, and not of the boot",
        cut.epoch
    );
    assert!(error.to_string().starts_with(&said), "{error}");
    assert_eq!(error.exit(), Exit::Refused);
    // And with nothing cut off, the next one writes nothing.
    let (next, commands) = counted(&mut node, &config, &mut tpm, &mut anchor);
    assert_eq!(commands, [NV_INCREMENT, NV_INCREMENT, NV_READ]);
    assert_eq!(next.nonce, stamp.nonce);
}

/// The last boot of the program of before left an even count or an odd one, and headers of it.
#[test]
fn a_record_of_before_gets_its_nonce_in_the_first_boot_that_counts() {
    for raised in [0, 1] {
        let mut node = Node::new();
        node.provision("epoch");
        RuntimeAnchor::take(&node.top)
            .unwrap()
            .change(|record| {
                record.nonce = None;
                Ok(())
            })
            .unwrap();
        let (config, mut tpm, anchor) = node.boot("epoch");
        let volume = config.volumes().next().unwrap();
        for _ in 0..raised {
            tpm.raise_anchor(anchor.at).unwrap();
        }
        drop((tpm, anchor));

        let (_, mut tpm, mut anchor) = node.boot("epoch");
        let count = anchor.counter().unwrap();
        for epoch in [count, count + 1] {
            anchor.verify(volume, &proven(&anchor, epoch)).unwrap();
        }
        assert!(anchor.verify(volume, &proven(&anchor, count - 1)).is_err());
        let (stamp, commands) = counted(&mut node, &config, &mut tpm, &mut anchor);
        let raises = vec![NV_INCREMENT; 1 - raised];
        let last = [NV_INCREMENT, NV_READ];
        assert_eq!(commands, [&raises[..], &WRITTEN, &last].concat());
        node.finish(&config, tpm, anchor);

        let (_, _, anchor) = node.boot("epoch");
        anchor.verify(volume, &proven_of(stamp)).unwrap();
        for epoch in [count, count + 1, stamp.epoch] {
            let before = Stamp { epoch, nonce: None };
            assert!(anchor.verify(volume, &proven_of(before)).is_err());
        }
    }
}
