// SPDX-License-Identifier: Apache-2.0
//! The signatures that the image carries of its own PCR 11, and the key in its configuration that they have to be by.

use std::path::Path;

use super::read_bounded;
use crate::config::Config;
use crate::error::{Doing, Result};
use crate::key::pcr::PcrPublicKey;
use crate::sealed::signature::{PcrSignatures, SIGNATURES_LEN_MAX, SIGNATURES_PATH};
use crate::sources::tpm::SignedPcr;

/// What there is to say where systemd-stub has laid none.
const NONE: &str = "systemd-stub has laid no signatures there: the image carries none; \
                    sign it with \"nightlatchctl policy sign\" before it gets its signature for Secure Boot";

/// Reads both below `top`; none where nothing has to be signed. Whether they fit is for the TPM to say.
pub(in crate::boot) fn signed_pcr(top: &Path, config: &Config) -> Result<Option<SignedPcr>> {
    let Some(file) = (config.tpm.signed.as_ref()).and_then(|signed| signed.keys.first()) else {
        return Ok(None);
    };
    let key = file
        .read(top)
        .and_then(|pem| PcrPublicKey::from_pem(&pem).doing(file.as_str()))
        .doing("tpm.signed.keys")?;
    let path = top.join(SIGNATURES_PATH);
    let signatures = read_bounded(&path, SIGNATURES_LEN_MAX, NONE)
        .and_then(|bytes| PcrSignatures::parse(&bytes))
        .doing(path.display())
        .doing("tpm.signed")?;
    Ok(Some(SignedPcr { key, signatures }))
}
