//! The directories and devices of the jail, made once it is `/`.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, chownat, fchmod, fchown, makedev, mknodat, openat};
use rustix::io::Errno;

use super::error::JailError;
use super::plan::Ids;
use super::root::{DIRECTORY, make_directory};

/// The major number of devices that have no other (Linux, admin-guide/devices.txt).
const MISC: u32 = 10;
const TUN: u32 = 200;
const KVM: u32 = 232;
/// The major number of memory devices.
const MEMORY: u32 = 1;
const URANDOM: u32 = 9;

/// The minor number of /dev/userfaultfd, where the kernel has it.
pub(super) fn userfaultfd_minor() -> Option<u32> {
    minor_of("userfaultfd", &fs::read_to_string("/proc/misc").ok()?)
}

/// A device's minor number in the lines of /proc/misc.
fn minor_of(device: &str, misc: &str) -> Option<u32> {
    misc.lines().find_map(|line| {
        let (minor, name) = line.trim().split_once(' ')?;
        (name == device).then(|| minor.parse().ok())?
    })
}

/// Makes `/`, `/dev`, `/dev/net`, `/run` and the devices, all of them the user's alone.
///
/// # Errors
/// Also when a device is there already: two programs do not share a jail.
pub(super) fn make(ids: Ids, userfaultfd: Option<u32>) -> Result<(), JailError> {
    let permissions = Mode::RWXU;
    let root = openat(CWD, "/", DIRECTORY, Mode::empty());
    let root = own("/", root, ids)?;
    let dev = own("/dev", make_directory(&root, "dev", permissions), ids)?;
    let net = own("/dev/net", make_directory(&dev, "net", permissions), ids)?;
    own("/run", make_directory(&root, "run", permissions), ids)?;
    device(&net, "/dev/net/tun", (MISC, TUN), ids)?;
    device(&dev, "/dev/kvm", (MISC, KVM), ids)?;
    if let Err(error) = device(&dev, "/dev/urandom", (MEMORY, URANDOM), ids) {
        // A stdout that is gone stops nothing.
        let _ = writeln!(
            io::stdout(),
            "Warning! Could not create /dev/urandom device inside jailer: {error}.\n\
             MMDS version 2 will not be available to use."
        );
    }
    if let Some(minor) = userfaultfd {
        device(&dev, "/dev/userfaultfd", (MISC, minor), ids)?;
    }
    Ok(())
}

/// Gives a directory to the user, who alone may enter it.
fn own(path: &str, directory: Result<OwnedFd, Errno>, ids: Ids) -> Result<OwnedFd, JailError> {
    let directory = directory.map_err(|e| JailError::CreateDir(path.into(), e.into()))?;
    fchmod(&directory, Mode::RWXU).map_err(|e| JailError::Chmod(path.into(), e.into()))?;
    fchown(&directory, Some(ids.uid), Some(ids.gid))
        .map_err(|e| JailError::ChangeFileOwner(path.into(), e.into()))?;
    Ok(directory)
}

/// Makes a device in its directory and gives it to the user.
fn device(
    directory: &OwnedFd,
    path: &'static str,
    (major, minor): (u32, u32),
    ids: Ids,
) -> Result<(), JailError> {
    let name = Path::new(path).file_name().unwrap_or_default();
    let mode = Mode::RUSR | Mode::WUSR;
    let number = makedev(major, minor);
    mknodat(directory, name, FileType::CharacterDevice, mode, number)
        .map_err(|e| JailError::MknodDev(path, e.into()))?;
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    chownat(directory, name, Some(ids.uid), Some(ids.gid), flags)
        .map_err(|e| JailError::ChangeFileOwner(path.into(), e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_of_the_list_is_found_however_its_number_is_aligned() {
        let misc = "234 btrfs-control\n 57 userfaultfd\n232 kvm\n";
        assert_eq!(minor_of("userfaultfd", misc), Some(57));
        assert_eq!(minor_of("kvm", misc), Some(232));
        assert_eq!(minor_of("tun", misc), None);
        assert_eq!(minor_of("kvm", "x kvm\n"), None);
    }
}
