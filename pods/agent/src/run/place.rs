//! A container's root while it is filled. The image is hostile: **no path of it leads out of it**, whatever its symbolic
//! links say, since each is opened by openat2(2) with the root as its `/` and no magic links.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat,
};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::{During, RunError};
use crate::raw::{MountChange, mount_setattr};

/// Symbolic links that are followed on the way to one place, as the kernel has it.
const MOST_LINKS: usize = 40;
/// Parts of a path.
const MOST_PARTS: usize = 256;

/// The root's directory.
pub(crate) struct Root(OwnedFd);

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Root {
    /// The directory at a path of the guest's.
    pub(crate) fn open(path: &Path) -> Result<Self, RunError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty())
            .map(Self)
            .during(format!("open the root {}", path.display()))
    }

    /// The same as a mount of this process's own, over the one that it comes from: from a user namespace one cannot pivot
    /// into a mount of somebody else's.
    pub(crate) fn anew(&self) -> Result<Self, RunError> {
        let what = "make the root the container's own";
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        let tree = open_tree(self, "", flags).during(what)?;
        self.attach(&tree, self).during(what)?;
        Ok(Self(tree))
    }

    /// Opens what is in the root.
    pub(crate) fn get(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        openat2(
            self,
            inside(path),
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    }

    /// Makes a directory with those above it, if it is not there, and opens it.
    pub(crate) fn make_folder(&self, path: &Path) -> Result<OwnedFd, RunError> {
        let what = || format!("make the directory {} in the container", path.display());
        let path = self.resolve(path).during(what())?;
        self.make_clean_folder(&path).during(what())
    }

    /// Makes an empty file, and the directories above it, if it is not there, and opens it.
    pub(crate) fn make_file(&self, path: &Path) -> Result<OwnedFd, RunError> {
        let what = || format!("make the file {} in the container", path.display());
        let path = self.resolve(path).during(what())?;
        let (folder, name) = self.parent(&path).during(what())?;
        match openat(
            &folder,
            name,
            OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o644),
        ) {
            Ok(_) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).during(what()),
        }
        self.get(&path, OFlags::PATH | OFlags::NOFOLLOW)
            .during(what())
    }

    /// The directory that a place is in, made if it is not there, and the place's name in it.
    pub(crate) fn parent<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a OsStr), Errno> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let folder = self.make_clean_folder(path.parent().unwrap_or(Path::new("/")))?;
        Ok((folder, name))
    }

    /// Puts a mount on what is in the root.
    pub(crate) fn attach(&self, mount: impl AsFd, place: impl AsFd) -> Result<(), Errno> {
        move_mount(
            mount,
            "",
            place,
            "",
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
        )
    }

    /// Nothing of the root itself can be written any more; what is mounted on it can.
    pub(crate) fn be_read_only(&self) -> Result<(), RunError> {
        let change = MountChange {
            set: libc::MOUNT_ATTR_RDONLY,
            ..MountChange::default()
        };
        mount_setattr(self, change, false).during("make the root read-only")
    }

    /// The place without symbolic links on the way to it, whether or not it is there.
    pub(crate) fn resolve(&self, path: &Path) -> Result<PathBuf, Errno> {
        let mut done = PathBuf::from("/");
        let mut left: Vec<PathBuf> = parts(path);
        let mut links = 0;
        left.reverse();
        while let Some(part) = left.pop() {
            if part == Path::new("..") {
                done.pop();
                continue;
            }
            let next = done.join(&part);
            let Some(target) = self.link(&next) else {
                done = next;
                continue;
            };
            links += 1;
            if links > MOST_LINKS || left.len() > MOST_PARTS {
                return Err(Errno::LOOP);
            }
            if target.is_absolute() {
                done = PathBuf::from("/");
            }
            left.extend(parts(&target).into_iter().rev());
        }
        Ok(done)
    }

    /// Where a symbolic link leads; none if there is no link. The way to it has no other.
    fn link(&self, path: &Path) -> Option<PathBuf> {
        let link = self.get(path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        let target = readlinkat(link, "", Vec::new()).ok()?;
        Some(OsStr::from_bytes(target.as_bytes()).into())
    }

    /// Makes a directory by a path that has no symbolic links.
    fn make_clean_folder(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut folder = self.get(Path::new("/"), flags)?;
        let mut so_far = PathBuf::from("/");
        for part in parts(path) {
            so_far.push(&part);
            folder = match self.get(&so_far, flags) {
                Err(Errno::NOENT) => {
                    mkdirat(&folder, &part, Mode::from_raw_mode(0o755))?;
                    self.get(&so_far, flags)?
                }
                other => other?,
            };
        }
        Ok(folder)
    }

    /// Whether something is there, and is a directory.
    pub(crate) fn is_folder(&self, path: &Path) -> Result<bool, Errno> {
        let found = fstat(self.get(path, OFlags::PATH)?)?;
        Ok(FileType::from_raw_mode(found.st_mode) == FileType::Directory)
    }
}

/// A path's parts without `/` and `.`.
fn parts(path: &Path) -> Vec<PathBuf> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(PathBuf::from(name)),
            Component::ParentDir => Some(PathBuf::from("..")),
            _ => None,
        })
        .collect()
}

/// As a path that the root's descriptor is the beginning of.
fn inside(path: &Path) -> PathBuf {
    let parts = parts(path);
    if parts.is_empty() {
        PathBuf::from(".")
    } else {
        parts.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        (folder, root)
    }

    #[test]
    fn a_link_out_of_the_root_leads_into_it() {
        let (folder, root) = root();
        symlink("/outside", folder.path().join("etc")).unwrap();
        root.make_file(Path::new("/etc/hosts")).unwrap();
        assert!(folder.path().join("outside/hosts").is_file());
    }

    #[test]
    fn no_number_of_dots_leaves_the_root() {
        let (folder, root) = root();
        symlink("../../../../..", folder.path().join("up")).unwrap();
        root.make_folder(Path::new("/up/../../here")).unwrap();
        assert!(folder.path().join("here").is_dir());
    }

    #[test]
    fn a_link_to_nothing_gets_its_file() {
        let (folder, root) = root();
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        symlink("../run/resolve/stub", folder.path().join("etc/resolv.conf")).unwrap();
        root.make_file(Path::new("/etc/resolv.conf")).unwrap();
        assert!(folder.path().join("run/resolve/stub").is_file());
    }

    #[test]
    fn links_in_a_circle_end() {
        let (folder, root) = root();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        assert!(root.make_folder(Path::new("/a/x")).is_err());
    }
}
