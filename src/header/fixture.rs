// SPDX-License-Identifier: Apache-2.0
//! Headers for tests, made byte by byte, so that every field can be wrong while the checksums are right.

use sha2::{Digest, Sha256};

use super::{AREA_LEN, Area, BootNonce, Header, NONCE_LEN, Stamp};

pub(crate) const UUID: &str = "a6c7535f-0a9f-4c23-9524-fed431126906";

/// Metadata cryptsetup 2.6.1 wrote, without integrity.
pub(super) const STOCK: &str = r#"{"keyslots":{"0":{"type":"luks2","key_size":64,"af":{"type":"luks1","stripes":4000,"hash":"sha256"},"area":{"type":"raw","offset":"32768","size":"258048","encryption":"aes-xts-plain64","key_size":64},"kdf":{"type":"argon2id","time":4,"memory":65536,"cpus":2,"salt":"g5Ej6YXrYg7jvYedCN8UInJGADA4t24eFCdhxIehU5M="}}},"tokens":{},"segments":{"0":{"type":"crypt","offset":"16777216","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":4096}},"digests":{"0":{"type":"pbkdf2","keyslots":["0"],"segments":["0"],"hash":"sha256","iterations":1000,"salt":"ZhXFozT+R9iVLeukxJf+vJLfQGW7AilPFuu2k3hIjWg=","digest":"wC4Ib2GaGOFVvLKa1EadnKbVKdlOla5iQtTSMW/ctjI="}},"config":{"json_size":"12288","keyslots_size":"16744448"}}"#;

/// The token `systemd-cryptenroll` 254 wrote for PCRs 7, 11 and 12 of a swtpm, here for keyslot 1.
pub(crate) const TPM2: &str = r#"{"type":"systemd-tpm2","keyslots":["1"],"tpm2-blob":"AJ4AIIXjwgk0xTo/MBC9wP6cLAQBlYGi0BM3rVYDRQf2/P5tABCPHzuxXZ7zilec/8PD73iPHPgKScN27FBEm+9meM3GxjHWM1ZPcZ4t+gehyi49ED9qLJr9HzSoFTf7afEFO2FIibLW+z9/AeRt7jPajhl6MnBe3BDYmZvJAYWn5PkyFPaNDJPsFIonHWshwlNlNk2Zxof/mC9lPppbawBOAAgACwAAABIAIIzlp0vyBxcsx4/rQCQXS1Qipj+iGQRahfFulOHHbK7BABAAINzy5qMmJo+x8LAvosNPMHqBTeo5heFMabFhibYkscoM","tpm2-pcrs":[7,11,12],"tpm2-pcr-bank":"sha256","tpm2-primary-alg":"ecc","tpm2-policy-hash":"8ce5a74bf207172cc78feb4024174b5422a63fa219045a85f16e94e1c76caec1","tpm2-pin":false,"tpm2_srk":"gQAAAQAiAAt8jnNoPx6qhb4w/UDIxwmpuhb8r6WVic0Q4GDYsDQHxwAAAAEAWgAjAAsAAwRyAAAABgCAAEMAEAADABAAILD//uK3KDvIndJomiuvXd2SUbHKs6f//ncErBa+y822ACBli+mUwb07MFtzbebxCebLSWdr1PQ1BHlKJNjg///glg=="}"#;

const NIGHTLATCH: &str = r#"{"type":"nightlatch","keyslots":[],"profile":"nightlatch-1","role":"state","volume":"data","measurement-salt":"ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=","epoch":"7","volume-key-id":"QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8=","mac":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}"#;

/// The keyslot `systemd-cryptenroll` makes, for a volume key of 96 bytes.
const TPM_KEYSLOT: &str = r#""1":{"type":"luks2","key_size":96,"af":{"type":"luks1","stripes":4000,"hash":"sha512"},"area":{"type":"raw","offset":"417792","size":"385024","encryption":"aes-xts-plain64","key_size":64},"kdf":{"type":"pbkdf2","hash":"sha512","iterations":1000,"salt":"3orC3yaqjLLHR2ZStBNBMbrIJgdGMw53GybCiw97cQI="}}"#;

/// The stamp of a header of before.
pub(super) fn unnamed(epoch: u64) -> Stamp {
    Stamp { epoch, nonce: None }
}

/// The stamp of a boot whose nonce is all of this byte.
pub(super) fn stamp(epoch: u64, nonce: u8) -> Stamp {
    Stamp {
        epoch,
        nonce: BootNonce::from_bytes([nonce; NONCE_LEN]),
    }
}

/// What both copies of a header are made of.
#[derive(Clone)]
pub(crate) struct Fixture {
    pub(super) json: String,
    pub(super) label: String,
    pub(super) subsystem: String,
}

