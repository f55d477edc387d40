// SPDX-License-Identifier: Apache-2.0
//! Draws a boot as a timeline in SVG: a lane for each volume and one for what concerns all of them.

use std::time::Duration;

use super::{How, Status, Step};

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 24.0;
const LANES_X: f64 = 128.0;
const LANES_Y: f64 = 96.0;
const ROW: f64 = 24.0;
const BAR: f64 = 18.0;
const LANE_GAP: f64 = 10.0;
/// Room right of the last bar, for its label.
const TAIL: f64 = 190.0;
/// A generous width of a letter at 12 pixels.
const LETTER: f64 = 6.7;

/// Light by default, dark where the viewer prefers it; the card keeps it readable on any page.
const STYLE: &str = "\
.card{fill:#fff;stroke:#d0d7de}text{font:12px system-ui,'DejaVu Sans',sans-serif;fill:#1f2328}\
.title{font-size:18px;font-weight:600}.soft{fill:#59636e}.lane{font-weight:600}.grid{stroke:#d0d7de}\
.all{fill:#8c959f}.formatted{fill:#e09b2d}.unlocked{fill:#2da19a}.failed{fill:#d1434b}.on{fill:#111}\
@media(prefers-color-scheme:dark){.card{fill:#0d1117;stroke:#3d444d}text{fill:#e6edf3}.soft{fill:#9198a1}\
.grid{stroke:#2f353d}.on{fill:#111}}";

/// The timeline of a boot.
#[must_use]
pub fn svg(status: &Status) -> String {
    let total_us = status.steps.iter().map(|step| step.end_us).max();
    let scale = Scale::new(total_us.unwrap_or_default().max(1));
    let mut body = Vec::new();
    let mut y = LANES_Y;
    for lane in lanes(status) {
        let rows = pack(&lane.steps, &scale);
        let count = rows.iter().fold(0.0, |count, row| row.index.max(count)) + 1.0;
        text(&mut body, (MARGIN, y + 13.0), "lane", &lane.name);
        for row in rows {
            draw_step(&mut body, &row, lane.class, y + row.index * ROW);
        }
        y += count * ROW + LANE_GAP;
    }
    let mut out = vec![format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\">\n\
         <style>{STYLE}</style>\n\
         <rect class=\"card\" x=\".5\" y=\".5\" width=\"{inner:.0}\" height=\"{inner_height:.0}\" rx=\"8\"/>\n",
        height = y + 34.0,
        inner = WIDTH - 1.0,
        inner_height = y + 33.0,
    )];
    heading(&mut out, status, total_us.unwrap_or_default());
    legend(&mut out, status);
    grid(&mut out, &scale, y);
    out.append(&mut body);
    out.push("</svg>\n".into());
    out.concat()
}

/// Microseconds to pixels.
struct Scale {
    total_us: u64,
}

impl Scale {
    fn new(total_us: u64) -> Self {
        Self { total_us }
    }

    fn x(&self, us: u64) -> f64 {
        let share = seconds(us) / seconds(self.total_us);
        LANES_X + share * (WIDTH - LANES_X - TAIL)
    }
}

/// The steps of one volume, or those that concern all.
struct Lane<'a> {
    name: String,
    class: &'static str,
    steps: Vec<&'a Step>,
}

fn lanes(status: &Status) -> Vec<Lane<'_>> {
    let mut names: Vec<Option<&str>> = vec![None];
    for step in &status.steps {
        if !names.contains(&step.volume.as_deref()) {
            names.push(step.volume.as_deref());
        }
    }
    let lane = |name: Option<&str>| Lane {
        name: name.unwrap_or("all").to_owned(),
        class: class(status, name),
        steps: status
            .steps
            .iter()
            .filter(|step| step.volume.as_deref() == name)
            .collect(),
    };
    names.into_iter().map(lane).collect()
}

fn class(status: &Status, volume: Option<&str>) -> &'static str {
    let known = status
        .volumes
        .iter()
        .find(|known| Some(known.name.as_str()) == volume);
    known.map_or("all", |known| known.how.as_str())
}

/// A step with its place in the lane and its label.
struct Row<'a> {
    step: &'a Step,
    label: String,
    index: f64,
    from: f64,
    to: f64,
    inside: bool,
}

