// SPDX-License-Identifier: Apache-2.0
//! ECDH on P-256 with a key that is used once, for whoever encrypts to somebody else's key (SEC 1, section 3.3.1).
//!
//! By ring, which TLS needs anyway: a key service does it twice for each node, and ring takes a fraction of the time.

use p256::PublicKey;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Length of a coordinate, in bytes.
const LEN: usize = 32;

/// What came of it.
pub(crate) struct Agreed {
    /// Our public key's first coordinate.
    pub(crate) x: [u8; LEN],
    /// The second one.
    pub(crate) y: [u8; LEN],
    /// The first coordinate of the point both sides know.
    pub(crate) shared: Zeroizing<[u8; LEN]>,
}

/// Agrees with the holder of `theirs` on a secret. Our private key is gone when this returns.
pub(crate) fn agree(theirs: &PublicKey) -> Result<Agreed> {
    agree_now(theirs).ok_or_else(|| Error::failure("agreeing on a key over P-256"))
}

fn agree_now(theirs: &PublicKey) -> Option<Agreed> {
    let mine = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).ok()?;
    let public = mine.compute_public_key().ok()?;
    // SEC 1, section 2.3.3: a byte that says "not compressed", then the coordinates.
    let (x, y) = public.as_ref().get(1..)?.split_at_checked(LEN)?;
    let theirs = UnparsedPublicKey::new(&ECDH_P256, theirs.to_sec1_point(false));
    let shared = agree_ephemeral(mine, &theirs, |shared| {
        <[u8; LEN]>::try_from(shared).map(Zeroizing::new)
    });
    Some(Agreed {
        x: x.try_into().ok()?,
        y: y.try_into().ok()?,
        shared: shared.ok()?.ok()?,
    })
}
