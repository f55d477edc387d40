// SPDX-License-Identifier: Apache-2.0
//! Keys, statements and logs for tests, made byte by byte, so that one thing can be wrong while the signature is right.

use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer as _;
use p256::elliptic_curve::sec1::ToSec1Point as _;

use super::registers::{Registers, Values, algorithm};
use crate::pcr::Bank;

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign: those of `tpm::quote`.
pub(super) const AK_ATTRIBUTES: u32 = 0x0005_0472;
/// fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt: those of template L-1.
pub(super) const EK_ATTRIBUTES: u32 = 0x0003_00b2;

/// `PolicyA` of the templates.
pub(super) const EK_POLICY: &str =
    "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";

pub(super) const NONCE: &[u8] = b"what was asked for, 32 bytes of.";
pub(super) const PCRS: [u8; 10] = [2, 4, 5, 7, 9, 11, 12, 13, 14, 15];

/// A `TPM2B`.
pub(super) fn sized(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap();
    [&len.to_be_bytes(), bytes].concat()
}

/// An ECDSA key outside of any TPM, which signs whatever a test likes.
pub(super) struct Key(SigningKey);

impl Key {
    pub(super) fn new(seed: u8) -> Self {
        Self(SigningKey::from_slice(&[seed; 32]).unwrap())
    }

    /// The key whose scalar is this number.
    pub(super) fn numbered(number: u16) -> Self {
        let mut scalar = [0; 32];
        scalar[30..].copy_from_slice(&number.to_be_bytes());
        Self(SigningKey::from_slice(&scalar).unwrap())
    }

    /// A `TPMT_PUBLIC` with these attributes, the given symmetric algorithm and scheme, marshalled.
    pub(super) fn area(&self, attributes: u32, symmetric: &[u8], scheme: &[u8]) -> Vec<u8> {
        self.area_with(attributes, &[], symmetric, scheme)
    }

    /// The same with a policy.
    pub(super) fn area_with(
        &self,
        attributes: u32,
        policy: &[u8],
        symmetric: &[u8],
        scheme: &[u8],
    ) -> Vec<u8> {
        let point = self.0.verifying_key().as_affine().to_sec1_point(false);
        [
            &[0x00, 0x23, 0x00, 0x0b][..],
            &attributes.to_be_bytes(),
            &sized(policy),
            symmetric,
            scheme,
            &[0x00, 0x03, 0x00, 0x10],
            &sized(point.x().unwrap()),
            &sized(point.y().unwrap()),
        ]
        .concat()
    }

    /// A `TPMT_PUBLIC` as `tpm::quote` makes them.
    pub(super) fn public(&self) -> Vec<u8> {
        let ecdsa_sha256 = [0x00, 0x18, 0x00, 0x0b];
        self.area(AK_ATTRIBUTES, &[0x00, 0x10], &ecdsa_sha256)
    }

    /// A `TPMT_PUBLIC` of an endorsement key, by template L-2.
    pub(super) fn endorsement(&self) -> Vec<u8> {
        let policy = hex::decode(EK_POLICY).unwrap();
        self.area_with(EK_ATTRIBUTES, &policy, &[0, 6, 0, 128, 0, 0x43], &[0, 0x10])
    }

    /// A `TPMT_SIGNATURE` over `message`.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: p256::ecdsa::Signature = self.0.sign(message);
        let (r, s) = signature.split_bytes();
        [&[0x00, 0x18, 0x00, 0x0b][..], &sized(&r), &sized(&s)].concat()
    }
}

/// What a `TPMS_ATTEST` is made of.
#[derive(Clone)]
pub(super) struct Statement {
    pub(super) magic: u32,
    pub(super) kind: u16,
    pub(super) extra_data: Vec<u8>,
    /// Algorithms and octets.
    pub(super) selections: Vec<(u16, Vec<u8>)>,
    pub(super) digest: Vec<u8>,
}

