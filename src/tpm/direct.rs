// SPDX-License-Identifier: Apache-2.0
//! Commands without a session, as bytes: for the index that anybody may read and write, and for the TPM's count of resets.
//!
//! Nothing here is secret, believed or part of a boot's promises, so it takes neither sessions nor the boot's connection, which may
//! be what failed. Bytes are those of TPM 2.0 part 1, section 18, and part 3; an answer that has others is an error.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};

use super::{NODES, response};
use crate::config::Tcti;
use crate::error::{Doing, Error, Result};

/// `TPM_ST_NO_SESSIONS` and `TPM_ST_SESSIONS` (TPM 2.0 part 2, section 6.9).
const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;

// Command codes (TPM 2.0 part 2, section 6.5.2).
const NV_DEFINE_SPACE: u32 = 0x12a;
const NV_WRITE: u32 = 0x137;
const NV_READ: u32 = 0x14e;
const NV_READ_PUBLIC: u32 = 0x169;
const READ_CLOCK: u32 = 0x181;

/// `TPM_RC_NV_UNINITIALIZED` (TPM 2.0 part 2, section 6.6.3).
const NV_UNINITIALIZED: u32 = 0x14a;

/// `TPM_RH_OWNER` (TPM 2.0 part 2, section 7.4).
const OWNER: u32 = 0x4000_0001;

/// An authorisation area with an empty password: its length, `TPM_RS_PW`, no nonce, no attributes, no value (TPM 2.0 part 1,
/// section 19.4).
const EMPTY_PASSWORD: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];

/// `TPMA_NV` (TPM 2.0 part 2, section 13.4): an ordinary index that is read and written by its authorisation value, which is empty,
/// and that no lock-out concerns. It can be locked by nobody, and removed by the owner.
const ATTRIBUTES: u32 = 1 << 2 | 1 << 18 | 1 << 25;
const WRITTEN: u32 = 1 << 29;

/// `TPM_ALG_SHA256` (TPM 2.0 part 2, section 6.3).
const ALG_SHA256: u16 = 0x000b;

/// Tag, length and code of an answer.
const HEAD_LEN: usize = 10;

/// The longest answer that is taken, in bytes: more than any TPM's (`TPM_PT_MAX_RESPONSE_SIZE`).
const ANSWER_LEN_MAX: usize = 4096;

/// A connection that takes commands as bytes.
#[derive(Debug)]
pub struct DirectTpm {
    channel: File,
}

/// What the TPM says to a command: its code and what follows.
struct Answer {
    code: u32,
    body: Vec<u8>,
}

impl DirectTpm {
    /// Connects to the TPM. No command.
    pub fn open(tcti: &Tcti) -> Result<Self> {
        let [exclusive, shared] = NODES;
        let channel = match tcti {
            Tcti::Auto => node(exclusive).or_else(|_| node(shared)),
            Tcti::Device(path) => node(path.as_str()),
            Tcti::Swtpm { port } => software(*port),
        };
        channel
            .map(|channel| Self { channel })
            .doing("opening the TPM")
    }

    /// How often the TPM was reset, which is how often the machine was started. Command: `ReadClock`.
    pub fn reset_count(&mut self) -> Result<u32> {
        let Answer { code, body } = self.send(NO_SESSIONS, READ_CLOCK, &[])?;
        // `TPMS_TIME_INFO`: time, clock, the count (TPM 2.0 part 2, section 10.11.1).
        let count = body.get(16..20).and_then(|count| count.try_into().ok());
        match (code, count) {
            (0, Some(count)) => Ok(u32::from_be_bytes(count)),
            _ => Err(unexpected(code)).doing("reading the TPM's clock"),
        }
    }

    /// What stands in an index that anybody may read and write; `None` where there is no such index, or one that was never
    /// written. Whose it is is not asked. Command: `NV_Read`.
    pub fn read_open(&mut self, index: u32, len: u16) -> Result<Option<Vec<u8>>> {
        let handle = index.to_be_bytes();
        let body = [
            &handle[..],
            &handle,
            &EMPTY_PASSWORD,
            &len.to_be_bytes(),
            &[0, 0],
        ]
        .concat();
        let Answer { code, body } = self.send(SESSIONS, NV_READ, &body)?;
        match code {
            // The length of the parameters, then theirs.
            0 => match body.get(6..).and_then(|data| data.get(..usize::from(len))) {
                Some(data) => Ok(Some(data.to_vec())),
                None => Err(unexpected(code)).doing("reading the NV index"),
            },
            response::HANDLE | NV_UNINITIALIZED => Ok(None),
            _ => Err(foreign(index)),
        }
    }

