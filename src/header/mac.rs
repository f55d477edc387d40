// SPDX-License-Identifier: Apache-2.0
//! What ties a header to its volume key: a MAC over all of it (rule D16) and an identifier of the key (rule D15).

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::binary::{self, BINARY_LEN, COPY_LEN, JSON_LEN};
use super::violation::violation;
use super::{Area, Candidate, Expect, Form, NightlatchToken, SlotPair, Stamp, used};
use crate::config::Profile;
use crate::error::{Doing, Error, Result};
use crate::key::{Secret, header_mac_key, volume_key_id};

/// How the MAC's field begins. JSON of this program's grammar has no escapes, so these bytes are a key and nothing else,
/// and no object but the `nightlatch` token has such a key.
const MAC_KEY: &[u8] = b"\"mac\":\"";
const EPOCH_KEY: &[u8] = b"\"epoch\":\"";
const NONCE_KEY: &[u8] = b"\"nonce\":\"";
/// Stands for the MAC while it is computed: as many characters as its base64 has.
const NO_MAC: &[u8; 44] = &[b'A'; 44];

/// What to do about a header that is not the volume's.
const ADVICE: &str =
    "attach the disk as this machine left it, or blank it and restore the data from a backup";

impl Candidate {
    /// Whether this header was made by who has the volume key. Foreign profiles have no MAC: nothing is checked there.
    ///
    /// Comes before anything is mapped. Both comparisons take the same time wherever the difference is.
    pub fn authenticate(&self, volume_key: &Secret) -> Result<()> {
        let Some(token) = &self.checked.nightlatch else {
            return Ok(());
        };
        let wrong =
            |rule, field, what: &str| Err(violation(rule, field, format_args!("{what}; {ADVICE}")));
        let mac = self.mac(volume_key)?;
        if mac.verify_slice(&token.mac).is_err() {
            let what = "expected the MAC this volume's key makes over its header, found another";
            return wrong("D16", "token nightlatch: mac", what);
        }
        let id = volume_key_id(volume_key, &self.checked.uuid)?;
        if id != token.key_id {
            let what = "expected the id of this volume's key, found another";
            return wrong("D15", "token nightlatch: volume-key-id", what);
        }
        Ok(())
    }

    /// The same header one change later: next sequence number, the stamp of this boot, a new MAC. Nothing is written.
    pub fn renewed(&self, stamp: Stamp, volume_key: &Secret) -> Result<Self> {
        let seqid = self.seqid.checked_add(1);
        let seqid = seqid.ok_or_else(|| Error::refused("the header's seqid is at its end"))?;
        self.rewritten(stamp, seqid, volume_key)
            .doing("renewing the header")
    }

    /// The same header with a MAC: the last step of making one.
    pub fn signed(&self, volume_key: &Secret) -> Result<Self> {
        let stamp = self.token()?.stamp();
        self.rewritten(stamp, self.seqid, volume_key)
            .doing("signing the header")
    }

    /// The header that libcryptsetup made of this one in `area` by filling the other pair of keyslots and emptying this one,
    /// for a secret that the node made itself or not. Nothing else may have changed. It gets its MAC with [`Candidate::renewed`].
    pub fn rekeyed(&self, area: &Area, own_secret: bool) -> Result<Self> {
        let next = Self::only_one_in(area)?;
        let mine = self.token()?.clone();
        let mine = NightlatchToken {
            own_secret,
            form: Form::with(&next.checked.recovery, next.checked.values()),
            ..mine
        };
        let same = next.from.is_none()
            && next.checked.uuid == self.checked.uuid
            && next.checked.nightlatch == Some(mine)
            && next.checked.tpm.is_some() == self.checked.tpm.is_some()
            && next.checked.pair == self.checked.pair.map(SlotPair::other)
            && next.checked.recovery == self.checked.recovery
            && next.seqid > self.seqid
            && self.keeps_material(&next);
        if !same {
            return Err(Error::failure(
                "re-keying changed more of the header than its keyslots",
            ));
        }
        let place = |pair: Option<SlotPair>| pair.map(SlotPair::area);
        let (new, old) = (place(next.checked.pair), place(self.checked.pair));
        let left = self
            .leftover
            .iter()
            .filter(|left| Some(*left) != new.as_ref());
        Ok(Self {
            from: self.from,
            leftover: left.cloned().chain(old).collect(),
            missing: new.into_iter().collect(),
            ..next
        })
    }

    /// The header that was made in `area`, of which there has to be one.
    pub(super) fn only_one_in(area: &Area) -> Result<Self> {
        let good = area
            .copies()?
            .check(area, Profile::Nightlatch1, &Expect::default())?;
        let [only] = <[Self; 1]>::try_from(good).map_err(|good: Vec<_>| {
            Error::failure(format_args!("{} headers where one was made", good.len()))
        })?;
        Ok(only)
    }

