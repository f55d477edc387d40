// SPDX-License-Identifier: Apache-2.0
//! Which modules of the crate name which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::names::{Name, Names, join, names};

/// A module with a file, and the modules with a file that it names.
pub(super) type Arrows = BTreeMap<String, BTreeSet<String>>;

/// The sources of a crate, by their path below `src`.
pub(super) type Sources = BTreeMap<String, String>;

/// Those of this one.
pub(super) fn sources() -> Sources {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut left) = (Sources::new(), vec![top.clone()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(&top).unwrap().to_string_lossy();
                found.insert(name.into_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// What the modules say that `lib.rs` leads to, by their paths.
#[derive(Debug)]
pub(super) struct Crate<'a> {
    files: BTreeMap<String, Names<'a>>,
    modules: BTreeSet<String>,
    /// What each module calls what it imports.
    imports: BTreeMap<(String, String), Vec<String>>,
}

impl<'a> Crate<'a> {
    pub(super) fn new(sources: &'a Sources) -> Self {
        let mut files = BTreeMap::new();
        let mut left = vec![String::new()];
        while let Some(module) = left.pop() {
            let path = match module.as_str() {
                "" => "lib.rs".to_owned(),
                module => format!("{}.rs", module.replace("::", "/")),
            };
            let code = sources.get(&path);
            let said = names(&module, code.unwrap_or_else(|| panic!("no {path}")));
            left.extend(said.files.iter().cloned());
            files.insert(module, said);
        }
        let modules = files.values().flat_map(|said| said.modules.clone());
        let mut all = Self {
            modules: modules.chain([String::new()]).collect(),
            imports: BTreeMap::new(),
            files,
        };
        // What is imported by way of another import is known one round later.
        while let imports = all.read_imports()
            && imports.len() > all.imports.len()
        {
            all.imports = imports;
        }
        all
    }

    fn read_imports(&self) -> BTreeMap<(String, String), Vec<String>> {
        let named = self.files.values().flat_map(|said| &said.named);
        let imports = named.filter_map(|name| {
            let alias = name.alias?;
            let path = self.absolute(name)?;
            Some(((name.within.clone(), alias.to_owned()), path))
        });
        imports.collect()
    }

    /// The modules with files, but for the top.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.files
            .keys()
            .map(String::as_str)
            .filter(|it| !it.is_empty())
    }

    /// Forms that hide what they name.
    pub(super) fn hiding(&self) -> Vec<&str> {
        let all = self.files.values().flat_map(|said| &said.hiding);
        all.map(String::as_str).collect()
    }

    pub(super) fn arrows(&self) -> Arrows {
        let of = |(module, said): (&String, &Names<'_>)| {
            let named = said.named.iter();
            let mut to: BTreeSet<String> = named.flat_map(|name| self.targets(name)).collect();
            to.remove(module);
            to.remove("");
            (module.clone(), to)
        };
        let mut arrows: Arrows = self.files.iter().map(of).collect();
        arrows.remove("");
        arrows
    }

    /// The files of the modules that a path leads through: its own, and where one only passes on what another one has, that.
    fn targets(&self, name: &Name<'_>) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut left = self.absolute(name);
        // Imports in a circle are none that compile.
        for _ in 0..32 {
            let Some(path) = left.take() else { break };
            let mut module = String::new();
            for (at, part) in path.iter().enumerate() {
                if self.modules.contains(&join(&module, part)) {
                    module = join(&module, part);
                    continue;
                }
                let import = self.imports.get(&(module.clone(), part.clone()));
                left = import.map(|import| [&import[..], &path[at + 1..]].concat());
                break;
            }
            found.insert(self.file_of(&module));
        }
        found
    }

    /// The module whose file has this one, which may be an inline module.
    fn file_of(&self, module: &str) -> String {
        let mut module = module;
        while !self.files.contains_key(module) {
            module = module.rsplit_once("::").map_or("", |(above, _)| above);
        }
        module.to_owned()
    }

    /// The path from the top; none where it leads to another crate, or to something of the module itself.
    fn absolute(&self, name: &Name<'_>) -> Option<Vec<String>> {
        let owned = |path: &[&str]| path.iter().map(|part| (*part).to_owned()).collect();
        let parts = |module: &str| -> Vec<String> {
            let parts = module.split("::").filter(|part| !part.is_empty());
            parts.map(str::to_owned).collect()
        };
        let (mut base, mut rest) = (parts(&name.within), &name.path[..]);
        match rest {
            ["crate", below @ ..] => return Some(owned(below)),
            ["self" | "super", ..] => {
                while let [first @ ("self" | "super"), below @ ..] = rest {
                    if *first == "super" {
                        base.pop();
                    }
                    rest = below;
                }
            }
            [first, below @ ..] => {
                let key = (name.within.clone(), (*first).to_owned());
                if let Some(import) = self.imports.get(&key) {
                    return Some([&import[..], &owned(below)[..]].concat());
                }
                if !self.modules.contains(&join(&name.within, first)) {
                    return None;
                }
            }
            [] => return None,
        }
        base.extend::<Vec<String>>(owned(rest));
        Some(base)
    }
}