    /// Writes an index that anybody may read and write, and makes it where there is none. Another program's is refused.
    ///
    /// Commands: `NV_ReadPublic`, `NV_Write`; where there is none `NV_DefineSpace` in between.
    pub fn write_open(&mut self, index: u32, bytes: &[u8]) -> Result<()> {
        let len = u16::try_from(bytes.len()).map_err(Error::failure)?;
        self.require_ours(index, len)?;
        let handle = index.to_be_bytes();
        let data = [&len.to_be_bytes()[..], bytes, &[0, 0]].concat();
        let body = [&handle[..], &handle, &EMPTY_PASSWORD, &data].concat();
        self.done(NV_WRITE, &body)
            .doing(format_args!("writing NV index {index:#x}"))
    }

    /// The index is there and as it is to be, from here on.
    fn require_ours(&mut self, index: u32, len: u16) -> Result<()> {
        let Answer { code, body } = self.send(NO_SESSIONS, NV_READ_PUBLIC, &index.to_be_bytes())?;
        let is = |attributes| body.starts_with(&public(index, attributes, len));
        match code {
            0 if is(ATTRIBUTES) || is(ATTRIBUTES | WRITTEN) => Ok(()),
            0 => Err(foreign(index)),
            response::HANDLE => {
                let public = public(index, ATTRIBUTES, len);
                let owner = OWNER.to_be_bytes();
                // No authorisation value.
                let body = [&owner[..], &EMPTY_PASSWORD, &[0, 0], &public].concat();
                self.done(NV_DEFINE_SPACE, &body)
                    .doing(format_args!("making NV index {index:#x}"))
            }
            _ => Err(unexpected(code)).doing("looking for the NV index"),
        }
    }

    fn done(&mut self, command: u32, body: &[u8]) -> Result<()> {
        match self.send(SESSIONS, command, body)?.code {
            0 => Ok(()),
            code => Err(unexpected(code)),
        }
    }

    /// One command, and its answer.
    fn send(&mut self, tag: u16, command: u32, body: &[u8]) -> Result<Answer> {
        let len = body.len().saturating_add(HEAD_LEN);
        let len = u32::try_from(len).map_err(Error::failure)?.to_be_bytes();
        let bytes = [&tag.to_be_bytes()[..], &len, &command.to_be_bytes(), body].concat();
        // The kernel takes a command by one write.
        self.channel.write_all(&bytes).doing("asking the TPM")?;
        let mut answer = vec![0; ANSWER_LEN_MAX];
        let mut read = 0;
        // The kernel gives an answer by one read; a socket gives its parts.
        while read < HEAD_LEN || read < announced(&answer) {
            let rest = answer.get_mut(read..).unwrap_or_default();
            match self.channel.read(rest).doing("asking the TPM")? {
                0 => return Err(Error::failure("the TPM's answer is cut off")),
                more => read = read.saturating_add(more),
            }
        }
        answer.truncate(read);
        let body = answer.split_off(HEAD_LEN);
        let code = answer
            .last_chunk()
            .map_or(u32::MAX, |code| u32::from_be_bytes(*code));
        let code = response::number(code);
        Ok(Answer { code, body })
    }
}

/// How long the answer says it is, as far as one can be.
fn announced(answer: &[u8]) -> usize {
    let len = answer.get(2..6).and_then(|len| len.try_into().ok());
    let len = usize::try_from(len.map_or(0, u32::from_be_bytes));
    len.unwrap_or(ANSWER_LEN_MAX).min(ANSWER_LEN_MAX)
}

/// A `TPM2B_NV_PUBLIC` without a policy (TPM 2.0 part 2, section 13.6).
fn public(index: u32, attributes: u32, len: u16) -> Vec<u8> {
    [
        &[0, 14][..],
        &index.to_be_bytes(),
        &ALG_SHA256.to_be_bytes(),
        &attributes.to_be_bytes(),
        &[0, 0],
        &len.to_be_bytes(),
    ]
    .concat()
}

fn node(path: &str) -> Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).open(path);
    file.map_err(|error| Error::unavailable(format_args!("{path}: {error}")))
}

/// The command channel of a software TPM, for tests.
#[cfg(any(test, feature = "software-tpm"))]
fn software(port: u16) -> Result<File> {
    let stream = std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port));
    let stream = stream.map_err(Error::unavailable)?;
    Ok(File::from(std::os::fd::OwnedFd::from(stream)))
}

/// Without the feature there is none.
#[cfg(not(any(test, feature = "software-tpm")))]
fn software(_port: u16) -> Result<File> {
    Err(Error::unavailable("a software TPM is for tests"))
}

fn foreign(index: u32) -> Error {
    Error::refused(format_args!(
        "NV index {index:#x} belongs to another program: remove it with tpm2_nvundefine where nobody needs it, or set anchor.index \
         in the configuration to another handle"
    ))
}

fn unexpected(code: u32) -> Error {
    Error::failure(format_args!("the TPM answers {code:#x}"))
}
