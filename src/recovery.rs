// SPDX-License-Identifier: Apache-2.0
//! The port of a node that waits for an operator: connections, their limits, and what is said on each.
//!
//! [`Listener`] is open as long as it lives. A connection is a thread that speaks [`protocol::recovery`](crate::protocol::recovery)
//! and has neither the TPM nor a key: what it needs it asks for by a [`Request`], one at a time, of whoever waits. So no peer,
//! however slow, holds up another one or the boot.
//!
//! What a peer can cost: a quote for each connection; nothing is tried that no operator has signed.
//!
//! **Never:** a TPM, a disk, or a word of a peer's that is not signed by a listed key for this connection.

mod conversation;
mod listener;
#[cfg(test)]
mod tests;

use std::sync::mpsc::SyncSender;

pub(crate) use self::listener::Listener;
use crate::error::Result;
use crate::key::Secret;
use crate::protocol::Credential;
use crate::protocol::recovery::{Message, Presentation, Verdicts};

/// What a connection asks of the boot that waits.
#[derive(Debug)]
pub(crate) enum Request {
    /// What the node is, with a quote about this; the nonce is filled in by the connection.
    Present {
        qualifying: [u8; 32],
        answer: SyncSender<Result<Presentation>>,
    },
    /// What the credential holds.
    Open {
        credential: Credential,
        answer: SyncSender<Result<Secret>>,
    },
    /// What an operator has signed for this node and this connection.
    Push {
        message: Message,
        by: String,
        answer: SyncSender<Verdicts>,
    },
}
