//! A tree as an EROFS file system: read-only, not compressed, the same bytes for the same image.
//!
//! | blocks | hold |
//! | --- | --- |
//! | 0 | the superblock, at byte 1024 |
//! | 1.. | contents of files, written as the image was read (`store.rs`) |
//! | then | inodes, each with its attributes and the short rest of its content behind it |
//! | then | directories and link targets that do not fit behind their inodes |
//!
//! Layout: Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h of Linux, without any incompatible feature, so
//! every kernel since 5.4 reads it.

mod dirents;
mod inode;
mod plan;
mod superblock;

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};

use crate::store::{BLOCK, Store};
use crate::tree::{Kind, Tree};
use plan::{Body, Plan};
use superblock::Superblock;

/// Writes the tree's inodes to the disk that holds the contents of its files. `id` becomes the file system's.
///
/// # Errors
/// What reading and writing say, or that the file system would be larger than it can be.
pub fn write(tree: &Tree, store: Store, id: [u8; 16]) -> io::Result<File> {
    let plan = Plan::new(tree, store.next)?;
    let mut disk = store.disk;
    disk.seek(SeekFrom::Start(plan.start()))?;
    let mut out = Out {
        at: plan.start(),
        file: BufWriter::with_capacity(1 << 20, &disk),
    };
    write_inodes(tree, &plan, &store.rests, &mut out)?;
    write_blocks(tree, &plan, &mut out)?;
    out.pad_to(plan.end())?;
    out.file.flush()?;
    drop(out);
    let superblock = Superblock {
        id,
        inodes: plan.order.len() as u64,
        blocks: u32::try_from(plan.end() / BLOCK as u64)
            .map_err(|_| io::ErrorKind::FileTooLarge)?,
        inodes_at: plan.first_block,
        root: u16::try_from(plan.number(Tree::ROOT)).expect("the root comes first"),
    };
    disk.write_all_at(&superblock.block(), 0)?;
    disk.set_len(plan.end())?;
    punch(&disk, tree, &plan, store.next)?;
    Ok(disk)
}

fn write_inodes(tree: &Tree, plan: &Plan, rests: &File, out: &mut Out<'_>) -> io::Result<()> {
    let mut rest = [0; BLOCK];
    for (index, place) in plan.order.iter().enumerate() {
        let node = tree.node(place.id);
        out.pad_to(place.at)?;
        let number = u32::try_from(index + 1).map_err(|_| io::ErrorKind::FileTooLarge)?;
        out.write(&inode::bytes(node, place, number))?;
        match (&node.kind, &place.body) {
            (Kind::File(content), _) => {
                if let Some(at) = content.rest {
                    let rest = &mut rest[..content.rest_len()];
                    rests.read_exact_at(rest, at)?;
                    out.write(rest)?;
                }
            }
            (Kind::Symlink(target), Body::Behind) => out.write(target)?,
            (Kind::Directory(_), Body::Behind | Body::Split(_)) => {
                let blocks = dirents::blocks(tree, plan, place);
                out.write(blocks.last().map_or(&[], |block| &block[..]))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Directories and link targets that have blocks, in the order in which the plan gave them out.
fn write_blocks(tree: &Tree, plan: &Plan, out: &mut Out<'_>) -> io::Result<()> {
    for place in &plan.order {
        let (block, is_whole) = match place.body {
            Body::Split(block) => (block, false),
            Body::Blocks(block) => (block, true),
            Body::None | Body::Behind => continue,
        };
        out.pad_to(u64::from(block) * BLOCK as u64)?;
        match &tree.node(place.id).kind {
            Kind::Symlink(target) => out.write(target)?,
            Kind::Directory(_) => {
                let mut blocks = dirents::blocks(tree, plan, place);
                if !is_whole {
                    blocks.pop();
                }
                for bytes in blocks {
                    out.pad_to(out.at.next_multiple_of(BLOCK as u64))?;
                    out.write(&bytes)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Gives back the blocks of files that an upper layer has replaced: they take no room, and nobody reads them.
fn punch(disk: &File, tree: &Tree, plan: &Plan, end: u32) -> io::Result<()> {
    let mut used: Vec<(u64, u64)> = plan
        .order
        .iter()
        .filter_map(|place| match &tree.node(place.id).kind {
            Kind::File(content) => Some((u64::from(content.block), content.blocks())),
            _ => None,
        })
        .collect();
    used.sort_unstable();
    used.push((u64::from(end), 0));
    let mut at = 1;
    for (block, blocks) in used {
        if block > at {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let size = BLOCK as u64;
            match fallocate(disk, flags, at * size, (block - at) * size) {
                // A file system without holes keeps the blocks.
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        at = at.max(block + blocks);
    }
    Ok(())
}

/// The disk, written from one place on.
struct Out<'a> {
    at: u64,
    file: BufWriter<&'a File>,
}

impl Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Zeros up to a place that is not behind.
    fn pad_to(&mut self, at: u64) -> io::Result<()> {
        const ZEROS: [u8; BLOCK] = [0; BLOCK];
        while self.at < at {
            let len = usize::try_from(at - self.at).unwrap_or(BLOCK).min(BLOCK);
            self.write(&ZEROS[..len])?;
        }
        debug_assert_eq!(self.at, at, "what is planned does not overlap");
        Ok(())
    }
}

#[cfg(test)]
mod tests;
