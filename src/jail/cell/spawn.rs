//! The parent's part: the child, mapped, and then let go.

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::{Cell, Wall, enter, go, turn_away};
use crate::jail::error::JailError;
use crate::jail::process::{self, Born};

/// Why there is no monitor in a cell.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    /// The parent's part.
    #[error(transparent)]
    Jail(#[from] JailError),
    /// The kernel does not let this user have namespaces of its own.
    #[error(
        "this host does not let this user make namespaces ({0}): allow it (sysctl kernel.unprivileged_userns_clone=1, \
         user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0), or run without that wall by \
         --no-jail"
    )]
    Namespaces(io::Error),
    /// The child's part, in its words.
    #[error("{0}")]
    Child(String),
}

impl SpawnError {
    /// Why there are no namespaces, be it the parent's part or the child's.
    pub(super) fn of_namespaces(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::ENOSPC | libc::EUSERS) => Self::Namespaces(error),
            _ => JailError::Clone(error).into(),
        }
    }
}

/// A monitor in its cell, or on its way into it. It goes when this does.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its number outside.
    pub(crate) pid: Pid,
    /// The process, whatever has its number later.
    pub(crate) process: OwnedFd,
    /// The second half of its part waits for a word of this.
    go: OwnedFd,
    /// What it has to say of its part; at its end without a word, it has become the monitor.
    word: PipeReader,
}

/// Makes the child. It turns away from the host at once, and then waits until it is let go ([`Child::go`]).
///
/// # Errors
/// When the kernel makes none.
pub(crate) fn spawn(cell: &Cell) -> Result<Child, SpawnError> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let (go, parent) = socketpair(family, kind, SocketFlags::CLOEXEC, None)
        .map_err(|error| JailError::Clone(error.into()))?;
    let (word, teller) = io::pipe().map_err(JailError::Clone)?;
    let cgroup = cell.birthplace.as_ref().map(AsFd::as_fd);
    let born = process::clone_into(cell.of_birth(), cgroup).map_err(SpawnError::of_namespaces)?;
    match born {
        Born::Child => {
            drop((go, word));
            child(cell, &parent, teller)
        }
        Born::Parent(pid, process) => {
            let child = Child {
                pid,
                process,
                go,
                word,
            };
            if cell.walls.has(Wall::User) {
                child.map(cell)?;
            }
            Ok(child)
        }
    }
}

/// The child's life until it is the monitor.
fn child(cell: &Cell, parent: &OwnedFd, mut teller: PipeWriter) -> ! {
    let failed = match turn_away(cell) {
        Err(error) => Some(error.to_string()),
        Ok(()) => go::hear(parent).map(|doors| enter(cell, &doors, parent).to_string()),
    };
    if let Some(failed) = failed {
        // Who is not there any more does not want to know.
        let _ = teller.write_all(failed.as_bytes());
    }
    process::leave()
}

impl Child {
    /// One user and one group outside are one inside.
    fn map(&self, cell: &Cell) -> Result<(), JailError> {
        if !cell.changes_ids {
            self.write("setgroups", "deny")?;
        }
        let (inner, outer) = (cell.inner, cell.ids);
        let (uid, gid) = (inner.uid.as_raw(), inner.gid.as_raw());
        self.write("uid_map", &format!("{uid} {} 1", outer.uid.as_raw()))?;
        self.write("gid_map", &format!("{gid} {} 1", outer.gid.as_raw()))
    }

    fn write(&self, file: &str, line: &str) -> Result<(), JailError> {
        let path = format!("/proc/{}/{file}", self.pid.as_raw_nonzero());
        fs::write(&path, line).map_err(|e| JailError::Write(path.into(), e))
    }

    /// Lets the child go on, by `doors` into its cgroups of version 1.
    ///
    /// # Errors
    /// When there are more of them than can be passed on.
    pub(crate) fn go(&self, doors: &[OwnedFd]) -> Result<(), SpawnError> {
        match go::say(&self.go, doors) {
            // It will be heard why ([`Child::arrived`]).
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            said => Ok(said.map_err(JailError::Clone)?),
        }
    }

    /// Waits until it has become the monitor.
    ///
    /// # Errors
    /// What kept it from that; it is gone then.
    pub(crate) fn arrived(&mut self) -> Result<(), SpawnError> {
        let mut word = String::new();
        self.word
            .read_to_string(&mut word)
            .map_err(JailError::Clone)?;
        match word.is_empty() {
            true => Ok(()),
            false => Err(SpawnError::Child(word)),
        }
    }

    /// Whether a signal waits for it that it has not taken yet (`proc_pid_status(5)`, `ShdPnd`).
    pub(crate) fn has_pending(&self, signal: Signal) -> bool {
        let path = format!("/proc/{}/status", self.pid.as_raw_nonzero());
        let status = fs::read_to_string(path).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.unwrap_or_default() & (1 << (signal.as_raw() - 1)) != 0
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // One that has ended, and was waited for, needs neither.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
        let _ = waitid(WaitId::PidFd(self.process.as_fd()), WaitIdOptions::EXITED);
    }
}
