// SPDX-License-Identifier: Apache-2.0
//! Every field there is, found by walking through the accepted headers, wrong in each way a field can be.

use nightlatch::config::Profile;
use serde_json::{Value, json};

use super::base::Bases;
use super::{Kind, List, put, take};

pub(crate) fn add(list: &mut List, bases: &Bases) {
    let json: Value = serde_json::from_str(&bases.ours.json()).unwrap();
    let mut pointers = Vec::new();
    walk("", &json, &mut pointers);
    for (pointer, value) in pointers {
        variants(list, Profile::Nightlatch1, &pointer, &value);
    }
    let json: Value = serde_json::from_str(&bases.constellation.json()).unwrap();
    let token = "/tokens/0";
    let mut pointers = Vec::new();
    walk(token, json.pointer(token).unwrap(), &mut pointers);
    for (pointer, value) in pointers {
        variants(list, Profile::Constellation, &pointer, &value);
    }
}

/// All objects and fields below `pointer`, but not what is in arrays.
fn walk(pointer: &str, value: &Value, found: &mut Vec<(String, Value)>) {
    let Some(entries) = value.as_object() else {
        return;
    };
    for (key, value) in entries {
        let pointer = format!("{pointer}/{key}");
        found.push((pointer.clone(), value.clone()));
        walk(&pointer, value, found);
    }
}

fn variants(list: &mut List, profile: Profile, pointer: &str, value: &Value) {
    let mut wrong = vec![
        ("null", Value::Null),
        ("of another type", other_type(value)),
    ];
    match value {
        Value::Object(_) => {
            let mut more = value.clone();
            put(&mut more, "/unheard-of", json!(0));
            wrong.push(("with an unknown key", more));
        }
        // Of a pair of booleans both are good.
        Value::Bool(_) if profile == Profile::Constellation => {}
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            wrong.push(("another value", other_value(value)));
        }
    }
    let whose = profile.as_str();
    for (how, wrong) in wrong {
        let pointer = pointer.to_owned();
        let name = format!("{whose} {pointer} {how}");
        list.of(profile, Kind::Field, name, move |draft| {
            draft.edit(|json| put(json, &pointer, wrong.clone()));
        });
    }
    let pointer = pointer.to_owned();
    let name = format!("{whose} {pointer} removed");
    list.of(profile, Kind::Field, name, move |draft| {
        draft.edit(|json| drop(take(json, &pointer)));
    });
}

fn other_type(value: &Value) -> Value {
    match value {
        Value::Null => json!(0),
        Value::Bool(value) => json!(value.to_string()),
        Value::Number(number) => json!(number.to_string()),
        Value::String(text) => text
            .parse()
            .map_or(json!([text]), |number: u64| json!(number)),
        Value::Array(items) => items.iter().cloned().enumerate().map(keyed).collect(),
        Value::Object(_) => json!([value]),
    }
}

fn keyed((index, item): (usize, Value)) -> (String, Value) {
    (index.to_string(), item)
}

fn other_value(value: &Value) -> Value {
    match value {
        Value::Null | Value::Object(_) => unreachable!("it has other variants"),
        Value::Bool(value) => json!(!value),
        Value::Number(number) => json!(number.as_u64().unwrap() + 1),
        Value::String(text) => match text.parse::<u64>() {
            Ok(number) => json!((number + 4096).to_string()),
            // Base64 and words alike: the first letter is another one.
            Err(_) if text.starts_with('a') => json!(format!("b{}", &text[1..])),
            Err(_) => json!(format!("a{}", &text[1..])),
        },
        Value::Array(items) => json!([items.as_slice(), &[json!("2")]].concat()),
    }
}
