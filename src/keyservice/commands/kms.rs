// SPDX-License-Identifier: Apache-2.0
//! `nightlatchd kms` and `init --kms`, and what a build without a KMS says to them.

#[cfg(feature = "kms")]
mod with;

#[cfg(feature = "kms")]
pub(in crate::keyservice) use with::{check, init, look, recover, status, wrap};

#[cfg(not(feature = "kms"))]
pub(in crate::keyservice) use without::{check, init, look, recover, status, wrap};

#[cfg(not(feature = "kms"))]
mod without {
    use std::path::Path;

    use crate::error::Result;
    use crate::keyservice::cli::Recover;
    use crate::keyservice::config::Config;
    use crate::keyservice::secrets::no_kms;

    pub(in crate::keyservice) fn look(_: &Config, _: &Path) -> Result<String> {
        Err(no_kms())
    }

    pub(in crate::keyservice) fn init(_: &Path, _: bool, _: &Path) -> Result<()> {
        Err(no_kms())
    }

    pub(in crate::keyservice) fn check(_: &Path) -> Result<()> {
        Err(no_kms())
    }

    pub(in crate::keyservice) fn status(_: &Path) -> Result<()> {
        Err(no_kms())
    }

    pub(in crate::keyservice) fn wrap(_: &Path, _: &Path, _: &Path) -> Result<()> {
        Err(no_kms())
    }

    pub(in crate::keyservice) fn recover(_: &Recover) -> Result<()> {
        Err(no_kms())
    }
}
