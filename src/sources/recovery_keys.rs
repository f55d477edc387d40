// SPDX-License-Identifier: Apache-2.0
//! What an operator asked of recovery keys, done to the volumes that are there.
//!
//! It is done here because the running system has neither the volume key nor a way to make a header's MAC. Doing it twice comes to
//! the same: a key that opens a keyslot already gets no other one, and a keyslot that is not there is as good as emptied. So the
//! requests stay until the headers are durable, and a boot that is cut anywhere is finished by the next one. Keys are given
//! keyslots before others are emptied, and none that is to be emptied: what comes and what goes at once cannot be taken for each
//! other.

use log::{info, warn};
use uuid::Uuid;

use crate::anchor::requests::{Request, Requests, Wish};
use crate::config::Volume;
use crate::error::Result;
use crate::sources::Sources;
use crate::sources::tpm::lock;
use crate::volume::{Added, How, Keyed};

impl Sources<'_> {
    /// Makes ready what was asked for. What cannot be done is said and waits, and is no failure: the volumes are open.
    pub(crate) fn fulfil_requests(self, keyed: &mut [(&Volume, Keyed)]) -> Result<()> {
        let requests = match lock(self.node_tpm)?.anchor()? {
            (tpm, Some(anchor)) => match anchor.requests(tpm) {
                Some(requests) => requests,
                None => return Ok(()),
            },
            (_, None) => return Ok(()),
        };
        let mut made = vec![false; requests.iter().count()];
        for (volume, keyed) in keyed.iter_mut() {
            if let (How::Unlocked, Ok(uuid)) = (keyed.how, Uuid::parse_str(&keyed.uuid)) {
                fulfil(volume, keyed, uuid, &requests, &mut made);
            }
        }
        for (request, _) in requests.iter().zip(&made).filter(|(_, made)| !**made) {
            let uuid = request.uuid;
            info!("volume {uuid}: what was asked for its recovery keys waits for a later boot");
        }
        if let (_, Some(anchor)) = lock(self.node_tpm)?.anchor()? {
            anchor.keep_requests(requests, made);
        }
        Ok(())
    }
}

/// Does what was asked of one volume, and says so in `made`, which has a place for each request.
fn fulfil(volume: &Volume, keyed: &mut Keyed, uuid: Uuid, requests: &Requests, made: &mut [bool]) {
    let name = volume.name.as_str();
    let leaving: Vec<u8> = requests.of(uuid).filter_map(emptied).collect();
    let is_add = |request: &Request| matches!(request.wish, Wish::Add(_));
    for adds in [true, false] {
        let all = requests.iter().zip(made.iter_mut());
        for (request, made) in all.filter(|(it, _)| it.uuid == uuid && is_add(it) == adds) {
            match grant(&request.wish, keyed, &leaving) {
                Ok(is_done) => {
                    if !is_done {
                        warn!(volume = name; "no keyslot is free for another recovery key: it waits");
                    }
                    *made = is_done;
                }
                Err(error) => {
                    warn!(volume = name; "its recovery keys stay what they are: {error}");
                }
            }
        }
    }
}

/// The keyslot that is to be emptied.
fn emptied(wish: &Wish) -> Option<u8> {
    match wish {
        Wish::Add(_) => None,
        Wish::Remove(keyslot) => Some(*keyslot),
    }
}

/// Whether it is done.
fn grant(wish: &Wish, keyed: &mut Keyed, leaving: &[u8]) -> Result<bool> {
    match wish {
        Wish::Add(key) => Ok(keyed.add_recovery_key(key, leaving)? != Added::NoRoom),
        Wish::Remove(keyslot) => keyed.remove_recovery_key(*keyslot).map(|_| true),
    }
}
