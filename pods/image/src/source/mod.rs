//! Where images come from: archives, directories, registries. Each can give the document at its top, and what that names.

mod archive;
mod layout;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::digest::Digest;
use archive::Packed;
use layout::Layout;

/// Why something could not be had from where an image is.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It could not be read.
    #[error("{0:?} cannot be read")]
    Read(PathBuf, #[source] io::Error),
    /// It is no image.
    #[error(
        "{0:?} is no image: an OCI archive or layout has a file index.json, an archive of \"docker save\" a file manifest.json"
    )]
    NoImage(PathBuf),
    /// A part of it is missing.
    #[error("the image names {0}, which is not there")]
    Missing(String),
    /// A document is too large.
    #[error("the document {name} has more than {limit} bytes; more are not taken")]
    Document {
        /// Which.
        name: String,
        /// What is taken.
        limit: usize,
    },
    /// The archive has more parts than an image.
    #[error("the archive has more than {0} parts: it is no image")]
    Parts(usize),
    /// A registry has refused, or could not be asked.
    #[error(transparent)]
    Registry(#[from] crate::registry::RegistryError),
}

/// The document from which everything else of an image is found.
#[derive(Debug)]
pub enum Top {
    /// `index.json` of a layout: names of images.
    Names(Vec<u8>),
    /// What a registry has under a reference: a manifest, or an index of them.
    Document(Digest, Vec<u8>),
    /// `manifest.json` of "docker save".
    Docker(Vec<u8>),
}

/// A part of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A manifest or an index, by its digest.
    Manifest(Digest),
    /// Anything else, by its digest.
    Blob(Digest),
    /// A file of an archive that has its own names.
    File(String),
}

impl Part {
    /// Its path in a layout.
    fn path(&self) -> String {
        match self {
            Self::Manifest(digest) | Self::Blob(digest) => format!("blobs/sha256/{}", digest.hex()),
            Self::File(path) => path.clone(),
        }
    }
}

/// Where an image is.
pub trait Source {
    /// The document at the top.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    fn top(&self, limit: usize) -> Result<Top, SourceError>;

    /// A part, to be read once from its start.
    ///
    /// # Errors
    /// If it is not there.
    fn open(&self, part: &Part) -> Result<Box<dyn Read + Send + '_>, SourceError>;

    /// A whole part that has at most `limit` bytes.
    ///
    /// # Errors
    /// If it has more, or is not there.
    fn document(&self, part: &Part, limit: usize) -> Result<Vec<u8>, SourceError> {
        document(self.open(part)?, &part.path(), limit)
    }
}

/// The image in a file or a directory. `room` is where an archive that is itself compressed may be unpacked to.
///
/// # Errors
/// If it cannot be opened.
pub fn open(path: &Path, room: &Path, limit: u64) -> Result<Box<dyn Source>, SourceError> {
    let wrap = |error: io::Error| SourceError::Read(path.to_owned(), error);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| wrap(errno.into()))?;
    let file = std::fs::File::from(fd);
    let stat = file.metadata().map_err(wrap)?;
    if stat.is_dir() {
        return Ok(Box::new(Layout::new(path, file)));
    }
    if !stat.is_file() {
        return Err(wrap(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is neither a file nor a directory",
        )));
    }
    Ok(Box::new(Packed::open(path, file, room, limit)?))
}

/// The documents that stand at the top of layouts and archives, in the order in which they are looked for.
fn top_of(source: &dyn Source, path: &Path, limit: usize) -> Result<Top, SourceError> {
    match source.document(&Part::File("index.json".into()), limit) {
        Err(SourceError::Missing(_)) => {}
        other => return other.map(Top::Names),
    }
    match source.document(&Part::File("manifest.json".into()), limit) {
        Err(SourceError::Missing(_)) => Err(SourceError::NoImage(path.to_owned())),
        other => other.map(Top::Docker),
    }
}

pub(crate) fn document(
    reader: impl Read,
    name: &str,
    limit: usize,
) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    let read = reader.take(limit as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| SourceError::Read(name.into(), error))?;
    if bytes.len() > limit {
        let name = name.to_owned();
        return Err(SourceError::Document { name, limit });
    }
    Ok(bytes)
}
