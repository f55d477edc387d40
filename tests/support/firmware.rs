// SPDX-License-Identifier: Apache-2.0
//! A machine's start, made by hand: the event log that firmware would leave, and the same measured into a TPM. For machines whose
//! kernel no firmware started, and for tests without a machine.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Once;

use nightlatch::evidence::registers;
use nightlatch::pcr::{Bank, Pcr};
use nightlatch::tpm::Tpm;

/// Where the kernel shows the log, below the root.
pub(crate) const LOG_PATH: &str = "sys/kernel/security/tpm0/binary_bios_measurements";

/// The owner's certificate, as far as anybody looks at it: a sequence in DER.
pub(crate) const OWNER: &[u8] = &[0x30, 0x06, 0x04, 0x04, b'm', b'i', b'n', b'e'];
/// Where it is in a machine of the tests' own.
pub(crate) const AUTHORITY: &str = "/tmp/authority.der";
/// Somebody else's.
pub(crate) const HOST: &[u8] = &[0x30, 0x06, 0x04, 0x04, b'h', b'o', b's', b't'];

// Types of events (TCG PC Client Platform Firmware Profile, section 10.4.1).
const EV_NO_ACTION: u32 = 0x0000_0003;
const EV_SEPARATOR: u32 = 0x0000_0004;
const EV_EVENT_TAG: u32 = 0x0000_0006;
const EV_IPL: u32 = 0x0000_000d;
const EV_EFI_VARIABLE_BOOT: u32 = 0x8000_0002;
const EV_EFI_ACTION: u32 = 0x8000_0007;
const EV_EFI_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
const EV_EFI_BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
const EV_EFI_VARIABLE_AUTHORITY: u32 = 0x8000_00e0;
/// `EFI_GLOBAL_VARIABLE` and `EFI_IMAGE_SECURITY_DATABASE_GUID`, as they are stored.
const GLOBAL_VARIABLE: [u8; 16] = [
    0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
];
const IMAGE_SECURITY_DATABASE: [u8; 16] = [
    0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f,
];

/// What is measured about boot options (section 10.4.4).
const CALLING: &[u8] = b"Calling EFI Application from Boot Option";
const RETURNING: &[u8] = b"Returning from EFI Application from Boot Option";

/// One measurement: what is hashed, and what the log says of it.
#[derive(Clone)]
struct Event {
    pcr: Pcr,
    kind: u32,
    measured: Vec<u8>,
    data: Vec<u8>,
}

/// What a firmware and what it started measure, in order.
#[derive(Clone, Default)]
pub(crate) struct Firmware(Vec<Event>);

impl Firmware {
    /// Secure Boot on, and the owner's image started by it.
    pub(crate) fn signed() -> Self {
        Self::signed_by(OWNER)
    }

    /// The same image, for which somebody vouched.
    pub(crate) fn signed_by(authority: &[u8]) -> Self {
        Self::with_secure_boot(true)
            .authority(authority)
            .program(b"the image")
            .image()
    }

    /// Secure Boot off, and an image started.
    pub(crate) fn unsigned() -> Self {
        Self::with_secure_boot(false)
            .program(b"the image")
            .image()
            .loaded(b"the initrd")
    }

    /// Up to the first program, of what rules look at: each command of a TPM takes its time in an emulated machine.
    pub(crate) fn with_secure_boot(is_on: bool) -> Self {
        Self::with_lists(is_on, &[("db", b"a list".to_vec())])
    }

    /// The same with these lists of who may sign what is started, and who may not.
    pub(crate) fn with_lists(is_on: bool, lists: &[(&str, Vec<u8>)]) -> Self {
        let mut start = Self::default();
        start.variable(GLOBAL_VARIABLE, "SecureBoot", &[u8::from(is_on)]);
        for (name, value) in lists {
            start.variable(IMAGE_SECURITY_DATABASE, name, value);
        }
        for index in [2, 4, 7] {
            start.event(index, EV_SEPARATOR, &[0; 4], &[0; 4]);
        }
        start
    }

    /// An entry of db lets something run.
    pub(crate) fn authority(mut self, certificate: &[u8]) -> Self {
        let entry = [&[0x0e; 16][..], certificate].concat();
        let data = variable(IMAGE_SECURITY_DATABASE, "db", &entry);
        self.event(7, EV_EFI_VARIABLE_AUTHORITY, &data, &data);
        self
    }

    /// The firmware tries another boot option first, in vain.
    pub(crate) fn option(mut self, name: &str) -> Self {
        // Active, and no device path (UEFI, section 3.1.3).
        let option = [&[1, 0, 0, 0, 0, 0][..], &utf16(name), &[0, 0]].concat();
        for (name, value) in [("BootOrder", &[7, 0][..]), ("Boot0007", &option)] {
            let data = variable(GLOBAL_VARIABLE, name, value);
            self.event(1, EV_EFI_VARIABLE_BOOT, value, &data);
        }
        for text in [CALLING, RETURNING] {
            self.event(4, EV_EFI_ACTION, text, text);
        }
        self
    }

    /// A program is started from the disk.
    pub(crate) fn program(mut self, program: &[u8]) -> Self {
        let path = utf16("\\EFI\\BOOT\\BOOTX64.EFI\0");
        let len = u16::try_from(path.len() + 4).unwrap();
        let nodes = [&[4, 4][..], &len.to_le_bytes(), &path, &[0x7f, 0xff, 4, 0]].concat();
        let nodes_len = u64::try_from(nodes.len()).unwrap();
        let data = [&[0; 24][..], &nodes_len.to_le_bytes(), &nodes].concat();
        self.event(4, EV_EFI_BOOT_SERVICES_APPLICATION, program, &data);
        self
    }

