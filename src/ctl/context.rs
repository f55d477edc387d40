// SPDX-License-Identifier: Apache-2.0
//! Which key service the `nodes` verbs ask, and as whom: options first, then the environment, then a file.
//!
//! **Never:** a secret in the environment: keys are named by their files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::ctl::cli::Server;
use crate::ctl::{input, usage};
use crate::error::{Doing, Error, Result};

/// The file below the user's configuration (XDG Base Directory Specification), and the machine's.
const FILE: &str = "nightlatch/nightlatchctl.toml";
const FILE_OF_ALL: &str = "/etc/nightlatch/nightlatchctl.toml";

/// The longest such file, in bytes.
const LEN_MAX: usize = 64 << 10;

/// A service and how the two sides know each other.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Context {
    pub(super) url: String,
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) ca: PathBuf,
}

/// The file. What it leaves out is given otherwise.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    server: Option<String>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
}

impl Context {
    pub(super) fn of(given: &Server) -> Result<Self> {
        let (file, place) = match &given.context {
            Some(path) => (File::load(path)?, path.clone()),
            None => File::found(&places(|name| std::env::var_os(name)))?,
        };
        Self::joined(given, file, &place)
    }

    /// `place` is the file that lacks what is nowhere.
    fn joined(given: &Server, file: File, place: &Path) -> Result<Self> {
        let missing = |option: &str, variable: &str| {
            usage(&format!(
                "nodes: no --{option}: give it, set {variable}, or write it into {}",
                place.display()
            ))
        };
        // What a file names is beside it.
        let beside = |path: PathBuf| place.parent().map_or(path.clone(), |top| top.join(path));
        let path = |option: &Option<PathBuf>, in_file: Option<PathBuf>| {
            option.clone().or_else(|| in_file.map(beside))
        };
        let url = given.url.clone().or(file.server);
        Ok(Self {
            url: url.ok_or_else(|| missing("server", "NIGHTLATCH_SERVER"))?,
            cert: path(&given.cert, file.cert).ok_or_else(|| missing("cert", "NIGHTLATCH_CERT"))?,
            key: path(&given.key, file.key).ok_or_else(|| missing("key", "NIGHTLATCH_KEY"))?,
            ca: path(&given.ca, file.ca).ok_or_else(|| missing("ca", "NIGHTLATCH_CA"))?,
        })
    }
}

impl File {
    fn load(path: &Path) -> Result<Self> {
        input::text(path, LEN_MAX)
            .and_then(|text| toml::from_str(&text).map_err(|error| Error::config(error.message())))
            .doing(path.display())
    }

    /// The first that is there; else nothing, and where it could be.
    fn found(places: &[PathBuf]) -> Result<(Self, PathBuf)> {
        match places.iter().find(|path| path.exists()) {
            Some(path) => Ok((Self::load(path)?, path.clone())),
            None => Ok((Self::default(), places.first().cloned().unwrap_or_default())),
        }
    }
}

/// Where the file may be; the user's own comes first.
fn places(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let set = |name: &str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let own = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let own = own.map(|top| top.join(FILE));
    own.into_iter()
        .chain([PathBuf::from(FILE_OF_ALL)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    fn given(url: Option<&str>, key: Option<&str>) -> Server {
        Server {
            context: None,
            url: url.map(str::to_owned),
            cert: None,
            key: key.map(PathBuf::from),
            ca: None,
        }
    }

    fn file() -> File {
        File {
            server: Some("https://file:1".into()),
            cert: Some("alice.pem".into()),
            key: Some("/keys/alice.key".into()),
            ca: Some("ca.pem".into()),
        }
    }

    #[test]
    fn what_is_given_wins_over_the_file_whose_paths_are_beside_it() {
        let place = Path::new("/home/alice/nightlatchctl.toml");
        let joined = Context::joined(&given(Some("https://given:1"), None), file(), place);
        assert_eq!(
            joined.unwrap(),
            Context {
                url: "https://given:1".into(),
                cert: "/home/alice/alice.pem".into(),
                key: "/keys/alice.key".into(),
                ca: "/home/alice/ca.pem".into(),
            }
        );
        let joined = Context::joined(&given(None, Some("other.key")), file(), place).unwrap();
        // What is typed is where it was typed.
        assert_eq!(joined.key, PathBuf::from("other.key"));
        assert_eq!(joined.url, "https://file:1");
    }

    #[test]
    fn what_is_nowhere_is_named_with_where_it_could_be() {
        let place = Path::new("/home/alice/nightlatchctl.toml");
        let error = Context::joined(&given(Some("https://x:1"), None), File::default(), place);
        let error = error.unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(
            error.to_string().starts_with(
                "nodes: no --cert: give it, set NIGHTLATCH_CERT, or write it into /home/alice/nightlatchctl.toml"
            ),
            "{error}"
        );
    }

    #[test]
    fn the_users_own_file_comes_before_that_of_all() {
        let at = |pairs: &'static [(&'static str, &'static str)]| {
            places(move |name| {
                let found = pairs.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            })
        };
        let all = PathBuf::from(FILE_OF_ALL);
        assert_eq!(
            at(&[("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")]),
            [
                PathBuf::from("/x/nightlatch/nightlatchctl.toml"),
                all.clone()
            ]
        );
        assert_eq!(
            at(&[("HOME", "/h")]),
            [
                PathBuf::from("/h/.config/nightlatch/nightlatchctl.toml"),
                all.clone()
            ]
        );
        assert_eq!(at(&[("XDG_CONFIG_HOME", "")]), [all]);
    }
}
