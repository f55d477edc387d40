// SPDX-License-Identifier: Apache-2.0
//! Logs that OVMF, systemd-boot, systemd-stub and Linux wrote, with the values their TPM had; and logs that lie.

mod firmware_time;

use super::*;
use crate::evidence::fixture::{FirmwareLog, record, utf16};
use crate::measure::{self, EventLog};
use crate::pcr::Pcr;

/// A unified kernel image the firmware started: OVMF without Secure Boot, systemd-stub 254, Linux 6.1, a swtpm with the banks
/// SHA-1 and SHA-256. The log is the kernel's `binary_bios_measurements`; each line of the values is a PCR, SHA-256, SHA-1.
pub(in crate::evidence) const IMAGE_LOG: &[u8] =
    include_bytes!("../../../tests/fixtures/evidence/image.log");
pub(in crate::evidence) const IMAGE_PCRS: &str =
    include_str!("../../../tests/fixtures/evidence/image.pcrs");
/// The same image, started by systemd-boot with a command line of its own.
const LOADER_LOG: &[u8] = include_bytes!("../../../tests/fixtures/evidence/loader.log");
const LOADER_PCRS: &str = include_str!("../../../tests/fixtures/evidence/loader.pcrs");

/// A signed image with Secure Boot on and the owner's keys, on a machine whose network card brings a driver: systemd-stub 257, Linux
/// 6.12. The certificate is the one in db.
pub(in crate::evidence) const SIGNED_LOG: &[u8] =
    include_bytes!("../../../tests/fixtures/evidence/signed.log");
pub(in crate::evidence) const SIGNED_PCRS: &str =
    include_str!("../../../tests/fixtures/evidence/signed.pcrs");
pub(in crate::evidence) const SIGNED_CERTIFICATE: &str =
    include_str!("../../../tests/fixtures/evidence/signed.pem");
/// The same image, started by systemd-boot of the same signer, which has a `loader.conf`.
pub(in crate::evidence) const SIGNED_LOADER_LOG: &[u8] =
    include_bytes!("../../../tests/fixtures/evidence/signed-loader.log");
const SIGNED_LOADER_PCRS: &str =
    include_str!("../../../tests/fixtures/evidence/signed-loader.pcrs");

/// The values of PCRs 0 to 15 of a bank.
pub(in crate::evidence) fn values(text: &str, bank: Bank) -> Values {
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let column = if bank == Bank::Sha256 { 1 } else { 2 };
            (
                words[0].parse().unwrap(),
                hex::decode(words[column]).unwrap(),
            )
        })
        .collect()
}

fn events(log: &[u8], pcr: u8) -> Vec<String> {
    let log = Log::firmware(log).unwrap();
    let pcrs = Registers::of(&[pcr]).unwrap();
    let events = log.events(Bank::Sha256, pcrs);
    events.iter().map(|event| event.what.to_string()).collect()
}

fn refusal(log: &[u8]) -> String {
    Log::firmware(log).unwrap_err().to_string()
}

#[test]
fn recorded_logs_give_the_values_their_tpm_had_in_both_banks() {
    for (log, pcrs) in [
        (IMAGE_LOG, IMAGE_PCRS),
        (LOADER_LOG, LOADER_PCRS),
        (SIGNED_LOG, SIGNED_PCRS),
        (SIGNED_LOADER_LOG, SIGNED_LOADER_PCRS),
    ] {
        for bank in [Bank::Sha1, Bank::Sha256] {
            let replayed = Log::firmware(log).unwrap().replay(bank).unwrap();
            let values = values(pcrs, bank);
            assert_eq!(values.len(), 16);
            for (pcr, value) in values {
                // The kernel's integrity measurement extended PCR 10 and logs that elsewhere.
                assert_eq!(replayed[&pcr] == value, pcr != 10, "PCR {pcr} of {bank}");
            }
            assert_eq!(replayed[&23], bank.zero());
            assert!(replayed[&17].iter().all(|byte| *byte == 0xff));
        }
        let refusal = Log::firmware(log).unwrap().replay(Bank::Sha384);
        assert_eq!(refusal.unwrap_err().check, Check::EventLog);
    }
}

