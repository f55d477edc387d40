// SPDX-License-Identifier: Apache-2.0
//! The page for people: one document, no script, nothing from elsewhere. maud escapes all that is put into it.

use base64ct::{Base64, Encoding as _};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use crate::keyservice::audit;
use crate::keyservice::fleet::Summary;
use crate::keyservice::fleet::recent::{Event, SHOWN_MAX};
use crate::protocol::admin::{
    LastAcceptance, NODES_PATH, Node, Readmission, ToldFailure, VOLUMES_PATH,
};

const STYLE: &str = include_str!("page.css");

/// Denials that are shown at the top.
const DENIALS_MAX: usize = 10;

/// How much of an endorsement key's id is shown; the rest is in its title.
const SHORT_LEN: usize = 12;

/// What there is to show.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) now_s: u64,
    pub(crate) summary: &'a Summary,
    /// The latest first.
    pub(crate) events: &'a [Event],
}

/// What a browser may do with the page: use its style, and nothing else.
pub(crate) fn content_security_policy() -> String {
    let style = Base64::encode_string(&Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}

/// The page.
pub(crate) fn draw(view: &View<'_>) -> String {
    let denials: Vec<&Event> = of(view.events, &["denial"], DENIALS_MAX);
    let others = of(
        view.events,
        &[
            "admission",
            "release",
            "report",
            "forget",
            "readmit",
            "cancel-readmit",
            "readmission",
            "accept-rollback",
            "cancel-rollback",
            "rollback",
            "failure",
        ],
        SHOWN_MAX,
    );
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "nightlatchd: nodes and keys" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header {
                    h1 { "nightlatchd" }
                    p { "version " (env!("CARGO_PKG_VERSION")) ", as of " (moment(view.now_s)) }
                    nav aria-label="As JSON" {
                        a href=(NODES_PATH) { "all nodes" }
                        a href=(VOLUMES_PATH) { "all volumes" }
                    }
                }
                main #main {
                    (numbers(view.summary))
                    section aria-labelledby="denials" {
                        h2 #denials { "Denials" }
                        (denied(&denials))
                    }
                    section aria-labelledby="nodes" {
                        h2 #nodes { "Last boots" }
                        (nodes(view.now_s, view.summary))
                    }
                    section aria-labelledby="events" {
                        h2 #events { "Releases" }
                        p { "What this replica gave out and was told, the latest first." }
                        (events(&others))
                    }
                }
                footer { "Times are UTC. The audit log has every line; nightlatchctl nodes shows and forgets nodes." }
            }
        }
    }
    .into_string()
}

fn of<'a>(events: &'a [Event], kinds: &[&str], max: usize) -> Vec<&'a Event> {
    let wanted = events
        .iter()
        .filter(|event| kinds.contains(&event.kind.as_str()));
    wanted.take(max).collect()
}

fn numbers(summary: &Summary) -> Markup {
    let denied = if summary.denied > 0 { "bad" } else { "" };
    html! {
        h2.hidden { "Numbers" }
        dl.numbers {
            div { dt { "nodes" } dd { (summary.nodes) } }
            div { dt { "booted within a day" } dd { (summary.booted_today) } }
            div class=(denied) { dt { "denied since they last booted" } dd { (summary.denied) } }
            div { dt { "volumes" } dd { (summary.volumes) } }
            div { dt { "with a secret of their own" } dd { (summary.own_secrets) } }
        }
    }
}

fn denied(events: &[&Event]) -> Markup {
    if events.is_empty() {
        return html! { p.nothing { "Nobody was denied in what this replica's log still holds." } };
    }
    html! {
        @for event in events {
            article.denial {
                h3 {
                    span.badge.bad { "denied" }
                    span { (who(&event.ek)) }
                    (text_moment(&event.time))
                }
                p {
                    "by check " (event.check) " at step " (event.step) ", from " (event.peer)
                    @for uuid in &event.volumes { ", volume " code { (uuid) } }
                }
                div.why { (difference(&event.why)) }
            }
        }
    }
}

/// Only white space is added: what was expected and what was found stand below each other.
fn difference(why: &str) -> String {
    why.replace("; ", ";\n")
        .replace(": expected ", ":\n  expected ")
        .replace(", found ", ",\n  found    ")
}

fn nodes(now_s: u64, summary: &Summary) -> Markup {
    if summary.newest.is_empty() {
        return html! { p.nothing { "No node was admitted yet." } };
    }
    html! {
        @if summary.newest.len() < summary.nodes {
            p { "The latest " (summary.newest.len()) " of " (summary.nodes) " nodes." }
        }
        div.scroll role="region" aria-labelledby="nodes" tabindex="0" {
            table {
                thead { tr {
                    th scope="col" { "Node" }
                    th scope="col" { "State" }
                    th scope="col" { "Last boot" }
                    th scope="col" { "Image" }
                    th scope="col" { "Address" }
                    th scope="col" { "Volumes" }
                } }
                tbody { @for node in &summary.newest { (row(now_s, node)) } }
            }
        }
    }
}

