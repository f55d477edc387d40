// SPDX-License-Identifier: Apache-2.0
//! Room for the bodies of requests, so that however many come at once they do not fill the memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::BoxError;
use axum::body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::timeout;

use crate::keyservice::config::Limits;
use crate::keyservice::limits::peer_prefix;
use crate::keyservice::reply::{Fault, Rejection};

/// When somebody for whose body there was no room may come again, in seconds.
const FULL_RETRY_S: u64 = 2;

/// A peer may take one part where it leaves so many free: a session is good for many bodies at once, and others have to
/// get in.
const PARTS_FREE: usize = 4;

/// What all bodies in memory share. It is taken byte by byte as they arrive: who sends slowly takes little.
///
/// A peer may take a quarter of what it leaves free, so four fifths of what there was are left after each that takes all it
/// can: a tenth of the room after ten (dynamic thresholds: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6
/// (2), 1998).
#[derive(Clone, Debug)]
pub struct BodyBudget {
    taken: Arc<Mutex<Taken>>,
    time_max: Duration,
}

/// A body, and the room it takes until it is dropped.
#[derive(Debug)]
pub struct BufferedBody {
    /// The body.
    pub bytes: Vec<u8>,
    _reservation: Reservation,
}

impl BodyBudget {
    /// As much as the configuration allows, and in any case so much that a peer alone may send one of the longest.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let count = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        let longest = count(limits.body_bytes.get());
        let least = longest.saturating_mul(PARTS_FREE.saturating_add(1));
        let free = count(limits.bodies_bytes.get()).max(least);
        Self {
            taken: Arc::new(Mutex::new(Taken {
                free,
                by_peer: HashMap::new(),
            })),
            time_max: Duration::from_secs(limits.request_s.get().into()),
        }
    }

    /// Reads a body of at most `len_max` bytes that `from` sends.
    pub async fn read(
        &self,
        from: IpAddr,
        body: Body,
        len_max: usize,
    ) -> Result<BufferedBody, Rejection> {
        match timeout(self.time_max, self.collect(from, body, len_max)).await {
            Ok(read) => read,
            Err(_elapsed) => Err(Rejection::new(
                Fault::TooSlow,
                "body-time",
                format_args!("the body took more than {} s", self.time_max.as_secs()),
            )),
        }
    }

    async fn collect(
        &self,
        from: IpAddr,
        body: Body,
        len_max: usize,
    ) -> Result<BufferedBody, Rejection> {
        let mut body = Limited::new(body, len_max);
        let mut bytes = Vec::new();
        let mut reservation = Reservation {
            peer: peer_prefix(from),
            len: 0,
            taken: Arc::clone(&self.taken),
        };
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| unread(&error, len_max))?;
            // Trailers mean nothing here.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            // Nobody waits while he holds a part: two who wait for each other's would wait for ever.
            reservation.grow(data.len())?;
            bytes.extend_from_slice(&data);
        }
        Ok(BufferedBody {
            bytes,
            _reservation: reservation,
        })
    }
}

/// What is free, and how much each peer has taken. There are no more peers than requests with a body.
#[derive(Debug)]
struct Taken {
    free: usize,
    by_peer: HashMap<IpAddr, usize>,
}

/// What one body takes, until it is dropped.
#[derive(Debug)]
struct Reservation {
    peer: IpAddr,
    len: usize,
    taken: Arc<Mutex<Taken>>,
}

impl Reservation {
    /// Takes more, if the peer leaves enough free.
    fn grow(&mut self, len: usize) -> Result<(), Rejection> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_peer.get(&self.peer).map_or(0, |own| *own);
        let own = own.saturating_add(len);
        let needed = own.saturating_mul(PARTS_FREE);
        let Some(free) = taken.free.checked_sub(len).filter(|free| needed <= *free) else {
            return Err(Rejection {
                retry_after_s: Some(FULL_RETRY_S),
                ..Rejection::new(Fault::Busy, "body-room", "there is no room for the body")
            });
        };
        if own > 0 {
            taken.by_peer.insert(self.peer, own);
        }
        taken.free = free;
        self.len = self.len.saturating_add(len);
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.free = taken.free.saturating_add(self.len);
        match taken.by_peer.get_mut(&self.peer) {
            Some(own) if *own > self.len => *own = own.saturating_sub(self.len),
            Some(_) | None => drop(taken.by_peer.remove(&self.peer)),
        }
    }
}

