//! Where every inode stands, known before the first one is written.

use std::io;

use super::{dirents, inode};
use crate::store::BLOCK;
use crate::tree::{Id, Kind, Tree};

/// Inodes are numbered by units of this.
const SLOT: u64 = 32;

/// Where the bytes of a directory or of a link stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// Nowhere: there are none, or they are a file's and known to it.
    None,
    /// Behind the inode.
    Behind,
    /// In blocks from this one on, but for the last, which stands behind the inode.
    Split(u32),
    /// In blocks from this one on.
    Blocks(u32),
}

/// An inode's place.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) id: Id,
    /// The directory that it is in, for a directory.
    pub(super) parent: Id,
    pub(super) links: u32,
    pub(super) size: u64,
    /// Its byte on the disk.
    pub(super) at: u64,
    pub(super) body: Body,
}

/// All places.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) first_block: u32,
    pub(super) order: Vec<Place>,
    index: Vec<u32>,
    end: u64,
}

impl Plan {
    /// Plans inodes from block `first_block` on.
    pub(super) fn new(tree: &Tree, first_block: u32) -> io::Result<Self> {
        let mut plan = Self {
            first_block,
            order: Vec::new(),
            index: vec![u32::MAX; tree.len()],
            end: 0,
        };
        plan.collect(tree)?;
        // The first two slots stay empty: a number of 0 stands for nothing.
        let mut at = plan.start() + 2 * SLOT;
        for place in &mut plan.order {
            at = place_behind(tree, place, at);
        }
        let size = BLOCK as u64;
        let mut block = at.div_ceil(size);
        for place in &mut plan.order {
            let first = u32::try_from(block).map_err(|_| io::ErrorKind::FileTooLarge)?;
            match &mut place.body {
                Body::Split(at) => {
                    *at = first;
                    block += place.size / size;
                }
                Body::Blocks(at) => {
                    *at = first;
                    block += place.size.div_ceil(size);
                }
                Body::None | Body::Behind => {}
            }
        }
        plan.end = block * size;
        Ok(plan)
    }

    /// The byte where inodes begin.
    pub(super) fn start(&self) -> u64 {
        u64::from(self.first_block) * BLOCK as u64
    }

    /// The byte after the file system.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The number by which directories name an inode.
    pub(super) fn number(&self, id: Id) -> u64 {
        let place = &self.order[self.index[id.index()] as usize];
        (place.at - self.start()) / SLOT
    }

    /// Everything that is reached from the root, each once, with the number of its names.
    fn collect(&mut self, tree: &Tree) -> io::Result<()> {
        self.reach(tree, Tree::ROOT, Tree::ROOT)?;
        self.order[0].links = 2;
        let mut todo = vec![Tree::ROOT];
        while let Some(directory) = todo.pop() {
            let from = todo.len();
            for entry in tree
                .names(directory)
                .into_iter()
                .flatten()
                .map(|(_, entry)| entry)
            {
                let is_new = self.reach(tree, entry.id, directory)?;
                if tree.names(entry.id).is_some() && is_new {
                    self.place_mut(entry.id).links = 2;
                    self.place_mut(directory).links += 1;
                    todo.push(entry.id);
                }
            }
            todo[from..].reverse();
        }
        Ok(())
    }

    fn place_mut(&mut self, id: Id) -> &mut Place {
        &mut self.order[self.index[id.index()] as usize]
    }

    /// One more name of a node. Whether it was the first.
    fn reach(&mut self, tree: &Tree, id: Id, parent: Id) -> io::Result<bool> {
        if self.index[id.index()] != u32::MAX {
            self.place_mut(id).links += 1;
            return Ok(false);
        }
        self.index[id.index()] =
            u32::try_from(self.order.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let size = match &tree.node(id).kind {
            Kind::Directory(_) => dirents::size(tree, id),
            Kind::File(content) => content.size,
            Kind::Symlink(target) => target.len() as u64,
            _ => 0,
        };
        self.order.push(Place {
            id,
            parent,
            links: 1,
            size,
            at: 0,
            body: Body::None,
        });
        Ok(true)
    }
}

/// Places an inode at `at` or a little behind, and decides where its bytes go. Returns where the next one may stand.
fn place_behind(tree: &Tree, place: &mut Place, at: u64) -> u64 {
    let node = tree.node(place.id);
    let head = inode::LEN + inode::attributes_len(node);
    let rest = match &node.kind {
        Kind::File(content) => content.rest_len(),
        Kind::Directory(_) | Kind::Symlink(_) => {
            let rest = usize::try_from(place.size % BLOCK as u64).expect("less than a block");
            let fits = rest > 0 && head + rest <= BLOCK;
            place.body = match (fits, place.size < BLOCK as u64) {
                (true, true) => Body::Behind,
                (true, false) => Body::Split(0),
                (false, _) => Body::Blocks(0),
            };
            if fits { rest } else { 0 }
        }
        _ => 0,
    };
    // What stands behind an inode must be in the block where it begins; that keeps the inode itself in one, too.
    let size = BLOCK as u64;
    let len = (head + rest) as u64;
    let bound = len.min(size);
    place.at = if at % size + bound > size {
        at.next_multiple_of(size)
    } else {
        at
    };
    (place.at + len).next_multiple_of(SLOT)
}
