// SPDX-License-Identifier: Apache-2.0
//! The lists of who may sign what a firmware starts, and who may not: what `KEK`, `db` and `dbx` hold, and what an update adds to
//! them (`EFI_SIGNATURE_LIST`; UEFI, section 32.4.1).
//!
//! **Never:** a signature of an update is verified: the firmware does that, and who asks what would follow may trust the file.

use std::collections::BTreeSet;

use super::bytes::Bytes;
use super::{Check, Refusal};

/// The longest variable or update that is read, in bytes. Firmware's have some tens of KiB.
pub const LISTS_LEN_MAX: usize = 1 << 20;
/// `EFI_CERT_X509_GUID`, a5c059a1-94e4-4aa7-87b5-ab155c2bf072, as it is stored (section 32.4.1).
pub const X509: [u8; 16] = [
    0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72,
];
/// `EFI_CERT_SHA256_GUID`, c1c41626-504c-4092-aca9-41f936934328 (section 32.4.1): the Authenticode hash of a program.
pub const SHA256: [u8; 16] = [
    0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28,
];
/// `EFI_CERT_TYPE_PKCS7_GUID`, 4aafd29d-68df-49ee-8aa9-347d375665a7 (section 32.2.4): of what signs an update.
const PKCS7: [u8; 16] = [
    0x9d, 0xd2, 0xaf, 0x4a, 0xdf, 0x68, 0xee, 0x49, 0x8a, 0xa9, 0x34, 0x7d, 0x37, 0x56, 0x65, 0xa7,
];
/// Bytes of the time in front of an update (`EFI_VARIABLE_AUTHENTICATION_2`; section 8.2.2).
const TIME_LEN: usize = 16;
/// The revision and the kind of the certificate behind it (`WIN_CERTIFICATE_UEFI_GUID`; section 32.2.4).
const REVISION: u16 = 0x0200;
const KIND: u16 = 0x0ef1;
/// Bytes of a list before its entries, and of the owner that an entry begins with.
const HEAD_LEN: usize = 28;
const OWNER_LEN: usize = 16;

/// The lists that a variable holds, or that an update has.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SignatureLists<'a>(Vec<List<'a>>);

/// Entries of one kind and length.
#[derive(Clone, Debug, Eq, PartialEq)]
struct List<'a> {
    kind: [u8; 16],
    header: &'a [u8],
    entry_len: u32,
    /// Each begins with its owner.
    entries: Vec<&'a [u8]>,
}

impl<'a> SignatureLists<'a> {
    /// Takes apart what a variable holds, or an update of it as tools write it, with the signature in front that has the firmware
    /// take it, or without.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Refusal> {
        if bytes.len() > LISTS_LEN_MAX {
            let len = bytes.len();
            let why = format_args!("expected at most {LISTS_LEN_MAX} bytes, found {len}");
            return Err(Refusal::new(Check::Encoding, why));
        }
        let mut left = cursor(unsigned(bytes).unwrap_or(bytes));
        let mut lists = Vec::new();
        while !left.is_empty() {
            lists.push(List::parse(&mut left)?);
        }
        Ok(Self(lists))
    }

    /// What the entries of this kind are, each behind its owner.
    pub fn entries(&self, kind: [u8; 16]) -> impl Iterator<Item = &'a [u8]> {
        let lists = self.0.iter().filter(move |list| list.kind == kind);
        let entries = lists.flat_map(|list| list.entries.iter());
        entries.map(|entry| entry.get(OWNER_LEN..).unwrap_or_default())
    }

    /// The entry of a certificate, DER, with its owner: what a firmware measures of who vouched.
    #[must_use]
    pub fn of_certificate(&self, certificate: &[u8]) -> Option<&'a [u8]> {
        let lists = self.0.iter().filter(|list| list.kind == X509);
        let mut entries = lists.flat_map(|list| list.entries.iter());
        entries
            .find(|entry| entry.get(OWNER_LEN..) == Some(certificate))
            .copied()
    }

    /// What a variable holds that held `value`, after these lists were added to it as a firmware does where it is told to append
    /// (UEFI, section 8.2.1): an entry that is there already is left out, and a list of none as well. The bytes are those of EDK II
    /// (`FilterSignatureList`).
    pub fn added_to(&self, value: &[u8]) -> Result<Vec<u8>, Refusal> {
        let before = SignatureLists::parse(value)?;
        let before = before.0.iter().flat_map(|list| {
            let entries = list.entries.iter();
            entries.map(|entry| (list.kind, *entry))
        });
        let before: BTreeSet<([u8; 16], &[u8])> = before.collect();
        let mut bytes = value.to_vec();
        for list in &self.0 {
            let is_new = |entry: &&[u8]| !before.contains(&(list.kind, *entry));
            let entries: Vec<&[u8]> = list.entries.iter().copied().filter(is_new).collect();
            if !entries.is_empty() {
                bytes.extend(list.with(&entries)?);
            }
        }
        Ok(bytes)
    }
}

impl<'a> List<'a> {
    fn parse(left: &mut Bytes<'a>) -> Result<Self, Refusal> {
        let kind = left.array()?;
        let (len, header_len, entry_len) = (left.le32()?, left.le32()?, left.le32()?);
        let rest_len = size(len).checked_sub(HEAD_LEN);
        let rest_len = rest_len.ok_or_else(|| left.refusal("a list is shorter than its head"))?;
        let mut rest = cursor(left.take(rest_len)?);
        let header = rest.take(size(header_len))?;
        // It is behind an owner, if it is only a byte.
        if size(entry_len) <= OWNER_LEN || rest.rest().is_empty() {
            return Err(left.refusal("a list has no entries"));
        }
        let mut entries = Vec::new();
        while !rest.is_empty() {
            entries.push(rest.take(size(entry_len))?);
        }
        Ok(Self {
            kind,
            header,
            entry_len,
            entries,
        })
    }

    /// The bytes of such a list with these entries.
    fn with(&self, entries: &[&[u8]]) -> Result<Vec<u8>, Refusal> {
        let behind = [self.header, &entries.concat()].concat();
        let number = |len: usize| {
            u32::try_from(len)
                .map_err(|why| cursor(&[]).refusal(format_args!("a list is too long: {why}")))
        };
        let len = number(HEAD_LEN.saturating_add(behind.len()))?;
        let header_len = number(self.header.len())?;
        let numbers = [len, header_len, self.entry_len].map(u32::to_le_bytes);
        Ok([&self.kind[..], &numbers.concat(), &behind].concat())
    }
}

/// The lists behind the signature of an update; nothing where there is none.
fn unsigned(bytes: &[u8]) -> Option<&[u8]> {
    let mut left = cursor(bytes);
    left.take(TIME_LEN).ok()?;
    let behind_time = left.rest();
    let (len, revision, kind) = (left.le32().ok()?, left.le16().ok()?, left.le16().ok()?);
    let is_signature = (revision, kind, left.array().ok()?) == (REVISION, KIND, PKCS7);
    is_signature.then(|| behind_time.get(size(len)..)).flatten()
}

fn cursor(bytes: &[u8]) -> Bytes<'_> {
    Bytes::new(bytes, "signature list", Check::Encoding)
}

fn size(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
