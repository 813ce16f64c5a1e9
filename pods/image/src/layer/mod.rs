//! A layer, which is a tar archive, as changes to a tree.

mod pax;

use std::io::{self, Read};

use tar::{Archive, Entry, EntryType};

use crate::limits::Limits;
use crate::store::Store;
use crate::tree::{Kind, Meta, Tree, TreeError, shown};
use pax::Extension;

/// Names that mean that something is not there any more (OCI image specification, layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Of the file system that whiteouts come from; they mean nothing here.
const AUFS: &[u8] = b".wh..wh.";

/// Why a layer was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// It could not be read.
    #[error("the layer cannot be read")]
    Read(#[source] io::Error),
    /// An entry is refused.
    #[error(transparent)]
    Entry(#[from] TreeError),
    /// An entry is of a kind that a layer does not have.
    #[error("the entry {path:?} is of the kind {kind:?}, which no layer has")]
    Kind {
        /// The entry.
        path: std::path::PathBuf,
        /// The byte of its kind.
        kind: char,
    },
    /// What stands before an entry is too large or makes no sense.
    #[error("the header of {0:?} says what cannot be: {1}")]
    Header(std::path::PathBuf, &'static str),
    /// Its content could not be written.
    #[error("the content of {0:?} could not be taken")]
    Content(std::path::PathBuf, #[source] io::Error),
}

/// Applies a layer to the tree; contents go to the store.
///
/// # Errors
/// The first thing that is refused.
pub fn apply(
    layer: &mut dyn Read,
    tree: &mut Tree,
    store: &mut Store,
    limits: &Limits,
) -> Result<(), LayerError> {
    tree.next_layer();
    let mut archive = Archive::new(layer);
    let mut extension = Extension::default();
    // Raw: the crate would read a name or attributes of any length into memory.
    for entry in archive.entries().map_err(LayerError::Read)?.raw(true) {
        let mut entry = entry.map_err(LayerError::Read)?;
        if extension.take(&mut entry)? {
            continue;
        }
        one(
            &mut entry,
            std::mem::take(&mut extension),
            tree,
            store,
            limits,
        )?;
    }
    Ok(())
}

fn one(
    entry: &mut Entry<'_, &mut dyn Read>,
    extension: Extension,
    tree: &mut Tree,
    store: &mut Store,
    limits: &Limits,
) -> Result<(), LayerError> {
    let header = entry.header();
    let path = extension
        .path
        .clone()
        .unwrap_or_else(|| header.path_bytes().into_owned());
    if path.len() > limits.path {
        let (path, len, limit) = (shown(&path), path.len(), limits.path);
        return Err(TreeError::Long { path, len, limit }.into());
    }
    if let Some(done) = whiteout(&path, tree) {
        return done;
    }
    let target = || {
        let target = extension.target.clone();
        target
            .or_else(|| Some(header.link_name_bytes()?.into_owned()))
            .unwrap_or_default()
    };
    let kind = match header.entry_type() {
        EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Kind::directory(),
        EntryType::Regular | EntryType::Continuous => {
            return file(entry, extension, &path, tree, store);
        }
        EntryType::Directory => Kind::directory(),
        EntryType::Link => return Ok(tree.link(&path, &target())?),
        EntryType::Symlink => Kind::Symlink(target().into()),
        EntryType::Char => {
            let (major, minor) = device(header);
            Kind::Character(major, minor)
        }
        EntryType::Block => {
            let (major, minor) = device(header);
            Kind::Block(major, minor)
        }
        EntryType::Fifo => Kind::Fifo,
        other => {
            return Err(LayerError::Kind {
                path: shown(&path),
                kind: char::from(other.as_byte()),
            });
        }
    };
    let meta = meta(header, extension, &path)?;
    Ok(tree.put(&path, meta, kind)?)
}

/// What a whiteout does; `None` if the path is none.
fn whiteout(path: &[u8], tree: &mut Tree) -> Option<Result<(), LayerError>> {
    let at = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |at| at + 1);
    let (directory, name) = path.split_at(at);
    if name == OPAQUE {
        return Some(tree.hide_below(directory).map_err(Into::into));
    }
    if name.starts_with(AUFS) {
        return Some(Ok(()));
    }
    let hidden = name.strip_prefix(WHITEOUT)?;
    if hidden.is_empty() || hidden == b"." || hidden == b".." {
        return Some(Err(TreeError::Name(shown(path)).into()));
    }
    Some(tree.hide(&[directory, hidden].concat()).map_err(Into::into))
}

fn file(
    entry: &mut Entry<'_, &mut dyn Read>,
    extension: Extension,
    path: &[u8],
    tree: &mut Tree,
    store: &mut Store,
) -> Result<(), LayerError> {
    let header = entry.header();
    let size = header.entry_size().map_err(LayerError::Read)?;
    if extension.size.is_some_and(|other| other != size) {
        let why = "two sizes; no file beyond 8 GiB is taken";
        return Err(LayerError::Header(shown(path), why));
    }
    let meta = meta(header, extension, path)?;
    let content = store.take(entry, size, meta.leaves_room());
    let content = content.map_err(|error| LayerError::Content(shown(path), error))?;
    Ok(tree.put(path, meta, Kind::File(content))?)
}

fn device(header: &tar::Header) -> (u32, u32) {
    let number = |number: io::Result<Option<u32>>| number.ok().flatten().unwrap_or(0);
    (number(header.device_major()), number(header.device_minor()))
}

fn meta(header: &tar::Header, extension: Extension, path: &[u8]) -> Result<Meta, LayerError> {
    let wrong = |what| move |_| LayerError::Header(shown(path), what);
    let id = |pax: Option<u64>, plain: io::Result<u64>| match pax {
        Some(id) => u32::try_from(id).map_err(|_| ()),
        None => plain
            .map_err(|_| ())
            .and_then(|id| u32::try_from(id).map_err(|_| ())),
    };
    let mode = header.mode().map_err(wrong("a mode that is no number"))?;
    let (mtime, mtime_nsec) = extension.mtime.unwrap_or((header.mtime().unwrap_or(0), 0));
    Ok(Meta {
        mode: u16::try_from(mode & 0o7777).expect("12 bits"),
        uid: id(extension.uid, header.uid())
            .map_err(|()| LayerError::Header(shown(path), "an owner beyond 32 bits"))?,
        gid: id(extension.gid, header.gid())
            .map_err(|()| LayerError::Header(shown(path), "a group beyond 32 bits"))?,
        // Before 1970 and after the year 200,000: the first second.
        mtime: if mtime > i64::MAX as u64 / 2 {
            0
        } else {
            mtime
        },
        mtime_nsec,
        attributes: extension.attributes,
    })
}

#[cfg(test)]
mod tests;