#[test]
fn a_recorded_log_is_told_for_people() {
    let programs = events(LOADER_LOG, 4);
    let programs: Vec<&str> = programs.iter().map(String::as_str).collect();
    assert_eq!(
        programs,
        [
            "EV_EFI_ACTION \"Calling EFI Application from Boot Option\"",
            "separator",
            "EV_EFI_ACTION \"Returning from EFI Application from Boot Option\"",
            "EV_EFI_ACTION \"Calling EFI Application from Boot Option\"",
            r#"program "\EFI\BOOT\BOOTX64.EFI""#,
            r#"program "\EFI\fixture.efi""#,
            "program \"not in a file\"",
        ]
    );
    let command_lines = events(LOADER_LOG, 12);
    assert!(!command_lines.is_empty());
    for line in command_lines {
        assert_eq!(line, "command line \"console=ttyS0 quiet fixture.extra=1\"");
    }
    assert_eq!(events(IMAGE_LOG, 12), Vec::<String>::new());
    assert_eq!(
        events(IMAGE_LOG, 11),
        [".linux", ".osrel", ".cmdline", ".initrd", ".sbat"]
            .iter()
            .flat_map(|name| [format!("EV_IPL {name:?}"), format!("section {name}")])
            .collect::<Vec<_>>()
    );
    assert_eq!(
        events(IMAGE_LOG, 7)[..2],
        ["Secure Boot off", "variable \"PK\""]
    );
}

#[test]
fn the_command_line_inside_an_image_can_be_recognised() {
    let log = Log::firmware(IMAGE_LOG).unwrap();
    let events = log.events(Bank::Sha256, Registers::ALL);
    let section = What::Section(".cmdline".into());
    let own = events.iter().find(|event| event.what == section).unwrap();
    assert_eq!(own.digest, Bank::Sha256.hash(b"console=ttyS0 quiet"));
}

#[test]
fn a_log_that_is_cut_anywhere_but_between_events_is_refused() {
    let mut whole = 0;
    for len in 0..IMAGE_LOG.len() {
        match Log::firmware(&IMAGE_LOG[..len]) {
            Ok(_) => whole += 1,
            Err(refusal) => assert_eq!(refusal.check, Check::FirmwareLog, "{len}"),
        }
    }
    // 36 events after the specification's, at most one of them not measured.
    let events = Log::firmware(IMAGE_LOG).unwrap().entries.len();
    assert!((events..=events + 2).contains(&whole), "{whole} {events}");
}

#[test]
fn no_altered_byte_makes_the_parser_panic_or_read_on() {
    for at in 0..IMAGE_LOG.len() {
        for with in [0x00, 0x01, 0x7f, 0xff] {
            let mut bytes = IMAGE_LOG.to_vec();
            bytes[at] = with;
            if let Ok(log) = Log::firmware(&bytes) {
                assert!(log.entries.len() < 100);
                assert!(log.events(Bank::Sha256, Registers::ALL).len() < 100);
            }
        }
    }
}

#[test]
fn only_a_crypto_agile_log_is_read() {
    let good = FirmwareLog::new().0;
    Log::firmware(&good).unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        refusal(&bytes)
    };
    let agile = "check firmware-log: start of the firmware log: expected a log of the crypto-agile format: use UEFI \
         firmware with a log of TPM 2.0";
    assert_eq!(with(4, 8), agile);
    assert_eq!(with(32 + 13, b'2'), agile);
    let start = "check firmware-log: start of the firmware log";
    assert_eq!(with(32 + 24, 0), format!("{start}: 0 algorithms"));
    assert_eq!(
        with(32 + 30, 21),
        format!("{start}: algorithm 0x0004 with 21 bytes")
    );
    assert_eq!(
        with(32 + 32, 4),
        format!("{start}: algorithm 0x0004 with 32 bytes")
    );
    assert_eq!(
        refusal(&[]),
        "check firmware-log: firmware log: it is cut short"
    );
}

#[test]
fn events_of_other_algorithms_or_pcrs_are_refused() {
    let digest = |bank: Bank| (bank, bank.zero());
    let with = |pcr: u32, digests: &[(Bank, Vec<u8>)]| {
        let mut log = FirmwareLog::new();
        log.digests(pcr, 4, digests, b"");
        Log::firmware(&log.0)
    };
    with(23, &[digest(Bank::Sha256)]).unwrap();
    for (pcr, banks) in [
        (24, vec![Bank::Sha256]),
        (u32::MAX, vec![Bank::Sha256]),
        (1, vec![Bank::Sha384]),
        (1, vec![Bank::Sha256, Bank::Sha256]),
    ] {
        let digests: Vec<_> = banks.iter().map(|bank| digest(*bank)).collect();
        assert_eq!(with(pcr, &digests).unwrap_err().check, Check::FirmwareLog);
    }
    let one_bank = with(1, &[digest(Bank::Sha1)]).unwrap();
    assert_eq!(
        one_bank.replay(Bank::Sha256).unwrap_err().to_string(),
        "check event-log: an event of PCR 1 has no digest for sha256: switch the TPM's bank sha256 on in the firmware, or use \
         another by tpm.bank"
    );
}