    /// The image measures itself, as systemd-stub does.
    pub(crate) fn image(mut self) -> Self {
        self.event(11, EV_IPL, b".linux\0", &utf16(".linux\0"));
        self.event(11, EV_IPL, b"a kernel", &utf16(".linux\0"));
        self
    }

    /// A section of an image, as systemd-stub measures it.
    pub(crate) fn section(mut self, name: &str, contents: &[u8]) -> Self {
        let said = utf16(&format!("{name}\0"));
        self.event(11, EV_IPL, format!("{name}\0").as_bytes(), &said);
        self.event(11, EV_IPL, contents, &said);
        self
    }

    /// The kernel measures what it was handed, as it does of an initrd (Linux, `efi_load_initrd`).
    pub(crate) fn loaded(mut self, file: &[u8]) -> Self {
        self.event(9, EV_EVENT_TAG, file, b"initrd");
        self
    }

    /// Something is added to the image, as systemd-stub measures a command line.
    pub(crate) fn added(mut self, index: u8, text: &str) -> Self {
        let text = utf16(&format!("{text}\0"));
        self.event(index, EV_IPL, &text, &text);
        self
    }

    /// Measures all of it into a TPM that has just been reset, and leaves the log below `top`.
    pub(crate) fn start(&self, tpm: &mut Tpm, top: &Path) {
        for event in &self.0 {
            tpm.event(event.pcr, &event.measured).unwrap();
        }
        let path = top.join(LOG_PATH);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, self.log(&tpm.banks().unwrap())).unwrap();
    }

    /// The same in a machine of the tests' own, as root: the log is where the kernel would show it, and the owner's certificate at
    /// [`AUTHORITY`].
    pub(crate) fn start_machine(&self, tpm: &mut Tpm) {
        hide_kernels_logs();
        fs::write(AUTHORITY, OWNER).unwrap();
        self.start(tpm, Path::new("/"));
    }

    /// The same with the machine's own TPM, after what the machine's own firmware measured into it and left a log of.
    pub(crate) fn go_on_with_machine(&self, tpm: &mut Tpm) {
        let path = Path::new("/").join(LOG_PATH);
        let mut log = fs::read(&path).unwrap();
        self.start_machine(tpm);
        self.append(&mut log, &tpm.banks().unwrap());
        fs::write(path, log).unwrap();
    }

    /// Takes the log away that [`Firmware::start_machine`] left.
    pub(crate) fn forget_log() {
        fs::remove_file(Path::new("/").join(LOG_PATH)).unwrap();
    }

    /// The log in these banks (section 10).
    pub(crate) fn log(&self, banks: &[Bank]) -> Vec<u8> {
        let count = u32::try_from(banks.len()).unwrap().to_le_bytes();
        let mut specification =
            [&b"Spec ID Event03\0"[..], &[0, 0, 0, 0, 0, 2, 0, 2], &count].concat();
        for bank in banks {
            let len = u16::try_from(registers::len(*bank)).unwrap();
            specification.extend(registers::algorithm(*bank).to_le_bytes());
            specification.extend(len.to_le_bytes());
        }
        specification.push(0);
        let mut log = [&[0; 4][..], &EV_NO_ACTION.to_le_bytes(), &[0; 20]].concat();
        sized(&mut log, &specification);
        self.append(&mut log, banks);
        log
    }

    fn append(&self, log: &mut Vec<u8>, banks: &[Bank]) {
        let count = u32::try_from(banks.len()).unwrap();
        for event in &self.0 {
            log.extend(u32::from(event.pcr.index()).to_le_bytes());
            log.extend(event.kind.to_le_bytes());
            log.extend(count.to_le_bytes());
            for bank in banks {
                log.extend(registers::algorithm(*bank).to_le_bytes());
                log.extend(bank.hash(&event.measured));
            }
            sized(log, &event.data);
        }
    }

    fn variable(&mut self, vendor: [u8; 16], name: &str, value: &[u8]) {
        let data = variable(vendor, name, value);
        self.event(7, EV_EFI_VARIABLE_DRIVER_CONFIG, &data, &data);
    }

    fn event(&mut self, index: u8, kind: u32, measured: &[u8], data: &[u8]) {
        self.0.push(Event {
            pcr: Pcr::try_from(index).unwrap(),
            kind,
            measured: measured.to_vec(),
            data: data.to_vec(),
        });
    }
}

/// The kernel's own file system, which takes no files, gives way to one that does.
fn hide_kernels_logs() {
    static HIDDEN: Once = Once::new();
    HIDDEN.call_once(|| {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "firmware", "/sys/kernel/security"])
            .status();
        assert!(mounted.unwrap().success());
    });
}

/// `UEFI_VARIABLE_DATA` (section 10.2.6).
fn variable(vendor: [u8; 16], name: &str, value: &[u8]) -> Vec<u8> {
    let units = u64::try_from(name.len()).unwrap();
    let len = u64::try_from(value.len()).unwrap();
    let lengths = [units.to_le_bytes(), len.to_le_bytes()].concat();
    [&vendor[..], &lengths, &utf16(name), value].concat()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn sized(log: &mut Vec<u8>, bytes: &[u8]) {
    log.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    log.extend(bytes);
}
