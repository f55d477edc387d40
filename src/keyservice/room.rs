// SPDX-License-Identifier: Apache-2.0
//! Room for the bodies of requests, so that however many come at once they do not fill the memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::BoxError;
use axum::body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answer::{Fault, Refused};
use super::config::Limits;
use super::limits::peer;

/// When somebody for whose body there was no room may come again, in seconds.
const FULL_RETRY_S: u64 = 2;

/// One peer may take this part of the room: a session is good for many bodies at once, and others have to get in.
const PEER_PART: usize = 4;

/// What all bodies in memory share. It is taken byte by byte as they arrive: who sends slowly takes little.
#[derive(Clone, Debug)]
pub struct Room {
    bytes: Arc<Semaphore>,
    shares: Arc<Shares>,
    time_max: Duration,
}

/// A body, and the room it takes until it is dropped.
#[derive(Debug)]
pub struct Held {
    /// The body.
    pub bytes: Vec<u8>,
    room: Option<OwnedSemaphorePermit>,
    share: Share,
}

impl Room {
    /// As much as the configuration allows, a quarter of it for each peer, and in any case enough for one of the longest.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let count = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        let longest = count(limits.body_bytes.get());
        let bytes = count(limits.bodies_bytes.get()).max(longest);
        let each_max = bytes.checked_div(PEER_PART).unwrap_or(bytes).max(longest);
        Self {
            bytes: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))),
            shares: Arc::new(Shares {
                each_max,
                taken: Mutex::default(),
            }),
            time_max: Duration::from_secs(limits.request_s.get().into()),
        }
    }

    /// Reads a body of at most `len_max` bytes that `from` sends.
    pub async fn read(&self, from: IpAddr, body: Body, len_max: usize) -> Result<Held, Refused> {
        match timeout(self.time_max, self.collect(from, body, len_max)).await {
            Ok(read) => read,
            Err(_elapsed) => Err(Refused::new(
                Fault::TooSlow,
                "body-time",
                format_args!("the body took more than {} s", self.time_max.as_secs()),
            )),
        }
    }

    async fn collect(&self, from: IpAddr, body: Body, len_max: usize) -> Result<Held, Refused> {
        let mut body = Limited::new(body, len_max);
        let mut held = Held {
            bytes: Vec::new(),
            room: None,
            share: Share {
                peer: peer(from),
                len: 0,
                shares: Arc::clone(&self.shares),
            },
        };
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| unread(&error, len_max))?;
            // Trailers mean nothing here.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if !held.share.grow(data.len()) {
                return Err(full("body-share", "the peer's bodies fill its share"));
            }
            let room = self.take(data.len())?;
            match &mut held.room {
                Some(held) => held.merge(room),
                none => *none = Some(room),
            }
            held.bytes.extend_from_slice(&data);
        }
        Ok(held)
    }

    fn take(&self, len: usize) -> Result<OwnedSemaphorePermit, Refused> {
        // Nobody waits while he holds a part: two who wait for each other's would wait for ever.
        u32::try_from(len)
            .ok()
            .and_then(|len| Arc::clone(&self.bytes).try_acquire_many_owned(len).ok())
            .ok_or_else(|| full("body-room", "there is no room for the body"))
    }
}

/// How much each peer has taken. There are no more peers than requests with a body.
#[derive(Debug)]
struct Shares {
    each_max: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// What one body takes of its peer's share, until it is dropped.
#[derive(Debug)]
struct Share {
    peer: IpAddr,
    len: usize,
    shares: Arc<Shares>,
}

impl Share {
    /// Takes more of the share; whether there was as much.
    fn grow(&mut self, len: usize) -> bool {
        let taken = &self.shares.taken;
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all = taken.get(&self.peer).map_or(0, |len| *len);
        let all = all.saturating_add(len);
        if all > self.shares.each_max {
            return false;
        }
        if all > 0 {
            taken.insert(self.peer, all);
        }
        self.len = self.len.saturating_add(len);
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let taken = &self.shares.taken;
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.peer) {
            Some(all) if *all > self.len => *all = all.saturating_sub(self.len),
            Some(_) | None => drop(taken.remove(&self.peer)),
        }
    }
}

fn full(check: &'static str, why: &str) -> Refused {
    Refused {
        retry_after_s: Some(FULL_RETRY_S),
        ..Refused::new(Fault::Busy, check, why)
    }
}

fn unread(error: &BoxError, len_max: usize) -> Refused {
    if error.is::<LengthLimitError>() {
        return Refused::new(
            Fault::TooLong,
            "body-length",
            format_args!("the body has more than {len_max} bytes"),
        );
    }
    Refused::new(Fault::Malformed, "body", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(body_bytes: u32, bodies_bytes: u32) -> Room {
        let count = |value| std::num::NonZeroU32::new(value).unwrap();
        Room::new(&Limits {
            body_bytes: count(body_bytes),
            bodies_bytes: count(bodies_bytes),
            ..Limits::default()
        })
    }

    fn read(room: &Room, from: &str, len: usize) -> Result<Held, Refused> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let body = Body::from(vec![1; len]);
        runtime.block_on(room.read(from.parse().unwrap(), body, 100))
    }

    fn assert_full(read: Result<Held, Refused>, check: &str) {
        let full = read.unwrap_err();
        assert_eq!(
            (full.fault, full.check, full.retry_after_s),
            (Fault::Busy, check, Some(FULL_RETRY_S))
        );
    }

    #[test]
    fn bodies_share_the_room_and_give_it_back() {
        let room = room(100, 250);
        let bodies = [("192.0.2.1", 100), ("192.0.2.2", 100), ("192.0.2.3", 0)];
        let held: Vec<Held> = bodies
            .map(|(from, len)| read(&room, from, len).unwrap())
            .into();
        assert_eq!(held[0].bytes, [1; 100]);
        assert_full(read(&room, "192.0.2.3", 100), "body-room");
        // What did not fit takes no room either.
        read(&room, "192.0.2.3", 50).unwrap();
        drop(held);
        read(&room, "192.0.2.3", 100).unwrap();
        let too_long = read(&room, "192.0.2.3", 101).unwrap_err();
        assert_eq!(too_long.fault, Fault::TooLong);
        assert_eq!(room.bytes.available_permits(), 250);
        assert!(room.shares.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn one_peer_has_a_quarter_of_the_room_and_others_still_get_in() {
        let room = room(100, 800);
        let (peer, same) = ("2001:db8:1:2::1", "2001:db8:1:2::2");
        let mut held: Vec<Held> = [peer, same]
            .map(|from| read(&room, from, 90).unwrap())
            .into();
        for from in [peer, same] {
            assert_full(read(&room, from, 21), "body-share");
        }
        // The control: there is room for others, and for what is left of the share.
        let other = read(&room, "2001:db8:1:3::1", 100).unwrap();
        held.push(read(&room, peer, 20).unwrap());
        assert_full(read(&room, same, 1), "body-share");
        held.remove(0);
        read(&room, same, 90).unwrap();
        drop((held, other));
        assert_eq!(room.bytes.available_permits(), 800);
        assert!(room.shares.taken.lock().unwrap().is_empty());
    }
}
