// SPDX-License-Identifier: Apache-2.0
//! What a newcomer reads first: the walks that `src/lib.rs` links, and the face of each room.

use crate::layers::{MAPS, floors};
use crate::sources::read;

/// The walks: what `lib.rs` calls each, the file it is in, and its heading.
const WALKS: [(&str, &str, &str); 3] = [
    ("[a boot](boot#a-boot)", "src/boot.rs", "# A boot"),
    (
        "[a request](keyservice#a-request)",
        "src/keyservice.rs",
        "# A request",
    ),
    (
        "[a status read](ctl#a-status-read)",
        "src/ctl.rs",
        "# A status read",
    ),
];

/// How long a walk is, in lines, and a line in characters.
const STEPS: usize = 10;
const LINE_MAX: usize = 125;

/// The documentation of a file, line by line.
fn face(text: &str) -> Vec<&str> {
    let lines = text.lines().skip(1);
    let lines = lines.map_while(|line| line.strip_prefix("//!"));
    lines
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect()
}

/// The steps under `heading`.
fn steps<'a>(face: &[&'a str], heading: &str) -> Vec<&'a str> {
    let after = face.iter().skip_while(|line| **line != heading).skip(2);
    after.copied().take_while(|line| !line.is_empty()).collect()
}

/// What is wrong with the line of a room that says what is never in it.
fn never(face: &[&str]) -> Result<(), String> {
    let all: Vec<_> = face
        .iter()
        .filter(|line| line.contains("**Never:**"))
        .collect();
    match all[..] {
        [line] if !line.starts_with("**Never:** ") => Err(format!("not a line of its own: {line}")),
        [line] if line.len() < 30 || !line.ends_with('.') => Err(format!("no sentence: {line}")),
        [_] => Ok(()),
        _ => Err(format!(
            "expected one line that begins with **Never:**, found {}",
            all.len()
        )),
    }
}

#[test]
fn each_room_says_what_it_is_for_and_what_is_never_in_it() {
    for (map, above) in MAPS {
        let text = read(&format!("src/{map}"));
        for room in floors(&text).into_iter().flatten() {
            let path = match above {
                "" => format!("src/{room}.rs"),
                above => format!("src/{above}/{room}.rs"),
            };
            let text = read(&path);
            let face = face(&text);
            assert!(
                face.first().is_some_and(|line| line.len() > 10),
                "{path} says nothing"
            );
            never(&face).unwrap_or_else(|wrong| panic!("{path}: {wrong}"));
        }
    }
    // The control: what is none is found.
    for wrong in [
        &["A room."][..],
        &["A room. **Never:** a thing that is somewhere else."],
        &["**Never:** ."],
        &[
            "**Never:** a thing that is somewhere else.",
            "**Never:** another thing, beside it.",
        ],
    ] {
        assert!(never(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn three_walks_of_ten_lines_lead_through_the_house() {
    let map = read("src/lib.rs");
    for (link, file, heading) in WALKS {
        assert!(map.contains(link), "src/lib.rs does not link {link}");
        let text = read(file);
        let steps = steps(&face(&text), heading);
        assert_eq!(steps.len(), STEPS, "{file}: {steps:#?}");
        for (at, step) in steps.iter().enumerate() {
            assert!(step.starts_with(&format!("{}. ", at + 1)), "{file}: {step}");
            assert!(
                step.len() <= LINE_MAX,
                "{file}: {} characters: {step}",
                step.len()
            );
        }
    }
}