    fn rewritten(&self, stamp: Stamp, seqid: u64, volume_key: &Secret) -> Result<Self> {
        let mut next = self.clone();
        let json = self.stamped(stamp)?;
        binary::rewrite(&mut next.copies, seqid, &json)?;
        let mac = next.mac(volume_key)?.finalize().into_bytes();
        let (before, after) = around(next.json(), MAC_KEY)?;
        let json = [before, Base64::encode_string(&mac).as_bytes(), after].concat();
        binary::rewrite(&mut next.copies, seqid, &json)?;
        next.reread()
    }

    /// The JSON with this stamp. A nonce comes right behind the epoch where the header has none yet.
    fn stamped(&self, stamp: Stamp) -> Result<Vec<u8>> {
        let epoch = stamp.epoch.to_string();
        let old = self.json();
        let nonce = stamp.nonce.map(|nonce| hex::encode(nonce.bytes()));
        let text = match (self.token()?.nonce, nonce) {
            (Some(_), Some(nonce)) => {
                let (before, after) = around(old, NONCE_KEY)?;
                return replaced(
                    &[before, nonce.as_bytes(), after].concat(),
                    EPOCH_KEY,
                    &epoch,
                );
            }
            (Some(_), None) => {
                return Err(Error::failure("a header's nonce is not taken away"));
            }
            (None, Some(nonce)) => format!("{epoch}\",\"nonce\":\"{nonce}"),
            (None, None) => epoch,
        };
        replaced(old, EPOCH_KEY, &text)
    }

    /// What was written goes through the same checks as what is read. The keyslots are what they were.
    fn reread(self) -> Result<Self> {
        let header = Area::starting_with(self.copies.clone())?.header()?;
        Ok(Self {
            checked: header.check(Profile::Nightlatch1, &Expect::default())?,
            seqid: header.seqid,
            ..self
        })
    }

    fn token(&self) -> Result<&NightlatchToken> {
        let token = self.checked.nightlatch.as_ref();
        token.ok_or_else(|| Error::failure("the header has no token \"nightlatch\""))
    }

    /// HMAC-SHA256 over the binary header without what differs between the copies, the JSON without the MAC, and the
    /// keyslots.
    fn mac(&self, volume_key: &Secret) -> Result<Hmac<Sha256>> {
        let key = header_mac_key(volume_key, &self.checked.uuid)?;
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key.expose())
            .map_err(|error| Error::failure(format_args!("HMAC: {error}")))?;
        let json = self.copies.get(BINARY_LEN..COPY_LEN).unwrap_or_default();
        let (before, after) = around(json, MAC_KEY)?;
        mac.update(&binary::without_copy(&self.copies)?);
        mac.update(before);
        mac.update(NO_MAC);
        mac.update(after);
        mac.update(&self.material);
        Ok(mac)
    }

    /// The JSON without the zeros behind it.
    fn json(&self) -> &[u8] {
        let area = self.copies.get(BINARY_LEN..COPY_LEN).unwrap_or_default();
        used(area.get(..JSON_LEN).unwrap_or_default())
    }
}

/// The JSON with another text of the only key `key`.
fn replaced(json: &[u8], key: &[u8], text: &str) -> Result<Vec<u8>> {
    let (before, after) = around(json, key)?;
    Ok([before, text.as_bytes(), after].concat())
}

/// What is in front of and behind the text of the only key `key`.
fn around<'a>(json: &'a [u8], key: &[u8]) -> Result<(&'a [u8], &'a [u8])> {
    let mut places = json
        .windows(key.len())
        .enumerate()
        .filter(|(_, window)| *window == key);
    let (Some((at, _)), None) = (places.next(), places.next()) else {
        return Err(Error::failure("the key is not there exactly once"));
    };
    let start = at.saturating_add(key.len());
    let (before, rest) = json.split_at_checked(start).unwrap_or_default();
    let len = rest.iter().position(|byte| *byte == b'"').unwrap_or(0);
    Ok((before, rest.get(len..).unwrap_or_default()))
}

impl Area {
    /// The header that libcryptsetup made here, which must equal the template of our profile, with its MAC.
    pub fn sign(&self, expect: &Expect, volume_key: &Secret) -> Result<Candidate> {
        let good = self.copies()?.check(self, Profile::Nightlatch1, expect)?;
        match good.as_slice() {
            [only] if !only.needs_repair() => only.signed(volume_key),
            _ => Err(Error::failure("the copies of a new header differ")),
        }
    }
}
