// SPDX-License-Identifier: Apache-2.0
//! The files that an initrd's archives leave, one archive over the other (Linux, `init/initramfs.c`).

use std::collections::BTreeMap;

use super::archive::{self, Entry, behind_zeros, broken};
use super::parts::Part;
use crate::error::Result;

/// The kind of a file in its mode (inode(7)).
const KIND: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
/// Any of the three bits that let somebody run it.
const EXECUTABLE: u32 = 0o111;
/// The most files of an initrd. Distributions' have some thousands.
const FILES_MAX: usize = 500_000;
/// The longest path, and the longest target of a link (Linux, `PATH_MAX`).
const PATH_LEN_MAX: usize = 4096;
/// The most names that are looked at on the way to one file, those of one link and of what was left when it was met.
const PENDING_MAX: usize = 256;
/// The most names of a file.
const NAMES_MAX: usize = 1000;
/// How many links are followed on the way to a file (Linux, `MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

/// What is at a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Node<'a> {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// What is in it.
        bytes: &'a [u8],
        /// Whether somebody may run it.
        is_executable: bool,
    },
    /// A symbolic link, and where it leads.
    Link(String),
    /// A device, a socket or a pipe.
    Special,
}

/// The files of an initrd. Paths have no slash at their begin; those that are asked for may have one.
#[derive(Clone, Debug, Default)]
pub struct Tree<'a>(BTreeMap<String, Node<'a>>);

/// The paths of each file with more than one, in the archive that is being read.
type Hardlinks = BTreeMap<(u32, u32, u32), Vec<String>>;

