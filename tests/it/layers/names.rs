// SPDX-License-Identifier: Apache-2.0
//! Which paths the code of a module names. Tests, and what is compiled for tests alone, are left out.

use super::tokens::tokens;

/// A path as it is written, and the module it is written in, inline modules told apart.
#[derive(Debug)]
pub(super) struct Name<'a> {
    pub(super) within: String,
    pub(super) path: Vec<&'a str>,
    /// What an import calls it; none in code.
    pub(super) alias: Option<&'a str>,
}

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    pub(super) named: Vec<Name<'a>>,
    /// The modules it declares, inline ones as well.
    pub(super) modules: Vec<String>,
    /// Those that have a file of their own.
    pub(super) files: Vec<String>,
    /// Forms that hide what is named.
    pub(super) hiding: Vec<String>,
}

/// What a file of `module` says; the top is the empty path.
pub(super) fn names<'a>(module: &str, code: &'a str) -> Names<'a> {
    let mut reader = Reader {
        rest: &tokens(code),
        within: vec![module.to_owned()],
        found: Names::default(),
    };
    reader.read();
    reader.found
}

pub(super) fn join(module: &str, name: &str) -> String {
    if module.is_empty() {
        name.to_owned()
    } else {
        format!("{module}::{name}")
    }
}

struct Reader<'t, 'a> {
    rest: &'t [&'a str],
    /// The module, and for each brace that is open the module that it is in.
    within: Vec<String>,
    found: Names<'a>,
}

impl<'a> Reader<'_, 'a> {
    fn read(&mut self) {
        while let Some(token) = self.next() {
            match token {
                "#" => self.attribute(),
                "mod" => self.module(),
                "use" => self.import(),
                "extern" if self.rest.first() == Some(&"crate") => self.hides("extern crate"),
                "include" if self.rest.first() == Some(&"!") => self.hides("include!"),
                "macro_export" | "macro_use" => self.hides(token),
                "{" => self.within.push(self.here()),
                "}" => drop(self.within.pop()),
                // What follows these is a field or an item of a value, or a path of another crate.
                "." | "::" => drop(self.next()),
                word if is_word(word) => self.path(word),
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn here(&self) -> String {
        self.within.last().cloned().unwrap_or_default()
    }

    fn hides(&mut self, form: &str) {
        self.found.hiding.push(format!("{form} in {}", self.here()));
    }

    fn path(&mut self, first: &'a str) {
        let mut path = vec![first];
        while let ["::", next, rest @ ..] = self.rest
            && is_word(next)
        {
            path.push(next);
            self.rest = rest;
        }
        if path.len() > 1 {
            self.named(path, None);
        }
    }

    fn named(&mut self, path: Vec<&'a str>, alias: Option<&'a str>) {
        let within = self.here();
        self.found.named.push(Name {
            within,
            path,
            alias,
        });
    }

    fn module(&mut self) {
        let Some(name) = self.next().filter(|name| is_word(name)) else {
            return;
        };
        let module = join(&self.here(), name);
        match self.next() {
            Some("{") => self.within.push(module.clone()),
            _ => self.found.files.push(module.clone()),
        }
        self.found.modules.push(module);
    }

    /// `use a::{self, b as c};`. A glob is reported: what it brings is named nowhere.
    fn import(&mut self) {
        if self.rest.first() == Some(&"::") {
            // Another crate's.
            self.next();
        }
        self.tree(&[]);
    }

    fn tree(&mut self, prefix: &[&'a str]) {
        let mut path = prefix.to_vec();
        while let Some(token) = self.next() {
            match token {
                "::" => {}
                "*" => self.hides(&format!("use {}::*", path.join("::"))),
                "{" => {
                    while !matches!(self.rest.first(), Some(&"}") | None) {
                        self.tree(&path);
                        if self.rest.first() == Some(&",") {
                            self.next();
                        }
                    }
                    self.next();
                    return;
                }
                "self" if !path.is_empty() => {}
                "as" => {
                    let alias = self.next();
                    self.named(path, alias);
                    return;
                }
                word => path.push(word),
            }
            if matches!(self.rest.first(), Some(&"," | &"}" | &";") | None) {
                let alias = path.last().copied();
                self.named(path, alias);
                return;
            }
        }
    }

    /// An attribute, and what it belongs to where that is for tests alone. Strings in attributes can be paths: serde's are.
    fn attribute(&mut self) {
        let of_file = self.rest.first() == Some(&"!");
        if of_file {
            self.next();
        }
        if self.next() != Some("[") {
            return;
        }
        let len = self.block_len("[", "]");
        let inside: Vec<&str> = self.rest[..len].to_vec();
        self.rest = &self.rest[len + 1..];
        if inside == ["cfg", "(", "test", ")"] && !of_file {
            return self.skip_item();
        }
        match inside.first() {
            Some(&"path") => self.hides("#[path]"),
            Some(&form @ ("macro_use" | "macro_export")) => self.hides(form),
            _ => {}
        }
        for text in inside.iter().filter(|token| token.starts_with('"')) {
            let words = tokens(text.trim_matches('"'));
            if words.len() > 2 && words.iter().skip(1).step_by(2).all(|mark| *mark == "::") {
                let path = words.iter().step_by(2).copied().collect();
                self.named(path, None);
            }
        }
    }

    /// How many tokens are in a block that was opened just now.
    fn block_len(&self, open: &str, close: &str) -> usize {
        let mut depth = 1;
        let end = self.rest.iter().position(|token| {
            depth += i32::from(*token == open) - i32::from(*token == close);
            depth == 0
        });
        end.expect("a block that ends")
    }

    /// Leaves out an item with its further attributes: all up to its semicolon, or to the end of its block.
    fn skip_item(&mut self) {
        let is_import = self.rest.contains(&"use")
            && self.rest.iter().position(|token| *token == "use")
                < self.rest.iter().position(|token| *token == "{");
        let mut depth = 0;
        while let Some(token) = self.next() {
            depth += i32::from(["{", "(", "["].contains(&token));
            depth -= i32::from(["}", ")", "]"].contains(&token));
            let ends = token == ";" || (token == "}" && !is_import);
            if depth == 0 && ends {
                return;
            }
        }
    }
}

/// A word that a path can have; a number is none.
fn is_word(token: &str) -> bool {
    let first = token.chars().next();
    first.is_some_and(|c| c == '_' || c.is_alphabetic()) && !token.ends_with('"')
}
