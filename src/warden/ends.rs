//! How a monitor has ended, in words and as an exit status.

use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::kernel_log::killing_call;
use crate::jail::cell::Child;
use crate::logger;

/// How a monitor has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// By itself, with a status. It has said why.
    Exited(u8),
    /// By a signal.
    Killed(Pid, i32),
}

/// Waits for the end of a monitor.
pub(super) fn reap(child: &Child) -> io::Result<Ends> {
    loop {
        match waitid(WaitId::PidFd(child.process.as_fd()), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(None) => {}
            Ok(Some(status)) => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Ends::Exited(u8::try_from(code).unwrap_or(u8::MAX)),
                    (None, signal) => Ends::Killed(child.pid, signal.unwrap_or_default()),
                });
            }
        }
    }
}

impl Ends {
    /// Whether it could not put anything back.
    pub(super) fn was_killed(self) -> bool {
        matches!(self, Self::Killed(..))
    }

    /// Says what it could not say itself; the exit status, as a shell has it.
    pub(super) fn tell(self) -> ExitCode {
        match self {
            Self::Exited(code) => ExitCode::from(code),
            Self::Killed(pid, signal) => {
                logger::tell(&sentence(pid, signal));
                ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))
            }
        }
    }
}

fn sentence(pid: Pid, signal: i32) -> String {
    match signal {
        libc::SIGSYS => match killing_call(pid) {
            Some(call) => format!(
                "the monitor was killed by its seccomp filter for {call}: either it was its guest's, or a rule is missing, \
                 which --seccomp-log would tell; please report it"
            ),
            None => "the monitor was killed by its seccomp filter, for a system call that it never needs: the kernel's log \
                     names the call (dmesg, or the audit log, `syscall=`); --seccomp-log lets it pass and says which rule \
                     it would need"
                .to_owned(),
        },
        libc::SIGKILL => "the monitor was killed (SIGKILL): by somebody, or by the kernel for want of memory (dmesg, \
                          or the memory limit of its cgroup)"
            .to_owned(),
        libc::SIGABRT => {
            "the monitor has ended itself (SIGABRT) after what it has said above: this is a bug, please report it"
                .to_owned()
        }
        signal => format!("the monitor was ended by signal {signal}"),
    }
}
