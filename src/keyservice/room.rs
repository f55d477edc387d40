// SPDX-License-Identifier: Apache-2.0
//! Room for the bodies of requests, so that however many come at once they do not fill the memory.

use std::sync::Arc;
use std::time::Duration;

use axum::BoxError;
use axum::body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answer::{Fault, Refused};
use super::config::Limits;

/// When somebody for whose body there was no room may come again, in seconds.
const FULL_RETRY_S: u64 = 2;

/// What all bodies in memory share. It is taken byte by byte as they arrive: who sends slowly takes little.
#[derive(Clone, Debug)]
pub struct Room {
    bytes: Arc<Semaphore>,
    time_max: Duration,
}

/// A body, and the room it takes until it is dropped.
#[derive(Debug, Default)]
pub struct Held {
    /// The body.
    pub bytes: Vec<u8>,
    room: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// As much as the configuration allows, and in any case enough for one of the longest.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let bytes = limits.bodies_bytes.max(limits.body_bytes).get();
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            bytes: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))),
            time_max: Duration::from_secs(limits.request_s.get().into()),
        }
    }

    /// Reads a body of at most `len_max` bytes.
    pub async fn read(&self, body: Body, len_max: usize) -> Result<Held, Refused> {
        match timeout(self.time_max, self.collect(body, len_max)).await {
            Ok(read) => read,
            Err(_elapsed) => Err(Refused::new(
                Fault::TooSlow,
                "body-time",
                format_args!("the body took more than {} s", self.time_max.as_secs()),
            )),
        }
    }

    async fn collect(&self, body: Body, len_max: usize) -> Result<Held, Refused> {
        let mut body = Limited::new(body, len_max);
        let mut held = Held::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| unread(&error, len_max))?;
            // Trailers mean nothing here.
            let Ok(data) = frame.into_data() else {
                continue;
            };
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
            .ok_or_else(|| Refused {
                retry_after_s: Some(FULL_RETRY_S),
                ..Refused::new(Fault::Busy, "body-room", "there is no room for the body")
            })
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

    fn read(room: &Room, len: usize) -> Result<Held, Refused> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(room.read(Body::from(vec![1; len]), 100))
    }

    #[test]
    fn bodies_share_the_room_and_give_it_back() {
        let count = |value| std::num::NonZeroU32::new(value).unwrap();
        let room = Room::new(&Limits {
            body_bytes: count(100),
            bodies_bytes: count(250),
            ..Limits::default()
        });
        let held: Vec<Held> = [100, 100, 0].map(|len| read(&room, len).unwrap()).into();
        assert_eq!(held[0].bytes, [1; 100]);
        let full = read(&room, 100).unwrap_err();
        assert_eq!(
            (full.fault, full.check, full.retry_after_s),
            (Fault::Busy, "body-room", Some(FULL_RETRY_S))
        );
        // What did not fit takes no room either.
        read(&room, 50).unwrap();
        drop(held);
        read(&room, 100).unwrap();
        assert_eq!(read(&room, 101).unwrap_err().fault, Fault::TooLong);
        assert_eq!(room.bytes.available_permits(), 250);
    }
}
