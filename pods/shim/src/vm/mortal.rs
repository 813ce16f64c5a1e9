//! A child that does not outlive this process.
#![expect(
    unsafe_code,
    reason = "the child asks for its death before it is another program"
)]

use std::io;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use tokio::process::Command;

/// Has the kernel kill the process that `command` starts when the thread ends that starts it: **to be spawned by the
/// first thread**.
pub(super) fn bind_to_this_process(command: &mut Command) {
    let own = rustix::process::getpid();
    let ask = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        match getppid() == Some(own) {
            true => Ok(()),
            // The shim was killed meanwhile.
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    };
    // SAFETY: between fork and exec the closure makes two system calls and neither allocates nor takes a lock.
    unsafe { command.pre_exec(ask) };
}
