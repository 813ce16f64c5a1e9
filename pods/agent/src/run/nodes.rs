//! The files of devices that a container has.

use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, makedev, mknodat, openat,
    symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::place::Root;
use super::{During, RunError};
use crate::spec::Device;

/// Every container has these character devices (OCI runtime specification, config-linux, default devices).
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];
const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Makes those that every container has, and those that it asks for.
pub(super) fn make(root: &Root, asked: &[Device]) -> Result<(), RunError> {
    for (path, major, minor) in DEFAULT {
        if asked.iter().all(|device| device.path != path) {
            make_one(root, &character(path, major, minor))?;
        }
    }
    for device in asked {
        make_one(root, device)?;
    }
    for (link, target) in LINKS {
        let what = format!("make {link} in the container");
        let path = root.resolve(Path::new("/dev")).during(&what)?;
        let path = path.join(link.trim_start_matches("/dev/"));
        let (folder, name) = root.parent(&path).during(&what)?;
        match symlinkat(target, &folder, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).during(what),
        }
    }
    Ok(())
}

fn character(path: &str, major: u32, minor: u32) -> Device {
    Device {
        path: path.into(),
        kind: "c".into(),
        major,
        minor,
        file_mode: Some(0o666),
        uid: None,
        gid: None,
    }
}

fn make_one(root: &Root, device: &Device) -> Result<(), RunError> {
    let what = format!("make the device {} in the container", device.path);
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        _ => return Err(Errno::INVAL).during(what),
    };
    let path = PathBuf::from(&device.path);
    let place = path.parent().unwrap_or(Path::new("/"));
    let place = root.resolve(place).during(&what)?;
    let path = place.join(path.file_name().ok_or(Errno::INVAL).during(&what)?);
    let (folder, name) = root.parent(&path).during(&what)?;
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
    let number = makedev(device.major, device.minor);
    match mknodat(&folder, name, kind, mode, number) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        // In a user namespace nobody makes devices: the guest's own is bound.
        Err(Errno::PERM) => return bind(root, &path, &device.path).during(what),
        Err(error) => return Err(error).during(what),
    }
    // The mask of this process has taken some away.
    chmodat(&folder, name, mode, AtFlags::empty()).during(&what)?;
    let owner = Uid::from_raw(device.uid.unwrap_or(0));
    let group = Gid::from_raw(device.gid.unwrap_or(0));
    chownat(
        &folder,
        name,
        Some(owner),
        Some(group),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .during(what)
}

/// Binds the guest's device of the same name.
fn bind(root: &Root, path: &Path, device: &str) -> Result<(), std::io::Error> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let source = openat(CWD, device, flags, Mode::empty())?;
    let tree = open_tree(
        source,
        "",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH,
    )?;
    let place = root.make_file(path).map_err(std::io::Error::other)?;
    Ok(root.attach(tree, place)?)
}
