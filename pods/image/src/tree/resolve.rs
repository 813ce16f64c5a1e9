//! Paths of an image, walked in the image.

use super::{Id, Kind, Tree, TreeError, directory_meta, shown};
use crate::limits::NAME;

/// Symbolic links that one path may lead through, as the kernel's own limit.
const LINKS: usize = 40;
/// Parts of paths that wait to be walked, of all those links.
const PARTS: usize = 4096;

/// Where an entry stands or would stand.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) directory: Id,
    pub(super) name: Box<[u8]>,
    /// Whether the directory is `/dev` or lies in it, whatever the path says.
    pub(super) in_dev: bool,
}

/// A walk from the root: where it is, and how it came there.
struct Walk {
    /// Directories from the root's first child on.
    way: Vec<(Id, bool)>,
    links: usize,
}

impl Walk {
    fn at(&self) -> Id {
        self.way.last().map_or(Tree::ROOT, |(id, _)| *id)
    }

    fn in_dev(&self) -> bool {
        self.way.first().is_some_and(|(_, is_dev)| *is_dev)
    }
}

impl Tree {
    /// The spot of an entry; missing parents are made. `None` for the root.
    pub(super) fn spot(&mut self, path: &[u8]) -> Result<Option<Spot>, TreeError> {
        let parts = self.parts(path)?;
        let Some((name, parents)) = parts.split_last() else {
            return Ok(None);
        };
        self.spend(name.len())?;
        let mut walk = Walk {
            way: Vec::new(),
            links: 0,
        };
        for part in parents {
            if !self.step(&mut walk, path, part)? {
                self.make(&mut walk, path, part)?;
            }
        }
        Ok(Some(Spot {
            directory: walk.at(),
            name: (*name).into(),
            in_dev: walk.in_dev(),
        }))
    }

    /// The spot of an entry whose parents are there.
    pub(super) fn existing_spot(&self, path: &[u8]) -> Result<Option<Spot>, TreeError> {
        let parts = self.parts(path)?;
        let Some((name, parents)) = parts.split_last() else {
            return Ok(None);
        };
        let mut walk = Walk {
            way: Vec::new(),
            links: 0,
        };
        for part in parents {
            match self.step(&mut walk, path, part) {
                Ok(true) => {}
                Ok(false) | Err(TreeError::Parent(_)) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Spot {
            directory: walk.at(),
            name: (*name).into(),
            in_dev: walk.in_dev(),
        }))
    }

    /// What stands at a path. A link at its end is not followed.
    ///
    /// # Errors
    /// If the path is refused.
    pub fn find(&self, path: &[u8]) -> Result<Option<Id>, TreeError> {
        if self.parts(path)?.is_empty() {
            return Ok(Some(Self::ROOT));
        }
        let spot = self.existing_spot(path)?;
        Ok(spot
            .and_then(|spot| self.entry(&spot))
            .map(|entry| entry.id))
    }

    /// What a process in the image would open at a path: links are followed, also the last one. `None` if nothing is there.
    pub fn open(&self, path: &[u8]) -> Option<Id> {
        let mut way = Vec::new();
        let mut todo: Vec<_> = split(path).rev().map(Box::<[u8]>::from).collect();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if &*part == b".." {
                way.pop();
                continue;
            }
            let at = way.last().copied().unwrap_or(Self::ROOT);
            let id = self.names(at)?.get(&part)?.id;
            let Kind::Symlink(target) = &self.node(id).kind else {
                way.push(id);
                continue;
            };
            links += 1;
            if links > LINKS {
                return None;
            }
            if target.starts_with(b"/") {
                way.clear();
            }
            todo.extend(split(target).rev().map(Box::<[u8]>::from));
        }
        Some(way.last().copied().unwrap_or(Self::ROOT))
    }

    /// Goes on by one part of a path, through links in the image; `false` if nothing has that name.
    fn step(&self, walk: &mut Walk, path: &[u8], part: &[u8]) -> Result<bool, TreeError> {
        // What is still to be walked, the next part last. A link's target comes before the rest.
        let mut todo: Vec<Box<[u8]>> = vec![part.into()];
        let links_before = walk.links;
        while let Some(part) = todo.pop() {
            if &*part == b".." {
                walk.way.pop();
                continue;
            }
            let names = self.names(walk.at());
            let Some(entry) = names.and_then(|names| names.get(&part)) else {
                // A link to what is not there: nothing can be made through it.
                if walk.links == links_before {
                    return Ok(false);
                }
                return Err(TreeError::Parent(shown(path)));
            };
            match &self.node(entry.id).kind {
                Kind::Directory(_) => {
                    let is_dev = walk.way.is_empty() && &*part == b"dev";
                    walk.way.push((entry.id, is_dev));
                }
                Kind::Symlink(target) => {
                    walk.links += 1;
                    if walk.links > LINKS || todo.len() > PARTS {
                        return Err(TreeError::Loop(shown(path)));
                    }
                    if target.starts_with(b"/") {
                        walk.way.clear();
                    }
                    todo.extend(split(target).rev().map(Box::<[u8]>::from));
                }
                _ => return Err(TreeError::Parent(shown(path))),
            }
            if walk.way.len() > self.limits.depth {
                return Err(self.too_deep(path));
            }
        }
        Ok(true)
    }

    fn make(&mut self, walk: &mut Walk, path: &[u8], part: &[u8]) -> Result<(), TreeError> {
        if walk.way.len() >= self.limits.depth {
            return Err(self.too_deep(path));
        }
        self.spend(part.len())?;
        let id = self.add(directory_meta(), Kind::directory())?;
        let spot = Spot {
            directory: walk.at(),
            name: part.into(),
            in_dev: false,
        };
        self.name(&spot, id);
        walk.way.push((id, walk.way.is_empty() && part == b"dev"));
        Ok(())
    }

    fn too_deep(&self, path: &[u8]) -> TreeError {
        TreeError::Deep {
            path: shown(path),
            limit: self.limits.depth,
        }
    }

    /// The parts of a path as an archive has it: from the root, whether it begins with a slash or not.
    fn parts<'a>(&self, path: &'a [u8]) -> Result<Vec<&'a [u8]>, TreeError> {
        if path.len() > self.limits.path {
            return Err(TreeError::Long {
                path: shown(path),
                len: path.len(),
                limit: self.limits.path,
            });
        }
        let parts: Vec<_> = split(path).collect();
        for part in &parts {
            if *part == b".." {
                return Err(TreeError::Escape(shown(path)));
            }
            check_name(part, path)?;
        }
        if parts.len() > self.limits.depth {
            return Err(self.too_deep(path));
        }
        Ok(parts)
    }
}

/// The parts of a path without those that mean nothing.
fn split(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
}

/// Refuses what no file can be called.
pub(super) fn check_name(name: &[u8], path: &[u8]) -> Result<(), TreeError> {
    let is_name = !name.is_empty() && name.len() <= NAME && !name.contains(&0);
    if is_name && !name.contains(&b'/') {
        return Ok(());
    }
    Err(TreeError::Name(shown(path)))
}
