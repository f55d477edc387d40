// SPDX-License-Identifier: Apache-2.0
//! What a TPM's response code means for a boot, and patience with a TPM that is busy.

use std::thread;
use std::time::Duration;

use tss_esapi::Context;
use tss_esapi::constants::response_code::Tss2ResponseCode;

use crate::error::Error;

// Response codes (TPM 2.0 part 2, section 6.6.3). Those of format one are given without the bits that number the
// parameter, handle or session they complain about.
const INITIALIZE: u32 = 0x100;
pub(super) const FAILURE: u32 = 0x101;
pub(super) const PCR_CHANGED: u32 = 0x128;
const NV_LOCKED: u32 = 0x148;
pub(super) const NV_SPACE: u32 = 0x14b;
pub(super) const NV_DEFINED: u32 = 0x14c;
pub(super) const SENSITIVE: u32 = 0x155;
const OBJECT_MEMORY: u32 = 0x902;
const SESSION_MEMORY: u32 = 0x903;
const SESSION_HANDLES: u32 = 0x905;
const YIELDED: u32 = 0x908;
const TESTING: u32 = 0x90a;
const NV_RATE: u32 = 0x920;
const LOCKOUT: u32 = 0x921;
const RETRY: u32 = 0x922;
const NV_UNAVAILABLE: u32 = 0x923;
pub(super) const ATTRIBUTES: u32 = 0x82;
pub(super) const VALUE: u32 = 0x84;
pub(super) const HANDLE: u32 = 0x8b;
pub(super) const AUTH_FAIL: u32 = 0x8e;
pub(super) const SIZE: u32 = 0x95;
pub(super) const SIGNATURE: u32 = 0x9b;
pub(super) const POLICY_FAIL: u32 = 0x9d;
pub(super) const INTEGRITY: u32 = 0x9f;
pub(super) const BAD_AUTH: u32 = 0xa2;

/// The bit that marks format one, and the bits of such a code that are its number.
pub(super) const FORMAT_ONE: u32 = 0x80;
const FORMAT_ONE_NUMBER: u32 = 0xbf;

/// Codes above this one come from a layer of tpm2-tss, not from the TPM (TSS 2.0 overview, section 4.1).
const TPM_CODE_MAX: u32 = 0xffff;

// What tpm2-tss says of answers that no TPM gives (tss2_common.h): in the first of its layers that finds out, and where an
// answer has no HMAC at all and was to have one.
const MALFORMED_RESPONSE: u32 = 17;
const INSUFFICIENT_RESPONSE: u32 = 19;
const RSP_AUTH_FAILED: u32 = 27;
const NO_RSP_AUTH: u32 = 0x8_0007;

/// Pauses before a command is repeated, in milliseconds. tpm2-tss itself repeats five times without pause before that.
const PAUSES_MS: [u64; 6] = [5, 20, 50, 100, 200, 400];

/// Runs one command, again while the TPM says it could not start it.
pub(super) fn resubmitting<T>(
    context: &mut Context,
    mut command: impl FnMut(&mut Context) -> tss_esapi::Result<T>,
) -> tss_esapi::Result<T> {
    for pause_ms in PAUSES_MS {
        match command(context) {
            Err(error) if matches!(code(error), RETRY | YIELDED | TESTING) => {
                thread::sleep(Duration::from_millis(pause_ms));
            }
            result => return result,
        }
    }
    command(context)
}

/// The TPM's response code; other errors keep the number tpm2-tss gave them, or 0.
pub(super) fn code(error: tss_esapi::Error) -> u32 {
    number(raw(error))
}

/// The number of a response code, without what it complains about.
pub(super) fn number(raw: u32) -> u32 {
    if raw <= TPM_CODE_MAX && raw & FORMAT_ONE != 0 {
        raw & FORMAT_ONE_NUMBER
    } else {
        raw
    }
}

/// The response code as tpm2-tss returned it. tss-esapi 7.7 shows the number in its text only.
fn raw(error: tss_esapi::Error) -> u32 {
    let tss_esapi::Error::Tss2Error(response) = error else {
        return 0;
    };
    let text = match response {
        Tss2ResponseCode::Success => return 0,
        Tss2ResponseCode::FormatZero(code) => code.to_string(),
        Tss2ResponseCode::FormatOne(code) => code.to_string(),
    };
    text.rsplit_once("0x")
        .and_then(|(_, digits)| u32::from_str_radix(digits, 16).ok())
        .unwrap_or(0)
}

/// Whether an answer came, and not from the TPM. What the layer that talks to the device says is not among it.
fn is_forged(code: u32) -> bool {
    let is_above_device = (0x7_0000..0xa_0000).contains(&code);
    let is_bad = matches!(
        code & TPM_CODE_MAX,
        MALFORMED_RESPONSE | INSUFFICIENT_RESPONSE | RSP_AUTH_FAILED
    );
    (is_above_device && is_bad) || code == NO_RSP_AUTH
}

/// What is said where a command or its answer is not what the other side sent.
fn altered(raw: u32) -> Error {
    Error::refused(format_args!(
        "what the TPM was sent or what it answered was altered on its way ({raw:#x}): \
         something stands between this machine and its TPM, or the TPM is broken: take it out of service"
    ))
}

/// An error of a command that a session vouches for and whose object has no authorisation value: where the TPM says that
/// the authorisation fails, it got another command than it was sent.
pub(super) fn vouched(error: tss_esapi::Error) -> Error {
    match code(error) {
        AUTH_FAIL | BAD_AUTH => altered(raw(error)),
        _ => Error::from(error),
    }
}

impl From<tss_esapi::Error> for Error {
    fn from(error: tss_esapi::Error) -> Self {
        let raw = raw(error);
        match code(error) {
            0 => Self::failure(error),
            LOCKOUT => Self::refused(
                "the TPM is locked out after failed authorisations: \
                 wait until it recovers, or run tpm2_dictionarylockout --clear-lockout",
            ),
            // None of ours can be: they lack the attributes.
            NV_LOCKED => Self::refused(
                "the NV index is locked until the next reset: reboot, and find out what locked it",
            ),
            INITIALIZE => Self::unavailable(
                "the firmware did not start the TPM: check the firmware's TPM setting",
            ),
            FAILURE => Self::unavailable("the TPM failed its self-test: power-cycle or replace it"),
            OBJECT_MEMORY | SESSION_MEMORY | SESSION_HANDLES => Self::temporary(format_args!(
                "the TPM is full of what other programs left loaded ({raw:#x}): reboot"
            )),
            RETRY | YIELDED | TESTING | NV_RATE | NV_UNAVAILABLE => {
                Self::temporary(format_args!("the TPM stayed busy ({raw:#x}): try again"))
            }
            code if is_forged(code) => altered(raw),
            code if code > TPM_CODE_MAX => Self::unavailable(format_args!(
                "the TPM did not answer (tpm2-tss error {raw:#x})"
            )),
            _ => Self::failure(format_args!("{error} ({raw:#x})")),
        }
    }
}
