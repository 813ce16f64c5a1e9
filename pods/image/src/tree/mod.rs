//! The merged root of an image, in memory: names, owners, links. Contents lie on the disk already.
//!
//! No path of an image is ever given to the host's kernel; this is where they are walked.

mod error;
mod node;
mod resolve;

pub use error::TreeError;
pub(crate) use error::shown;
pub use node::{Attributes, Entry, Id, Kind, Meta, Node, shows_attribute};

use std::collections::{BTreeMap, HashSet};

use crate::limits::{ATTRIBUTES, Limits};
use resolve::Spot;

/// A tree of files, to which layers are applied from the lowest one up.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    limits: Limits,
    entries: usize,
    memory: usize,
    layer: u16,
    /// Directories from which everything of lower layers has been taken in this layer: there is nothing more to hide in them.
    bared: HashSet<Id>,
    devices_left_out: usize,
}

impl Tree {
    /// The root.
    pub const ROOT: Id = Id(0);

    /// A root without anything in it.
    pub fn new(limits: Limits) -> Self {
        Self {
            nodes: vec![Node {
                meta: directory_meta(),
                kind: Kind::directory(),
            }],
            limits,
            entries: 0,
            memory: 0,
            layer: 0,
            bared: HashSet::new(),
            devices_left_out: 0,
        }
    }

    /// What comes now belongs to the next layer.
    pub fn next_layer(&mut self) {
        self.layer = self.layer.saturating_add(1);
        self.bared.clear();
    }

