//! What the preparer does to itself as a process: descriptors, network, forks.
#![expect(
    unsafe_code,
    reason = "what makes, changes and replaces a process has no safe wrapper: it is harmless only here and now"
)]

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, getpid, kill_process, setsid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use super::error::JailError;
use super::times::Times;

/// Which part of the preparer this process is after a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The one whose work is done.
    Done,
    /// The one that goes on.
    GoesOn,
}

/// The two sides of a fork.
enum Side {
    /// The one that was there before, with the number of the other.
    Parent(Pid),
    /// The new one.
    Child,
}

/// Closes all descriptors but stdin, stdout and stderr, which a caller left open without meaning it.
pub(super) fn close_inherited() -> Result<(), JailError> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: the preparer has opened nothing yet, so no descriptor of a value of ours is closed; the call takes
    // no pointer.
    let closed = unsafe { libc::close_range(FIRST, libc::c_uint::MAX, 0) };
    match closed {
        0 => Ok(()),
        _ => Err(JailError::CloseRange(io::Error::last_os_error())),
    }
}

/// Joins a network namespace. Its path may lead over links: `/var/run` is one, and `/proc/PID/ns/net` is one of
/// the kernel's. What it leads to is joined only if it is a network namespace.
pub(super) fn join_network(path: &Path) -> Result<(), JailError> {
    let namespace = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| JailError::FileOpen(path.to_owned(), e.into()))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|e| JailError::SetNetNs(e.into()))
}

/// Moves into namespaces of one's own.
pub(super) fn unshare(namespaces: UnshareFlags) -> io::Result<()> {
    // SAFETY: the flags of our callers are namespaces; the table of descriptors stays shared with nobody.
    unsafe { unshare_unsafe(namespaces) }.map_err(Into::into)
}

/// Opens what swallows a daemon's output.
pub(super) fn open_null() -> Result<OwnedFd, JailError> {
    open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| JailError::OpenDevNull(e.into()))
}

/// Leaves the caller's session and terminal for good: the second child leads no session and can get no terminal.
pub(super) fn daemonize(null: &OwnedFd, times: &mut Times) -> Result<Part, JailError> {
    times.before_fork();
    if let Side::Parent(_) = fork().map_err(JailError::Daemonize)? {
        return Ok(Part::Done);
    }
    setsid().map_err(|e| JailError::SetSid(e.into()))?;
    times.before_fork();
    if let Side::Parent(_) = fork().map_err(JailError::Daemonize)? {
        return Ok(Part::Done);
    }
    dup2_stdin(null).map_err(|e| JailError::Dup2(e.into()))?;
    dup2_stdout(null).map_err(|e| JailError::Dup2(e.into()))?;
    dup2_stderr(null).map_err(|e| JailError::Dup2(e.into()))?;
    Ok(Part::GoesOn)
}

/// Writes the pid file, as the host numbers the process; before that, the process becomes the first of a PID
/// namespace of its own where that is asked for.
pub(super) fn become_first(
    in_namespace: bool,
    pid_file: &Path,
    times: &mut Times,
) -> Result<Part, JailError> {
    if !in_namespace {
        write_pid(pid_file, getpid())?;
        return Ok(Part::GoesOn);
    }
    // A caller who waits for a session waits for that of the program.
    let led_session = leads_session();
    unshare(UnshareFlags::NEWPID).map_err(JailError::Clone)?;
    times.before_fork();
    match fork().map_err(JailError::Clone)? {
        Side::Child if led_session => {
            setsid().map_err(|e| JailError::SetSid(e.into()))?;
            Ok(Part::GoesOn)
        }
        Side::Child => Ok(Part::GoesOn),
        Side::Parent(child) => match write_pid(pid_file, child) {
            Ok(()) => Ok(Part::Done),
            Err(error) => {
                // Nobody would find it.
                let _ = kill_process(child, Signal::KILL);
                Err(error)
            }
        },
    }
}

/// A pid file that is there already belongs to another.
fn write_pid(path: &Path, pid: Pid) -> Result<(), JailError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|e| JailError::FileOpen(path.to_owned(), e))?;
    write!(file, "{}", pid.as_raw_nonzero()).map_err(|e| JailError::Write(path.to_owned(), e))
}

/// Whether this process leads its session. Rustix takes no number for one whose leader is outside of the PID namespace.
fn leads_session() -> bool {
    // SAFETY: the call takes no pointer and changes nothing.
    let session = unsafe { libc::getsid(0) };
    session == getpid().as_raw_nonzero().get()
}

/// Makes a second process of this one, which has one thread.
fn fork() -> io::Result<Side> {
    // SAFETY: the preparer has one thread, so the child finds every lock open and every value whole.
    let pid = unsafe { libc::fork() };
    match pid {
        ..0 => Err(io::Error::last_os_error()),
        _ => Ok(Pid::from_raw(pid).map_or(Side::Child, Side::Parent)),
    }
}

