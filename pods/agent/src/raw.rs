//! The few calls that no library wraps: a fork of a process with one thread, namespaces, attributes of mounts, system
//! call filters, programs of cgroups, signals by number.
#![expect(
    unsafe_code,
    reason = "system calls without a safe wrapper: each is one of these functions"
)]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::thread::UnshareFlags;
use tokio::io::unix::AsyncFd;

/// Has the runtime wait for a descriptor.
pub(crate) fn register(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor stays open, and the same, until what is made of it here is dropped.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Which of the two a process is after a fork.
pub(crate) enum Fork {
    /// The one that forked, and its child.
    Parent(u32),
    /// The child.
    Child,
}

/// Forks. Only for a process with one thread, since the child has no other: whoever calls checks that.
pub(crate) fn fork() -> Result<Fork, Errno> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    assert_eq!(threads, 1, "a process with threads must not fork");
    // SAFETY: with one thread, no lock is held by a thread that the child does not have.
    match checked(unsafe { libc::fork() }.into())? {
        0 => Ok(Fork::Child),
        child => Ok(Fork::Parent(u32::try_from(child).unwrap_or_default())),
    }
}

/// A descriptor that who has executed this program has left open for it, by its number. No program that this one
/// executes gets it.
pub(crate) fn left_open(number: RawFd) -> Option<OwnedFd> {
    if number <= 2 {
        return None;
    }
    // SAFETY: no memory is involved; a number that is no descriptor is an error.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    checked(result.into()).ok()?;
    // SAFETY: it is open, was before this program had opened anything, and is asked for once.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Puts this thread, which must be its process's only one, into new namespaces.
pub(crate) fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: the table of descriptors is not unshared, the one thing that could surprise their owners.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// What is changed of a mount (`struct mount_attr`, mount_setattr(2)).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MountChange {
    /// `MOUNT_ATTR_*` to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub(crate) clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or `MS_UNBINDABLE`; 0 leaves it.
    pub(crate) propagation: u64,
    /// Only for mappings of users.
    pub(crate) user_namespace: u64,
}

/// Changes the mount whose root `mount` is, and with `recursive` those on it.
pub(crate) fn mount_setattr(
    mount: impl AsFd,
    change: MountChange,
    recursive: bool,
) -> Result<(), Errno> {
    let deep = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty string that lives for ever, and the structure has the size that is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | deep,
            &raw const change,
            size_of::<MountChange>(),
        )
    };
    checked(result).map(drop)
}

/// Puts a system call filter on this thread, for ever.
///
/// It must have no new privileges, or CAP_SYS_ADMIN.
pub(crate) fn set_filter(
    program: &[seccompiler::sock_filter],
    flags: libc::c_ulong,
) -> Result<(), Errno> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::INVAL)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the program lives through the call, which copies it; both crates' instructions are the kernel's.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    checked(result).map(drop)
}

/// An instruction of BPF (`struct bpf_insn`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// What it does.
    pub(crate) code: u8,
    /// The register that it changes, and above it the one that it reads, four bits each.
    pub(crate) registers: u8,
    /// Instructions to leave out, or bytes from an address.
    pub(crate) offset: i16,
    /// A number.
    pub(crate) immediate: i32,
}

/// `union bpf_attr` as BPF_PROG_LOAD has it, as far as it is needed (bpf(2)).
#[repr(C)]
#[derive(Default)]
struct LoadProgram {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
}

/// `union bpf_attr` as BPF_PROG_ATTACH has it.
#[repr(C)]
#[derive(Default)]
struct AttachProgram {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// The program of a cgroup takes the place of none, and others may come below it.
const BPF_F_ALLOW_MULTI: u32 = 2;
const LICENSE: &CStr = c"Apache-2.0";

/// Loads a program that says which devices the processes of a cgroup may use.
pub(crate) fn load_device_program(instructions: &[Instruction]) -> Result<OwnedFd, Errno> {
    let attributes = LoadProgram {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(instructions.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: instructions.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        ..Default::default()
    };
    // SAFETY: the instructions and the license live through the call, and the structure has the size that is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const attributes,
            size_of::<LoadProgram>(),
        )
    };
    let fd = i32::try_from(checked(result)?).map_err(|_| Errno::BADF)?;
    // SAFETY: the descriptor is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has a program decide for the processes of the cgroup whose folder is `cgroup`.
pub(crate) fn attach_device_program(cgroup: impl AsFd, program: impl AsFd) -> Result<(), Errno> {
    let number = |fd: i32| u32::try_from(fd).map_err(|_| Errno::BADF);
    let attributes = AttachProgram {
        target: number(cgroup.as_fd().as_raw_fd())?,
        program: number(program.as_fd().as_raw_fd())?,
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: the structure has the size that is given, and holds no address.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_ATTACH,
            &raw const attributes,
            size_of::<AttachProgram>(),
        )
    };
    checked(result).map(drop)
}

/// Sends a signal by its number, which may be one of the nameless real-time signals.
pub(crate) fn kill(process: u32, signal: i32) -> Result<(), Errno> {
    let process = i32::try_from(process).map_err(|_| Errno::SRCH)?;
    if process <= 0 {
        return Err(Errno::SRCH);
    }
    // SAFETY: no memory is involved.
    checked(unsafe { libc::kill(process, signal) }.into()).map(drop)
}

fn checked(result: libc::c_long) -> Result<libc::c_long, Errno> {
    match result {
        -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
        result => Ok(result),
    }
}
