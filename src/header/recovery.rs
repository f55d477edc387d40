// SPDX-License-Identifier: Apache-2.0
//! Keyslots for recovery keys: what form `nightlatch-2` may have beside a pair. Each is the one that `systemd-cryptenroll
//! --recovery-key` makes, with the same token, so that stock programs open the volume on another machine.
//!
//! Each has a place of its own behind the two pairs, so that one comes and goes while the others stay where they are.

use std::ops::Range;

use serde_json::{Value, json};

use super::slot_pair::SlotPair;
use super::token::{RECOVERY_TOKEN, Token};
use super::violation::equal;
use super::{Area, Candidate, Form, Header, NightlatchToken};
use crate::error::{Error, Result};
use crate::sealed::values::SealedValues;

/// The keyslots a recovery key may have.
pub const RECOVERY_KEYSLOTS: [u8; 2] = [4, 5];

/// Where this keyslot's key material is, in bytes from the start of the header area.
pub(super) fn place(keyslot: u8) -> Range<usize> {
    let at = |keyslot: u8| usize::try_from(SlotPair::offset_of(keyslot)).unwrap_or(usize::MAX);
    at(keyslot)..at(keyslot.saturating_add(1))
}

/// The token of a recovery key (systemd 254, src/cryptenroll/cryptenroll-recovery.c, `enroll_recovery`).
#[must_use]
pub fn recovery_token(keyslot: u8) -> Value {
    json!({"type": RECOVERY_TOKEN, "keyslots": [keyslot.to_string()]})
}

impl Header {
    /// The keyslots of recovery keys that the header has, where it is one of our profile.
    pub(super) fn recovery(&self) -> Vec<u8> {
        let ids = self.metadata.keyslots.keys().copied();
        ids.filter(|id| RECOVERY_KEYSLOTS.contains(id)).collect()
    }

    /// The form that the header says it has.
    pub(super) fn form(&self) -> Option<Form> {
        let mut tokens = self.metadata.tokens.values();
        tokens.find_map(|token| match token {
            Token::Nightlatch(token) => Some(token.form),
            Token::Tpm2(_) | Token::Recovery { .. } | Token::Constellation { .. } => None,
        })
    }

    /// Rule C11: whether its keyslots are a pair and beside it what its form has room for, and what that is.
    pub(super) fn allowed_ids(&self) -> (bool, &'static str) {
        let recovery = self.recovery();
        let (beside, expected) = match self.form() {
            None | Some(Form::First) => (recovery.is_empty(), "[0], [0, 1], [2] or [2, 3]"),
            Some(Form::Second) => (
                Form::with(&recovery, self.values()) == Form::Second,
                "[0], [0, 1], [2] or [2, 3], and 4, 5 or both beside them",
            ),
        };
        (self.pair().is_some() && beside, expected)
    }

    /// What the PCRs held when its secret was sealed, where a token tells it.
    fn values(&self) -> Option<&SealedValues> {
        let mut tokens = self.metadata.tokens.values();
        tokens.find_map(|token| match token {
            Token::Tpm2(token) => token.values.as_ref(),
            Token::Nightlatch(_) | Token::Recovery { .. } | Token::Constellation { .. } => None,
        })
    }

    /// Rule C13: each recovery keyslot has one token, and each such token a keyslot of its own.
    pub(super) fn check_recovery_tokens(&self, tokens: &[u8]) -> Result<()> {
        let field = "keyslots of tokens \"systemd-recovery\"";
        equal("C13", field, tokens, self.recovery().as_slice())
    }
}

impl Candidate {
    /// The header that libcryptsetup made of this one in `area` by filling and emptying recovery keyslots, so that it has these
    /// and no others. Nothing else may have changed. It gets its MAC with [`Candidate::renewed`].
    pub fn with_recovery(&self, area: &Area, recovery: &[u8]) -> Result<Self> {
        let next = Self::only_one_in(area)?;
        let mine = self.checked.nightlatch.clone();
        let mine = mine.map(|mine| NightlatchToken {
            form: Form::with(recovery, self.checked.values()),
            ..mine
        });
        let (old, new) = (&self.checked, &next.checked);
        let same = next.from.is_none()
            && new.uuid == old.uuid
            && new.nightlatch == mine
            && new.tpm == old.tpm
            && new.pair == old.pair
            && new.recovery == recovery
            && next.seqid > self.seqid
            && self.keeps_material(&next);
        if !same {
            return Err(Error::failure(
                "making a recovery keyslot changed more of the header than that",
            ));
        }
        let added = new.recovery.iter().filter(|id| !old.recovery.contains(id));
        let added: Vec<_> = added.map(|id| place(*id)).collect();
        let removed = old.recovery.iter().filter(|id| !new.recovery.contains(id));
        let removed: Vec<_> = removed.map(|id| place(*id)).collect();
        let without = |places: &[Range<usize>], gone: &[Range<usize>]| -> Vec<Range<usize>> {
            let kept = places.iter().filter(|place| !gone.contains(place));
            kept.cloned().collect()
        };
        Ok(Self {
            from: self.from,
            missing: [without(&self.missing, &removed), added.clone()].concat(),
            leftover: [without(&self.leftover, &added), removed].concat(),
            ..next
        })
    }

    /// Whether `next` has the key material of this header in each keyslot that both have, but for those of the pairs where it has
    /// another pair.
    pub(super) fn keeps_material(&self, next: &Self) -> bool {
        let pair = self
            .checked
            .pair
            .filter(|pair| next.checked.pair == Some(*pair));
        let both = self.checked.recovery.iter();
        let both = both.filter(|id| next.checked.recovery.contains(id));
        let places = both.map(|id| place(*id)).chain(pair.map(SlotPair::area));
        let mut places = places.collect::<Vec<_>>().into_iter();
        places.all(|place| self.material_in(&place) == next.material_in(&place))
    }
}

#[cfg(test)]
mod tests {
    use super::super::MARKER_OFFSET;
    use super::*;

    #[test]
    fn the_recovery_keyslots_lie_behind_the_pairs_and_short_of_the_marker() {
        let [first, second] = RECOVERY_KEYSLOTS.map(place);
        assert_eq!(first, 1_572_864..1_957_888);
        assert_eq!(first.start, SlotPair::Second.area().end);
        assert_eq!(second, 1_957_888..2_342_912);
        assert!(second.end <= MARKER_OFFSET);
    }

    /// As systemd 254 writes it.
    #[test]
    fn the_token_is_that_of_systemd() {
        assert_eq!(
            recovery_token(4).to_string(),
            r#"{"keyslots":["4"],"type":"systemd-recovery"}"#
        );
    }
}
