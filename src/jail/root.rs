//! The jail's root: a directory that becomes `/` of a mount namespace of its own.

use std::fs::canonicalize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use super::error::JailError;

/// Makes an empty file system that nobody can write to `/`, and detaches everything else. To be called in a mount
/// namespace of one's own.
pub(super) fn become_nothing() -> Result<(), JailError> {
    let failed = |e: Errno| JailError::Wall("root", e.into());
    // Nothing that happens here reaches the host, and nothing of the host's comes here.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(failed)?;
    let empty = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed)?;
    for (key, value) in [("size", "1M"), ("nr_inodes", "32"), ("mode", "0555")] {
        fsconfig_set_string(&empty, key, value).map_err(failed)?;
    }
    fsconfig_create(&empty).map_err(failed)?;
    let bare = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let tree = fsmount(&empty, FsMountFlags::FSMOUNT_CLOEXEC, bare).map_err(failed)?;
    move_mount(&tree, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(failed)?;
    enter_tree(&tree)
}

/// Makes a mounted tree `/`, and detaches what was.
fn enter_tree(tree: &OwnedFd) -> Result<(), JailError> {
    // The old root is stacked over the new one for a moment (pivot_root(2)), so no directory is needed for it.
    fchdir(tree).map_err(|e| JailError::SetCurrentDir(e.into()))?;
    pivot_root(".", ".").map_err(|e| JailError::PivotRoot(e.into()))?;
    unmount(".", UnmountFlags::DETACH).map_err(|e| JailError::UmountOldRoot(e.into()))?;
    chdir("/").map_err(|e| JailError::SetCurrentDir(e.into()))
}

/// How a directory is opened.
pub(super) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The chroot base without symbolic links: there `/srv` itself may be one, by the administrator's will.
pub(super) fn base(path: &Path) -> Result<PathBuf, JailError> {
    let base = canonicalize(path).map_err(|e| JailError::Canonicalize(path.to_owned(), e))?;
    match base.is_dir() {
        true => Ok(base),
        false => Err(JailError::NotADirectory(base)),
    }
}

/// Opens a directory by a path that has no symbolic link.
fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    openat2(
        CWD,
        path,
        DIRECTORY,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    )
}

/// Opens a directory by its name in another, and makes it where it is not there. A symbolic link is refused.
pub(super) fn make_directory(parent: impl AsFd, name: &str, mode: Mode) -> Result<OwnedFd, Errno> {
    match mkdirat(parent.as_fd(), name, mode) {
        Ok(()) | Err(Errno::EXIST) => openat(parent, name, DIRECTORY, Mode::empty()),
        Err(error) => Err(error),
    }
}

/// The jail's root, open.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    directory: OwnedFd,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Root {
    /// Makes `<base>/<exec file's name>/<id>/root`, as far as it is not there.
    pub(super) fn make(base: PathBuf, exec_file: &str, id: &str) -> Result<Self, JailError> {
        let failed = |path: &Path, e: Errno| JailError::CreateDir(path.to_owned(), e.into());
        let mut directory = open_directory(&base).map_err(|e| failed(&base, e))?;
        let mut path = base;
        let open = Mode::RWXU | Mode::RWXG | Mode::RWXO;
        for (name, mode) in [(exec_file, open), (id, open), ("root", Mode::RWXU)] {
            path.push(name);
            directory = make_directory(directory, name, mode).map_err(|e| failed(&path, e))?;
        }
        Ok(Self { path, directory })
    }

    /// Its path, as the host sees it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it `/`, with the mounts that lie on it and below it, and detaches everything else. To be called in a
    /// mount namespace of one's own.
    ///
    /// Mounts that the host removes later vanish here too; what is mounted here the host does not see.
    pub(super) fn become_root(self) -> Result<(), JailError> {
        let recursive = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change("/", recursive).map_err(|e| JailError::MountPropagationSlave(e.into()))?;
        let directory = self.again()?;
        // pivot_root wants a mount: the directory's own tree is mounted on it, by descriptors and not by names.
        let bind = |e: Errno| JailError::MountBind(e.into());
        let clone = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        let tree = open_tree(&directory, "", clone).map_err(bind)?;
        let by_descriptor =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&tree, "", &directory, "", by_descriptor).map_err(bind)?;
        enter_tree(&tree)
    }

    /// The same directory, opened in this mount namespace: the descriptor at hand is of the namespace before.
    fn again(&self) -> Result<OwnedFd, JailError> {
        let failed = |e: Errno| JailError::FileOpen(self.path.clone(), e.into());
        let directory = open_directory(&self.path).map_err(failed)?;
        let (before, now) = (
            fstat(&self.directory).map_err(failed)?,
            fstat(&directory).map_err(failed)?,
        );
        match (before.st_dev, before.st_ino) == (now.st_dev, now.st_ino) {
            true => Ok(directory),
            false => Err(JailError::Exchanged(self.path.clone())),
        }
    }
}