#[test]
fn pcr_0_starts_with_the_locality() {
    let with = |data: &[u8]| {
        let mut log = FirmwareLog::new();
        log.event(0, 3, b"", &[b"StartupLocality\0", data].concat());
        log
    };
    let replayed = Log::firmware(&with(&[3]).0).unwrap();
    let value = &replayed.replay(Bank::Sha256).unwrap()[&0];
    assert_eq!((value[0], value[31]), (0, 3));
    assert_eq!(replayed.entries, []);
    for data in [&[5][..], &[], &[3, 0]] {
        assert_eq!(
            refusal(&with(data).0),
            "check firmware-log: firmware log: expected a start-up locality from 0 to 4"
        );
    }
    let mut late = FirmwareLog::new();
    late.event(0, 8, b"x", b"x");
    late.event(0, 3, b"", b"StartupLocality\0\x03");
    assert_eq!(
        refusal(&late.0),
        "check firmware-log: firmware log: the start-up locality comes late or twice"
    );
}

#[test]
fn words_that_their_digest_does_not_prove_are_only_said() {
    let what = |pcr: u32, kind: u32, measured: &[u8], data: &[u8]| {
        let mut log = FirmwareLog::new();
        log.event(pcr, kind, measured, data);
        let events = events(&log.0, u8::try_from(pcr).unwrap());
        assert_eq!(events.len(), 1);
        events.concat()
    };
    let text = utf16("quiet");
    assert_eq!(what(12, 0xd, &text, &text), "command line \"quiet\"");
    let evil = utf16("init=/evil");
    assert_eq!(what(12, 0xd, &evil, &text), "EV_IPL, said to be \"quiet\"");

    // A digest of more than the text that would be seen proves another text.
    for hidden in [&b"\0\0i\0"[..], b"\0", b"\0\0"] {
        let more = [&text, hidden].concat();
        assert_eq!(what(12, 0xd, &more, &more), "EV_IPL, said to be \"quiet\"");
    }
    let half = [&text[..2], &[0, 0xd8]].concat();
    assert!(what(12, 0xd, &half, &half).starts_with("EV_IPL"));
    let bare = &text[..text.len() - 2];
    assert_eq!(what(12, 0xd, bare, bare), "command line \"quiet\"");

    let tagged = [&[1, 2, 3, 4][..], &12_u32.to_le_bytes(), &text].concat();
    assert_eq!(what(12, 6, &text, &tagged), "command line \"quiet\"");
    assert!(what(12, 6, &evil, &tagged).starts_with("EV_EVENT_TAG"));

    assert_eq!(what(4, 4, &[0; 4], &[0; 4]), "separator");
    assert_eq!(what(4, 4, b"evil", &[0; 4]), "EV_SEPARATOR");

    let action = b"Calling EFI Application";
    assert_eq!(
        what(4, 0x8000_0007, action, action),
        "EV_EFI_ACTION \"Calling EFI Application\""
    );
    assert_eq!(
        what(4, 0x8000_0007, b"evil", action),
        "EV_EFI_ACTION, said to be \"Calling EFI Application\""
    );
    let mut off = FirmwareLog::new();
    off.secure_boot(false);
    assert_eq!(events(&off.0, 7), ["Secure Boot off"]);
    let last = off.0.len() - 1;
    off.0[last] = 1;
    assert!(events(&off.0, 7)[0].starts_with("EV_EFI_VARIABLE_DRIVER_CONFIG"));
}

#[test]
fn what_the_firmware_measured_does_not_pass_for_text_of_user_space() {
    // The digest of a command line in UTF-16, under a string with the same bytes.
    let text = "init=/evil".chars().chain(['\0']);
    let wide: String = text.flat_map(|c| [c, '\0']).collect();
    let mut log = Log::default();
    log.append_userspace(&record(12, "phase", &wide)).unwrap();
    let events = log.events(Bank::Sha256, Registers::ALL);
    assert!(matches!(&events[0].what, What::Said { .. }));

    let mut log = Log::default();
    log.append_userspace(&record(12, "phase", "ready")).unwrap();
    let events = log.events(Bank::Sha256, Registers::ALL);
    assert_eq!(events[0].what.to_string(), "phase \"ready\"");
}

