//! Attacks on the host's files and mounts. `/mnt` is the test's: a file system in memory, in its own mount namespace.

use std::io::Write;

use libc::{EBUSY, EINVAL, ENOEXEC, ESTALE};

use super::call::{HERE, call, child, closed, flag, input, output, text};
use super::page::Page;
use super::{Attack, GAIN};

pub(super) const ATTACKS: &[Attack] = &[
    Attack::new("open-public", |_| open(c"/mnt/public")),
    Attack::new("open-private", |_| open(c"/mnt/private")),
    Attack::new("openat2", openat2),
    Attack::new("open-proc", open_proc),
    Attack::past("open-by-handle", open_by_handle, &[ESTALE]),
    Attack::new("stat", stat),
    Attack::new("create", create),
    Attack::new("mknod", mknod),
    Attack::past("exec", exec, &[ENOEXEC]),
    Attack::past("exec-memory", exec_memory, &[ENOEXEC]),
    Attack::new("set-uid", set_uid),
    Attack::new("chroot", |_| call(libc::SYS_chroot, [text(c"/")])),
    Attack::past("pivot-root", pivot_root, &[EBUSY, EINVAL]),
    Attack::new("mount", mount),
    Attack::new("mount-change", mount_change),
    Attack::past("umount", umount, &[EBUSY]),
    Attack::past("swapon", swapon, &[EINVAL]),
    Attack::new("acct", |_| call(libc::SYS_acct, [0])),
    Attack::new("quotactl", quotactl),
    Attack::new("cgroup-path", cgroup_path),
];

fn open(path: &core::ffi::CStr) -> Result<usize, i32> {
    call(libc::SYS_open, [text(path), flag(libc::O_RDONLY), 0]).and_then(closed)
}

/// The status of the process that is attacked.
fn open_proc(page: &Page) -> Result<usize, i32> {
    let mut path = [0; 32];
    write!(path.as_mut_slice(), "/proc/{}/status", page.target()).map_err(|_| libc::EINVAL)?;
    let arguments = [input(&path), flag(libc::O_RDONLY), 0];
    call(libc::SYS_open, arguments).and_then(closed)
}

fn openat2(_: &Page) -> Result<usize, i32> {
    // Flags, mode, resolve: openat2(2).
    let how: [u64; 3] = [0; 3];
    let arguments = [HERE, text(c"/mnt/public"), input(&how), size_of_val(&how)];
    call(libc::SYS_openat2, arguments).and_then(closed)
}

/// A handle that no file has.
fn open_by_handle(_: &Page) -> Result<usize, i32> {
    // Its length in bytes, its kind, the handle.
    let handle: [u32; 4] = [8, 1, u32::MAX, u32::MAX];
    let arguments = [HERE, input(&handle), flag(libc::O_RDONLY)];
    call(libc::SYS_open_by_handle_at, arguments).and_then(closed)
}

fn stat(_: &Page) -> Result<usize, i32> {
    let mut space = [0_u64; 32];
    call(libc::SYS_stat, [text(c"/mnt/public"), output(&mut space)])
}

fn create(_: &Page) -> Result<usize, i32> {
    let flags = flag(libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY);
    let path = text(c"/mnt/created");
    call(libc::SYS_openat, [HERE, path, flags, 0o600]).and_then(closed)?;
    call(libc::SYS_unlink, [path])
}

/// The device that swallows everything.
fn mknod(_: &Page) -> Result<usize, i32> {
    const NULL: usize = 1 << 8 | 3;
    let path = text(c"/mnt/node");
    call(
        libc::SYS_mknod,
        [path, libc::S_IFCHR as usize | 0o600, NULL],
    )?;
    call(libc::SYS_unlink, [path])
}

/// A file that may be run and is no program: the kernel says so once nothing else stands in the way.
fn exec(_: &Page) -> Result<usize, i32> {
    let path = text(c"/mnt/no-program");
    let list = [path, 0];
    call(libc::SYS_execve, [path, input(&list), input(&0_usize)])
}

/// The same without a file.
fn exec_memory(_: &Page) -> Result<usize, i32> {
    let fd = call(libc::SYS_memfd_create, [text(c"no-program"), 0])?;
    let _ = call(libc::SYS_write, [fd, text(c"none"), 4]);
    let list = [text(c"no-program"), 0];
    let arguments = [
        fd,
        text(c""),
        input(&list),
        input(&0_usize),
        flag(libc::AT_EMPTY_PATH),
    ];
    let done = call(libc::SYS_execveat, arguments);
    closed(fd)?;
    done
}

/// Root by a program of root's, which says whether it is.
fn set_uid(_: &Page) -> Result<usize, i32> {
    debug_assert_eq!(GAIN, "set-uid");
    let status = child(
        || {
            let list = [text(c"set-uid"), 0];
            let path = text(c"/mnt/set-uid");
            let _ = call(libc::SYS_execve, [path, input(&list), input(&0_usize)]);
            2
        },
        0,
    )?;
    match status {
        0 => Ok(0),
        1 => Err(libc::EPERM),
        _ => Err(libc::EACCES),
    }
}

/// The root on itself: busy, for whoever may.
fn pivot_root(_: &Page) -> Result<usize, i32> {
    call(libc::SYS_pivot_root, [text(c"/"), text(c"/")])
}

fn mount(_: &Page) -> Result<usize, i32> {
    let (kind, place) = (text(c"tmpfs"), text(c"/mnt/point"));
    call(libc::SYS_mount, [kind, place, kind, 0, 0])?;
    call(libc::SYS_umount2, [place, flag(libc::MNT_DETACH)])
}

/// What is private already is made private.
fn mount_change(_: &Page) -> Result<usize, i32> {
    let private = usize::try_from(libc::MS_PRIVATE).unwrap_or_default();
    call(libc::SYS_mount, [0, text(c"/"), 0, private, 0])
}

/// The test has a file open there.
fn umount(_: &Page) -> Result<usize, i32> {
    call(libc::SYS_umount2, [text(c"/mnt"), 0])
}

/// What can be no swap space.
fn swapon(_: &Page) -> Result<usize, i32> {
    call(libc::SYS_swapon, [text(c"/mnt/public"), 0])
}

/// Everybody's quotas are written out.
fn quotactl(_: &Page) -> Result<usize, i32> {
    const Q_SYNC: usize = 0x80_0001;
    call(libc::SYS_quotactl, [Q_SYNC << 8, 0, 0, 0])
}

/// Where the host has put this process.
fn cgroup_path(_: &Page) -> Result<usize, i32> {
    let path = text(c"/proc/thread-self/cgroup");
    let fd = call(libc::SYS_open, [path, flag(libc::O_RDONLY), 0])?;
    let mut space = [0_u8; 4096];
    let length = call(libc::SYS_read, [fd, output(&mut space), space.len()]);
    closed(fd)?;
    let read = space.get(..length?).unwrap_or_default();
    let mut lines = read
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    match lines.all(|line| line.ends_with(b":/")) {
        true => Err(libc::ENOENT),
        false => Ok(0),
    }
}
