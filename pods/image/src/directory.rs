//! A directory of the host as a tree: the root that an engine has mounted for a container.
//!
//! The directory is walked by descriptors, never by paths: whatever changes in it meanwhile, no symbolic link is followed
//! and no other file system is entered.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fgetxattr, flistxattr, openat2,
    readlinkat, statat,
};
use rustix::io::Errno;

use crate::limits::{ATTRIBUTES, Limits};
use crate::store::Store;
use crate::tree::{Attributes, Id, Kind, Meta, Node, Tree, TreeError, shows_attribute};

/// Why a directory was not taken.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Something in it could not be read.
    #[error("{path:?} could not be read")]
    Read {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another file system is mounted in it.
    #[error("{0:?} belongs to another mount: a root must be mounted as a whole")]
    Mount(PathBuf),
    /// It has more bytes than are taken.
    #[error("the files of the directory have more than {0} bytes; more are not taken")]
    Bytes(u64),
    /// An entry is refused.
    #[error(transparent)]
    Entry(#[from] TreeError),
    /// The disk could not be written.
    #[error("the disk could not be written")]
    Write(#[source] io::Error),
}

struct Walker<'a> {
    tree: Tree,
    store: &'a mut Store,
    limits: Limits,
    bytes: u64,
    /// Files with several names, by device and inode.
    linked: HashMap<(u64, u64), Id>,
    progress: &'a mut dyn FnMut(u64),
}

/// A directory that is being walked: what is left of its names, the last first.
struct Open {
    fd: OwnedFd,
    id: Id,
    path: PathBuf,
    names: Vec<Vec<u8>>,
    in_dev: bool,
}

/// Takes everything below `path`. `progress` is told how many bytes were taken each time.
///
/// # Errors
/// What could not be read or is refused.
pub fn read(
    path: &Path,
    store: &mut Store,
    limits: Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<Tree, DirectoryError> {
    let mut walker = Walker {
        tree: Tree::new(limits),
        store,
        limits,
        bytes: 0,
        linked: HashMap::new(),
        progress,
    };
    walker.walk(path)?;
    Ok(walker.tree)
}

impl Walker<'_> {
    fn walk(&mut self, path: &Path) -> Result<(), DirectoryError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let wrap = |errno: Errno| read_error(path, errno);
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(wrap)?;
        let stat = rustix::fs::fstat(&fd).map_err(wrap)?;
        let meta = meta(&stat, attributes(&fd).map_err(wrap)?);
        self.tree.put(b"/", meta, Kind::directory())?;
        let names = names(&fd).map_err(wrap)?;
        let mut open = vec![Open {
            fd,
            id: Tree::ROOT,
            path: path.to_owned(),
            names,
            in_dev: false,
        }];
        while let Some(directory) = open.last_mut() {
            let Some(name) = directory.names.pop() else {
                open.pop();
                continue;
            };
            let Some(next) = self.take(directory, &name)? else {
                continue;
            };
            if open.len() >= self.limits.depth {
                return Err(TreeError::Deep {
                    path: next.path,
                    limit: self.limits.depth,
                }
                .into());
            }
            open.push(next);
        }
        Ok(())
    }

    /// Takes one entry; a directory is returned, to be walked next.
    fn take(&mut self, parent: &Open, name: &[u8]) -> Result<Option<Open>, DirectoryError> {
        let path = parent.path.join(OsStr::from_bytes(name));
        let wrap = |errno: Errno| read_error(&path, errno);
        let stat = match statat(
            &parent.fd,
            name,
            AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
        ) {
            // Somebody has removed it since it was listed.
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(wrap)?,
        };
        if let Some(id) = self.linked.get(&(stat.st_dev, stat.st_ino)) {
            self.tree.link_in(parent.id, name, *id)?;
            return Ok(None);
        }
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return self.enter(parent, name, path).map(Some),
            FileType::RegularFile => {
                let id = self.file(parent, name, &path)?;
                self.remember(&stat, id);
                return Ok(None);
            }
            FileType::Symlink => {
                let target = readlinkat(&parent.fd, name, Vec::new()).map_err(wrap)?;
                Kind::Symlink(target.into_bytes().into())
            }
            FileType::CharacterDevice => Kind::Character(major(&stat), minor(&stat)),
            FileType::BlockDevice => Kind::Block(major(&stat), minor(&stat)),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::Unknown => return Ok(None),
        };
        if kind.is_device() && (!parent.in_dev || kind == Kind::Character(0, 0)) {
            self.tree.leave_out_device();
            return Ok(None);
        }
        let meta = meta(&stat, Vec::new());
        let id = self.tree.put_in(parent.id, name, Node { meta, kind })?;
        self.remember(&stat, id);
        Ok(None)
    }

    fn remember(&mut self, stat: &Stat, id: Id) {
        if stat.st_nlink > 1 {
            self.linked.insert((stat.st_dev, stat.st_ino), id);
        }
    }

    fn enter(&mut self, parent: &Open, name: &[u8], path: PathBuf) -> Result<Open, DirectoryError> {
        let fd = open_in(parent, name, OFlags::DIRECTORY, &path)?;
        let wrap = |errno: Errno| read_error(&path, errno);
        let stat = rustix::fs::fstat(&fd).map_err(wrap)?;
        let node = Node {
            meta: meta(&stat, attributes(&fd).map_err(wrap)?),
            kind: Kind::directory(),
        };
        let id = self.tree.put_in(parent.id, name, node)?;
        let names = names(&fd).map_err(wrap)?;
        let in_dev = parent.in_dev || (parent.id == Tree::ROOT && name == b"dev");
        Ok(Open {
            fd,
            id,
            path,
            names,
            in_dev,
        })
    }

    fn file(&mut self, parent: &Open, name: &[u8], path: &Path) -> Result<Id, DirectoryError> {
        let fd = open_in(parent, name, OFlags::NONBLOCK, path)?;
        let wrap = |errno: Errno| read_error(path, errno);
        let stat = rustix::fs::fstat(&fd).map_err(wrap)?;
        let meta = meta(&stat, attributes(&fd).map_err(wrap)?);
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.limits.bytes {
            return Err(DirectoryError::Bytes(self.limits.bytes));
        }
        let content = self
            .store
            .take_file(&File::from(fd), size, meta.leaves_room());
        let content = content.map_err(|source| DirectoryError::Read {
            path: path.to_owned(),
            source,
        })?;
        (self.progress)(size);
        let kind = Kind::File(content);
        Ok(self.tree.put_in(parent.id, name, Node { meta, kind })?)
    }
}

