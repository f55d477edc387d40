// SPDX-License-Identifier: Apache-2.0
//! How a message travels: a length of four bytes, big-endian, and JSON.

use std::io::{Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::{NONCE_LEN, TO_NODE_LEN_MAX, VERSION};
use crate::error::{Doing, Error, Result};
use crate::protocol::Bytes;

/// The length of the number that a message begins with, in bytes.
pub const PREFIX_LEN: usize = 4;

/// A message as it travels.
pub fn frame(message: &impl Serialize) -> Result<Zeroizing<Vec<u8>>> {
    // With room for a message to a node, so that no key is left behind where a vector grew.
    let mut bytes = Zeroizing::new(Vec::with_capacity(TO_NODE_LEN_MAX));
    bytes.extend([0; PREFIX_LEN]);
    serde_json::to_writer(&mut *bytes, message).map_err(Error::failure)?;
    let len = bytes.len().saturating_sub(PREFIX_LEN);
    let len = u32::try_from(len).map_err(Error::failure)?;
    if let Some(prefix) = bytes.first_chunk_mut() {
        *prefix = len.to_be_bytes();
    }
    Ok(bytes)
}

/// How long the message is that begins so; refused above `len_max`, before anything is allocated.
pub fn len_of(prefix: [u8; PREFIX_LEN], len_max: usize) -> Result<usize> {
    let len = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if len > len_max {
        return Err(Error::refused(format_args!(
            "expected a message of at most {len_max} bytes, found {len}"
        )));
    }
    Ok(len)
}

/// Takes a message apart. What is wrong with it is not quoted: it may have a key in it.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::refused(format_args!(
            "expected {what} of version {VERSION} in JSON, found something else at line {} column {}",
            error.line(),
            error.column()
        ))
    })
}

/// A nonce, which has to be of this length, and a version that is known.
pub fn nonce(version: u32, nonce: &Bytes) -> Result<[u8; NONCE_LEN]> {
    if version != VERSION {
        return Err(Error::refused(format_args!(
            "expected version {VERSION} of the recovery's messages, found {version}"
        )));
    }
    <[u8; NONCE_LEN]>::try_from(nonce.0.as_slice())
        .map_err(Error::refused)
        .doing("reading a nonce")
}

/// Sends a message.
pub fn send(to: &mut impl Write, message: &impl Serialize) -> Result<()> {
    to.write_all(&frame(message)?)
        .and_then(|()| to.flush())
        .map_err(Error::temporary)
        .doing("sending a message")
}

/// Receives a message of at most `len_max` bytes.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read, len_max: usize, what: &str) -> Result<T> {
    let mut prefix = [0; PREFIX_LEN];
    let mut read = |into: &mut [u8]| {
        from.read_exact(into)
            .map_err(Error::temporary)
            .doing(format_args!("waiting for {what}"))
    };
    read(&mut prefix)?;
    let mut bytes = Zeroizing::new(vec![0; len_of(prefix, len_max)?]);
    read(&mut bytes)?;
    parse(&bytes, what)
}
