//! What the preparer does to itself as a process: descriptors, network, forks.
#![expect(
    unsafe_code,
    reason = "close_range(2), unshare(2) and fork(2) have no safe wrapper: they are harmless only here and now"
)]

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
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
enum Fork {
    Parent(Pid),
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
    if let Fork::Parent(_) = fork().map_err(JailError::Daemonize)? {
        return Ok(Part::Done);
    }
    setsid().map_err(|e| JailError::SetSid(e.into()))?;
    times.before_fork();
    if let Fork::Parent(_) = fork().map_err(JailError::Daemonize)? {
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
        Fork::Child if led_session => {
            setsid().map_err(|e| JailError::SetSid(e.into()))?;
            Ok(Part::GoesOn)
        }
        Fork::Child => Ok(Part::GoesOn),
        Fork::Parent(child) => match write_pid(pid_file, child) {
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

fn fork() -> io::Result<Fork> {
    // SAFETY: the preparer has one thread, so the child finds every lock open and every value whole.
    let pid = unsafe { libc::fork() };
    match pid {
        ..0 => Err(io::Error::last_os_error()),
        _ => Ok(Pid::from_raw(pid).map_or(Fork::Child, Fork::Parent)),
    }
}
