// SPDX-License-Identifier: Apache-2.0
//! Certificates under which others than an image's owner sign programs that take any initrd: shims, loaders, kernels.
//!
//! Where PCR 4 is not sealed to, as where a key signs images, whose signature counts is all that says what was started: such a
//! certificate may not be among the authorities then.

use crate::pcr::Bank;

/// Whose a certificate is, and the SHA-256 of its DER.
struct Vendor(&'static str, &'static str);

/// Each was compared with the certificate itself, from the place that is named; those of shims are inside of them as well.
const VENDORS: [Vendor; 21] = [
    // microsoft/secureboot_objects, PreSignedObjects/DB/Certificates.
    Vendor(
        "Microsoft Corporation UEFI CA 2011",
        "48e99b991f57fc52f76149599bff0a58c47154229b9f8d603ac40d3500248507",
    ),
    Vendor(
        "Microsoft UEFI CA 2023",
        "f6124e34125bee3fe6d79a574eaa7b91c0e7bd9d929c1a321178efd611dad901",
    ),
    Vendor(
        "Microsoft Option ROM UEFI CA 2023",
        "e5be3e64c6e66a281457ecdece0d6d0787577aad2a3a0144262c10c14ba8d8f1",
    ),
    Vendor(
        "Microsoft Windows Production PCA 2011",
        "e8e95f0733a55e8bad7be0a1413ee23c51fcea64b3c8fa6a786935fddcc71961",
    ),
    Vendor(
        "Microsoft Windows UEFI CA 2023",
        "076f1fea90ac29155ebf77c17682f75f1fdd1be196da302dc8461e350a9ae330",
    ),
    // Debian, package shim-unsigned 16.1: /usr/share/shim/debian-uefi-ca.der, and in its shimx64.efi.
    Vendor(
        "Debian Secure Boot CA",
        "079646974bce09b1f04da67bd722d1fb0947ae4c4010bccdbba52d5b23cbf1a2",
    ),
    // In the signatures of Debian's packages linux-image-cloud-amd64 6.12, shim-helpers-amd64-signed and
    // grub-efi-amd64-signed.
    Vendor(
        "Debian Secure Boot Signer 2022 - linux",
        "65378fdbd50b85960563bac3923b4cf6e43f60b7c969c1527ce2ca34f82f2dc5",
    ),
    Vendor(
        "Debian Secure Boot Signer 2022 - shim",
        "bc75dc6b1bf285c2cf2e9c4e10aa24c1e3e152ca3a0e2bd1392c702968121a31",
    ),
    Vendor(
        "Debian Secure Boot Signer 2022 - grub2",
        "71024100bf7718749440e65f9360f8df6f9a28d0842d3a493dfcbfcbc478991d",
    ),
    // canonical/shim-review, canonical-uefi-ca.der, and in its 15.8-0ubuntu2/shimx64.efi.
    Vendor(
        "Canonical Ltd. Master Certificate Authority",
        "ed1fe72cb9ca31c9af5b757afcd733323d675825032e6ced7fe1ae9eb767998c",
    ),
    // virt-firmware (Debian, package python3-virt-firmware), virt/firmware/certs.
    Vendor(
        "Fedora Secure Boot CA 20200709",
        "a3b384810d48f1666d5df01c0684c5f5325b57ef5dee5223d9bf66aeefef332e",
    ),
    Vendor(
        "Red Hat Secure Boot (CA key 1)",
        "9996c73616ee42f13396c9abfb4b646b538c3c80940474b710afdbe53bf17d32",
    ),
    Vendor(
        "Red Hat Secure Boot CA 5",
        "40175d4c7c5ab4bd753a493f47952f1d8dcf1c219b836968a693e48bd4766135",
    ),
    // rhboot/shim-review as well, rhel-10-aa64-20250818.
    Vendor(
        "Red Hat Secure Boot CA 8",
        "72568059455c1774b3668b5fd67ba3578551925adfa52b6999cad549f52e46d6",
    ),
    Vendor(
        "Red Hat UEFI CA 2023",
        "80b024fad6e4ee944dbc7fa513eda3dcc449344c398d60b7874a5410090937ed",
    ),
    Vendor(
        "CentOS Secure Boot (CA key 1)",
        "c8644a61601db420d50911810f3831388b6f02363cf63bda77513cc003b81bc5",
    ),
    Vendor(
        "CentOS Secure Boot CA 2",
        "f1fdf7ae3924a187e0f30a502271cb8369f5f26b8032f026aef6fce7a113d1c4",
    ),
    // jsegitz/shim-review, SUSE-SLES-shim-x86_aarch64-20240229, shim/ and grub2/; the first also in its shim.
    Vendor(
        "SUSE Linux Enterprise Secure Boot CA, from April 2013",
        "c315e37690d6847d6603db8c6f7b4c20aae7c89af3bf5e8e41c48416ea1da5b4",
    ),
    Vendor(
        "SUSE Linux Enterprise Secure Boot CA, from January 2013",
        "e3e557c4eae8c1103e94808a606172693233c05f1338f23e577829e4b7654dcc",
    ),
    // The same place and rfrohl/shim-review, and in its shim of Leap 16.0.
    Vendor(
        "openSUSE Secure Boot CA",
        "207c5da802269733f7e69bfb38dddc35dc139747dc751dc9bb04c69d5befbb7d",
    ),
    // jsegitz/shim-review, 20210622_res7.
    Vendor(
        "SLE Expanded Support Secure Boot CA",
        "d468c421127206c86429ccc56540b6df97aebc4e66581441b3b2a111934c735b",
    ),
];

/// Whose `certificate`, in DER, is, if it is of the table.
#[must_use]
pub fn known_vendor(certificate: &[u8]) -> Option<&'static str> {
    let digest = hex::encode(Bank::Sha256.hash(certificate));
    let found = VENDORS.iter().find(|Vendor(_, it)| *it == digest);
    found.map(|Vendor(name, _)| *name)
}

/// Why `certificate` may not be an authority where secrets are sealed to a key that signs images, if it may not.
#[must_use]
pub fn refused_beside_signed(certificate: &[u8]) -> Option<String> {
    let vendor = known_vendor(certificate)?;
    Some(format!(
        "{vendor} is listed, under which others sign programs that take any initrd, and beside tpm.signed nothing else says \
         what was started: sign images with a key of your own, and list that alone"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The certificate inside the shim of Debian, which is its own DER.
    const DEBIAN: &[u8] = include_bytes!("../../../tests/fixtures/evidence/debian-uefi-ca.der");

    #[test]
    fn a_vendors_certificate_is_known_by_its_bytes() {
        assert_eq!(known_vendor(DEBIAN), Some("Debian Secure Boot CA"));
        let mut altered = DEBIAN.to_vec();
        *altered.last_mut().unwrap() ^= 1;
        assert_eq!(known_vendor(&altered), None);
        assert_eq!(known_vendor(b""), None);
    }

    #[test]
    fn no_line_of_the_table_is_there_twice_or_is_no_digest() {
        for (at, Vendor(name, digest)) in VENDORS.iter().enumerate() {
            let bytes = hex::decode(digest).unwrap();
            assert_eq!(
                (bytes.len(), hex::encode(bytes)),
                (32, (*digest).to_owned()),
                "{name}"
            );
            for Vendor(other, same) in &VENDORS[..at] {
                assert!(name != other && digest != same, "{name}");
            }
        }
    }
}
