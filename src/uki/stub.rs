// SPDX-License-Identifier: Apache-2.0
//! Which systemd-stub an image starts with, as far as what it does depends on its version.

use super::measured::Uki;

/// What systemd-stub says of itself, in a section of its own (systemd, `src/boot/stub.c`).
const SECTION: &[u8] = b".sdmagic";
const BEFORE: &str = "#### LoaderInfo: systemd-stub ";
/// From this version on it reads the initrd that somebody registered before it ran, and hands it to the kernel in front of the
/// image's own (systemd, `src/boot/initrd.c`, `initrd_read_previous`). Earlier ones end there.
const HANDS_ON_FROM: u32 = 261;

impl Uki<'_> {
    /// The version of its systemd-stub, where that one hands on an initrd that a loader or the firmware left for it. It
    /// measures nothing of such an initrd; only the kernel does, into PCR 9.
    #[must_use]
    pub fn stub_that_hands_on(&self) -> Option<&str> {
        let mut sections = self.program.sections.iter();
        let section = sections.find(|section| section.name == SECTION)?;
        let text = std::str::from_utf8(section.bytes).ok()?;
        let version = text.strip_prefix(BEFORE)?.split([' ', '\0']).next()?;
        let major = version.split(|c: char| !c.is_ascii_digit()).next()?;
        // A version that no number starts is one in between releases: it may do so.
        let is_early = major.parse::<u32>().is_ok_and(|it| it < HANDS_ON_FROM);
        (!is_early).then_some(version)
    }
}
