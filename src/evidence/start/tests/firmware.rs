// SPDX-License-Identifier: Apache-2.0
//! What the firmware says it is.

use super::*;

#[test]
fn a_firmware_is_held_against_its_list_where_there_is_one() {
    let utf16 = |text: &str| -> Vec<u8> {
        let units = text.encode_utf16().chain([0]);
        units.flat_map(u16::to_le_bytes).collect()
    };
    let log = log_with(|log| {
        log.event(0, 8, &utf16("2026.08"), &utf16("2026.08")).event(
            0,
            0x8000_0008,
            b"a volume",
            b"where it is",
        );
        log.authority(OWNER)
            .program(b"image", "\\EFI\\BOOT\\BOOTX64.EFI");
        log.section(".linux", b"kernel");
    });
    let volume = hex::encode(BANK.hash(b"a volume"));
    let authorities = [OWNER.to_vec()];
    let held = |values: &Values, parts: Option<&[&str]>| {
        let firmware = parts.map(|parts| {
            let parts = parts.iter().map(|part| FirmwarePart::parse(BANK, part));
            parts.collect()
        });
        let expected = Expected {
            firmware,
            ..required(&authorities)
        };
        prove(&Log::firmware(&log.0).unwrap(), values, &expected).map(|_| ())
    };
    let mut values = values_of(&log);
    let listed = [&volume[..], "2026.08"];
    held(&values, None).unwrap();
    held(&values, Some(&listed)).unwrap();
    held(&values, Some(&["2026.02", &volume, "2026.08"])).unwrap();
    for (parts, foreign) in [
        (&["2026.02", &volume][..], "2026.08"),
        (&["2026.08"][..], &volume),
    ] {
        let error = held(&values, Some(parts)).unwrap_err().to_string();
        let sentence = "the firmware has a part that boot.firmware does not list: ";
        assert!(error.starts_with(sentence), "{error}");
        let digest = hex::encode(BANK.hash(&utf16("2026.08")));
        assert!(
            error.contains(if foreign == volume { &volume } else { &digest }),
            "{error}"
        );
    }
    separate(&mut values, &[0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 14]);
    held(&values, Some(&listed)).unwrap();
    // A log that does not replay to PCR 0 says nothing of the firmware; without a list that does not matter.
    values.insert(0, BANK.hash(b"another value"));
    let unexplained = Unmet::Unexplained { pcr: pcr(0) };
    assert_eq!(held(&values, Some(&listed)).unwrap_err(), unexplained);
    held(&values, None).unwrap();
}

#[test]
fn a_firmware_that_measures_nothing_of_itself_is_no_listed_one() {
    let log = honest();
    let authorities = [OWNER.to_vec()];
    let expected = Expected {
        firmware: Some(vec![FirmwarePart::parse(BANK, "2026.08")]),
        ..required(&authorities)
    };
    let proven = prove(&Log::firmware(&log.0).unwrap(), &values_of(&log), &expected);
    assert_eq!(
        proven.unwrap_err(),
        Unmet::ForeignFirmware("nothing".into())
    );
}
