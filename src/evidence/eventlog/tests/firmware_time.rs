// SPDX-License-Identifier: Apache-2.0
//! What a firmware measures of drivers and of whoever vouched, and the kernel's stub of what it is handed.

use super::*;

fn told(change: impl FnOnce(&mut FirmwareLog), pcr: u8) -> Vec<String> {
    let mut log = FirmwareLog::new();
    change(&mut log);
    events(&log.0, pcr)
}

#[test]
fn an_authority_is_the_entry_of_db_that_its_digest_proves() {
    let id = hex::encode(Bank::Sha256.hash(b"a certificate"));
    let mut log = FirmwareLog::new();
    log.authority(b"a certificate");
    let own = Log::firmware(&log.0).unwrap();
    let events = own.events(Bank::Sha256, Registers::ALL);
    assert_eq!(events[0].what, What::Authority(b"a certificate".to_vec()));
    assert_eq!(
        events[0].what.to_string(),
        format!("authority of db with SHA-256 {id}")
    );
    // Another digest, another list, an entry without its owner.
    let last = log.0.len() - 1;
    log.0[last] ^= 1;
    let other = Log::firmware(&log.0).unwrap();
    let events = other.events(Bank::Sha256, Registers::ALL);
    assert!(matches!(events[0].what, What::Said { .. }));
    let variable = |name: &str, value: &[u8]| {
        let units = utf16(name);
        let data = [
            &[0x50; 16][..],
            &u64::try_from(name.len()).unwrap().to_le_bytes(),
            &u64::try_from(value.len()).unwrap().to_le_bytes(),
            &units[..units.len() - 2],
            value,
        ]
        .concat();
        told(
            |log| {
                log.event(7, 0x8000_00e0, &data, &data);
            },
            7,
        )
    };
    assert_eq!(variable("db", &[0; 40]), ["variable \"db\""]);
    assert_eq!(variable("MokList", &[0; 40]), ["variable \"MokList\""]);
    assert_eq!(variable("Shim", b"short"), ["variable \"Shim\""]);
}

#[test]
fn a_driver_is_told_from_a_program() {
    let driver = |log: &mut FirmwareLog| {
        log.driver(b"option ROM");
    };
    assert_eq!(told(driver, 2), ["driver \"not in a file\""]);
    assert_eq!(told(driver, 4), Vec::<String>::new());
}

#[test]
fn what_the_kernel_is_handed_is_told_by_its_number() {
    assert_eq!(
        events(IMAGE_LOG, 9),
        [
            "tag 0x8f3b22ed, said to be \"LOADED_IMAGE::LoadOptions\"",
            "tag 0x8f3b22ec, said to be \"Linux initrd\""
        ]
    );
    let short = told(
        |log| {
            log.event(9, 6, b"x", b"\xec\x22\x3b\x8f\xff\0\0\0Linux");
        },
        9,
    );
    assert!(short[0].starts_with("EV_EVENT_TAG"), "{short:?}");
}
