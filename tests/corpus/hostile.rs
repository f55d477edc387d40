// SPDX-License-Identifier: Apache-2.0
//! Headers made by an attacker who knows LUKS2 well: accepted ones with one thing changed each, and the checksums right.
//!
//! Nothing here is random, and nothing is stored: the corpus is this program. Its modules lie beside this file, so that the
//! seeds of the fuzz targets come from the same ones.

#[path = "base.rs"]
pub(crate) mod base;
#[path = "binary.rs"]
mod binary;
#[path = "draft.rs"]
pub(crate) mod draft;
#[path = "each_field.rs"]
mod each_field;
#[path = "keyslots.rs"]
mod keyslots;
#[path = "pairs.rs"]
mod pairs;
#[path = "segments.rs"]
mod segments;
#[path = "spelling.rs"]
mod spelling;
#[path = "tokens.rs"]
mod tokens;
#[path = "values.rs"]
mod values;

use nightlatch::config::Profile;
use serde_json::Value;

use self::base::Bases;
use self::draft::{Draft, Image};

/// What a mutation is about: a row of the table.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    Binary,
    Checksum,
    Copies,
    Spelling,
    Field,
    Config,
    Segment,
    Keyslot,
    Kdf,
    Digest,
    Reencryption,
    Token,
    Area,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary headers, both copies alike",
            Self::Checksum => "checksums",
            Self::Copies => "copies that differ",
            Self::Spelling => "spellings of the JSON",
            Self::Field => "each field: removed, null, of another type, another value",
            Self::Config => "`config`: sizes, flags, requirements",
            Self::Segment => "segments: cipher, integrity, place, kind, number",
            Self::Keyslot => "keyslots: key sizes, ciphers, areas, number",
            Self::Kdf => "key derivation: kind, cost, salt",
            Self::Digest => "digests",
            Self::Reencryption => "re-encryption",
            Self::Token => "tokens",
            Self::Area => "bytes of the keyslots area",
        }
    }
}

/// One hostile header.
pub(crate) struct Mutation {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// The profile whose accepted header it starts from, and under which it must be refused.
    pub(crate) profile: Profile,
    change: Box<dyn Fn(&mut Draft)>,
}

impl Mutation {
    pub(crate) fn image(&self, bases: &Bases) -> Image {
        self.draft(bases.get(self.profile)).finish()
    }

    /// The same change to another header.
    pub(crate) fn draft(&self, base: &Draft) -> Draft {
        let mut draft = base.clone();
        (self.change)(&mut draft);
        draft
    }
}

/// All of them.
pub(crate) fn all(bases: &Bases) -> Vec<Mutation> {
    let mut list = List::default();
    binary::add(&mut list);
    spelling::add(&mut list);
    each_field::add(&mut list, bases);
    values::add(&mut list);
    segments::add(&mut list);
    keyslots::add(&mut list);
    pairs::add(&mut list);
    tokens::add(&mut list);
    list.0
}

/// Collects mutations.
#[derive(Default)]
pub(crate) struct List(Vec<Mutation>);

impl List {
    /// One from an accepted header of `profile`.
    pub(crate) fn of(
        &mut self,
        profile: Profile,
        kind: Kind,
        name: impl Into<String>,
        change: impl Fn(&mut Draft) + 'static,
    ) {
        self.0.push(Mutation {
            kind,
            name: name.into(),
            profile,
            change: Box::new(change),
        });
    }

    /// One from a header of ours.
    pub(crate) fn add(
        &mut self,
        kind: Kind,
        name: impl Into<String>,
        change: impl Fn(&mut Draft) + 'static,
    ) {
        self.of(Profile::Nightlatch1, kind, name, change);
    }

    /// One that changes a JSON value.
    pub(crate) fn edit(
        &mut self,
        kind: Kind,
        name: impl Into<String>,
        change: impl Fn(&mut Value) + 'static,
    ) {
        self.add(kind, name, move |draft| draft.edit(|json| change(json)));
    }

    /// One that sets the value at a JSON pointer, and what is above it must be there.
    pub(crate) fn set(&mut self, kind: Kind, pointer: &'static str, value: impl Into<Value>) {
        let value = value.into();
        let text: String = value.to_string().chars().take(60).collect();
        self.edit(kind, format!("{pointer} = {text}"), move |json| {
            put(json, pointer, value.clone());
        });
    }

    /// One that replaces a piece of the JSON's text.
    pub(crate) fn replace(
        &mut self,
        kind: Kind,
        name: impl Into<String>,
        from: &'static str,
        to: &'static str,
    ) {
        self.add(kind, name, move |draft| draft.replace(from, to));
    }
}

/// Sets the value at a JSON pointer.
pub(crate) fn put(json: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = json.pointer_mut(parent).unwrap();
    parent
        .as_object_mut()
        .unwrap()
        .insert(key.to_owned(), value);
}

/// Removes the value at a JSON pointer and returns it.
pub(crate) fn take(json: &mut Value, pointer: &str) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = json.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    parent.remove(key).unwrap()
}
