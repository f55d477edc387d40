// SPDX-License-Identifier: Apache-2.0
//! Certificates as the configuration names them: a file in PEM, or one in DER.

use x509_cert::der::asn1::AnyRef;
use x509_cert::der::{Decode as _, Tag, Tagged as _};

use crate::evidence::chain::pem_blocks;
use crate::evidence::{Check, Refusal};

/// The certificates in a file, in DER. They are compared byte for byte and not read further.
///
/// Fails [`Check::Encoding`] where there is none.
pub fn certificates(file: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
    let blocks = match std::str::from_utf8(file) {
        Ok(text) => pem_blocks(text)?,
        Err(_) => Vec::new(),
    };
    let found = if blocks.is_empty() {
        vec![file.to_vec()]
    } else {
        blocks
    };
    let is_sequence =
        |der: &Vec<u8>| AnyRef::from_der(der).is_ok_and(|any| any.tag() == Tag::Sequence);
    if found.iter().all(is_sequence) {
        return Ok(found);
    }
    Err(Refusal::new(
        Check::Encoding,
        "expected certificates in PEM, or one in DER",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (Vec<u8>, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.der().to_vec(), certificate.pem())
    }

    #[test]
    fn pem_and_der_give_the_same_bytes() {
        let ((first, first_pem), (second, second_pem)) = (made(), made());
        assert_eq!(certificates(&first), Ok(vec![first.clone()]));
        let both = format!("the owner's\n{first_pem}and the next one\n{second_pem}");
        assert_eq!(certificates(both.as_bytes()), Ok(vec![first, second]));
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let (der, pem) = made();
        let cut = &der[..der.len() - 1];
        let longer = [&der[..], b"\0"].concat();
        let no_end = pem.replace("-----END CERTIFICATE-----", "");
        for bad in [
            &b""[..],
            b"hello",
            cut,
            &longer,
            no_end.as_bytes(),
            &[2, 1, 5],
        ] {
            assert_eq!(certificates(bad).unwrap_err().check, Check::Encoding);
        }
    }
}
