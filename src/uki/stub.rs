// SPDX-License-Identifier: Apache-2.0
//! Which systemd-stub an image starts with, as far as what it does depends on its version.

use super::measured::Uki;

/// What systemd-stub says of itself, in a section of its own (systemd, `src/boot/stub.c`).
const SECTION: &[u8] = b".sdmagic";
const BEFORE: &str = "#### LoaderInfo: systemd-stub ";
/// From this version on it reads the initrd that somebody registered before it ran, and hands it to the kernel in front of the
/// image's own (systemd, `src/boot/initrd.c`, `initrd_read_previous`). Earlier ones end there.
const HANDS_ON_FROM: u32 = 261;

/// Up to this version it has the firmware start the kernel inside where Secure Boot is off, which measures it; later ones start it
/// past the firmware (systemd, `src/boot/linux.c`).
const FIRMWARE_STARTS_KERNEL_TO: u32 = 257;

impl Uki<'_> {
    /// The version of its systemd-stub, where that one hands on an initrd that a loader or the firmware left for it. It
    /// measures nothing of such an initrd; only the kernel does, into PCR 9.
    #[must_use]
    pub fn stub_that_hands_on(&self) -> Option<&str> {
        let (version, major) = self.stub()?;
        // A version that no number starts is one in between releases: it may do so.
        let is_early = major.is_some_and(|it| it < HANDS_ON_FROM);
        (!is_early).then_some(version)
    }

    /// Whether its systemd-stub has the firmware start the kernel inside where Secure Boot is off; nothing where the file does
    /// not say of which version it is.
    #[must_use]
    pub fn has_firmware_start_kernel(&self) -> Option<bool> {
        let (_, major) = self.stub()?;
        major.map(|it| it <= FIRMWARE_STARTS_KERNEL_TO)
    }

    /// The version of its systemd-stub, and the number that it starts with.
    fn stub(&self) -> Option<(&str, Option<u32>)> {
        let mut sections = self.program.sections.iter();
        let section = sections.find(|section| section.name == SECTION)?;
        let text = std::str::from_utf8(section.bytes).ok()?;
        let version = text.strip_prefix(BEFORE)?.split([' ', '\0']).next()?;
        let major = version.split(|c: char| !c.is_ascii_digit()).next()?;
        Some((version, major.parse().ok()))
    }
}
