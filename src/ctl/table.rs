// SPDX-License-Identifier: Apache-2.0
//! Tables in text, as every verb shows its rows.
//!
//! **Never:** a cell cut off: whoever reads it may need all of it.

/// The rows below their heading; nothing where there are none.
pub(super) fn table(heading: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    let heading = heading.iter().map(ToString::to_string).collect();
    let table: Vec<_> = std::iter::once(heading).chain(rows).collect();
    if table.len() > 1 { table } else { Vec::new() }
}

/// An empty line and the table, its columns aligned.
pub(super) fn section(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let line: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", line.join("  ").trim_end())
    };
    match rows {
        [] => String::new(),
        rows => format!("\n{}", rows.iter().map(line).collect::<Vec<_>>().concat()),
    }
}
