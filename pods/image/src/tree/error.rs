//! Why a tree refuses.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What is wrong with an entry of an image, each in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A path leads out of the image.
    #[error("the entry {0:?} leads out of the image by \"..\": it is refused")]
    Escape(PathBuf),
    /// A path has a component that cannot be.
    #[error("the entry {0:?} has no name that a file can have (1 to 255 bytes, no zero byte)")]
    Name(PathBuf),
    /// A path is too long.
    #[error("the entry {path:?}... has a path of {len} bytes; at most {limit} are taken")]
    Long {
        /// How it begins.
        path: PathBuf,
        /// Its length.
        len: usize,
        /// What is taken.
        limit: usize,
    },
    /// A path is too deep.
    #[error("the entry {path:?}... lies deeper than {limit} directories; no deeper one is taken")]
    Deep {
        /// How it begins.
        path: PathBuf,
        /// What is taken.
        limit: usize,
    },
    /// Too many entries.
    #[error("the image has more than {0} entries; more are not taken")]
    Entries(usize),
    /// Names and attributes take too much memory.
    #[error(
        "names, links and attributes of the image take more than {0} bytes; more are not taken"
    )]
    Memory(usize),
    /// The attributes of one file take too much room.
    #[error(
        "the extended attributes of {0:?} take more than 65536 bytes, or one has a name beyond 255"
    )]
    Attributes(PathBuf),
    /// A part of a path is a file.
    #[error("the entry {0:?} lies below something that is no directory")]
    Parent(PathBuf),
    /// Symbolic links lead to each other.
    #[error("the entry {0:?} lies below symbolic links that do not end")]
    Loop(PathBuf),
    /// A hard link without its file.
    #[error("the entry {path:?} is a hard link to {target:?}, which is no file of the image")]
    Link {
        /// The entry.
        path: PathBuf,
        /// What it names.
        target: PathBuf,
    },
    /// A symbolic link that no kernel would make.
    #[error("the symbolic link {0:?} leads nowhere or has a target of more than 4095 bytes")]
    Target(PathBuf),
}

/// Bytes of an image as a path to show: the start of it, so that a message stays a sentence.
pub(crate) fn shown(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&path[..path.len().min(120)]))
}
