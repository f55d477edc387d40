// SPDX-License-Identifier: Apache-2.0
//! Fields that take no more memory than they are worth: a short text of JSON can be many times as long once it is values.

use std::fmt;

use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize as _, Deserializer};
use serde_json::Value;

use crate::pcr::PCR_COUNT;

/// Anything, which is read and not kept.
pub(super) fn ignored<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Value>, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| None)
}

/// The values of at most [`PCR_COUNT`] PCRs.
pub(super) fn pcrs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_seq(Pcrs)
}

struct Pcrs;

impl<'de> Visitor<'de> for Pcrs {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the values of at most {PCR_COUNT} PCRs")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Vec<String>, A::Error> {
        let mut pcrs = Vec::with_capacity(PCR_COUNT);
        while let Some(value) = values.next_element()? {
            if pcrs.len() == PCR_COUNT {
                return Err(A::Error::invalid_length(PCR_COUNT.saturating_add(1), &self));
            }
            pcrs.push(value);
        }
        Ok(pcrs)
    }
}
