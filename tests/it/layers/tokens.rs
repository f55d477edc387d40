// SPDX-License-Identifier: Apache-2.0
//! Rust as a list of tokens: as much of it as is needed to see which paths a file names.

/// Cuts `code` into words, `::`, string literals with their quotes, and single other characters. Comments, numbers'
/// values and lifetimes say nothing of names; they are left out, or cut up like words.
pub(super) fn tokens(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => comment_len(rest),
            _ if first.is_whitespace() => first.len_utf8(),
            '\'' => quoted_len(rest),
            _ => {
                let len = token_len(rest);
                found.push(&rest[..len]);
                len
            }
        };
        rest = &rest[len..];
    }
    found
}

fn token_len(rest: &str) -> usize {
    if let Some(len) = string_len(rest) {
        return len;
    }
    let word = rest.find(|c: char| c != '_' && !c.is_alphanumeric());
    match word.unwrap_or(rest.len()) {
        0 if rest.starts_with("::") => 2,
        0 => rest.chars().next().map_or(0, char::len_utf8),
        len => len,
    }
}

/// Comments in comments count.
fn comment_len(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        match &rest[at..] {
            "" => return at,
            it if it.starts_with("/*") => (depth, at) = (depth + 1, at + 2),
            it if it.starts_with("*/") => (depth, at) = (depth - 1, at + 2),
            it => at += it.chars().next().map_or(0, char::len_utf8),
        }
        if depth == 0 {
            return at;
        }
    }
}

/// A character, or the mark and name of a lifetime.
fn quoted_len(rest: &str) -> usize {
    let mut after = rest.char_indices().skip(1);
    match (after.next(), after.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let from = at + escaped.len_utf8();
            rest[from..]
                .find('\'')
                .map_or(rest.len(), |len| from + len + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => {
            let name = rest[1..].find(|c: char| c != '_' && !c.is_alphanumeric());
            1 + name.unwrap_or(rest.len() - 1)
        }
    }
}

/// The length of a string, of whatever kind, that `rest` starts with.
fn string_len(rest: &str) -> Option<usize> {
    let prefix = rest.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(0);
    let (kind, body) = rest.split_at(prefix);
    if !["", "b", "c", "r", "br", "cr"].contains(&kind) {
        return None;
    }
    let hashes = body.len() - body.trim_start_matches('#').len();
    let body = body[hashes..].strip_prefix('"')?;
    let start = prefix + hashes + 1;
    if kind.ends_with('r') {
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(start + body.find(&end).map_or(body.len(), |at| at + end.len()));
    }
    if hashes > 0 {
        return None;
    }
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(start + at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

#[test]
fn code_is_cut_into_words_marks_and_strings() {
    let code = r##"let x: &'a str = "q\"::q"; // a::b
        f('\'', '"', b'x', r#"a"b"#); /* c /* d */ e */ p::q()"##;
    assert_eq!(
        tokens(code).join(" "),
        r##"let x : & str = "q\"::q" ; f ( , , b , r#"a"b"# ) ; p :: q ( )"##
    );
}
