// SPDX-License-Identifier: Apache-2.0
//! The copy of a header that libcryptsetup sees.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::{Doing, Result};
use crate::header::{AREA_LEN, Area, Candidate, DATA_OFFSET};

const PAGE_LEN: usize = 4096;
const ZEROS: &[u8] = &[0; PAGE_LEN];

/// A header area in memory that no other process can reach, as a file for libcryptsetup.
#[derive(Debug)]
pub(super) struct HeaderFile(File);

impl HeaderFile {
    /// A private copy of a candidate that nothing can change any more, libcryptsetup included.
    pub(super) fn sealed(candidate: &Candidate) -> Result<Self> {
        let file = Self::draft(candidate)?;
        let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
        fcntl(&file.0, FcntlArg::F_ADD_SEALS(seals)).doing("sealing the header copy")?;
        Ok(file)
    }

    /// A private copy of a candidate for libcryptsetup to change.
    pub(super) fn draft(candidate: &Candidate) -> Result<Self> {
        let file = Self::blank()?;
        // The copies are whole pages, so the keyslots begin with one.
        let pages = candidate
            .parts()
            .into_iter()
            .flat_map(|part| part.chunks(PAGE_LEN));
        for (index, page) in pages.enumerate() {
            // Pages of zeros stay holes: most of the area is empty, and memory is scarce in an initrd.
            if page != ZEROS {
                let offset = (index as u64).saturating_mul(PAGE_LEN as u64);
                file.0.write_all_at(page, offset)?;
            }
        }
        Ok(file)
    }

    /// An empty area to format.
    pub(super) fn blank() -> Result<Self> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let fd: OwnedFd = memfd_create(c"luks2-header", flags).doing("allocating a header copy")?;
        let file = File::from(fd);
        file.set_len(DATA_OFFSET)?;
        Ok(Self(file))
    }

    /// The whole area.
    pub(super) fn read(&self) -> Result<Vec<u8>> {
        let mut area = vec![0; AREA_LEN];
        self.0.read_exact_at(&mut area, 0)?;
        Ok(area)
    }

    /// The header that libcryptsetup made here, without what it leaves where no keyslot is: random bytes, or an old key's.
    pub(super) fn tidied(&self) -> Result<Area> {
        let mut area = Area::from_vec(self.read()?)?;
        let parsed = area.header().doing("reading back the new header")?;
        area.clear_unused(&parsed);
        Ok(area)
    }

    /// What leads to it, in this process.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}
