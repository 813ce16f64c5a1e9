//! What is mounted into a container's root, and how the root becomes the process's.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use super::options::{Options, propagation};
use super::place::Root;
use super::{During, RunError};
use crate::raw::{MountChange, mount_setattr};
use crate::spec::Mount;

/// File systems that a container may have a new one of. No other is made: it would parse what somebody has written.
const KINDS: [&str; 7] = [
    "proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2",
];

/// Mounts one thing.
pub(super) fn mount(root: &Root, mount: &Mount, files: &[PathBuf]) -> Result<(), RunError> {
    let what = format!("mount {} in the container", mount.destination);
    let destination = Path::new(&mount.destination);
    if root.resolve(destination).during(&what)? == Path::new("/") {
        return Err(io::Error::other("it would hide the root")).during(what);
    }
    let options = Options::parse(&mount.options).during(&what)?;
    let kind = mount.kind.as_deref().unwrap_or("bind");
    if options.bind || kind == "bind" {
        return bind(root, mount, &options, files).during(what);
    }
    if !KINDS.contains(&kind) {
        let known = KINDS.join(", ");
        return Err(io::Error::other(format!(
            "no '{kind}' is mounted: bind, or one of {known}"
        )))
        .during(what);
    }
    let place = root.make_folder(destination)?;
    let kind = if kind == "cgroup" { "cgroup2" } else { kind };
    let source = mount.source.as_deref().unwrap_or(kind);
    let fresh = fresh(kind, source, &options).during(&what)?;
    root.attach(&fresh, place).during(&what)?;
    change_after(&fresh, &options).during(what)
}

/// A new file system.
fn fresh(kind: &str, source: &str, options: &Options) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // What /proc/mounts calls it.
    fsconfig_set_string(&context, "source", source)?;
    for (name, value) in &options.data {
        match value {
            Some(value) => fsconfig_set_string(&context, name.as_str(), value.as_str())?,
            None => fsconfig_set_flag(&context, name.as_str())?,
        }
    }
    fsconfig_create(&context)?;
    let attributes = u32::try_from(options.set).map_err(|_| Errno::INVAL)?;
    fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::from_bits_retain(attributes),
    )
}

/// What was put into the guest for it, or is bound for all.
fn bind(root: &Root, mount: &Mount, options: &Options, files: &[PathBuf]) -> io::Result<()> {
    let source = mount.source.as_deref().unwrap_or("");
    let source = open_source(Path::new(source), files)?;
    let tree = clone(&source, options.recursive)?;
    let is_folder = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&source)?.st_mode)
        == rustix::fs::FileType::Directory;
    let destination = Path::new(&mount.destination);
    let place = if is_folder {
        root.make_folder(destination)
    } else {
        root.make_file(destination)
    }
    .map_err(io::Error::other)?;
    change(&tree, options)?;
    root.attach(&tree, place)?;
    Ok(change_after(&tree, options)?)
}

/// Opens what is to be bound: it must lie in one of the folders, and no link of it leads out of that.
fn open_source(source: &Path, files: &[PathBuf]) -> io::Result<OwnedFd> {
    let strange = || {
        let known: Vec<String> = files
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        io::Error::other(format!(
            "its source {} is not in {}: a guest has no other files of the host's",
            source.display(),
            known.join(" or ")
        ))
    };
    let (folder, rest) = files
        .iter()
        .find_map(|folder| Some((folder, source.strip_prefix(folder).ok()?)))
        .ok_or_else(strange)?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let folder = openat(CWD, folder, flags | OFlags::DIRECTORY, Mode::empty())?;
    if rest.as_os_str().is_empty() {
        return Ok(folder);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(folder, rest, flags, Mode::empty(), resolve)?)
}

/// A mount of the same as what is open.
fn clone(source: impl AsFd, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(source, "", flags)
}

fn change(mount: impl AsFd, options: &Options) -> Result<(), Errno> {
    let change = MountChange {
        set: options.set,
        clear: options.clear,
        ..MountChange::default()
    };
    mount_setattr(&mount, change, false)?;
    if options.set_all == 0 {
        return Ok(());
    }
    let change = MountChange {
        set: options.set_all,
        ..MountChange::default()
    };
    mount_setattr(mount, change, true)
}

/// What can be changed only of a mount that has its place.
fn change_after(mount: impl AsFd, options: &Options) -> Result<(), Errno> {
    let Some((kind, recursive)) = options.propagation else {
        return Ok(());
    };
    let change = MountChange {
        propagation: kind,
        ..MountChange::default()
    };
    mount_setattr(mount, change, recursive)
}

/// Hides what is there: a file behind /dev/null, a directory behind an empty one. What is not there needs no hiding.
pub(super) fn mask(root: &Root, path: &Path) -> Result<(), RunError> {
    let what = format!("hide {} from the container", path.display());
    let place = match root.get(path, OFlags::PATH) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other.during(&what)?,
    };
    let cover = if root.is_folder(path).during(&what)? {
        let options = Options::parse(&["ro", "size=0", "nr_inodes=1"].map(String::from));
        fresh("tmpfs", "tmpfs", &options.during(&what)?)
    } else {
        openat(
            CWD,
            "/dev/null",
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .and_then(|null| clone(null, false))
    };
    root.attach(cover.during(&what)?, place).during(what)
}

/// Lets nothing be written there. What is not there is left alone.
pub(super) fn protect(root: &Root, path: &Path) -> Result<(), RunError> {
    let what = format!("make {} read-only in the container", path.display());
    let place = match root.get(path, OFlags::PATH) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other.during(&what)?,
    };
    let tree = clone(&place, true).during(&what)?;
    let change = MountChange {
        set: libc::MOUNT_ATTR_RDONLY,
        ..MountChange::default()
    };
    mount_setattr(&tree, change, true).during(&what)?;
    root.attach(tree, place).during(what)
}

/// Makes it this process's root and lets go of the guest's.
pub(super) fn enter(root: &Root, wanted: Option<&str>) -> Result<(), RunError> {
    let what = "make the container's root the root";
    fchdir(root).during(what)?;
    // The old root lies over the new one until it is let go of, so `.` is the old one.
    pivot_root(".", ".").during(what)?;
    unmount(".", UnmountFlags::DETACH).during(what)?;
    chdir("/").during(what)?;
    let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else {
        return Ok(());
    };
    let what = format!("make the root {wanted}");
    let (kind, recursive) = propagation(wanted).ok_or(Errno::INVAL).during(&what)?;
    let change = MountChange {
        propagation: kind,
        ..MountChange::default()
    };
    let root = openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).during(&what)?;
    mount_setattr(root, change, recursive).during(what)
}
