// SPDX-License-Identifier: Apache-2.0
//! The two pairs of keyslots: which one is used, and where.

use serde_json::{Value, json};

use super::draft::{BEHIND_KEYSLOTS, Draft, KEYSLOTS_OFFSET, PAIR_LEN, SECOND_PAIR};
use super::{Kind, List, put, take};

/// What the header says of its two keyslots: their ids and where they are.
fn place(json: &mut Value, slots: [(&str, usize); 2]) {
    let old = ["0", "1"].map(|id| take(json, &format!("/keyslots/{id}")));
    for ((id, offset), mut slot) in slots.into_iter().zip(old) {
        put(&mut slot, "/area/offset", json!(offset.to_string()));
        put(json, &format!("/keyslots/{id}"), slot);
    }
    let [(first, _), (second, _)] = slots;
    put(json, "/digests/0/keyslots", json!([first, second]));
    put(json, "/tokens/1/keyslots", json!([second]));
}

/// Moves the key material to the place of the second pair.
fn move_material(draft: &mut Draft) {
    let material = draft.bytes(KEYSLOTS_OFFSET, PAIR_LEN);
    draft.put(KEYSLOTS_OFFSET, &vec![0; PAIR_LEN]);
    draft.put(SECOND_PAIR, &material);
}

/// A header uses one of two pairs of keyslots, each in its place. Who changes from one to the other has to make the MAC.
pub(crate) fn add(list: &mut List) {
    let kind = Kind::Keyslot;
    let (first, second) = (KEYSLOTS_OFFSET, SECOND_PAIR);
    let half = PAIR_LEN / 2;
    for (name, slots) in [
        (
            "moved to the second pair, whole",
            [("2", second), ("3", second + half)],
        ),
        (
            "the first pair in the place of the second",
            [("0", second), ("1", second + half)],
        ),
        (
            "the second pair, each in the other's place",
            [("2", second + half), ("3", second)],
        ),
        ("keyslots 0 and 3", [("0", second), ("3", second + half)]),
        ("keyslots 2 and 1", [("2", second), ("1", second + half)]),
        ("keyslots 4 and 5", [("4", second), ("5", second + half)]),
    ] {
        list.add(kind, name, move |draft| {
            move_material(draft);
            draft.edit(|json| place(json, slots));
        });
    }
    list.edit(
        kind,
        "the second pair in the place of the first",
        move |json| {
            place(json, [("2", first), ("3", first + half)]);
        },
    );
    list.edit(
        kind,
        "one keyslot of each pair, each in its place",
        move |json| {
            place(json, [("0", first), ("3", second + half)]);
        },
    );
    list.add(kind, "both pairs of keyslots", move |draft| {
        let material = draft.bytes(first, PAIR_LEN);
        draft.put(second, &material);
        draft.edit(|json| {
            for (from, to, offset) in [("0", "2", second), ("1", "3", second + half)] {
                let mut slot = json["keyslots"][from].clone();
                put(&mut slot, "/area/offset", json!(offset.to_string()));
                put(json, &format!("/keyslots/{to}"), slot);
            }
            put(json, "/digests/0/keyslots", json!(["0", "1", "2", "3"]));
        });
    });
    list.add(
        kind,
        "the second pair, its token for the first",
        move |draft| {
            move_material(draft);
            draft.edit(|json| {
                place(json, [("2", second), ("3", second + half)]);
                put(json, "/tokens/1/keyslots", json!(["1"]));
            });
        },
    );
    list.add(
        kind,
        "the second pair, and a byte behind the places of all keyslots",
        move |draft| {
            move_material(draft);
            draft.edit(|json| place(json, [("2", second), ("3", second + half)]));
            draft.late(BEHIND_KEYSLOTS, b"x");
        },
    );
}
