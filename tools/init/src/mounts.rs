//! What is mounted when a guest starts and unmounted when it ends.

use std::ffi::CStr;
use std::path::Path;

use rustix::fs::{Mode, stat, statfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::kmsg;

/// File system magic numbers (linux/magic.h) of a root that is an initramfs.
const RAMFS_MAGIC: u64 = 0x8584_58f6;
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// A mount without which nothing can be run.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {kind} on {target}: {source}")]
pub struct MountError {
    kind: &'static str,
    target: &'static str,
    source: Errno,
}

struct Entry {
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    data: Option<&'static CStr>,
}

/// Mounts `/proc`, `/sys` and `/dev`, unless they are there already (the kernel may mount `/dev`, an
/// initramfs hands over all three).
pub fn mount_kernel_views() -> Result<(), MountError> {
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    ensure(&Entry {
        kind: "proc",
        target: "/proc",
        flags: quiet,
        data: None,
    })?;
    ensure(&Entry {
        kind: "sysfs",
        target: "/sys",
        flags: quiet,
        data: None,
    })?;
    let data = Some(c"mode=0755");
    ensure(&Entry {
        kind: "devtmpfs",
        target: "/dev",
        flags: MountFlags::NOSUID,
        data,
    })
}

/// Mounts `/dev/pts`, `/dev/shm`, `/run` and `/tmp` and makes `/dev/fd` and its kin. What fails is said
/// in the kernel's log.
pub fn mount_scratch() {
    let nosuid = MountFlags::NOSUID | MountFlags::NODEV;
    let scratch = [
        Entry {
            kind: "devpts",
            target: "/dev/pts",
            flags: MountFlags::NOSUID | MountFlags::NOEXEC,
            data: Some(c"mode=0620,ptmxmode=0666"),
        },
        Entry {
            kind: "tmpfs",
            target: "/dev/shm",
            flags: nosuid,
            data: Some(c"mode=1777"),
        },
        Entry {
            kind: "tmpfs",
            target: "/run",
            flags: nosuid,
            data: Some(c"mode=0755"),
        },
        Entry {
            kind: "tmpfs",
            target: "/tmp",
            flags: nosuid,
            data: Some(c"mode=1777"),
        },
    ];
    for entry in &scratch {
        if let Err(error) = ensure(entry) {
            kmsg::error(&error);
        }
    }
    for (link, target) in [
        ("fd", ""),
        ("stdin", "/0"),
        ("stdout", "/1"),
        ("stderr", "/2"),
    ] {
        let made = std::os::unix::fs::symlink(
            format!("/proc/self/fd{target}"),
            Path::new("/dev").join(link),
        );
        if let Err(error) = made
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            kmsg::error(&format_args!("cannot make /dev/{link}: {error}"));
        }
    }
}

/// Whether `/` is the initramfs: a root on a disk is neither tmpfs nor ramfs.
pub fn root_is_initramfs() -> bool {
    statfs("/")
        .is_ok_and(|root| matches!(u64::try_from(root.f_type), Ok(RAMFS_MAGIC | TMPFS_MAGIC)))
}

/// Writes everything back, unmounts what can be unmounted and makes the root read-only.
pub fn leave() {
    rustix::fs::sync();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for target in unmount_order(&mounts) {
        if let Err(error) = unmount(target.as_str(), UnmountFlags::DETACH) {
            kmsg::info(&format_args!("cannot unmount {target}: {error}"));
        }
    }
    if !root_is_initramfs()
        && let Err(error) = mount_remount("/", MountFlags::RDONLY, c"")
    {
        kmsg::error(&format_args!("cannot make the root read-only: {error}"));
    }
    rustix::fs::sync();
}

fn ensure(entry: &Entry) -> Result<(), MountError> {
    if is_mount_point(entry.target) {
        return Ok(());
    }
    // An existing directory is the usual case; a missing one that cannot be made fails the mount below.
    let _ = rustix::fs::mkdir(entry.target, Mode::from_raw_mode(0o755));
    match mount(
        entry.kind,
        entry.target,
        entry.kind,
        entry.flags,
        entry.data,
    ) {
        Ok(()) => Ok(()),
        Err(source) => Err(MountError {
            kind: entry.kind,
            target: entry.target,
            source,
        }),
    }
}

/// Whether something is mounted there: its device is not its parent's.
fn is_mount_point(path: &str) -> bool {
    match (stat(path), stat(format!("{path}/..").as_str())) {
        (Ok(inside), Ok(outside)) => inside.st_dev != outside.st_dev,
        _ => false,
    }
}

/// Mount points to unmount, the newest first (`/proc/self/mountinfo`, proc(5)): all but the root and the
/// kernel's views, which ending the guest still needs.
fn unmount_order(mountinfo: &str) -> Vec<String> {
    let mut targets: Vec<String> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .filter(|target| !matches!(target.as_str(), "/" | "/proc" | "/sys" | "/dev"))
        .collect();
    targets.reverse();
    targets
}

/// Undoes mountinfo's octal escapes: `\040` is a blank.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) => {
                plain.push(char::from(code));
                plain.push_str(rest);
            }
            _ => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_mount_goes_first_and_the_kernels_views_stay() {
        let mountinfo = "\
22 1 254:0 / / rw,relatime - ext4 /dev/root rw
23 22 0:5 / /dev rw,nosuid - devtmpfs devtmpfs rw
24 22 0:21 / /proc rw - proc proc rw
25 22 0:22 / /sys rw - sysfs sysfs rw
26 23 0:23 / /dev/pts rw - devpts devpts rw
27 22 254:16 / /mnt rw - ext4 /dev/vdb rw
28 27 0:25 / /mnt/my\\040disk rw - tmpfs tmpfs rw
";
        assert_eq!(
            unmount_order(mountinfo),
            ["/mnt/my disk", "/mnt", "/dev/pts"]
        );
    }

    #[test]
    fn a_broken_escape_stays_as_it_is() {
        assert_eq!(unescape("a\\04"), "a\\04");
        assert_eq!(unescape("a\\999b\\134c"), "a\\999b\\c");
    }
}