fn unread(error: &BoxError, len_max: usize) -> Rejection {
    if error.is::<LengthLimitError>() {
        return Rejection::new(
            Fault::TooLong,
            "body-length",
            format_args!("the body has more than {len_max} bytes"),
        );
    }
    Rejection::new(Fault::Malformed, "body", error)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::body::{Bytes, HttpBody};
    use hyper::body::Frame;

    use super::*;

    fn budget(body_bytes: u32, bodies_bytes: u32) -> BodyBudget {
        let count = |value| std::num::NonZeroU32::new(value).unwrap();
        BodyBudget::new(&Limits {
            body_bytes: count(body_bytes),
            bodies_bytes: count(bodies_bytes),
            ..Limits::default()
        })
    }

    fn read(budget: &BodyBudget, from: &str, len: usize) -> Result<BufferedBody, Rejection> {
        let body = Body::from(vec![1; len]);
        wait(budget.read(from.parse().unwrap(), body, 100))
    }

    fn wait<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(work)
    }

    fn assert_full(read: Result<BufferedBody, Rejection>) {
        let full = read.unwrap_err();
        assert_eq!(
            (full.fault, full.check, full.retry_after_s),
            (Fault::Busy, "body-room", Some(FULL_RETRY_S))
        );
    }

    fn assert_empty(budget: &BodyBudget, bytes: usize) {
        let taken = budget.taken.lock().unwrap();
        assert_eq!((taken.free, taken.by_peer.len()), (bytes, 0));
    }

    #[test]
    fn bodies_share_the_room_and_give_it_back() {
        let budget = budget(100, 600);
        let bodies = [("192.0.2.1", 100), ("192.0.2.2", 100), ("192.0.2.3", 0)];
        let held: Vec<BufferedBody> = bodies
            .map(|(from, len)| read(&budget, from, len).unwrap())
            .into();
        assert_eq!(held[0].bytes, [1; 100]);
        assert_full(read(&budget, "192.0.2.3", 81));
        // What did not fit takes no room either.
        read(&budget, "192.0.2.3", 80).unwrap();
        drop(held);
        read(&budget, "192.0.2.3", 100).unwrap();
        let too_long = read(&budget, "192.0.2.3", 101).unwrap_err();
        assert_eq!(too_long.fault, Fault::TooLong);
        assert_empty(&budget, 600);
    }

    /// A body that arrives in two parts.
    struct InParts([usize; 2]);

    impl HttpBody for InParts {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let part = self.0.iter_mut().find(|part| **part > 0);
            let data = part.map(|part| Bytes::from(vec![1; std::mem::take(part)]));
            Poll::Ready(data.map(|data| Ok(Frame::data(data))))
        }
    }

    #[test]
    fn a_body_takes_room_part_by_part_and_gives_back_all_of_it() {
        let budget = budget(100, 600);
        let other = read(&budget, "192.0.2.1", 100).unwrap();
        let parts = |parts| {
            let body = Body::new(InParts(parts));
            wait(budget.read("192.0.2.2".parse().unwrap(), body, 100))
        };
        let held = parts([60, 40]).unwrap();
        assert_eq!(
            (held.bytes.len(), budget.taken.lock().unwrap().free),
            (100, 400)
        );
        // The first part fits beside it, the second one does not.
        let third = read(&budget, "192.0.2.3", 60).unwrap();
        drop(held);
        let fourth = read(&budget, "192.0.2.4", 60).unwrap();
        assert_full(parts([60, 40]));
        drop((other, third, fourth));
        assert_empty(&budget, 600);
    }

    #[test]
    fn the_longest_body_finds_room_where_nobody_else_is() {
        for bytes in [1, 100, 499, 500] {
            let budget = budget(100, bytes);
            read(&budget, "192.0.2.1", 100).unwrap();
            assert_empty(&budget, 500);
        }
    }

    #[test]
    fn peers_that_take_all_they_can_leave_room_for_the_next() {
        let budget = budget(100, 1250);
        let peer = |number: usize| format!("192.0.2.{number}");
        let fill = |from: &str| -> Vec<BufferedBody> {
            let bodies = std::iter::repeat_with(|| read(&budget, from, 10));
            bodies.map_while(Result::ok).collect()
        };
        let len = |held: &[BufferedBody]| held.iter().map(|one| one.bytes.len()).sum::<usize>();
        // The addresses of one network are one peer.
        let one = fill("2001:db8:1:2::1");
        assert_eq!((len(&one), fill("2001:db8:1:2::2").len()), (250, 0));
        drop(one);
        let mut all = Vec::new();
        for number in 1..=5 {
            all.push(fill(&peer(number)));
            // Whoever comes now gets in.
            let next = fill("192.0.2.99");
            assert!(len(&next) >= 80, "{number} peers left nothing");
        }
        assert_eq!(all.iter().map(|held| len(held)).sum::<usize>(), 830);
        drop(all);
        assert_empty(&budget, 1250);
    }
}
