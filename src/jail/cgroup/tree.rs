//! A cgroup hierarchy as directories and files, reached by descriptors from where it is mounted.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, ResolveFlags, flock, fstat, openat, openat2, statat,
};
use rustix::io::Errno;

use crate::jail::error::JailError;
use crate::jail::plan::CgroupVersion;
use crate::jail::root::{DIRECTORY, make_directory};

/// A cgroup file system, as a line of /proc/mounts has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where it is mounted.
    pub(super) directory: PathBuf,
    /// Which kind it is.
    pub(super) version: CgroupVersion,
    options: String,
}

impl Mount {
    /// Reads a line; `None` for what is no cgroup file system.
    pub(super) fn read(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let (directory, kind, options) = (fields.nth(1)?, fields.next()?, fields.next()?);
        let version = match kind {
            "cgroup" => CgroupVersion::V1,
            "cgroup2" => CgroupVersion::V2,
            _ => return None,
        };
        Some(Self {
            directory: PathBuf::from(unescape(directory)),
            version,
            options: options.to_owned(),
        })
    }

    /// Whether a v1 hierarchy is that of a controller.
    pub(super) fn has(&self, controller: &str) -> bool {
        self.options.split(',').any(|option| option == controller)
    }
}

/// A path of /proc/mounts: the kernel writes a space, a tab, a newline and a backslash as `\ooo` (proc(5)).
fn unescape(text: &str) -> String {
    [
        (r"\040", " "),
        (r"\011", "\t"),
        (r"\012", "\n"),
        (r"\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (code, char)| {
        text.replace(code, char)
    })
}

/// A cgroup, open.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
    directory: OwnedFd,
}

impl Cgroup {
    /// The root of a hierarchy.
    pub(super) fn root(mount: &Path) -> Result<Self, JailError> {
        let flags = DIRECTORY;
        let directory = openat2(CWD, mount, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
            .map_err(|e| JailError::FileOpen(mount.to_owned(), e.into()))?;
        Ok(Self {
            path: mount.to_owned(),
            directory,
        })
    }

    /// The cgroup itself, which is the last, and before it those above it; what is not there is made.
    pub(super) fn make_below(mount: &Path, path: &Path) -> Result<Vec<Self>, JailError> {
        let mut line = vec![Self::root(mount)?];
        for part in path.components() {
            let (Component::Normal(name), Some(parent)) = (part, line.last()) else {
                return Err(JailError::CgroupInvalidFile(path.display().to_string()));
            };
            let path = parent.path.join(name);
            let name = name.to_str().unwrap_or_default();
            let everyone = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
            let directory = make_directory(&parent.directory, name, everyone)
                .map_err(|e| JailError::CreateDir(path.clone(), e.into()))?;
            line.push(Self { path, directory });
        }
        Ok(line)
    }

    /// A cgroup below this one, if it is there.
    pub(super) fn below(&self, path: &Path) -> Result<Option<Self>, JailError> {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let found = openat2(&self.directory, path, DIRECTORY, Mode::empty(), beneath);
        let path = self.path.join(path);
        match found {
            Ok(directory) => Ok(Some(Self { path, directory })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(JailError::FileOpen(path, error.into())),
        }
    }

    /// Takes the lock (`flock(2)`) that says that somebody watches over this cgroup, for as long as it stays open.
    /// False when somebody else looks at it, or it is gone already.
    pub(super) fn is_held(&self) -> bool {
        let is_locked = flock(&self.directory, FlockOperation::NonBlockingLockExclusive).is_ok();
        is_locked && self.is_at_its_path()
    }

    /// Whether its path leads to it still.
    fn is_at_its_path(&self) -> bool {
        let named = statat(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW);
        let (Ok(open), Ok(named)) = (fstat(&self.directory), named) else {
            return false;
        };
        (open.st_dev, open.st_ino) == (named.st_dev, named.st_ino)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What a file says, without the newline at its end.
    pub(super) fn read(&self, file: &str) -> Result<String, JailError> {
        let failed = |e| JailError::ReadToString(self.path.join(file), e);
        let mut text = String::new();
        self.open(file, OFlags::RDONLY)
            .map_err(|e| failed(e.into()))?
            .read_to_string(&mut text)
            .map_err(failed)?;
        Ok(text.trim_end_matches('\n').to_owned())
    }

    /// Whether it has a file.
    pub(super) fn has(&self, file: &str) -> bool {
        statat(&self.directory, file, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Writes a line to a file, in one piece.
    pub(super) fn write(&self, file: &str, line: &str) -> Result<(), JailError> {
        let failed = |e| JailError::Write(self.path.join(file), e);
        let mut file = self
            .open(file, OFlags::WRONLY)
            .map_err(|e| failed(e.into()))?;
        file.write_all(format!("{line}\n").as_bytes())
            .map_err(failed)
    }

    /// A file that is written to later.
    pub(super) fn open_to_write(&self, file: &str) -> Result<OwnedFd, JailError> {
        let opened = self.open(file, OFlags::WRONLY);
        let opened = opened.map_err(|e| JailError::FileOpen(self.path.join(file), e.into()))?;
        Ok(opened.into())
    }

    /// The cgroup once more.
    pub(super) fn again(&self) -> Result<OwnedFd, JailError> {
        let copy = self.directory.try_clone();
        copy.map_err(|e| JailError::FileOpen(self.path.clone(), e))
    }

    /// The directory, open as a path.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// A file is never made: the kernel makes those that there are. Its name has no slash (`Setting`).
    fn open(&self, file: &str, flags: OFlags) -> Result<File, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(self.directory.as_fd(), file, flags, Mode::empty()).map(File::from)
    }
}