impl Fixture {
    /// A stock volume with integrity.
    pub(crate) fn strict() -> Self {
        Self {
            json: STOCK
                .replacen(r#""key_size":64"#, r#""key_size":96"#, 1)
                .replace("258048", "385024")
                .replace(
                    r#""sector_size":4096"#,
                    r#""sector_size":4096,"integrity":{"type":"hmac(sha256)","journal_encryption":"none","journal_integrity":"none"}"#,
                ),
            label: String::new(),
            subsystem: String::new(),
        }
    }

    /// A state disk of Constellation after the node has joined, with the cost measured on a machine of 1 GiB and two CPUs.
    pub(crate) fn constellation() -> Self {
        Self::strict()
            .with(r#""memory":65536"#, r#""memory":513313"#)
            .with(
                r#""tokens":{}"#,
                r#""tokens":{"0":{"type":"constellation-state-disk","keyslots":[],"diskIsInitialized":true}}"#,
            )
    }

    /// A volume of ours without a TPM.
    pub(crate) fn plain() -> Self {
        let strict = Self::strict();
        Self {
            json: strict.json.replace(
                r#""tokens":{}"#,
                &format!(r#""tokens":{{"0":{NIGHTLATCH}}}"#),
            ),
            label: "nightlatch".into(),
            subsystem: "state".into(),
        }
    }

    /// A volume of ours with its secret sealed to a TPM.
    pub(crate) fn ours() -> Self {
        let plain = Self::plain();
        Self {
            json: plain
                .json
                .replace(
                    r#"}},"segments""#,
                    &format!(r#"}},"1":{TPM2}}},"segments""#),
                )
                .replace(
                    r#"}}},"tokens""#,
                    &format!(r#"}}}},{TPM_KEYSLOT}}},"tokens""#),
                )
                .replace(r#""keyslots":["0"]"#, r#""keyslots":["0","1"]"#),
            ..plain
        }
    }

    /// The same after its secret was changed once.
    pub(crate) fn rekeyed() -> Self {
        Self::ours()
            .with(r#"{"keyslots":{"0":{"#, r#"{"keyslots":{"2":{"#)
            .with(r#""1":{"type":"luks2""#, r#""3":{"type":"luks2""#)
            .with(r#""32768""#, r#""802816""#)
            .with(r#""417792""#, r#""1187840""#)
            .with(r#""keyslots":["1"]"#, r#""keyslots":["3"]"#)
            .with(r#""keyslots":["0","1"]"#, r#""keyslots":["2","3"]"#)
    }

    /// The same header with a recovery key in each of these keyslots, 4 or 5.
    pub(crate) fn with_recovery(&self, keyslots: &[u8]) -> Self {
        let slot = |id: &u8| {
            let offset = 32_768 + u64::from(*id) * 385_024;
            let slot = TPM_KEYSLOT.replace(r#""1":"#, &format!(r#","{id}":"#));
            slot.replace(r#""417792""#, &format!(r#""{offset}""#))
        };
        let token = |id: &u8| {
            let at = id - 2;
            format!(r#","{at}":{{"type":"systemd-recovery","keyslots":["{id}"]}}"#)
        };
        let slots: String = keyslots.iter().map(slot).collect();
        let tokens: String = keyslots.iter().map(token).collect();
        let ids: Vec<String> = keyslots.iter().map(|id| format!(r#","{id}""#)).collect();
        let ids = ids.concat();
        self.with(r#"},"tokens""#, &format!(r#"{slots}}},"tokens""#))
            .with(r#"},"segments""#, &format!(r#"{tokens}}},"segments""#))
            .with(
                r#"],"segments":["0"]"#,
                &format!(r#"{ids}],"segments":["0"]"#),
            )
            .with(r#""nightlatch-1""#, r#""nightlatch-2""#)
    }

    /// The same with a secret that the node made itself.
    pub(crate) fn with_own_secret(&self) -> Self {
        self.with(r#""epoch":"7""#, r#""own-secret":true,"epoch":"7""#)
    }

    /// The same with a piece of its metadata replaced.
    pub(crate) fn with(&self, from: &str, to: &str) -> Self {
        assert!(self.json.contains(from), "{from} is not in the metadata");
        Self {
            json: self.json.replacen(from, to, 1),
            ..self.clone()
        }
    }

    /// The bytes of the header area.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut area = vec![0; AREA_LEN];
        for (start, magic, salt) in [(0, b"LUKS\xba\xbe", 1), (16384, b"SKUL\xba\xbe", 2)] {
            let copy = &mut area[start..start + 16384];
            put(copy, 0, magic);
            put(copy, 6, &2_u16.to_be_bytes());
            put(copy, 8, &16384_u64.to_be_bytes());
            put(copy, 16, &3_u64.to_be_bytes());
            put(copy, 24, self.label.as_bytes());
            put(copy, 72, b"sha256");
            put(copy, 104, &[salt; 64]);
            put(copy, 168, UUID.as_bytes());
            put(copy, 208, self.subsystem.as_bytes());
            put(copy, 256, &(start as u64).to_be_bytes());
            put(copy, 4096, self.json.as_bytes());
        }
        seal(&mut area);
        // Key material, so that the keyslots are not the zeros around them.
        for (at, byte) in [
            (32_768, 0xa5),
            (417_792, 0x5a),
            (802_816, 0x66),
            (1_187_840, 0x99),
            (1_572_864, 0x44),
            (1_957_888, 0x55),
        ] {
            if self.json.contains(&format!(r#""offset":"{at}""#)) {
                area[at..at + 384_000].fill(byte);
            }
        }
        area
    }

    pub(super) fn area(&self) -> Area {
        Area::from_vec(self.build()).unwrap()
    }

    pub(super) fn header(&self) -> Header {
        self.area().header().unwrap()
    }
}

/// Writes bytes at an offset.
pub(super) fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

/// Makes the checksums of both copies right.
pub(super) fn seal(area: &mut [u8]) {
    for start in [0, 16384] {
        let copy = &mut area[start..start + 16384];
        copy[448..512].fill(0);
        let sum = Sha256::digest(&copy);
        put(copy, 448, &sum);
    }
}
