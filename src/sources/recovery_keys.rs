// SPDX-License-Identifier: Apache-2.0
//! What an operator asked of the next boot, done to the volumes that are there; what was asked of their recovery keys is here.
//!
//! It is done here because the running system has neither the volume key nor a way to make a header's MAC. Doing it twice comes to
//! the same for keyslots: a key that opens one already gets no other, and one that is not there is as good as emptied; a secret is
//! changed once more, see [`super::rotate`]. So the requests stay until the headers are durable, and a boot that is cut anywhere is
//! finished by the next one. Keys are given keyslots before others are emptied, and none that is to be emptied: what comes and what
//! goes at once cannot be taken for each other. A secret is changed before either, since that begins with the header that is on the
//! disk.

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
                self.fulfil(volume, keyed, uuid, (&requests, &mut made));
            }
        }
        for (request, _) in requests.iter().zip(&made).filter(|(_, made)| !**made) {
            let uuid = request.uuid;
            info!("volume {uuid}: what was asked for it waits for a later boot");
        }
        if let (_, Some(anchor)) = lock(self.node_tpm)?.anchor()? {
            anchor.keep_requests(requests, made);
        }
        Ok(())
    }

    /// Does what was asked of one volume, and says so in `made`, which has a place for each request.
    fn fulfil(
        self,
        volume: &Volume,
        keyed: &mut Keyed,
        uuid: Uuid,
        (requests, made): (&Requests, &mut [bool]),
    ) {
        let name = volume.name.as_str();
        let leaving: Vec<u8> = requests.of(uuid).filter_map(emptied).collect();
        for turn in 0..=LAST_TURN {
            let all = requests.iter().zip(made.iter_mut());
            let its = |it: &Request| it.uuid == uuid && self::turn(&it.wish) == turn;
            for (request, made) in all.filter(|(request, _)| its(request)) {
                match self.grant(volume, keyed, &request.wish, &leaving) {
                    Ok(is_done) => *made = is_done,
                    Err(error) => warn!(volume = name; "its keyslots stay what they are: {error}"),
                }
            }
        }
    }

    /// Whether it is done.
    fn grant(
        self,
        volume: &Volume,
        keyed: &mut Keyed,
        wish: &Wish,
        leaving: &[u8],
    ) -> Result<bool> {
        match wish {
            Wish::Rotate(rotation) => self.rotate(volume, keyed, *rotation).map(|()| true),
            Wish::Add(key) => {
                let is_added = keyed.add_recovery_key(key, leaving)? != Added::NoRoom;
                if !is_added {
                    let name = volume.name.as_str();
                    warn!(volume = name; "no keyslot is free for another recovery key: it waits");
                }
                Ok(is_added)
            }
            Wish::Remove(keyslot) => keyed.remove_recovery_key(*keyslot).map(|_| true),
        }
    }
}

/// The turn in which a wish is fulfilled.
fn turn(wish: &Wish) -> u8 {
    match wish {
        Wish::Rotate(_) => 0,
        Wish::Add(_) => 1,
        Wish::Remove(_) => LAST_TURN,
    }
}

const LAST_TURN: u8 = 2;

/// The keyslot that is to be emptied.
fn emptied(wish: &Wish) -> Option<u8> {
    match wish {
        Wish::Add(_) | Wish::Rotate(_) => None,
        Wish::Remove(keyslot) => Some(*keyslot),
    }
}