#[test]
fn our_own_records_are_read_back() {
    let root = std::env::temp_dir().join(format!("nightlatch-evidence-{}", std::process::id()));
    let log = EventLog::open(&root);
    let id = [7; 32];
    let digests = |data: &[u8]| {
        let banks = [Bank::Sha1, Bank::Sha256];
        Ok(banks.map(|bank| (bank, bank.hash(data))).to_vec())
    };
    measure::cluster_id(&log, Pcr::SYSTEM_IDENTITY, &id, digests).unwrap();
    measure::fence(&log, Pcr::KERNEL_CONFIG, digests).unwrap();
    let bytes = std::fs::read(root.join("run/log/systemd/tpm2-measure.log")).unwrap();
    std::fs::remove_dir_all(&root).unwrap();

    let mut log = Log::firmware(IMAGE_LOG).unwrap();
    log.append_userspace(&bytes).unwrap();
    let replayed = log.replay(Bank::Sha256).unwrap();
    let cluster = Bank::Sha256.extended(&[0; 32], &Bank::Sha256.hash(&id));
    assert_eq!(replayed[&15], cluster);
    let pcrs = Registers::of(&[12, 15]).unwrap();
    let whats: Vec<String> = log
        .events(Bank::Sha256, pcrs)
        .iter()
        .map(|event| event.what.to_string())
        .collect();
    assert_eq!(
        whats,
        [
            format!("clusterID {}", hex::encode(id)),
            "nightlatch-fence \"nightlatch:fence\"".into()
        ]
    );
    let moments = log.moments(Bank::Sha256).unwrap();
    assert_eq!(log.until(1).replay(Bank::Sha256).unwrap(), moments[1]);
    assert_eq!(moments.len(), 3);
    assert_eq!(moments[0][&15], [0; 32]);
    assert_eq!(
        (&moments[1][&15], &moments[1][&12]),
        (&cluster, &vec![0; 32])
    );
    assert_eq!(moments[2], replayed);
}

#[test]
fn a_userspace_log_is_read_strictly_where_it_is_replayed() {
    let read = |bytes: &[u8]| {
        let mut log = Log::default();
        log.append_userspace(bytes).map(|()| log.entries.len())
    };
    let good = record(15, "phase", "ready");
    assert_eq!(read(&[&good[..], &good].concat()), Ok(2));
    assert_eq!(read(b""), Ok(0));
    let of_an_nv_index = b"\x1e{\"nv_index\":30474752,\"digests\":[],\"content\":{}}\n";
    assert_eq!(read(of_an_nv_index), Ok(0));

    let text = String::from_utf8(good.clone()).unwrap();
    for (bad, why) in [
        (
            text[1..].to_owned(),
            "something comes before its first record",
        ),
        (
            text.replace("\"pcr\":15", "\"pcr\":24"),
            "record 0: an event of PCR 24",
        ),
        (
            text.replace("\"digest\":\"", "\"digest\":\"00"),
            "record 0: expected one digest of sha256",
        ),
        (
            text.replace("\"digest\":\"", "\"digest\":\"x"),
            "record 0: digest: Odd number of digits",
        ),
    ] {
        let refusal = read(bad.as_bytes()).unwrap_err();
        assert_eq!(refusal.check, Check::UserspaceLog);
        assert_eq!(refusal.why, format!("userspace log: {why}"));
    }
    assert!(read(&good[..good.len() - 2]).is_err());
}

#[test]
fn a_log_of_any_size_is_not_read() {
    let long = vec![0; LOG_LEN_MAX + 1];
    assert_eq!(
        refusal(&long),
        "check firmware-log: expected at most 1048576 bytes, found 1048577"
    );
    let refusal = Log::default().append_userspace(&long).unwrap_err();
    assert_eq!(refusal.check, Check::UserspaceLog);
}

#[test]
fn what_a_log_calls_things_is_told_in_one_line_that_prints() {
    let path = |path: &str| What::Program { path: path.into() }.to_string();
    assert_eq!(path(r"\EFI\a.efi"), r#"program "\EFI\a.efi""#);
    assert_eq!(path("a\n\"b\\\\\u{1b}c"), r#"program "a\n\"b\\\u{1b}c""#);
    assert_eq!(What::Section("a\nb".into()).to_string(), r"section a\nb");
    assert_eq!(What::ClusterId("\r".into()).to_string(), r"clusterID \r");
}
