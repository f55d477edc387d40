// SPDX-License-Identifier: Apache-2.0
//! What an entry means, as far as its digest proves it.

use super::{Entry, Event, Source, What};
use crate::evidence::bytes::Bytes;
use crate::evidence::{Check, Refusal};
use crate::pcr::{Bank, Pcr};

// Types of events (TCG PC Client Platform Firmware Profile, section 10.4.1).
const EV_SEPARATOR: u32 = 0x0000_0004;
const EV_ACTION: u32 = 0x0000_0005;
const EV_EVENT_TAG: u32 = 0x0000_0006;
const EV_IPL: u32 = 0x0000_000d;
const EV_EFI_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
const EV_EFI_BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
const EV_EFI_BOOT_SERVICES_DRIVER: u32 = 0x8000_0004;
const EV_EFI_RUNTIME_SERVICES_DRIVER: u32 = 0x8000_0005;
const EV_EFI_GPT_EVENT: u32 = 0x8000_0006;
const EV_EFI_ACTION: u32 = 0x8000_0007;
/// The same without the identifiers of the disk and its partitions, so that copies of an image measure the same (version 1.06,
/// section 10.4.1).
const EV_EFI_GPT_EVENT2: u32 = 0x8000_000d;
const EV_EFI_VARIABLE_AUTHORITY: u32 = 0x8000_00e0;
/// The names of these and of the others.
const NAMES: [(u32, &str); 23] = [
    (0x0000_0001, "EV_POST_CODE"),
    (EV_SEPARATOR, "EV_SEPARATOR"),
    (EV_ACTION, "EV_ACTION"),
    (EV_EVENT_TAG, "EV_EVENT_TAG"),
    (0x0000_0007, "EV_S_CRTM_CONTENTS"),
    (0x0000_0008, "EV_S_CRTM_VERSION"),
    (0x0000_000a, "EV_PLATFORM_CONFIG_FLAGS"),
    (EV_IPL, "EV_IPL"),
    (
        EV_EFI_VARIABLE_DRIVER_CONFIG,
        "EV_EFI_VARIABLE_DRIVER_CONFIG",
    ),
    (0x8000_0002, "EV_EFI_VARIABLE_BOOT"),
    (
        EV_EFI_BOOT_SERVICES_APPLICATION,
        "EV_EFI_BOOT_SERVICES_APPLICATION",
    ),
    (EV_EFI_BOOT_SERVICES_DRIVER, "EV_EFI_BOOT_SERVICES_DRIVER"),
    (
        EV_EFI_RUNTIME_SERVICES_DRIVER,
        "EV_EFI_RUNTIME_SERVICES_DRIVER",
    ),
    (EV_EFI_GPT_EVENT, "EV_EFI_GPT_EVENT"),
    (EV_EFI_ACTION, "EV_EFI_ACTION"),
    (0x8000_0008, "EV_EFI_PLATFORM_FIRMWARE_BLOB"),
    (0x8000_0009, "EV_EFI_HANDOFF_TABLES"),
    (0x8000_000a, "EV_EFI_PLATFORM_FIRMWARE_BLOB2"),
    (0x8000_000b, "EV_EFI_HANDOFF_TABLES2"),
    (0x8000_000c, "EV_EFI_VARIABLE_BOOT2"),
    (EV_EFI_GPT_EVENT2, "EV_EFI_GPT_EVENT2"),
    (0x8000_0010, "EV_EFI_HCRTM_EVENT"),
    (EV_EFI_VARIABLE_AUTHORITY, "EV_EFI_VARIABLE_AUTHORITY"),
];
/// `EFI_GLOBAL_VARIABLE`, 8be4df61-93ca-11d2-aa0d-00e098032b8c, as it is stored.
const GLOBAL_VARIABLE: [u8; 16] = [
    0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
];
/// `EFI_IMAGE_SECURITY_DATABASE_GUID`, d719b2cb-3d3a-4596-a3bc-dad00e67656f, as it is stored (UEFI, section 32.6.1).
const IMAGE_SECURITY_DATABASE: [u8; 16] = [
    0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f,
];
/// Bytes of the owner that an entry of such a list starts with (`EFI_SIGNATURE_DATA`; UEFI, section 32.4.1).
const OWNER_LEN: usize = 16;
/// What `UEFI_GPT_DATA` starts with: the signature of a partition table's header (section 10.2.5; UEFI, section 5.3.2).
const GPT_SIGNATURE: &[u8] = b"EFI PART";
/// A separator where the firmware saw no error (section 10.4.1).
const SEPARATORS: [[u8; 4]; 2] = [[0; 4], [0xff; 4]];
/// The type of the event that nightlatch's clusterID is, with its bytes in hexadecimal digits.
pub(super) const CLUSTER_ID_EVENT: &str = "nightlatch-cluster-id";
/// Media device path, file path (UEFI, section 10.3.5.4).
const FILE_PATH: (u8, u8) = (4, 4);

