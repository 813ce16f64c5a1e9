//! The parent's part: the child in its namespaces, mapped, in its cgroups, and then let go.

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, Signal, pidfd_send_signal};

use super::{Cell, Wall, enter};
use crate::jail::cgroup::Door;
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

/// A monitor in its cell, or on its way into it.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its number outside.
    pub(crate) pid: Pid,
    /// The process, whatever has its number later.
    pub(crate) process: OwnedFd,
    /// Its part waits for this.
    go: PipeWriter,
    /// What it has to say of its part; at its end without a word, it has become the monitor.
    word: PipeReader,
}

/// Makes the child. It waits until it is let go ([`Child::go`]); the caller may put it into cgroups before that.
///
/// # Errors
/// When the kernel makes none.
pub(crate) fn spawn(cell: &Cell) -> Result<Child, SpawnError> {
    let (parent, go) = io::pipe().map_err(JailError::Clone)?;
    let (word, teller) = io::pipe().map_err(JailError::Clone)?;
    let cgroup = cell.doors.iter().find_map(|door| match door {
        Door::Birth(cgroup) => Some(cgroup.as_fd()),
        Door::Tasks(_) => None,
    });
    let born = process::clone_into(cell.namespaces(), cgroup).map_err(|error| {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::ENOSPC | libc::EUSERS) => SpawnError::Namespaces(error),
            _ => JailError::Clone(error).into(),
        }
    })?;
    match born {
        Born::Child => {
            drop((go, word));
            child(cell, &parent.into(), teller)
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
    if process::await_go(parent) {
        let error = enter(cell, parent);
        // Who is not there any more does not want to know.
        let _ = teller.write_all(error.to_string().as_bytes());
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

    /// Lets the child do its part, and waits until it has become the monitor.
    ///
    /// # Errors
    /// What kept it from that; it is gone then.
    pub(crate) fn go(&mut self) -> Result<(), SpawnError> {
        let mut word = String::new();
        self.go
            .write_all(b"g")
            .and_then(|()| self.word.read_to_string(&mut word))
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

    /// Ends it at once.
    pub(crate) fn kill(&self) {
        // One that is gone needs nothing.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
    }
}
