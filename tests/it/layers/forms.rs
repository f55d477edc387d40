// SPDX-License-Identifier: Apache-2.0
//! Each form in which Rust lets one room name another, planted in a crate of four files and reported or forbidden.

use std::collections::BTreeSet;

use super::arrows::{Crate, Sources};
use super::{circles, met, upwards};

/// A map of two floors, `high` above `low`.
const MAP: &str = "mod high;\n\nmod low;\n";

/// `low::inner` is this, beside a room above that has a file of its own.
fn planted(inner: &str) -> Sources {
    let files = [
        ("lib.rs", MAP),
        ("high.rs", "pub mod thing;\npub struct Top;"),
        ("high/thing.rs", "pub struct X; pub fn x() {}"),
        ("low.rs", "mod inner; mod passing;"),
        ("low/passing.rs", "pub use crate::high::thing as passed;"),
        ("low/inner.rs", inner),
    ];
    files
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .into()
}

fn named(inner: &str) -> BTreeSet<String> {
    let sources = planted(inner);
    let mut arrows = Crate::new(&sources).arrows();
    arrows.remove("low::inner").unwrap()
}

/// Ways to name `high::thing` from `low::inner`.
const FORMS: [&str; 24] = [
    "use crate::high::thing::X;",
    "use crate::high::thing;",
    "use crate::{low, high::{Top, thing::{self, X}}};",
    "use crate\n    ::high /* of all */ ::thing\n    ::X;",
    "use super::super::high::thing::X;",
    "use super::{super::high::thing::X};",
    "use self::super::super::high::thing::X;",
    "fn f() { crate::high::thing::x() }",
    "fn f() { super::super::high::thing::x() }",
    "fn f() -> Vec<crate::high::thing::X> { Vec::new() }",
    "fn f() { println!(\"{}\", crate::high::thing::x()) }",
    "impl Clone for crate::high::thing::X {}",
    "fn f() { <crate::high::thing::X as Clone>::clone() }",
    "fn f() { { use crate::high::thing::X; } }",
    "mod inline { use super::super::super::high::thing::X; }",
    "mod inline { mod deeper { fn f() { super::super::super::super::high::thing::x() } } }",
    "mod inline {} fn f() { super::super::high::thing::x() }",
    "use crate as all; fn f() { all::high::thing::x() }",
    "use crate::{self as all}; fn f() { all::high::thing::x() }",
    "use super::super as up; use up::high::thing::X;",
    "use crate::high as h; fn f() { h::thing::x() }",
    "use super::passing::passed::X;",
    "use super::passing; fn f() { passing::passed::x() }",
    "struct S { #[serde(deserialize_with = \"crate::high::thing::x\")] field: u8 }",
];

/// What names nothing, beside what does.
const SAID: [&str; 9] = [
    "",
    "// crate::high::thing::x()\n/* use crate::high::thing; /* crate::high::thing */ */",
    "/// See [`crate::high::thing`].\nfn f() {}",
    "fn f() { g(\"crate::high::thing::x()\", r#\"use crate::high::thing;\"#) }",
    "fn f() { g('\"'); crate::low::x(); g('\"') }",
    "#[cfg(test)]\nmod tests { use crate::high::thing::X; }",
    "#[cfg(test)]\n#[path = \"tests/x.rs\"]\nmod tests;",
    "#[cfg(test)]\nuse crate::{high, high::thing::{X}};\nfn f() {}",
    "fn f() { other::crate_high::thing::x(); a.high.thing.x() }",
];

#[test]
fn every_form_of_naming_a_room_is_seen() {
    for form in FORMS {
        let found = named(form);
        assert!(found.contains("high::thing"), "{form}: {found:?}");
        let after = named(&format!(
            "#[cfg(test)]\nmod tests {{ fn t() {{}} }}\n{form}"
        ));
        assert!(after.contains("high::thing"), "behind tests, {form}");
        let sources = planted(form);
        let arrows = Crate::new(&sources).arrows();
        let wrong = upwards(&arrows, MAP, "");
        assert!(
            wrong
                .iter()
                .any(|it| it.starts_with("low::inner names high::thing,")),
            "{form}: {wrong:?}"
        );
    }
    for said in SAID {
        let found = named(said);
        assert!(
            !found.iter().any(|it| it.starts_with("high")),
            "{said}: {found:?}"
        );
        let sources = planted(said);
        assert_eq!(Crate::new(&sources).hiding(), [""; 0], "{said}");
    }
}

#[test]
fn forms_that_hide_what_they_name_are_forbidden() {
    let forms = [
        "use crate::high::*;",
        "use crate::{low, high::{thing::*}};",
        "use super::super::*;",
        "mod inline { use super::*; }",
        "extern crate self as me; use me::high::thing;",
        "include!(\"../high/thing.rs\");",
        "#[macro_export]\nmacro_rules! m { () => {} }",
        "#[macro_use]\nmod inline {}",
        "#[path = \"../high/thing.rs\"]\nmod inline {}",
    ];
    for form in forms {
        let sources = planted(form);
        let all = Crate::new(&sources);
        assert_eq!(all.hiding().len(), 1, "{form}: {:?}", all.hiding());
    }
}

#[test]
fn what_must_not_meet_and_circles_are_reported() {
    let arrows = |arrows: &[(&str, &[&str])]| {
        let owned = |names: &&[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let arrows = arrows.iter();
        arrows
            .map(|(from, to)| ((*from).to_owned(), owned(to)))
            .collect()
    };
    let fine = arrows(&[
        ("ctl::nodes", &["https"]),
        ("https", &["config"]),
        ("config", &[]),
    ]);
    assert_eq!((met(&fine), circles(&fine).len()), (Vec::new(), 0));
    let bad = arrows(&[
        ("ctl::nodes", &["keyservice::store"]),
        ("keyservice::store", &[]),
    ]);
    assert_eq!(met(&bad).len(), 1, "{:?}", met(&bad));
    // `a` leads into the circle and `d` out of it; a module and its own are none.
    let circle = arrows(&[
        ("a", &["b::x"]),
        ("b::x", &["c"]),
        ("c", &["b::y", "d"]),
        ("b::y", &["b::x"]),
        ("d", &["d::e"]),
        ("d::e", &["d"]),
    ]);
    let left = circles(&circle);
    assert_eq!(left.keys().collect::<Vec<_>>(), ["b::x", "b::y", "c"]);
}
