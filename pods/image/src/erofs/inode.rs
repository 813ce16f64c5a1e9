//! Inodes (`struct erofs_inode_extended`) and the attributes behind them.

use super::plan::{Body, Place};
use crate::tree::{Kind, Node};

/// Bytes of an inode: always the long form, which has a time and 32 bits for each owner.
pub(super) const LEN: usize = 64;
/// Of the header before attributes.
const ATTRIBUTES_HEADER: usize = 12;

const S_IFIFO: u16 = 0o010_000;
const S_IFCHR: u16 = 0o020_000;
const S_IFDIR: u16 = 0o040_000;
const S_IFBLK: u16 = 0o060_000;
const S_IFREG: u16 = 0o100_000;
const S_IFLNK: u16 = 0o120_000;
const S_IFSOCK: u16 = 0o140_000;

const LONG: u16 = 1;
const PLAIN: u16 = 0 << 1;
const INLINE: u16 = 2 << 1;

/// The inode and its attributes.
pub(super) fn bytes(node: &Node, place: &Place, number: u32) -> Vec<u8> {
    let attributes = attributes_len(node);
    let mut inode = vec![0; LEN];
    let mut put = |at: usize, bytes: &[u8]| {
        inode[at..at + bytes.len()].copy_from_slice(bytes);
    };
    let count = match attributes {
        0 => 0,
        len => u16::try_from((len - ATTRIBUTES_HEADER) / 4 + 1)
            .expect("checked when put into the tree"),
    };
    let (data, layout) = data(node, place);
    put(0, &(LONG | layout).to_le_bytes());
    put(2, &count.to_le_bytes());
    put(
        4,
        &(kind_bits(&node.kind) | node.meta.mode & 0o7777).to_le_bytes(),
    );
    put(8, &place.size.to_le_bytes());
    put(16, &data.to_le_bytes());
    put(20, &number.to_le_bytes());
    put(24, &node.meta.uid.to_le_bytes());
    put(28, &node.meta.gid.to_le_bytes());
    put(32, &node.meta.mtime.to_le_bytes());
    put(40, &node.meta.mtime_nsec.to_le_bytes());
    put(44, &place.links.to_le_bytes());
    if attributes > 0 {
        push_attributes(node, &mut inode);
    }
    inode
}

/// The field `i_u`, and where the data are.
fn data(node: &Node, place: &Place) -> (u32, u16) {
    match (&node.kind, &place.body) {
        (Kind::Character(major, minor) | Kind::Block(major, minor), _) => {
            (device(*major, *minor), PLAIN)
        }
        (Kind::File(content), _) if content.rest.is_some() => (content.block, INLINE),
        (Kind::File(content), _) => (content.block, PLAIN),
        (_, Body::Behind) => (0, INLINE),
        (_, Body::Split(block)) => (*block, INLINE),
        (_, Body::Blocks(block)) => (*block, PLAIN),
        (_, Body::None) => (0, PLAIN),
    }
}

/// `new_encode_dev` of the kernel.
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}

fn kind_bits(kind: &Kind) -> u16 {
    match kind {
        Kind::Directory(_) => S_IFDIR,
        Kind::File(_) => S_IFREG,
        Kind::Symlink(_) => S_IFLNK,
        Kind::Character(..) => S_IFCHR,
        Kind::Block(..) => S_IFBLK,
        Kind::Fifo => S_IFIFO,
        Kind::Socket => S_IFSOCK,
    }
}

/// Bytes of the attributes behind the inode, with their header.
pub(super) fn attributes_len(node: &Node) -> usize {
    if node.meta.attributes.is_empty() {
        return 0;
    }
    let entries = node.meta.attributes.iter().map(|(name, value)| {
        let (_, rest) = prefix(name);
        (4 + rest.len() + value.len()).next_multiple_of(4)
    });
    ATTRIBUTES_HEADER + entries.sum::<usize>()
}

/// `struct erofs_xattr_ibody_header`, then `struct erofs_xattr_entry`s.
fn push_attributes(node: &Node, out: &mut Vec<u8>) {
    out.extend([0; ATTRIBUTES_HEADER]);
    for (name, value) in &node.meta.attributes {
        let (index, rest) = prefix(name);
        let size = u16::try_from(value.len()).expect("checked when put into the tree");
        out.push(u8::try_from(rest.len()).expect("checked when put into the tree"));
        out.push(index);
        out.extend(size.to_le_bytes());
        out.extend(rest);
        out.extend(&**value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

/// The number that stands for the beginning of a name, and what is left of the name.
fn prefix(name: &[u8]) -> (u8, &[u8]) {
    let prefixes: [(u8, &[u8]); 4] = [
        (2, b"system.posix_acl_access"),
        (3, b"system.posix_acl_default"),
        (6, b"security."),
        (1, b"user."),
    ];
    let found = prefixes
        .iter()
        .find_map(|(index, prefix)| Some((*index, name.strip_prefix(*prefix)?)));
    found.expect("the tree has none but these")
}
