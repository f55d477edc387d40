// SPDX-License-Identifier: Apache-2.0
//! What is on the page, and that it is text.

use super::*;
use crate::protocol::LastFailure;
use crate::protocol::admin::Denial;

#[test]
fn what_a_node_sends_is_text_on_the_page() {
    let evil = "<script>alert(1)</script>\"'&";
    let summary = Summary {
        nodes: 1,
        newest: vec![Node {
            ek: "ab".repeat(32),
            first_seen_s: 1,
            last_seen_s: 1,
            image: evil.into(),
            address: evil.into(),
            denial: Some(Denial {
                at_s: 2,
                check: evil.into(),
                why: evil.into(),
            }),
            failure: Some(ToldFailure {
                told_s: 2,
                failure: LastFailure {
                    exit: 77,
                    sentence: evil.into(),
                    reset_count: 7,
                },
            }),
            volumes: Vec::new(),
        }],
        ..Summary::default()
    };
    let event = |kind: &str| Event {
        kind: kind.into(),
        time: evil.into(),
        peer: evil.into(),
        ek: evil.into(),
        volumes: vec![evil.into()],
        resource: evil.into(),
        image: evil.into(),
        check: evil.into(),
        why: format!("command line: expected quiet, found {evil}"),
        accepted: evil.into(),
        operator: evil.into(),
        step: evil.into(),
    };
    let page = draw(&View {
        now_s: 3,
        summary: &summary,
        events: &[event("denial"), event("release"), event("forget")],
    });
    assert!(!page.contains("<script"), "{page}");
    let escaped = "&lt;script&gt;alert(1)&lt;/script&gt;&quot;'&amp;";
    assert_eq!(
        page.matches("alert(1)").count(),
        page.matches(escaped).count()
    );
    assert!(page.contains(&format!("found    {escaped}")));
    assert!(page.contains(&format!("failed: refused: {escaped}")));
}

#[test]
fn a_secret_that_a_node_made_itself_is_shown_at_its_volume_and_counted() {
    let page = |own_secret: bool| {
        let volume = serde_json::json!({
            "uuid": "a6c7535f-0a9f-4c23-9524-fed431126906", "ek": "ab", "role": "state", "registered-s": 5, "epoch": 3,
            "own-secret": own_secret,
        });
        let node = serde_json::json!({
            "ek": "ab", "first-seen-s": 1, "last-seen-s": 1, "image": "usual", "address": "192.0.2.1", "volumes": [volume],
        });
        let summary = Summary {
            nodes: 1,
            volumes: 1,
            own_secrets: usize::from(own_secret),
            newest: vec![serde_json::from_value(node).unwrap()],
            ..Summary::default()
        };
        draw(&View {
            now_s: 3,
            summary: &summary,
            events: &[],
        })
    };
    let counted = |count| format!("<dt>with a secret of their own</dt><dd>{count}</dd>");
    let (with, without) = (page(true), page(false));
    assert!(with.contains("own secret</span> not enrolled") && with.contains(&counted(1)));
    assert!(!without.contains("not enrolled") && without.contains(&counted(0)));
}

#[test]
fn what_was_accepted_of_a_volume_last_is_shown_at_it_and_at_its_report() {
    let page = |accepted: Option<&str>| {
        let mut volume = serde_json::json!({
            "uuid": "a6c7535f-0a9f-4c23-9524-fed431126906", "ek": "ab", "role": "state", "registered-s": 5, "epoch": 3,
        });
        if let Some(what) = accepted {
            volume["accepted"] = serde_json::json!({"what": what, "reported-s": 86_400});
        }
        let node = serde_json::json!({
            "ek": "ab", "first-seen-s": 1, "last-seen-s": 1, "image": "usual", "address": "192.0.2.1", "volumes": [volume],
        });
        let summary = Summary {
            nodes: 1,
            volumes: 1,
            newest: vec![serde_json::from_value(node).unwrap()],
            ..Summary::default()
        };
        let event = Event {
            kind: "report".into(),
            accepted: accepted.unwrap_or_default().into(),
            ..Event::default()
        };
        draw(&View {
            now_s: 3,
            summary: &summary,
            events: &[event],
        })
    };
    let nothing = page(None);
    assert!(!nothing.contains("accepted: "), "{nothing}");
    for what in ["rollback", "new", "readmitted", "stale"] {
        let page = page(Some(what));
        let badge =
            format!("accepted: {what}</span> reported <time datetime=\"1970-01-02T00:00:00Z\">");
        assert!(page.contains(&badge), "{page}");
        assert!(
            page.contains(&format!("<small>accepted: {what}</small>")),
            "{page}"
        );
    }
}

#[test]
fn a_word_of_an_operator_is_shown_while_it_holds() {
    let word = |ek: Option<&str>| Readmission {
        until_s: 100,
        ek: ek.map(str::to_owned),
    };
    let shown = |now_s, ek| readmission(now_s, &word(ek)).into_string();
    assert!(shown(99, None).contains("open to the next machine"));
    assert!(shown(99, Some("ab")).contains("readmitted, no report yet"));
    assert!(shown(99, None).contains("1970-01-01 00:01:40"));
    assert_eq!(shown(100, None) + &shown(100, Some("ab")), "");
}

#[test]
fn times_are_told_in_words_as_well() {
    assert_eq!(ago(100, 90), "just now");
    assert_eq!(ago(100, 200), "just now");
    assert_eq!(ago(3_700, 100), "1 hour ago");
    assert_eq!(ago(200_000, 100), "2 days ago");
}

#[test]
fn only_white_space_is_added_to_a_difference() {
    let why = "nearest image usual: PCR 11: expected aa or bb, found cc; Secure Boot: expected on, found off";
    let shown = difference(why);
    let words = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(words(&shown), words(why));
    assert_eq!(shown.lines().count(), 6);
}