/// The two sides of [`clone_into`].
pub(super) enum Born {
    /// The child: its number outside, and the process itself.
    Parent(Pid, OwnedFd),
    /// This is the child.
    Child,
}

/// Makes a child in namespaces of its own, and in a cgroup of version 2 if there is one for it.
pub(super) fn clone_into(
    namespaces: UnshareFlags,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Born> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut process: libc::c_int = -1;
    let args = CloneArgs {
        flags: u64::from(namespaces.bits())
            | u64::from(libc::CLONE_PIDFD.cast_unsigned())
            | cgroup.map_or(0, |_| CLONE_INTO_CGROUP),
        cgroup: cgroup.map_or(0, |fd| u64::from(fd.as_raw_fd().cast_unsigned())),
        pidfd: (&raw mut process).addr() as u64,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM this is a fork, of a process with one thread; `args` has the size that is said, and the
    // address in it is that of a number that outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    let Ok(pid) = i32::try_from(pid) else {
        return Err(io::Error::from(Errno::RANGE));
    };
    match Pid::from_raw(pid) {
        None => Ok(Born::Child),
        Some(_) if pid < 0 => Err(io::Error::last_os_error()),
        Some(pid) => {
            // SAFETY: the kernel has just opened it, for us.
            let process = unsafe { OwnedFd::from_raw_fd(process) };
            Ok(Born::Parent(pid, process))
        }
    }
}

/// What clone3(2) is asked for.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Whether the parent is there: it has the other end, and says nothing more.
pub(super) fn check_alive(parent: &OwnedFd) -> Result<(), JailError> {
    let mut fds = [PollFd::new(parent, PollFlags::IN)];
    let now = Timespec::default();
    match poll(&mut fds, Some(&now)) {
        Ok(0) => Ok(()),
        Ok(_) => Err(JailError::Clone(Errno::SRCH.into())),
        Err(error) => Err(JailError::Clone(error.into())),
    }
}

/// Puts a descriptor at `number` and has every one above closed by exec.
pub(super) fn keep_only(fd: BorrowedFd<'_>, number: RawFd) -> Result<(), JailError> {
    // SAFETY: what is at that number in this child is the parent's, and nothing here uses it from now on; the call
    // takes no pointer.
    let copied = unsafe { libc::dup2(fd.as_raw_fd(), number) };
    if copied != number {
        return Err(JailError::Dup2(io::Error::last_os_error()));
    }
    // SAFETY: `number` is open; that exec keeps it open is what it is for.
    let kept = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(kept, FdFlags::empty()).map_err(|e| JailError::Dup2(e.into()))?;
    let first = number.cast_unsigned() + 1;
    let flags = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    // SAFETY: a flag of each descriptor is set; the call takes no pointer.
    match unsafe { libc::close_range(first, libc::c_uint::MAX, flags) } {
        0 => Ok(()),
        _ => Err(JailError::CloseRange(io::Error::last_os_error())),
    }
}

/// No memory that was writable becomes code, no page is merged with another's, no core is shared with a process
/// that is not of this cell. What a kernel does not have is left out: the audit names it.
pub(super) fn harden_memory() -> Result<(), JailError> {
    const PR_SET_MDWE: libc::c_int = 65;
    const PR_SET_MEMORY_MERGE: libc::c_int = 67;
    const REFUSE_EXEC_GAIN: libc::c_ulong = 1;
    const PR_SCHED_CORE: libc::c_int = 62;
    const CREATE: libc::c_ulong = 1;
    let wanted = [
        (PR_SET_MDWE, REFUSE_EXEC_GAIN),
        (PR_SET_MEMORY_MERGE, 0),
        (PR_SCHED_CORE, CREATE),
    ];
    for (option, value) in wanted {
        let none: libc::c_ulong = 0;
        // SAFETY: the options take numbers, no pointers; where there is a process to name, 0 is this one.
        let done = unsafe { libc::prctl(option, value, none, none, none) };
        let error = Errno::from_io_error(&io::Error::last_os_error());
        match (done, error) {
            // A kernel, or processors, without it.
            (0, _) | (_, Some(Errno::INVAL | Errno::NODEV | Errno::NOSYS)) => {}
            _ => return Err(JailError::Wall("memory", io::Error::last_os_error())),
        }
    }
    Ok(())
}

/// Becomes the program, with an empty environment. It returns only when that failed.
pub(super) fn exec(program: &OwnedFd, args: &[CString]) -> io::Error {
    let mut argv: Vec<*const libc::c_char> = args.iter().map(|arg| arg.as_ptr()).collect();
    argv.push(std::ptr::null());
    let environment: [*const libc::c_char; 1] = [std::ptr::null()];
    // SAFETY: the path is empty and the descriptor open; both lists hold strings that end with 0, and end with null.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Ends this child at once: nothing of the parent's is flushed or undone by it.
pub(super) fn leave() -> ! {
    // SAFETY: the call ends the process.
    unsafe { libc::_exit(1) }
}