fn open_in(
    parent: &Open,
    name: &[u8],
    flags: OFlags,
    path: &Path,
) -> Result<OwnedFd, DirectoryError> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match openat2(&parent.fd, name, flags, Mode::empty(), resolve) {
        Ok(fd) => Ok(fd),
        Err(Errno::XDEV) => Err(DirectoryError::Mount(path.to_owned())),
        Err(errno) => Err(read_error(path, errno)),
    }
}

/// The names of a directory, the last first, so that the same directory gives the same disk.
fn names(fd: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

fn attributes(fd: &OwnedFd) -> Result<Attributes, Errno> {
    let mut list = Vec::with_capacity(4096);
    match flistxattr(fd, rustix::buffer::spare_capacity(&mut list)) {
        Ok(_) => {}
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(Errno::RANGE) => {
            list = Vec::with_capacity(ATTRIBUTES);
            flistxattr(fd, rustix::buffer::spare_capacity(&mut list))?;
        }
        Err(errno) => return Err(errno),
    }
    let names = list
        .split(|byte| *byte == 0)
        .filter(|name| shows_attribute(name));
    let mut found = Vec::new();
    for name in names {
        let mut value = Vec::with_capacity(ATTRIBUTES);
        match fgetxattr(fd, name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => found.push((name.into(), value.into())),
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn meta(stat: &Stat, attributes: Attributes) -> Meta {
    Meta {
        mode: u16::try_from(stat.st_mode & 0o7777).expect("12 bits"),
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: u64::try_from(stat.st_mtime).unwrap_or(0),
        mtime_nsec: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        attributes,
    }
}

fn major(stat: &Stat) -> u32 {
    rustix::fs::major(stat.st_rdev)
}

fn minor(stat: &Stat) -> u32 {
    rustix::fs::minor(stat.st_rdev)
}

fn read_error(path: &Path, errno: Errno) -> DirectoryError {
    DirectoryError::Read {
        path: path.to_owned(),
        source: errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn read_with(path: &Path, limits: Limits) -> Result<Tree, DirectoryError> {
        let file = || tempfile::tempfile().unwrap();
        let mut store = Store::new(file(), file()).unwrap();
        read(path, &mut store, limits, &mut |_| {})
    }

    fn kind(tree: &Tree, path: &str) -> Option<Kind> {
        let id = tree.find(path.as_bytes()).unwrap()?;
        Some(tree.node(id).kind.clone())
    }

    #[test]
    fn links_are_data_and_never_followed() {
        let folder = tempfile::tempdir().unwrap();
        symlink("/etc", folder.path().join("out")).unwrap();
        let tree = read_with(folder.path(), Limits::default()).unwrap();
        assert_eq!(
            kind(&tree, "out"),
            Some(Kind::Symlink(b"/etc".as_slice().into()))
        );
    }

    #[test]
    fn names_of_one_file_stay_names_of_one_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("d")).unwrap();
        fs::write(folder.path().join("a"), "a").unwrap();
        fs::hard_link(folder.path().join("a"), folder.path().join("d/b")).unwrap();
        let tree = read_with(folder.path(), Limits::default()).unwrap();
        assert_eq!(tree.find(b"a").unwrap(), tree.find(b"d/b").unwrap());
    }

    #[test]
    fn permissions_are_kept_with_their_high_bits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("su");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4711)).unwrap();
        let tree = read_with(folder.path(), Limits::default()).unwrap();
        let id = tree.find(b"su").unwrap().unwrap();
        assert_eq!(tree.node(id).meta.mode, 0o4711);
    }

    #[test]
    fn a_directory_beyond_a_limit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b/c")).unwrap();
        fs::write(folder.path().join("a/b/f"), [0; 100]).unwrap();
        let refused = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            read_with(folder.path(), limits).unwrap_err().to_string()
        };
        assert!(refused(|limits| limits.depth = 2).contains("deeper"));
        assert!(refused(|limits| limits.bytes = 99).contains("more than 99 bytes"));
        assert!(refused(|limits| limits.entries = 2).contains("more than 2 entries"));
    }

    #[test]
    fn a_device_of_a_root_stays_in_dev() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("dev")).unwrap();
        let device = rustix::fs::makedev(1, 3);
        for path in ["null", "dev/null"] {
            let made = rustix::fs::mknodat(
                CWD,
                folder.path().join(path),
                FileType::CharacterDevice,
                Mode::RUSR,
                device,
            );
            if made.is_err() {
                println!("skipped: this process may make no devices");
                return;
            }
        }
        let tree = read_with(folder.path(), Limits::default()).unwrap();
        assert_eq!(kind(&tree, "dev/null"), Some(Kind::Character(1, 3)));
        assert_eq!((kind(&tree, "null"), tree.devices_left_out()), (None, 1));
    }
}