impl Statement {
    /// A quote over these values of SHA-256.
    pub(super) fn over(values: &Values) -> Self {
        let all: Vec<u8> = values.values().flatten().copied().collect();
        let mut bits = 0_u32;
        for pcr in values.keys() {
            bits |= 1 << pcr;
        }
        Self {
            magic: 0xff54_4347,
            kind: 0x8018,
            extra_data: NONCE.to_vec(),
            selections: vec![(algorithm(Bank::Sha256), bits.to_le_bytes()[..3].to_vec())],
            digest: Bank::Sha256.hash(&all),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = [
            &self.magic.to_be_bytes()[..],
            &self.kind.to_be_bytes(),
            &sized(&[0xa5; 34]),
            &sized(&self.extra_data),
            &7_u64.to_be_bytes(),
            &8_u32.to_be_bytes(),
            &9_u32.to_be_bytes(),
            &[1],
            &0x2024_0101_u64.to_be_bytes(),
            &u32::try_from(self.selections.len()).unwrap().to_be_bytes(),
        ]
        .concat();
        for (algorithm, octets) in &self.selections {
            bytes.extend(algorithm.to_be_bytes());
            bytes.push(u8::try_from(octets.len()).unwrap());
            bytes.extend(octets);
        }
        bytes.extend(sized(&self.digest));
        bytes
    }
}

/// UTF-16 with its zero.
pub(super) fn utf16(text: &str) -> Vec<u8> {
    let units = text.encode_utf16().chain([0]);
    units.flat_map(u16::to_le_bytes).collect()
}

/// A firmware log of SHA-1 and SHA-256.
pub(super) struct FirmwareLog(pub(super) Vec<u8>);

impl FirmwareLog {
    pub(super) fn new() -> Self {
        let specification = [
            &b"Spec ID Event03\0"[..],
            &[0, 0, 0, 0, 0, 2, 0, 2],
            &2_u32.to_le_bytes(),
            &[0x04, 0, 20, 0, 0x0b, 0, 32, 0],
            &[0],
        ]
        .concat();
        let len = u32::try_from(specification.len()).unwrap();
        let start = [
            &0_u32.to_le_bytes()[..],
            &3_u32.to_le_bytes(),
            &[0; 20],
            &len.to_le_bytes(),
            &specification,
        ];
        Self(start.concat())
    }

    /// Adds the extend of the digest of `measured`.
    pub(super) fn event(&mut self, pcr: u32, kind: u32, measured: &[u8], data: &[u8]) -> &mut Self {
        let digests = [Bank::Sha1, Bank::Sha256].map(|bank| (bank, bank.hash(measured)));
        self.digests(pcr, kind, &digests, data)
    }

    pub(super) fn digests(
        &mut self,
        pcr: u32,
        kind: u32,
        digests: &[(Bank, Vec<u8>)],
        data: &[u8],
    ) -> &mut Self {
        self.0.extend(pcr.to_le_bytes());
        self.0.extend(kind.to_le_bytes());
        self.0
            .extend(u32::try_from(digests.len()).unwrap().to_le_bytes());
        for (bank, digest) in digests {
            self.0.extend(algorithm(*bank).to_le_bytes());
            self.0.extend(digest);
        }
        self.0
            .extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        self.0.extend(data);
        self
    }

    /// The variable that says whether Secure Boot is on.
    pub(super) fn secure_boot(&mut self, is_on: bool) -> &mut Self {
        let data = [
            &[
                0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03,
                0x2b, 0x8c,
            ][..],
            &10_u64.to_le_bytes(),
            &1_u64.to_le_bytes(),
            &utf16("SecureBoot")[..20],
            &[u8::from(is_on)],
        ]
        .concat();
        self.event(7, 0x8000_0001, &data, &data)
    }

    /// The firmware begins with its boot options.
    pub(super) fn boot_options(&mut self) -> &mut Self {
        self.event(4, 4, &[0; 4], &[0; 4])
    }

    /// A program, whose hash is that of `program`, at a path.
    pub(super) fn program(&mut self, program: &[u8], path: &str) -> &mut Self {
        let path = utf16(path);
        let len = u16::try_from(path.len() + 4).unwrap();
        let nodes = [&[4, 4][..], &len.to_le_bytes(), &path, &[0x7f, 0xff, 4, 0]].concat();
        let data = [
            &[0; 24][..],
            &u64::try_from(nodes.len()).unwrap().to_le_bytes(),
            &nodes,
        ]
        .concat();
        self.event(4, 0x8000_0003, program, &data)
    }

    /// A driver that a card brings along, whose hash is that of `driver`.
    pub(super) fn driver(&mut self, driver: &[u8]) -> &mut Self {
        let nodes = [0x7f, 0xff, 4, 0];
        let data = [&[0; 24][..], &4_u64.to_le_bytes(), &nodes].concat();
        self.event(2, 0x8000_0004, driver, &data)
    }

