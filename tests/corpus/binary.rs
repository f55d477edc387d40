// SPDX-License-Identifier: Apache-2.0
//! The binary headers, their checksums, what the copies say of each other, and the bytes of the keyslots.

use nightlatch::config::Profile;

use super::draft::{
    BEHIND_KEYSLOTS, COPY_LEN, CSUM, CSUM_ALG, Draft, HDR_OFFSET, HDR_SIZE, KEYSLOTS_OFFSET, LABEL,
    MAGIC, PADDING, PADDING_4096, SALT, SEQID, SUBSYSTEM, UUID, VERSION,
};
use super::{Kind, List, put};

/// Fields of a binary header, their offsets, and wrong values.
const FIELDS: [(&str, usize, &[u8]); 31] = [
    ("version 0", VERSION, &[0, 0]),
    ("version 1, LUKS1", VERSION, &[0, 1]),
    ("version 3", VERSION, &[0, 3]),
    ("version 0x0200", VERSION, &[2, 0]),
    ("hdr_size 0", HDR_SIZE, &[0; 8]),
    ("hdr_size 4096", HDR_SIZE, &4096_u64.to_be_bytes()),
    ("hdr_size 12288", HDR_SIZE, &12_288_u64.to_be_bytes()),
    ("hdr_size 16385", HDR_SIZE, &16_385_u64.to_be_bytes()),
    ("hdr_size 32768", HDR_SIZE, &32_768_u64.to_be_bytes()),
    ("hdr_size 4 MiB", HDR_SIZE, &4_194_304_u64.to_be_bytes()),
    ("hdr_size 2^63", HDR_SIZE, &[0x80, 0, 0, 0, 0, 0, 0, 0]),
    ("hdr_size 2^64 - 1", HDR_SIZE, &[0xff; 8]),
    ("seqid 0", SEQID, &[0; 8]),
    ("seqid 4", SEQID, &4_u64.to_be_bytes()),
    ("seqid 2^64 - 1", SEQID, &[0xff; 8]),
    ("label of another program", LABEL, b"data\0\0\0\0\0\0"),
    ("label empty", LABEL, &[0; 10]),
    ("label without an end", LABEL, &[b'n'; 48]),
    ("label with bytes behind its end", LABEL + 40, b"x"),
    ("label with an escape sequence", LABEL, b"\x1b[2J\0"),
    ("csum_alg unknown", CSUM_ALG, b"sha257"),
    ("csum_alg empty", CSUM_ALG, &[0; 6]),
    ("csum_alg in capitals", CSUM_ALG, b"SHA256"),
    ("csum_alg with bytes behind its end", CSUM_ALG + 20, b"x"),
    ("uuid in capitals", UUID, b"A6C7535F"),
    ("uuid of another volume", UUID, b"b6c7535f"),
    ("uuid empty", UUID, &[0; 36]),
    ("uuid a path", UUID, b"../../../../etc/passwd\0"),
    ("subsystem another role", SUBSYSTEM, b"root\0"),
    ("subsystem empty", SUBSYSTEM, &[0; 5]),
    ("padding", PADDING, b"x"),
];