    /// A node.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id.index()]
    }

    /// How many nodes there are, those included that are not reached any more.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing was ever put into it.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// Counts a device node that its reader left out.
    pub(crate) fn leave_out_device(&mut self) {
        self.devices_left_out += 1;
    }

    /// How many device nodes outside of `/dev` were left out.
    pub fn devices_left_out(&self) -> usize {
        self.devices_left_out
    }

    /// The names of a directory; `None` for what is none.
    pub fn names(&self, id: Id) -> Option<&BTreeMap<Box<[u8]>, Entry>> {
        match &self.node(id).kind {
            Kind::Directory(names) => Some(names),
            _ => None,
        }
    }

    /// Puts something at a path. A directory that stands there keeps its names; everything else is replaced. Parents
    /// that are missing are made. A device outside of `/dev` is left out.
    ///
    /// # Errors
    /// If the path or the entry is refused.
    pub fn put(&mut self, path: &[u8], meta: Meta, kind: Kind) -> Result<(), TreeError> {
        let Some(spot) = self.spot(path)? else {
            // The root itself: only a directory can stand there.
            self.check(path, &meta, &kind)?;
            if matches!(kind, Kind::Directory(_)) {
                self.nodes[0].meta = meta;
            }
            return Ok(());
        };
        // 0:0 is what the overlay file system takes for a deleted file.
        let is_deletion = matches!(kind, Kind::Character(0, 0));
        if kind.is_device() && (!spot.in_dev || is_deletion) {
            self.devices_left_out += 1;
            return Ok(());
        }
        self.check(path, &meta, &kind)?;
        if let (Kind::Directory(_), Some(entry)) = (&kind, self.entry(&spot))
            && self.names(entry.id).is_some()
        {
            self.nodes[entry.id.index()].meta = meta;
            self.name(&spot, entry.id);
            return Ok(());
        }
        let id = self.add(meta, kind)?;
        self.name(&spot, id);
        Ok(())
    }

    /// Puts something below a directory that is known, under a name that no other has.
    ///
    /// # Errors
    /// If the entry is refused.
    pub fn put_in(&mut self, directory: Id, name: &[u8], node: Node) -> Result<Id, TreeError> {
        resolve::check_name(name, name)?;
        self.check(name, &node.meta, &node.kind)?;
        let id = self.add(node.meta, node.kind)?;
        self.link_in(directory, name, id)?;
        Ok(id)
    }

    /// Gives a node one more name.
    ///
    /// # Errors
    /// If names take too much memory.
    pub fn link_in(&mut self, directory: Id, name: &[u8], id: Id) -> Result<(), TreeError> {
        self.spend(name.len())?;
        let spot = Spot {
            directory,
            name: name.into(),
            in_dev: false,
        };
        self.name(&spot, id);
        Ok(())
    }

    /// Makes a path one more name of a file that is there.
    ///
    /// # Errors
    /// If a path is refused, or the target is no file of the image.
    pub fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), TreeError> {
        let no_target = || TreeError::Link {
            path: shown(path),
            target: shown(target),
        };
        let found = self.find(target)?.ok_or_else(no_target)?;
        if self.names(found).is_some() {
            return Err(no_target());
        }
        let spot = self
            .spot(path)?
            .ok_or_else(|| TreeError::Name(shown(path)))?;
        if self.node(found).kind.is_device() && !spot.in_dev {
            self.devices_left_out += 1;
            return Ok(());
        }
        self.count_entry()?;
        self.name(&spot, found);
        Ok(())
    }

    /// Takes away what lower layers have at a path: a whiteout.
    ///
    /// # Errors
    /// If the path is refused.
    pub fn hide(&mut self, path: &[u8]) -> Result<(), TreeError> {
        self.count_entry()?;
        let Some(spot) = self.existing_spot(path)? else {
            return Ok(());
        };
        self.hide_lower(spot.directory, &spot.name);
        Ok(())
    }

    /// Takes away what lower layers have below a directory: an opaque whiteout.
    ///
    /// # Errors
    /// If the path is refused.
    pub fn hide_below(&mut self, path: &[u8]) -> Result<(), TreeError> {
        self.count_entry()?;
        if let Some(id) = self.find(path)? {
            self.bare(id);
        }
        Ok(())
    }

    fn bare(&mut self, directory: Id) {
        let Kind::Directory(names) = &self.nodes[directory.index()].kind else {
            return;
        };
        if self.bared.contains(&directory) {
            return;
        }
        let names: Vec<_> = names.keys().cloned().collect();
        self.bared.insert(directory);
        for name in names {
            self.hide_lower(directory, &name);
        }
    }

    /// As deep as directories are; the limit on depth bounds it.
    fn hide_lower(&mut self, directory: Id, name: &[u8]) {
        let Some(entry) = self.names(directory).and_then(|names| names.get(name)) else {
            return;
        };
        let (id, is_lower) = (entry.id, entry.layer < self.layer);
        self.bare(id);
        let is_bare = self.names(id).is_none_or(BTreeMap::is_empty);
        if is_lower
            && is_bare
            && let Kind::Directory(names) = &mut self.nodes[directory.index()].kind
        {
            names.remove(name);
        }
    }

    fn entry(&self, spot: &Spot) -> Option<Entry> {
        self.names(spot.directory)?.get(&spot.name).copied()
    }

    fn name(&mut self, spot: &Spot, id: Id) {
        let layer = self.layer;
        if let Kind::Directory(names) = &mut self.nodes[spot.directory.index()].kind {
            names.insert(spot.name.clone(), Entry { id, layer });
        }
    }

    fn add(&mut self, meta: Meta, kind: Kind) -> Result<Id, TreeError> {
        self.count_entry()?;
        let id = u32::try_from(self.nodes.len());
        let id = id.map_err(|_| TreeError::Entries(self.limits.entries))?;
        self.nodes.push(Node { meta, kind });
        Ok(Id(id))
    }

    /// One more entry, of whatever kind.
    fn count_entry(&mut self) -> Result<(), TreeError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(TreeError::Entries(self.limits.entries));
        }
        Ok(())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), TreeError> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory > self.limits.memory {
            return Err(TreeError::Memory(self.limits.memory));
        }
        Ok(())
    }

    fn check(&mut self, path: &[u8], meta: &Meta, kind: &Kind) -> Result<(), TreeError> {
        let mut bytes = 0;
        for (name, value) in &meta.attributes {
            if name.len() > 255 {
                return Err(TreeError::Attributes(shown(path)));
            }
            bytes += name.len() + value.len() + 16;
        }
        if bytes > ATTRIBUTES - 64 {
            return Err(TreeError::Attributes(shown(path)));
        }
        if let Kind::Symlink(target) = kind {
            if target.is_empty() || target.len() >= 4096 || target.contains(&0) {
                return Err(TreeError::Target(shown(path)));
            }
            bytes += target.len();
        }
        self.spend(bytes)
    }
}

/// Of directories that an image has paths below, and does not mention.
fn directory_meta() -> Meta {
    Meta {
        mode: 0o755,
        ..Meta::default()
    }
}

#[cfg(test)]
mod tests;