impl<'a> Tree<'a> {
    /// Unpacks all parts, the last over those before it.
    pub fn of(parts: &'a [Part<'_>]) -> Result<Self> {
        let mut tree = Self::default();
        let mut entries: usize = 0;
        for part in parts {
            tree.unpack(&part.unpacked, &mut entries)?;
        }
        Ok(tree)
    }

    /// What is at a path, links followed, and the path that they lead to.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<(String, &Node<'a>)> {
        let place = self.resolved(path, Last::Followed)?;
        let node = self.0.get(&place)?;
        Some((place, node))
    }

    /// What is in the regular file at a path, links followed.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&'a [u8]> {
        match self.find(path)?.1 {
            Node::File { bytes, .. } => Some(bytes),
            Node::Directory | Node::Link(_) | Node::Special => None,
        }
    }

    /// Where the link at a path leads.
    #[must_use]
    pub fn link(&self, path: &str) -> Option<&str> {
        match self.0.get(&self.resolved(path, Last::Kept)?)? {
            Node::Link(target) => Some(target),
            Node::Directory | Node::File { .. } | Node::Special => None,
        }
    }

    /// Whether anything is at a path, a link that leads nowhere too.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        let place = self.resolved(path, Last::Kept);
        place.is_some_and(|place| self.0.contains_key(&place))
    }

    /// All that is below a directory: the paths below it, in order, and what is there.
    pub fn below(&self, path: &str) -> impl Iterator<Item = (&str, &Node<'a>)> {
        let place = self.resolved(path, Last::Followed).unwrap_or_default();
        let start = format!("{place}/");
        let nodes = self.0.range(start.clone()..);
        nodes.map_while(move |(path, node)| Some((path.strip_prefix(&start)?, node)))
    }

    /// All files, in the order of their paths.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Node<'a>)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// `entries` counts those of all parts.
    fn unpack(&mut self, bytes: &'a [u8], entries: &mut usize) -> Result<()> {
        let mut hardlinks = Hardlinks::new();
        let mut rest = behind_zeros(bytes);
        let mut is_complete = true;
        while !rest.is_empty() {
            let (entry, after) = archive::entry(rest)?;
            is_complete = entry.is_trailer();
            if is_complete {
                hardlinks.clear();
                rest = behind_zeros(after);
                continue;
            }
            self.add(&entry, &mut hardlinks)?;
            rest = after;
            *entries = entries.saturating_add(1);
            if *entries > FILES_MAX {
                return Err(broken("it has more files than any initrd"));
            }
        }
        if is_complete {
            Ok(())
        } else {
            Err(archive::cut())
        }
    }

    fn add(&mut self, entry: &Entry<'a>, hardlinks: &mut Hardlinks) -> Result<()> {
        let name = std::str::from_utf8(entry.name);
        let name = name.map_err(|error| broken(&format!("a name in it is no UTF-8: {error}")))?;
        let Some(place) = self.resolved(name, Last::Kept).filter(|it| !it.is_empty()) else {
            return Ok(());
        };
        // The kernel goes on where a file has no directory to be in.
        if !self.has_parent(&place) {
            return Ok(());
        }
        let node = match entry.mode & KIND {
            DIRECTORY => Node::Directory,
            LINK => {
                // As the kernel does, which goes on behind one that is too long.
                if entry.contents.len() > PATH_LEN_MAX {
                    return Ok(());
                }
                let target = std::str::from_utf8(archive::to_zero(entry.contents));
                let target = target.map_err(|error| broken(&format!("link {name}: {error}")))?;
                Node::Link(target.to_owned())
            }
            REGULAR => {
                return self.add_file(place, entry, hardlinks);
            }
            _ => Node::Special,
        };
        // What is in a directory stays when it comes again.
        if node != Node::Directory || self.0.get(&place) != Some(&Node::Directory) {
            self.0.insert(place, node);
        }
        Ok(())
    }

    /// Adds a regular file. Of one with several names, any of the entries may have the contents.
    fn add_file(
        &mut self,
        place: String,
        entry: &Entry<'a>,
        hardlinks: &mut Hardlinks,
    ) -> Result<()> {
        let mut names = vec![place];
        let mut bytes = entry.contents;
        if entry.links > 1 {
            let known = hardlinks.entry(entry.id).or_default();
            if let Some(Node::File { bytes: earlier, .. }) =
                known.first().and_then(|it| self.0.get(it))
                && bytes.is_empty()
            {
                bytes = earlier;
            }
            known.append(&mut names);
            if known.len() > NAMES_MAX {
                return Err(broken("a file in it has more names than any"));
            }
            names.clone_from(known);
        }
        for name in names {
            let is_executable = entry.mode & EXECUTABLE != 0;
            let node = Node::File {
                bytes,
                is_executable,
            };
            self.0.insert(name, node);
        }
        Ok(())
    }

    fn has_parent(&self, place: &str) -> bool {
        match place.rsplit_once('/') {
            Some((parent, _)) => self.0.get(parent) == Some(&Node::Directory),
            None => true,
        }
    }

    /// Where a path leads, if it is not in a circle of links.
    fn resolved(&self, path: &str, last: Last) -> Option<String> {
        let mut pending = components(path);
        let mut place = String::new();
        let mut followed: usize = 0;
        while let Some(name) = pending.pop() {
            if pending.len() > PENDING_MAX {
                return None;
            }
            let parent = place.len();
            if name == ".." {
                place.truncate(place.rfind('/').unwrap_or_default());
                continue;
            }
            if !place.is_empty() {
                place.push('/');
            }
            place.push_str(name);
            if place.len() > PATH_LEN_MAX {
                return None;
            }
            if pending.is_empty() && last == Last::Kept {
                break;
            }
            let Some(Node::Link(target)) = self.0.get(&place) else {
                continue;
            };
            followed = followed.saturating_add(1);
            if followed > LINKS_MAX {
                return None;
            }
            place.truncate(if target.starts_with('/') { 0 } else { parent });
            pending.extend(components(target));
        }
        Some(place)
    }
}

/// Whether the last name of a path is followed where it is a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Last {
    Followed,
    Kept,
}

/// The names of a path, the last one first.
fn components(path: &str) -> Vec<&str> {
    let names = path.rsplit('/').filter(|name| !matches!(*name, "" | "."));
    names.collect()
}
