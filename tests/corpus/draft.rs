// SPDX-License-Identifier: Apache-2.0
//! A header on its way to being wrong: the bytes of a header area, with doors to the places a mutation changes.

use serde_json::Value;
use sha2::{Digest as _, Sha256, Sha512};

/// Where the second copy of a header is, and where keyslots start (LUKS2 On-Disk Format Specification 1.1, section 2).
pub(crate) const COPY_LEN: usize = 16_384;
pub(crate) const KEYSLOTS_OFFSET: usize = 2 * COPY_LEN;
/// Where the second pair of keyslots is, and how long a pair is.
pub(crate) const SECOND_PAIR: usize = KEYSLOTS_OFFSET + PAIR_LEN;
pub(crate) const PAIR_LEN: usize = 2 * 385_024;
/// Behind both pairs and two recovery keyslots.
pub(crate) const BEHIND_KEYSLOTS: usize = KEYSLOTS_OFFSET + 3 * PAIR_LEN;
/// Where the JSON is in a copy.
pub(crate) const JSON_OFFSET: usize = 4096;
/// How many bytes of the header area a draft keeps; what is behind them is zero.
pub(crate) const DRAFT_LEN: usize = 2 << 20;

/// Fields of the binary header, by their offsets.
pub(crate) const MAGIC: usize = 0;
pub(crate) const VERSION: usize = 6;
pub(crate) const HDR_SIZE: usize = 8;
pub(crate) const SEQID: usize = 16;
pub(crate) const LABEL: usize = 24;
pub(crate) const CSUM_ALG: usize = 72;
pub(crate) const SALT: usize = 104;
pub(crate) const UUID: usize = 168;
pub(crate) const SUBSYSTEM: usize = 208;
pub(crate) const HDR_OFFSET: usize = 256;
pub(crate) const PADDING: usize = 264;
pub(crate) const CSUM: usize = 448;
pub(crate) const PADDING_4096: usize = 512;

/// The bytes of a header area and what has yet to happen to them.
#[derive(Clone)]
pub(crate) struct Draft {
    bytes: Vec<u8>,
    /// Where the second copy is.
    pub(crate) second: usize,
    /// Bytes to write after the checksums were made right, and where: also behind [`DRAFT_LEN`].
    late: Vec<(u64, Vec<u8>)>,
}

/// A finished header: the first bytes of a device, and single ones further on.
#[derive(Clone, PartialEq)]
pub(crate) struct Image {
    pub(crate) start: Vec<u8>,
    pub(crate) late: Vec<(u64, Vec<u8>)>,
}

impl Draft {
    pub(crate) fn new(mut bytes: Vec<u8>) -> Self {
        bytes.resize(DRAFT_LEN, 0);
        Self {
            bytes,
            second: COPY_LEN,
            late: Vec::new(),
        }
    }

    /// Writes bytes anywhere in the area.
    pub(crate) fn put(&mut self, at: usize, what: &[u8]) {
        self.bytes[at..at + what.len()].copy_from_slice(what);
    }

    /// Writes a field of both binary headers.
    pub(crate) fn both(&mut self, at: usize, what: &[u8]) {
        self.put(at, what);
        self.put(self.second + at, what);
    }

    /// Writes after the checksums were made right.
    pub(crate) fn late(&mut self, at: usize, what: &[u8]) {
        self.late.push((at.try_into().unwrap(), what.to_vec()));
    }

    pub(crate) fn bytes(&self, at: usize, len: usize) -> Vec<u8> {
        self.bytes[at..at + len].to_vec()
    }

    /// The JSON of the first copy.
    pub(crate) fn json(&self) -> String {
        let area = &self.bytes[JSON_OFFSET..COPY_LEN];
        let len = area.iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8(area[..len].to_vec()).unwrap()
    }

    /// Replaces the JSON of the copy at `start`.
    pub(crate) fn set_copy_json(&mut self, start: usize, json: &[u8]) {
        let len = COPY_LEN - JSON_OFFSET;
        assert!(json.len() <= len, "{} bytes of JSON", json.len());
        self.bytes[start + JSON_OFFSET..start + COPY_LEN].fill(0);
        self.put(start + JSON_OFFSET, json);
    }

    /// Replaces the JSON of both copies.
    pub(crate) fn set_json(&mut self, json: impl AsRef<[u8]>) {
        self.set_copy_json(0, json.as_ref());
        self.set_copy_json(self.second, json.as_ref());
    }

    /// Changes the JSON as a value.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_str(&self.json()).unwrap();
        change(&mut value);
        self.set_json(value.to_string());
    }

    /// Changes the JSON as a text.
    pub(crate) fn replace(&mut self, from: &str, to: &str) {
        let json = self.json();
        assert!(json.contains(from), "{from} is not in {json}");
        self.set_json(json.replacen(from, to, 1));
    }

    /// Makes the checksums right, of whatever length and algorithm each copy claims, and applies what comes late.
    pub(crate) fn finish(mut self) -> Image {
        for start in [0, self.second] {
            let field = |at: usize, len: usize| self.bytes[start + at..start + at + len].to_vec();
            let claimed = u64::from_be_bytes(field(HDR_SIZE, 8).try_into().unwrap());
            // libcryptsetup reads the sizes it knows, 16 KiB times a power of two up to 4 MiB.
            let len = match usize::try_from(claimed) {
                Ok(len @ (COPY_LEN | 32_768 | 65_536)) => len,
                _ => COPY_LEN,
            };
            let sha512 = field(CSUM_ALG, 7) == b"sha512\0";
            self.put(start + CSUM, &[0; 64]);
            let copy = &self.bytes[start..start + len];
            let sum = if sha512 {
                Sha512::digest(copy).to_vec()
            } else {
                Sha256::digest(copy).to_vec()
            };
            self.put(start + CSUM, &sum);
        }
        let mut image = Image {
            start: self.bytes,
            late: Vec::new(),
        };
        for (at, what) in self.late {
            let from = usize::try_from(at).unwrap();
            match image.start.get_mut(from..from + what.len()) {
                Some(place) => place.copy_from_slice(&what),
                None => image.late.push((at, what)),
            }
        }
        image
    }
}