    /// An entry of `db` that vouched for a program.
    pub(super) fn authority(&mut self, entry: &[u8]) -> &mut Self {
        let data = [
            &[
                0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67,
                0x65, 0x6f,
            ][..],
            &2_u64.to_le_bytes(),
            &u64::try_from(16 + entry.len()).unwrap().to_le_bytes(),
            &utf16("db")[..4],
            &[0x0e; 16],
            entry,
        ]
        .concat();
        self.event(7, 0x8000_00e0, &data, &data)
    }

    /// Something with a number of its own, as the kernel's stub measures it.
    pub(super) fn tagged(&mut self, tag: u32, measured: &[u8], text: &str) -> &mut Self {
        let text = format!("{text}\0");
        let len = u32::try_from(text.len()).unwrap();
        let data = [&tag.to_le_bytes()[..], &len.to_le_bytes(), text.as_bytes()].concat();
        self.event(9, 6, measured, &data)
    }

    /// A section of a unified kernel image, as systemd-stub measures it.
    pub(super) fn section(&mut self, name: &str, contents: &[u8]) -> &mut Self {
        let said = utf16(name);
        self.event(11, 0xd, format!("{name}\0").as_bytes(), &said);
        self.event(11, 0xd, contents, &said)
    }

    /// A command line from outside the image, as systemd-stub measures it.
    pub(super) fn command_line(&mut self, text: &str) -> &mut Self {
        let text = utf16(text);
        self.event(12, 0xd, &text, &text)
    }

    /// A boot that images of the tests are made for.
    pub(super) fn usual() -> Self {
        let mut log = Self::new();
        log.secure_boot(true);
        log.event(
            4,
            0x8000_0007,
            b"Calling EFI Application",
            b"Calling EFI Application",
        );
        for pcr in [4, 7] {
            log.event(pcr, 4, &[0; 4], &[0; 4]);
        }
        log.program(b"the image", "\\EFI\\BOOT\\BOOTX64.EFI");
        log.section(".cmdline", b"quiet ro");
        log
    }
}

/// A record of systemd's log of the SHA-256 bank, for `string`.
pub(super) fn record(pcr: u8, kind: &str, string: &str) -> Vec<u8> {
    let digest = hex::encode(Bank::Sha256.hash(string.as_bytes()));
    let digests = serde_json::json!([{"hashAlg": "sha256", "digest": digest}]);
    let record = serde_json::json!({
        "pcr": pcr,
        "digests": digests,
        "content_type": "systemd",
        "content": {"string": string, "bootId": "00", "timestamp": 1, "eventType": kind},
    });
    format!("\u{1e}{record}\n").into_bytes()
}

/// What a machine sends.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) ak: Vec<u8>,
    pub(super) attest: Vec<u8>,
    pub(super) signature: Vec<u8>,
    pub(super) values: Values,
    pub(super) firmware_log: Vec<u8>,
    pub(super) userspace_log: Vec<u8>,
}

impl Sent {
    /// An honest machine, early in its boot, with these logs.
    pub(super) fn of(firmware: &FirmwareLog) -> Self {
        let userspace_log = record(11, "phase", "enter-initrd");
        let log = super::eventlog::Log::of(Some(&firmware.0), Some(&userspace_log)).unwrap();
        let mut values = log.replay(Bank::Sha256).unwrap();
        values.retain(|pcr, _| PCRS.contains(pcr));
        Self {
            firmware_log: firmware.0.clone(),
            userspace_log,
            ..Self::signed(&Key::new(7), &Statement::over(&values), values)
        }
    }

    /// A statement as it is, signed, with no logs.
    pub(super) fn signed(key: &Key, statement: &Statement, values: Values) -> Self {
        let attest = statement.bytes();
        Self {
            ak: key.public(),
            signature: key.sign(&attest),
            attest,
            values,
            firmware_log: Vec::new(),
            userspace_log: Vec::new(),
        }
    }

    pub(super) fn presented(&self) -> super::Presented<'_> {
        fn some(log: &[u8]) -> Option<&[u8]> {
            (!log.is_empty()).then_some(log)
        }
        super::Presented {
            ak: &self.ak,
            attest: &self.attest,
            signature: &self.signature,
            values: &self.values,
            firmware_log: some(&self.firmware_log),
            userspace_log: some(&self.userspace_log),
        }
    }
}

/// What the verifier of the tests asks for.
pub(super) fn expected() -> super::Expected<'static> {
    super::Expected {
        qualifying: NONCE,
        bank: Bank::Sha256,
        pcrs: Registers::of(&PCRS).unwrap(),
    }
}