pub(crate) fn add(list: &mut List) {
    for (name, at, what) in FIELDS {
        list.add(Kind::Binary, name, move |draft| draft.both(at, what));
    }
    for (name, at) in [
        ("padding, last byte", 447),
        ("padding to 4096", PADDING_4096),
    ] {
        list.add(Kind::Binary, name, move |draft| draft.both(at, b"x"));
    }
    list.add(Kind::Binary, "padding to 4096, last byte", |draft| {
        draft.both(4095, b"x");
    });
    for (name, at, what) in [
        ("hdr_offset of the first copy", HDR_OFFSET, &[0, 1]),
        (
            "hdr_offset of the second copy",
            COPY_LEN + HDR_OFFSET,
            &[0, 0],
        ),
    ] {
        let what = what.to_vec();
        // The two low bytes, of 8.
        let at = at + if at < COPY_LEN { 6 } else { 5 };
        list.of(Profile::Luks2Strict, Kind::Binary, name, move |draft| {
            draft.put(at, &what);
        });
    }
    list.of(
        Profile::Luks2Strict,
        Kind::Binary,
        "both copies with the first one's magic",
        |draft| draft.both(MAGIC, b"LUKS\xba\xbe"),
    );
    list.of(
        Profile::Luks2Strict,
        Kind::Binary,
        "both copies with the second one's magic",
        |draft| draft.both(MAGIC, b"SKUL\xba\xbe"),
    );
    list.add(Kind::Binary, "magic of no header at all", |draft| {
        draft.both(MAGIC, b"MUKS\xba\xbe");
    });
    list.add(
        Kind::Binary,
        "a LUKS1 header in place of the first copy",
        |draft| {
            draft.put(0, b"LUKS\xba\xbe\0\x01aes\0");
            draft.put(40, b"xts-plain64");
            draft.put(COPY_LEN, &[0; 4096]);
        },
    );
    list.add(Kind::Binary, "a metadata area of 32 KiB, complete", larger);
    checksums(list);
    copies(list);
    area(list);
}

/// A header whose copies are 32 KiB each, which libcryptsetup makes on request, and everything else to match.
fn larger(draft: &mut Draft) {
    let first = draft.bytes(0, COPY_LEN);
    let second = draft.bytes(COPY_LEN, COPY_LEN);
    let keyslots = draft.bytes(KEYSLOTS_OFFSET, 2 * super::base::AREA_SIZE);
    draft.put(0, &vec![0; KEYSLOTS_OFFSET + keyslots.len()]);
    draft.put(0, &first);
    draft.put(2 * COPY_LEN, &second);
    draft.second = 2 * COPY_LEN;
    draft.put(4 * COPY_LEN, &keyslots);
    draft.both(HDR_SIZE, &32_768_u64.to_be_bytes());
    draft.put(2 * COPY_LEN + HDR_OFFSET, &32_768_u64.to_be_bytes());
    draft.edit(|json| {
        put(json, "/config/json_size", "28672".into());
        put(json, "/config/keyslots_size", "16711680".into());
        put(json, "/keyslots/0/area/offset", "65536".into());
        put(json, "/keyslots/1/area/offset", "450560".into());
    });
}

/// In a profile without a MAC one good copy is not enough.
fn checksums(list: &mut List) {
    let strict = Profile::Luks2Strict;
    for (whose, start) in [("first", 0), ("second", COPY_LEN)] {
        // Not by one byte of what is there now, which is not the checksum yet: it could become the right one.
        list.of(
            strict,
            Kind::Checksum,
            format!("checksum of the {whose} copy wrong"),
            move |draft| draft.late(start + CSUM, &[7; 32]),
        );
        for (what, at) in [
            ("followed by a byte", CSUM + 32),
            ("followed by a byte at the end of its field", CSUM + 63),
        ] {
            let name = format!("checksum of the {whose} copy {what}");
            list.of(strict, Kind::Checksum, name, move |draft| {
                let byte = draft.bytes(start + at, 1)[0];
                draft.late(start + at, &[byte ^ 0xff]);
            });
        }
        list.of(
            strict,
            Kind::Checksum,
            format!("checksum of the {whose} copy zero"),
            move |draft| draft.late(start + CSUM, &[0; 64]),
        );
        list.of(
            strict,
            Kind::Checksum,
            format!("checksum of the {whose} copy by sha512, right"),
            move |draft| draft.put(start + CSUM_ALG, b"sha512"),
        );
        for (what, at) in [
            ("salt", SALT),
            ("metadata", 4200),
            ("last byte", COPY_LEN - 1),
        ] {
            let name = format!("{what} of the {whose} copy changed, its checksum not");
            list.of(strict, Kind::Checksum, name, move |draft| {
                let byte = draft.bytes(start + at, 1)[0];
                draft.late(start + at, &[byte ^ 1]);
            });
        }
    }
    list.add(
        Kind::Checksum,
        "checksums of both copies by sha512, right",
        |draft| {
            draft.both(CSUM_ALG, b"sha512");
        },
    );
    list.add(Kind::Checksum, "checksums of both copies wrong", |draft| {
        draft.late(CSUM, &[7; 32]);
        draft.late(COPY_LEN + CSUM, &[7; 32]);
    });
}

