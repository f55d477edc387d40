// SPDX-License-Identifier: Apache-2.0
use super::*;

pub(super) const AT: Handles = Handles {
    record: 0x0180_4e10,
    counter: 0x0180_4e11,
};

/// Length of a record of eight entries, in bytes.
pub(super) const LEN: usize = 1008;

/// A record that holds `auth`, as the anchor's does, and is otherwise of one byte.
pub(super) fn record(auth: &Secret, fill: u8) -> Vec<u8> {
    let mut record = vec![fill; LEN];
    record[16..48].copy_from_slice(auth.expose());
    record
}

/// Makes an anchor; returns what the running system is handed.
pub(super) fn made(tpm: &mut Tpm, fill: u8) -> NvAccess {
    let auth = Secret::random().unwrap();
    tpm.define_anchor(AT, POLICY, &auth, &record(&auth, fill))
        .unwrap();
    NvAccess {
        auth,
        pcr_policy: tpm.anchor_policy(POLICY).unwrap(),
    }
}

pub(super) fn fence(tpm: &mut Tpm) {
    tpm.event(Pcr::KERNEL_CONFIG, b"fence").unwrap();
}

#[test]
fn the_record_and_the_counter_come_back_at_the_next_boot() {
    let mut swtpm = Swtpm::start();
    let mut tpm = connected(&swtpm);
    assert!(tpm.read_anchor(AT, POLICY, LEN).unwrap().is_none());
    let auth = Secret::random().unwrap();
    let written = record(&auth, 7);
    let count = tpm.define_anchor(AT, POLICY, &auth, &written).unwrap();
    // A new TPM counts from one.
    assert_eq!(count, 1);
    assert_eq!(
        tpm.read_anchor(AT, POLICY, LEN).unwrap(),
        Some((written.clone(), 1))
    );
    assert_eq!(tpm.increment_anchor(AT).unwrap(), 2);
    drop(tpm);

    swtpm.reset();
    let mut tpm = connected(&swtpm);
    assert_eq!(
        tpm.read_anchor(AT, POLICY, LEN).unwrap(),
        Some((written, 2))
    );
    assert_eq!(tpm.increment_anchor(AT).unwrap(), 3);
    drop(tpm);
    assert_eq!(connected(&swtpm).increment_anchor(AT).unwrap(), 4);
}
