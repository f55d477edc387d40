// SPDX-License-Identifier: Apache-2.0
//! ESPs as directories, and what variables say of them.

use super::*;
use crate::error::Exit;

/// A machine's root, which ends with the test.
struct Top(PathBuf);

impl Drop for Top {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

impl Top {
    fn new(name: &str) -> Self {
        let top =
            std::env::temp_dir().join(format!("nightlatch-esp-{name}-{}", std::process::id()));
        fs::create_dir_all(&top).unwrap();
        Self(top)
    }

    fn put(&self, path: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    fn put_variable(&self, name: &str, vendor: &str, value: &[u8]) {
        let path = self.0.join(VARIABLES).join(format!("{name}-{vendor}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, [&[6, 0, 0, 0][..], value].concat()).unwrap();
    }

    fn say(&self, name: &str, text: &str) {
        let units = text.encode_utf16().chain([0]);
        let bytes: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
        self.put_variable(name, LOADER, &bytes);
    }

    /// The firmware took the first boot option, and will.
    fn boots_as_before(&self) {
        self.put_variable("BootOrder", FIRMWARE, &[1, 0, 0, 0]);
        self.put_variable("BootCurrent", FIRMWARE, &[1, 0]);
    }

    /// The names of all programs, in order, and the one that is the default.
    fn found(&self) -> (Vec<String>, Option<String>) {
        let name = |it: &Program| it.path.file_name().unwrap().to_str().unwrap().to_owned();
        let esp = Esp::find(&self.0, None).unwrap();
        let default = esp.programs.iter().find(|it| it.is_default).map(name);
        (esp.programs.iter().map(name).collect(), default)
    }
}

#[test]
fn the_image_that_the_firmware_starts_comes_first() {
    let top = Top::new("stub");
    top.put("boot/efi/EFI/BOOT/BOOTX64.EFI");
    top.put("boot/efi/EFI/Linux/a.efi");
    top.put("boot/efi/EFI/Linux/b.efi");
    for other in [
        "notes.txt",
        "EFI/readme.efi",
        "EFI/Linux/b.efi.extra.d/c.efi",
        "loader/d.efi",
    ] {
        top.put(&format!("boot/efi/{other}"));
    }
    let all = ["BOOTX64.EFI", "a.efi", "b.efi"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(top.found(), (all, None));
    // The one is what older stubs say.
    top.boots_as_before();
    top.say("LoaderImageIdentifier", "\\EFI\\Linux\\A.EFI");
    assert_eq!(top.found().1.as_deref(), Some("a.efi"));
    top.say("StubImageIdentifier", "\\EFI\\Linux\\b.efi");
    let first = ["b.efi", "BOOTX64.EFI", "a.efi"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(top.found(), (first, Some("b.efi".into())));
    // One that is not there is said to be the default all the same.
    top.say("StubImageIdentifier", "\\EFI\\Linux\\c.efi");
    let esp = Esp::find(&top.0, None).unwrap();
    assert_eq!(esp.default.as_deref(), Some("EFI/Linux/c.efi"));
    assert!(esp.programs.iter().all(|it| !it.is_default));
}

#[test]
fn a_loader_takes_the_entry_that_is_set_and_else_who_knows() {
    let top = Top::new("loader");
    top.put("efi/EFI/systemd/systemd-bootx64.efi");
    top.put("efi/EFI/Linux/a.efi");
    top.put("efi/EFI/Linux/b.efi");
    top.say("StubImageIdentifier", "\\EFI\\Linux\\a.efi");
    top.say("LoaderInfo", "systemd-boot 257.13-1");
    top.boots_as_before();
    assert_eq!(top.found().1, None);
    top.say("LoaderEntryDefault", "a.efi");
    assert_eq!(top.found().1.as_deref(), Some("a.efi"));
    top.say("LoaderEntryOneShot", "b.efi");
    assert_eq!(top.found().1.as_deref(), Some("b.efi"));
    top.say("LoaderInfo", "GRUB 2.12");
    assert_eq!(top.found().1, None);
}

#[test]
fn the_firmware_may_go_another_way_than_in_this_boot() {
    let top = Top::new("order");
    top.put("efi/EFI/Linux/a.efi");
    top.say("StubImageIdentifier", "\\EFI\\Linux\\a.efi");
    let default = || top.found().1;
    assert_eq!(default(), None);
    top.boots_as_before();
    assert_eq!(default().as_deref(), Some("a.efi"));
    top.put_variable("BootNext", FIRMWARE, &[0, 0]);
    assert_eq!(default(), None);
    top.put_variable("BootNext", FIRMWARE, &[1, 0]);
    assert_eq!(default().as_deref(), Some("a.efi"));
    top.put_variable("BootNext", FIRMWARE, &[1]);
    top.put_variable("BootOrder", FIRMWARE, &[0, 0, 1, 0]);
    assert_eq!(default(), None);
}

#[test]
fn where_no_esp_is_or_one_is_full_of_programs_that_is_said() {
    let top = Top::new("none");
    let said = |directory: Option<&Path>| Esp::find(&top.0, directory).unwrap_err();
    let error = said(None);
    assert_eq!(error.exit(), Exit::Unavailable);
    assert_eq!(
        error.to_string(),
        "no ESP is mounted at /efi, /boot, /boot/efi: mount it, or say where it is with --esp, or which image"
    );
    assert!(
        said(Some(&top.0))
            .to_string()
            .ends_with("no ESP, as it has no directory EFI")
    );
    for number in 0..PROGRAMS_MAX {
        top.put(&format!("other/EFI/Linux/{number}.efi"));
    }
    let other = top.0.join("other");
    assert_eq!(
        Esp::find(&top.0, Some(&other)).unwrap().programs.len(),
        PROGRAMS_MAX
    );
    top.put("other/EFI/Linux/more.efi");
    let error = said(Some(&other));
    assert!(
        error
            .to_string()
            .ends_with("expected at most 64 programs, found 65"),
        "{error}"
    );
}

#[test]
fn what_is_no_text_is_none() {
    assert_eq!(text(b"a\0b\0\0\0c\0").as_deref(), Some("ab"));
    assert_eq!(text(b"a\0b").as_deref(), Some("a"));
    for none in [&b""[..], b"\0\0", b"\0", b"\x00\xd8\0\0"] {
        assert_eq!(text(none), None);
    }
}
