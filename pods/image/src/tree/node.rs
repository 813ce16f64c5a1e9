//! Files, directories and what else stands in the tree.

use std::collections::BTreeMap;

use crate::store::Content;

/// The number of a node in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub(crate) u32);

impl Id {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Extended attributes: full names and values.
pub type Attributes = Vec<(Box<[u8]>, Box<[u8]>)>;

/// What every node has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Permissions, with set-user-id, set-group-id and sticky bits.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Seconds since 1970 of the last change of the content.
    pub mtime: u64,
    /// Nanoseconds of it.
    pub mtime_nsec: u32,
    /// Extended attributes that a guest is shown, by their full names.
    pub attributes: Attributes,
}

impl Meta {
    /// Whether the last bytes of a file may stand behind an inode that has these attributes.
    pub(crate) fn leaves_room(&self) -> bool {
        let attributes = self.attributes.iter();
        attributes
            .map(|(name, value)| name.len() + value.len() + 8)
            .sum::<usize>()
            < 1900
    }
}

/// A name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What it names.
    pub id: Id,
    /// The layer that named it last.
    pub(crate) layer: u16,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory and its names.
    Directory(BTreeMap<Box<[u8]>, Entry>),
    /// A file.
    File(Content),
    /// A symbolic link: nothing but data to us.
    Symlink(Box<[u8]>),
    /// A character device.
    Character(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Kind {
    /// A directory without names.
    pub fn directory() -> Self {
        Self::Directory(BTreeMap::new())
    }

    /// Whether it is a device that is left out everywhere but in `/dev`.
    pub(crate) fn is_device(&self) -> bool {
        matches!(self, Self::Character(..) | Self::Block(..))
    }
}

/// One of the tree's files, directories, links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Owner, permissions, time, attributes.
    pub meta: Meta,
    /// What it is.
    pub kind: Kind,
}

/// Whether a guest is shown the extended attribute of this name.
///
/// Users' own, capabilities of programs and access lists. Others are the host's business (labels), or would speak to the
/// overlay file system that the guest puts over the disk.
pub fn shows_attribute(name: &[u8]) -> bool {
    let user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
    let others: [&[u8]; 3] = [
        b"security.capability",
        b"system.posix_acl_access",
        b"system.posix_acl_default",
    ];
    user || others.contains(&name)
}
