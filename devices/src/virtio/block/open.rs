//! Opens the file behind a disk, for whoever may open files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, fcntl_getfl, fcntl_setfl, flock};
use rustix::io::Errno;

use crate::outside;

/// Why the file behind a disk cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such file.
    #[error(
        "the disk {0:?} does not exist (No such file or directory); make it first, for example with `truncate -s 1G {path}`", path = .0.display()
    )]
    Missing(PathBuf),
    /// A directory.
    #[error("the disk {0:?} is a directory; name a disk image or a block device")]
    Directory(PathBuf),
    /// A pipe, socket or character device.
    #[error("the disk {0:?} is neither a regular file nor a block device; name a disk image")]
    Kind(PathBuf),
    /// No permission to read.
    #[error(
        "the disk {0:?} may not be read by this user (Permission denied); change its permissions or the user"
    )]
    Unreadable(PathBuf),
    /// Permission to read at most.
    #[error(
        "the disk {0:?} may not be written by this user (Permission denied); change its permissions, or attach it read-only with `,ro`"
    )]
    Unwritable(PathBuf),
    /// Passed in, for reading only.
    #[error(
        "the disk {0:?} was passed in open for reading only; open it for writing too, or attach it read-only"
    )]
    PassedReadOnly(PathBuf),
    /// Another virtual machine has it.
    #[error(
        "the disk {0:?} is in use by another process; stop that one, or attach it read-only everywhere with `,ro`"
    )]
    Busy(PathBuf),
    /// Anything else.
    #[error("cannot open the disk {path:?}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Opens a disk image or block device, and locks it: a writer alone, readers together. The lock
/// (`flock(2)`) goes with the file wherever it is passed, and ends when the last copy is closed. Empty
/// files are fine: disks of 0 sectors, to be replaced by an update.
///
/// # Errors
/// When the file is missing, of another kind, in use, or not permitted.
pub fn open(path: &Path, read_only: bool) -> Result<File, OpenError> {
    // Without NONBLOCK the open of a pipe would wait for its other end.
    let access = match read_only {
        true => OFlags::RDONLY,
        false => OFlags::RDWR,
    };
    let file = outside::open(path, access | OFlags::NONBLOCK)
        .map_err(|error| explain(path, read_only, error))?;
    adopt(path, file, read_only)
}

/// Takes a file that somebody else has opened, and locks it as [`open`] does; `path` is what messages
/// call it.
///
/// # Errors
/// When it is of another kind, or in use.
pub fn adopt(path: &Path, file: File, read_only: bool) -> Result<File, OpenError> {
    let wrap = |source| OpenError::Open {
        path: path.to_owned(),
        source,
    };
    let kind = file.metadata().map_err(wrap)?.file_type();
    if kind.is_dir() {
        return Err(OpenError::Directory(path.to_owned()));
    }
    if !kind.is_file() && !kind.is_block_device() {
        return Err(OpenError::Kind(path.to_owned()));
    }
    let flags = fcntl_getfl(&file).map_err(|errno| wrap(errno.into()))?;
    if !read_only && !flags.contains(OFlags::RDWR) {
        return Err(OpenError::PassedReadOnly(path.to_owned()));
    }
    lock(path, &file, read_only)?;
    fcntl_setfl(&file, flags.difference(OFlags::NONBLOCK)).map_err(|errno| wrap(errno.into()))?;
    Ok(file)
}

fn lock(path: &Path, file: &File, read_only: bool) -> Result<(), OpenError> {
    let operation = if read_only {
        FlockOperation::NonBlockingLockShared
    } else {
        FlockOperation::NonBlockingLockExclusive
    };
    match flock(file, operation) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(OpenError::Busy(path.to_owned())),
        Err(errno) => {
            // Some network file systems have no locks; a disk there is as safe as its user is careful.
            log::warn!("the disk {path:?} cannot be locked against other users: {errno}");
            Ok(())
        }
    }
}

fn explain(path: &Path, read_only: bool, error: io::Error) -> OpenError {
    let path = path.to_owned();
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => OpenError::Missing(path),
        Some(Errno::ISDIR) => OpenError::Directory(path),
        // A pipe without a reader, or a socket.
        Some(Errno::NXIO) => OpenError::Kind(path),
        Some(Errno::BUSY | Errno::TXTBSY) => OpenError::Busy(path),
        Some(Errno::ROFS) => OpenError::Unwritable(path),
        Some(Errno::ACCESS | Errno::PERM) if read_only => OpenError::Unreadable(path),
        Some(Errno::ACCESS | Errno::PERM) => {
            if outside::open(&path, OFlags::RDONLY).is_ok() {
                OpenError::Unwritable(path)
            } else {
                OpenError::Unreadable(path)
            }
        }
        _ => OpenError::Open {
            path,
            source: error,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn image() -> tempfile::NamedTempFile {
        tempfile::NamedTempFile::new().unwrap()
    }

    #[test]
    fn a_missing_disk_is_said_to_be_missing() {
        let error = open(Path::new("/nowhere/disk.img"), false).unwrap_err();
        assert!(matches!(error, OpenError::Missing(_)), "{error}");
    }

    #[test]
    fn a_directory_is_no_disk() {
        let dir = tempfile::tempdir().unwrap();
        for read_only in [false, true] {
            let error = open(dir.path(), read_only).unwrap_err();
            assert!(matches!(error, OpenError::Directory(_)), "{error}");
        }
    }

    #[test]
    fn a_pipe_is_no_disk_and_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        for read_only in [false, true] {
            let error = open(&path, read_only).unwrap_err();
            assert!(matches!(error, OpenError::Kind(_)), "{error}");
        }
    }

    #[test]
    fn a_disk_has_one_writer_or_many_readers() {
        let image = image();
        let writer = open(image.path(), false).unwrap();
        for read_only in [false, true] {
            let error = open(image.path(), read_only).unwrap_err();
            assert!(matches!(error, OpenError::Busy(_)), "{error}");
        }
        drop(writer);
        let _first = open(image.path(), true).unwrap();
        let _second = open(image.path(), true).unwrap();
        assert!(matches!(open(image.path(), false), Err(OpenError::Busy(_))));
    }

    #[test]
    fn a_disk_that_may_only_be_read_says_how_to_attach_it() {
        if rustix::process::geteuid().is_root() {
            // Permissions do not bind root; the sentence is tested, the kernel's refusal is not.
            let denied = io::Error::from(Errno::ACCESS);
            let image = image();
            let error = explain(image.path(), false, denied);
            assert!(error.to_string().contains(",ro"), "{error}");
            return;
        }
        let image = image();
        let only_read = std::fs::Permissions::from_mode(0o400);
        std::fs::set_permissions(image.path(), only_read).unwrap();
        let error = open(image.path(), false).unwrap_err();
        assert!(matches!(error, OpenError::Unwritable(_)), "{error}");
    }

    #[test]
    fn an_opened_disk_blocks_as_files_do() {
        let image = image();
        let file = open(image.path(), true).unwrap();
        assert!(!fcntl_getfl(&file).unwrap().contains(OFlags::NONBLOCK));
    }
}
