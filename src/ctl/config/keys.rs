// SPDX-License-Identifier: Apache-2.0
//! Which keys there are, by what the parser says of one that it does not know: so nothing is listed twice.

use crate::config::Config;

/// A key that no table has.
const UNKNOWN: &str = "no-such-key";

/// How alike two words have to be for one to be a slip of the other (Jaro-Winkler, of 1 at most). clap's own limit.
const ALIKE_MIN: f64 = 0.7;

/// The keys of each table; the first table is the top level, whose name is empty.
#[derive(Debug)]
pub(super) struct Keys(Vec<(String, Vec<String>)>);

impl Keys {
    /// Asks the parser.
    pub(super) fn probed() -> Self {
        let top = expected(&format!("{UNKNOWN} = 1\n"));
        let tables = top.iter().filter_map(|name| {
            let heading = match name.as_str() {
                "volume" => "[[volume]]".to_owned(),
                name => format!("[{name}]"),
            };
            let keys = expected(&format!("{heading}\n{UNKNOWN} = 1\n"));
            (!keys.is_empty()).then(|| (name.clone(), keys))
        });
        let mut tables: Vec<_> = tables.collect();
        let keys = tables
            .iter()
            .flat_map(|(table, keys)| keys.iter().map(move |key| format!("{table}.{key}")));
        let nested = keys.filter_map(|name| {
            let keys = expected(&format!("[{name}]\n{UNKNOWN} = 1\n"));
            (!keys.is_empty()).then_some((name, keys))
        });
        let nested: Vec<_> = nested.collect();
        tables.extend(nested);
        let first = (String::new(), top);
        Self(std::iter::once(first).chain(tables).collect())
    }

    pub(super) fn of(&self, table: &str) -> &[String] {
        let found = self.0.iter().find(|(name, _)| name == table);
        found.map_or(&[], |(_, keys)| keys)
    }

    pub(super) fn has(&self, table: &str, key: &str) -> bool {
        self.of(table).iter().any(|known| known == key)
    }

    /// Whether it is a key of the top level, a table, or a key with its table's name.
    pub(super) fn has_path(&self, path: &str) -> bool {
        match path.rsplit_once('.') {
            Some((table, key)) => self.has(table, key),
            None => self.has("", path),
        }
    }

    /// The table that has such a key.
    pub(super) fn home(&self, key: &str) -> Option<&str> {
        let found = self
            .0
            .iter()
            .find(|(_, keys)| keys.iter().any(|known| known == key));
        found.map(|(table, _)| table.as_str())
    }
}

/// Which of these words was meant. One letter that is wrong, missing, too many or in its neighbour's place is a slip in short
/// words as well.
pub(super) fn meant<'a>(word: &str, all: &'a [String]) -> Option<&'a str> {
    let likeness = |known: &str| match strsim::osa_distance(word, known) {
        0 | 1 => 1.0,
        _ => strsim::jaro_winkler(word, known),
    };
    let each = all.iter().map(|known| (likeness(known), known));
    let best = each.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 >= ALIKE_MIN).then_some(best.1.as_str())
}

/// What the parser expects in place of the key that is not there.
fn expected(text: &str) -> Vec<String> {
    let Err(error) = Config::parse(text) else {
        return Vec::new();
    };
    let error = error.to_string();
    match error.split_once(", expected ") {
        Some((found, rest)) if found.contains(UNKNOWN) => rest
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parser_tells_all_keys_and_slips_are_seen() {
        let keys = Keys::probed();
        for path in [
            "device-timeout-s",
            "tpm",
            "tpm.pcrs",
            "boot.authorities",
            "service.urls",
            "volume.name",
        ] {
            assert!(keys.has_path(path), "{path}: {keys:?}");
        }
        assert!(!keys.has_path("tpm.urls") && !keys.has_path("device-timeout-s.x"));
        assert_eq!(keys.home("fence-pcr"), Some("tpm"));
        assert_eq!(keys.home("unheard-of"), None);
        assert_eq!(meant("sorces", keys.of("volume")), Some("sources"));
        let tables = ["tpm", "boot"].map(str::to_owned);
        assert_eq!(meant("tmp", &tables), Some("tpm"));
        assert_eq!(meant("qqq", keys.of("volume")), None);
    }
}