/// The events of `bank`. Entries without a digest for it have none.
pub(super) fn events(bank: Bank, entries: &[&Entry]) -> Vec<Event> {
    // systemd-stub measures the name of each section just before its contents (systemd-stub(7)).
    let mut section: Option<String> = None;
    let mut events = Vec::new();
    for entry in entries {
        let Some(digest) = entry.digest(bank) else {
            continue;
        };
        let in_image = entry.pcr == Pcr::KERNEL_IMAGE.index();
        let name = if in_image { section.take() } else { None };
        let what = match (&entry.source, name) {
            // Whatever the log calls it: the name before it was proven.
            (_, Some(name)) => What::Section(name),
            (Source::Firmware { kind, data }, _) => {
                let proves = |bytes: &[u8]| bank.hash(bytes) == digest;
                let what = firmware(entry.pcr, *kind, data, &proves);
                if in_image && *kind == EV_IPL {
                    section = section_name(data, &proves);
                }
                what
            }
            (Source::Userspace { .. }, _) => userspace(bank, digest, &entry.source),
        };
        events.push(Event {
            pcr: entry.pcr,
            digest: digest.to_vec(),
            what,
        });
    }
    events
}

fn firmware(pcr: u8, kind: u32, data: &[u8], proves: &impl Fn(&[u8]) -> bool) -> What {
    let said = || What::Said {
        kind: kind_name(kind),
        text: printable(data),
    };
    match kind {
        EV_SEPARATOR if SEPARATORS.iter().any(|bytes| proves(bytes)) => What::Separator,
        EV_EFI_BOOT_SERVICES_APPLICATION => What::Program {
            path: image_path(data).unwrap_or_else(|_| "?".into()),
        },
        EV_EFI_BOOT_SERVICES_DRIVER | EV_EFI_RUNTIME_SERVICES_DRIVER => What::Driver {
            path: image_path(data).unwrap_or_else(|_| "?".into()),
        },
        EV_EFI_GPT_EVENT | EV_EFI_GPT_EVENT2 if proves(data) && data.starts_with(GPT_SIGNATURE) => {
            What::PartitionTable
        }
        EV_EFI_VARIABLE_DRIVER_CONFIG if proves(data) => variable(data).unwrap_or_else(|_| said()),
        EV_EFI_VARIABLE_AUTHORITY if proves(data) => authority(data).unwrap_or_else(|_| said()),
        EV_IPL if pcr == Pcr::KERNEL_CONFIG.index() && proves(data) => {
            whole_text(data).map_or_else(said, What::CommandLine)
        }
        EV_EVENT_TAG if pcr == Pcr::KERNEL_CONFIG.index() => match tagged(data) {
            Ok((_, text)) if proves(text) => whole_text(text).map_or_else(said, What::CommandLine),
            _ => said(),
        },
        EV_EVENT_TAG => tagged(data).map_or_else(
            |_| said(),
            |(tag, text)| What::Tagged {
                tag,
                text: printable(text),
            },
        ),
        EV_ACTION | EV_EFI_ACTION if proves(data) && is_plain(data) => What::Text {
            kind: kind_name(kind),
            text: printable(data),
        },
        EV_IPL => section_name(data, proves).map_or_else(said, |text| What::Text {
            kind: kind_name(kind),
            text,
        }),
        _ => said(),
    }
}

fn userspace(bank: Bank, digest: &[u8], source: &Source) -> What {
    let Source::Userspace {
        kind,
        preimage,
        text,
    } = source
    else {
        return What::Separator;
    };
    let (kind, text) = (kind.clone(), text.clone());
    let proven = preimage
        .as_deref()
        .filter(|bytes| bank.hash(bytes) == digest);
    match (kind.as_str(), proven) {
        (CLUSTER_ID_EVENT, Some(_)) => What::ClusterId(text),
        // Bytes that are no text, such as UTF-16, may be what the firmware measured under another name.
        (_, Some(bytes)) if is_plain(bytes) => What::Text { kind, text },
        _ => What::Said { kind, text },
    }
}

/// The section whose name was measured, as bytes with a zero, and is the event's text, as UTF-16.
fn section_name(data: &[u8], proves: &impl Fn(&[u8]) -> bool) -> Option<String> {
    let name = utf16_text(data);
    proves(format!("{name}\0").as_bytes()).then_some(name)
}

/// `UEFI_VARIABLE_DATA` (section 10.2.6).
struct Variable<'a> {
    vendor: [u8; 16],
    name: String,
    value: &'a [u8],
}