/// What one copy may say of itself that the other does not.
const OF_ONE_COPY: [(&str, usize, &[u8]); 8] = [
    ("is newer", SEQID, &4_u64.to_be_bytes()),
    ("is older", SEQID, &2_u64.to_be_bytes()),
    ("is the newest there can be", SEQID, &[0xff; 8]),
    ("has a label", LABEL, b"data"),
    ("has a subsystem", SUBSYSTEM, b"data"),
    ("is of another volume", UUID, b"b6c7535f"),
    ("is of LUKS1", VERSION, &[0, 1]),
    ("has no magic", MAGIC, &[0; 6]),
];

fn copies(list: &mut List) {
    let strict = Profile::Luks2Strict;
    for (whose, start) in [("first", 0), ("second", COPY_LEN)] {
        for (what, at, bytes) in OF_ONE_COPY {
            list.of(
                strict,
                Kind::Copies,
                format!("the {whose} copy {what}"),
                move |draft| draft.put(start + at, bytes),
            );
        }
        list.of(
            strict,
            Kind::Copies,
            format!("the {whose} copy is blank"),
            move |draft| draft.late(start, &[0; COPY_LEN]),
        );
        for (what, from, to) in EVIL {
            for (age, seqid) in [("of the same age", 3_u64), ("newer", 4)] {
                let name = format!("the {whose} copy says {what}, {age}");
                list.of(strict, Kind::Copies, name, move |draft| {
                    let json = draft.json();
                    assert!(json.contains(from));
                    draft.set_copy_json(start, json.replacen(from, to, 1).as_bytes());
                    draft.put(start + SEQID, &seqid.to_be_bytes());
                });
            }
        }
    }
}

/// What an attacker would have one copy say.
const EVIL: [(&str, &str, &str); 4] = [
    (
        "no cipher",
        r#""encryption":"aes-xts-plain64","integrity""#,
        r#""encryption":"cipher_null-ecb","integrity""#,
    ),
    ("linear", r#""type":"crypt""#, r#""type":"linear""#),
    (
        "no integrity",
        r#""integrity":{"journal_encryption":"none","journal_integrity":"none","type":"hmac(sha256)"},"#,
        "",
    ),
    (
        "other sectors",
        r#""sector_size":4096"#,
        r#""sector_size":512"#,
    ),
];

/// Key material is covered by the MAC, the rest of the area is zero.
fn area(list: &mut List) {
    for (name, at) in [
        ("first byte of keyslot 0", KEYSLOTS_OFFSET),
        ("last byte of keyslot 0", KEYSLOTS_OFFSET + 383_999),
        ("first byte of keyslot 1", 417_792),
        ("last byte of keyslot 1", 417_792 + 383_999),
    ] {
        list.add(Kind::Area, name, move |draft| {
            let byte = draft.bytes(at, 1)[0];
            draft.put(at, &[byte ^ 1]);
        });
    }
    for (name, at) in [
        ("between keyslot 1 and its end", 417_792 + 384_500),
        (
            "first byte behind the places of all keyslots",
            BEHIND_KEYSLOTS,
        ),
        ("the middle of the area", 8 << 20),
        ("the last byte of the area", (16 << 20) - 1),
    ] {
        list.add(Kind::Area, name, move |draft| draft.late(at, b"x"));
    }
    list.add(Kind::Area, "keyslots swapped", |draft| {
        let (first, second) = (
            draft.bytes(KEYSLOTS_OFFSET, 384_000),
            draft.bytes(417_792, 384_000),
        );
        draft.put(KEYSLOTS_OFFSET, &second);
        draft.put(417_792, &first);
    });
}