/// Puts each step into the first row of the lane where it and its label have room.
fn pack<'a>(steps: &[&'a Step], scale: &Scale) -> Vec<Row<'a>> {
    let mut ends: Vec<f64> = Vec::new();
    let mut rows = Vec::new();
    for step in steps {
        let label = format!("{} · {}", step.name, duration(step.duration_us()));
        let width = 12.0 + letters(&label) * LETTER;
        let from = scale.x(step.start_us);
        let to = scale.x(step.end_us).max(from + 2.0);
        let inside = to - from >= width;
        let end = if inside { to } else { to + width };
        let free = ends.iter().position(|taken| *taken <= from);
        let place = free.unwrap_or(ends.len());
        match ends.get_mut(place) {
            Some(taken) => *taken = end,
            None => ends.push(end),
        }
        rows.push(Row {
            step,
            label,
            index: u32::try_from(place).map_or(0.0, f64::from),
            from,
            to,
            inside,
        });
    }
    rows
}

fn draw_step(out: &mut Vec<String>, row: &Row<'_>, class: &str, y: f64) {
    let class = if row.step.failed { "failed" } else { class };
    out.push(format!(
            "<rect class=\"{class}\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"3\"><title>{}</title></rect>\n",
            row.from,
            row.to - row.from,
            escape(&row.label)
        ),
    );
    let (x, class) = if row.inside {
        (row.from + 6.0, "on")
    } else {
        (row.to + 5.0, "")
    };
    text(out, (x, y + 13.0), class, &row.label);
}

fn heading(out: &mut Vec<String>, status: &Status, total_us: u64) {
    let title = format!("nightlatch: {} in {}", status.result, duration(total_us));
    text(out, (MARGIN, 36.0), "title", &title);
    let opened = || {
        let volumes = status.volumes.iter();
        let words = volumes.map(|volume| format!("{} {}", volume.name, volume.how.as_str()));
        words.collect::<Vec<_>>().join(", ")
    };
    let below = status.error.clone().unwrap_or_else(opened);
    text(out, (MARGIN, 58.0), "soft", &shortened(&below));
}

fn legend(out: &mut Vec<String>, status: &Status) {
    let has = |how: How| status.volumes.iter().any(|volume| volume.how == how);
    let kinds = [
        ("all", "all volumes", true),
        ("formatted", "formatted", has(How::Formatted)),
        ("unlocked", "unlocked", has(How::Unlocked)),
        (
            "failed",
            "failed",
            status.steps.iter().any(|step| step.failed),
        ),
    ];
    let mut x = MARGIN;
    for (class, label, _) in kinds.iter().filter(|(.., shown)| *shown) {
        out.push(format!(
            "<rect class=\"{class}\" x=\"{x:.0}\" y=\"70\" width=\"10\" height=\"10\" rx=\"2\"/>\n"
        ));
        text(out, (x + 15.0, 79.0), "soft", label);
        x += 40.0 + letters(label) * LETTER;
    }
}

/// Vertical lines at round times, with their labels below.
fn grid(out: &mut Vec<String>, scale: &Scale, bottom: f64) {
    let step_us = tick_us(scale.total_us);
    let mut us = 0_u64;
    while us <= scale.total_us {
        let x = scale.x(us);
        out.push(format!(
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.0}\" y2=\"{bottom:.0}\"/>\n",
            LANES_Y - 6.0
        ));
        text(out, (x - 8.0, bottom + 18.0), "soft", &duration(us));
        us = us.saturating_add(step_us);
    }
}

/// 1, 2 or 5 times a power of ten, so that there are at most nine ticks.
fn tick_us(total_us: u64) -> u64 {
    let mut decade = 1_u64;
    loop {
        for factor in [1, 2, 5] {
            let tick = decade.saturating_mul(factor);
            if total_us <= tick.saturating_mul(8) {
                return tick;
            }
        }
        decade = decade.saturating_mul(10);
    }
}

/// A duration for people: three digits that matter.
fn duration(us: u64) -> String {
    match us {
        0 => "0".into(),
        1..10_000 => format!("{:.1} ms", seconds(us) * 1e3),
        10_000..1_000_000 => format!("{:.0} ms", seconds(us) * 1e3),
        1_000_000..100_000_000 => format!("{:.2} s", seconds(us)),
        _ => format!("{:.0} s", seconds(us)),
    }
}

fn seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}

fn letters(text: &str) -> f64 {
    u32::try_from(text.chars().count()).map_or(0.0, f64::from)
}

/// What fits on a line of the picture.
fn shortened(text: &str) -> String {
    const LETTERS: usize = 130;
    match text.char_indices().nth(LETTERS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn text(out: &mut Vec<String>, (x, y): (f64, f64), class: &str, words: &str) {
    out.push(format!(
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n",
        escape(words)
    ));
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0, section 2.2: no other control character may occur, not even escaped.
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