fn row(now_s: u64, node: &Node) -> Markup {
    html! {
        tr {
            th scope="row" { a href={ (NODES_PATH) "/" (node.ek) } { (who(&node.ek)) } }
            td {
                (state(node))
                @if let Some(told) = &node.failure { (failure(told)) }
            }
            td {
                (moment(node.last_seen_s))
                small { (ago(now_s, node.last_seen_s)) }
            }
            td.name { (node.image) }
            td.name { (node.address) }
            td {
                @if node.volumes.is_empty() { "none" }
                @for volume in &node.volumes {
                    div {
                        (volume.role.as_str()) ", epoch " (volume.record.epoch)
                        small { code { (volume.uuid) } }
                        @if volume.own_secret { small { span.badge.plain { "own secret" } " not enrolled" } }
                        @if let Some(last) = &volume.accepted { (accepted(last)) }
                        @if let Some(word) = &volume.readmission { (readmission(now_s, word)) }
                    }
                }
            }
        }
    }
}

/// The last boot that went on with something that no other boot would.
fn accepted(last: &LastAcceptance) -> Markup {
    html! { small { span.badge.plain { "accepted: " (last.what.as_str()) } " reported " (moment(last.reported_s)) } }
}

/// An operator's word about a volume while it holds: who may have the volume by it.
fn readmission(now_s: u64, word: &Readmission) -> Markup {
    let whom = match word.ek {
        None => "open to the next machine",
        Some(_) => "readmitted, no report yet",
    };
    html! {
        @if word.holds(now_s) {
            small { span.badge.plain { (whom) } " until " (moment(word.until_s)) }
        }
    }
}

fn state(node: &Node) -> Markup {
    match &node.denial {
        Some(denial) if node.is_denied() => html! {
            span.badge.bad { "denied" }
            small { (denial.check) " at " (moment(denial.at_s)) }
        },
        Some(_) | None => html! { span.badge.good { "admitted" } },
    }
}

/// What a boot before failed by, as the node says.
fn failure(told: &ToldFailure) -> Markup {
    html! {
        small {
            "a boot before " (moment(told.told_s)) " failed: " (told.failure.result()) ": " (told.failure.sentence)
        }
    }
}

fn events(events: &[&Event]) -> Markup {
    if events.is_empty() {
        return html! { p.nothing { "Nothing in what this replica's log still holds." } };
    }
    html! {
        div.scroll role="region" aria-labelledby="events" tabindex="0" {
            table {
                thead { tr {
                    th scope="col" { "Time" }
                    th scope="col" { "What" }
                    th scope="col" { "Node" }
                    th scope="col" { "From" }
                    th scope="col" { "About" }
                } }
                tbody { @for event in events {
                    tr {
                        td { (text_moment(&event.time)) }
                        td { (badge(&event.kind)) }
                        th scope="row" { (who(&event.ek)) }
                        td { (event.peer) }
                        td { (about(event)) }
                    }
                } }
            }
        }
    }
}

fn badge(event: &str) -> Markup {
    let class = match event {
        "release" => "badge good",
        "failure" => "badge bad",
        _ => "badge plain",
    };
    html! { span class=(class) { (event) } }
}

fn about(event: &Event) -> Markup {
    html! {
        @if !event.resource.is_empty() { code { (event.resource) } " " }
        @for uuid in &event.volumes { code { (uuid) } " " }
        @if !event.image.is_empty() { small { "image " (event.image) } }
        @if !event.accepted.is_empty() { small { "accepted: " (event.accepted) } }
        @if !event.operator.is_empty() { small { "by " (event.operator) } }
        @if !event.why.is_empty() { small { (event.why) } }
    }
}

fn who(ek: &str) -> Markup {
    if ek.is_empty() {
        return html! { "unknown" };
    }
    let short: String = ek.chars().take(SHORT_LEN).collect();
    html! { code title=(ek) { (short) } }
}

fn moment(at_s: u64) -> Markup {
    text_moment(&audit::time(at_s))
}

/// `2026-11-25T08:12:18Z` without the letters.
fn text_moment(time: &str) -> Markup {
    let shown = time.replace('T', " ").replace('Z', "");
    html! { time datetime=(time) { (shown) } }
}

fn ago(now_s: u64, at_s: u64) -> String {
    let seconds = now_s.saturating_sub(at_s);
    let units = [("day", 86_400), ("hour", 3_600), ("minute", 60)];
    let unit = units.iter().find_map(|(unit, length)| {
        let count = seconds.checked_div(*length).filter(|count| *count > 0)?;
        let plural = if count > 1 { "s" } else { "" };
        Some(format!("{count} {unit}{plural} ago"))
    });
    unit.unwrap_or_else(|| "just now".into())
}

#[cfg(test)]
#[path = "tests/page.rs"]
mod tests;
