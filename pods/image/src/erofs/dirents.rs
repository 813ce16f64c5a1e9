//! The blocks of a directory: entries (`struct erofs_dirent`), then their names, sorted over all blocks.

use super::plan::{Place, Plan};
use crate::store::BLOCK;
use crate::tree::{Id, Kind, Tree};

/// Bytes of an entry without its name.
const ENTRY: usize = 12;

struct Dirent<'a> {
    name: &'a [u8],
    id: Id,
}

/// The bytes that the entries take: whole blocks, and the used part of the last one.
pub(super) fn size(tree: &Tree, id: Id) -> u64 {
    let (mut whole, mut used) = (0u64, 0);
    for dirent in sorted(tree, id, id) {
        let len = ENTRY + dirent.name.len();
        if used + len > BLOCK {
            whole += 1;
            used = 0;
        }
        used += len;
    }
    whole * BLOCK as u64 + used as u64
}

/// The blocks. Each but the last is filled up with zeros to its end.
pub(super) fn blocks(tree: &Tree, plan: &Plan, place: &Place) -> Vec<Vec<u8>> {
    let mut blocks = Vec::new();
    let mut group: Vec<Dirent<'_>> = Vec::new();
    let mut used = 0;
    for dirent in sorted(tree, place.id, place.parent) {
        let len = ENTRY + dirent.name.len();
        if used + len > BLOCK {
            let mut bytes = block(tree, plan, &group);
            bytes.resize(BLOCK, 0);
            blocks.push(bytes);
            group.clear();
            used = 0;
        }
        used += len;
        group.push(dirent);
    }
    blocks.push(block(tree, plan, &group));
    blocks
}

fn block(tree: &Tree, plan: &Plan, dirents: &[Dirent<'_>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK);
    let mut name_at = dirents.len() * ENTRY;
    for dirent in dirents {
        bytes.extend(plan.number(dirent.id).to_le_bytes());
        bytes.extend(
            u16::try_from(name_at)
                .expect("within a block")
                .to_le_bytes(),
        );
        bytes.extend([kind(&tree.node(dirent.id).kind), 0]);
        name_at += dirent.name.len();
    }
    for dirent in dirents {
        bytes.extend(dirent.name);
    }
    bytes
}

/// All names with the two that every directory has, in the order of their bytes.
fn sorted(tree: &Tree, id: Id, parent: Id) -> impl Iterator<Item = Dirent<'_>> {
    let names = tree.names(id).into_iter().flatten();
    let mut names = names
        .map(|(name, entry)| Dirent { name, id: entry.id })
        .peekable();
    let own: [(&[u8], Id); 2] = [(b".", id), (b"..", parent)];
    let mut own = own
        .map(|(name, id)| Dirent { name, id })
        .into_iter()
        .peekable();
    std::iter::from_fn(move || match (own.peek(), names.peek()) {
        (Some(a), Some(b)) if b.name < a.name => names.next(),
        (Some(_), _) => own.next(),
        (None, _) => names.next(),
    })
}

/// `EROFS_FT_*`.
fn kind(kind: &Kind) -> u8 {
    match kind {
        Kind::File(_) => 1,
        Kind::Directory(_) => 2,
        Kind::Character(..) => 3,
        Kind::Block(..) => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
        Kind::Symlink(_) => 7,
    }
}
