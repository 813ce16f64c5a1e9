//! A directory laid out as the OCI says (image-layout.md).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::{Part, Source, SourceError, Top, top_of};

/// The directory.
pub(super) struct Layout {
    path: PathBuf,
    directory: File,
}

impl Layout {
    pub(super) fn new(path: &Path, directory: File) -> Self {
        Self {
            path: path.to_owned(),
            directory,
        }
    }
}

impl Source for Layout {
    fn top(&self, limit: usize) -> Result<Top, SourceError> {
        top_of(self, &self.path, limit)
    }

    fn open(&self, part: &Part) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        let name = part.path();
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        // Whoever made the directory does not choose files of the host.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let wrap = |error| SourceError::Read(self.path.join(&name), error);
        let file = match openat2(&self.directory, &*name, flags, Mode::empty(), resolve) {
            Err(Errno::NOENT) => return Err(SourceError::Missing(name)),
            other => File::from(other.map_err(|errno| wrap(errno.into()))?),
        };
        if !file.metadata().map_err(wrap)?.is_file() {
            return Err(SourceError::Missing(name));
        }
        Ok(Box::new(file))
    }
}