impl<'a> Variable<'a> {
    fn parse(data: &'a [u8]) -> Result<Self, Refusal> {
        let mut data = Bytes::new(data, "variable", Check::FirmwareLog);
        let vendor: [u8; 16] = data.array()?;
        let (name_len, len) = (data.le64()?, data.le64()?);
        let name_len = usize::try_from(name_len).unwrap_or(usize::MAX);
        let name = whole_text(data.take(name_len.saturating_mul(2))?)
            .ok_or_else(|| data.refusal("its name is no text"))?;
        let value = data.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        data.finish()?;
        Ok(Self {
            vendor,
            name,
            value,
        })
    }
}

/// The name and the value of a variable.
pub(super) fn variable_of(data: &[u8]) -> Result<(String, &[u8]), Refusal> {
    let Variable { name, value, .. } = Variable::parse(data)?;
    Ok((name, value))
}

fn variable(data: &[u8]) -> Result<What, Refusal> {
    let Variable {
        vendor,
        name,
        value,
    } = Variable::parse(data)?;
    Ok(match (vendor, name.as_str(), value) {
        (GLOBAL_VARIABLE, "SecureBoot", [1]) => What::SecureBoot(true),
        // The variable is empty where the firmware has none.
        (GLOBAL_VARIABLE, "SecureBoot", _) => What::SecureBoot(false),
        _ => What::Variable(name),
    })
}

/// The entry that vouched, where it is one of `db` (section 3.3.4.8); shim's lists have other names.
fn authority(data: &[u8]) -> Result<What, Refusal> {
    let variable = Variable::parse(data)?;
    let is_db = variable.vendor == IMAGE_SECURITY_DATABASE && variable.name == "db";
    Ok(match variable.value.get(OWNER_LEN..) {
        Some(entry) if is_db => What::Authority(entry.to_vec()),
        _ => What::Variable(variable.name),
    })
}

/// The file in `UEFI_IMAGE_LOAD_EVENT`'s device path (section 10.2.3; UEFI, section 10.3).
fn image_path(data: &[u8]) -> Result<String, Refusal> {
    let mut data = Bytes::new(data, "image", Check::FirmwareLog);
    // Location, length and link-time address in memory.
    data.take(24)?;
    let len = data.le64()?;
    let nodes = data.take(usize::try_from(len).unwrap_or(usize::MAX))?;
    let mut nodes = Bytes::new(nodes, "device path", Check::FirmwareLog);
    let mut path = String::new();
    while !nodes.is_empty() {
        let kind = (nodes.u8()?, nodes.u8()?);
        let len = usize::from(nodes.le16()?);
        let body = nodes.take(len.checked_sub(4).unwrap_or(usize::MAX))?;
        if kind == FILE_PATH {
            path.push_str(&utf16_text(body));
        }
    }
    if path.is_empty() {
        return Ok("not in a file".into());
    }
    Ok(path)
}

/// The identifier and the text of a tagged event, with the text's length between them (section 10.4.2.1).
fn tagged(data: &[u8]) -> Result<(u32, &[u8]), Refusal> {
    let mut data = Bytes::new(data, "tagged event", Check::FirmwareLog);
    let tag = data.le32()?;
    let len = data.le32()?;
    let text = data.take(usize::try_from(len).unwrap_or(usize::MAX))?;
    data.finish()?;
    Ok((tag, text))
}

/// UTF-16, little-endian, up to its zero.
pub(super) fn utf16_text(bytes: &[u8]) -> String {
    let (pairs, _) = bytes.as_chunks::<2>();
    let units: Vec<u16> = pairs
        .iter()
        .map(|pair| u16::from_le_bytes(*pair))
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16_lossy(&units)
}

/// The text where it is all there is: UTF-16 and at most one zero. What else the digest is of would not be seen.
fn whole_text(bytes: &[u8]) -> Option<String> {
    let text = utf16_text(bytes);
    let same: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let rest = bytes.strip_prefix(same.as_slice())?;
    matches!(rest, [] | [0, 0]).then_some(text)
}

/// Whether the bytes are text that prints, in UTF-8.
fn is_plain(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes)
        .is_ok_and(|text| !text.is_empty() && !text.chars().any(char::is_control))
}

/// Text in ASCII or UTF-16, where it is some.
fn printable(data: &[u8]) -> String {
    let narrow = String::from_utf8_lossy(data);
    let narrow = narrow.trim_end_matches('\0').to_owned();
    [narrow, utf16_text(data)]
        .into_iter()
        .find(|text| is_plain(text.as_bytes()))
        .unwrap_or_default()
}

fn kind_name(kind: u32) -> String {
    NAMES
        .iter()
        .find(|(number, _)| *number == kind)
        .map_or_else(|| format!("event {kind:#010x}"), |(_, name)| (*name).into())
}
