//! `ravelin ctl NAME stop`: the guest switches itself off, or the VM is ended.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::act;
use super::target::Target;
use crate::cli::ps::Shape;
use crate::failure::Failure;
use crate::registry::process;

/// How long a guest may take to switch itself off where nothing was said.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a VM that was ended may take to clean up.
const CLEANING: Duration = Duration::from_secs(2);
/// How long the kernel may take to end a process.
const DYING: Duration = Duration::from_secs(10);

/// Stops a VM and waits for the end of its process.
///
/// # Errors
/// When it does not end, or its process cannot be told.
pub(super) fn stop(
    target: &Target,
    force: bool,
    patience: Option<Duration>,
) -> Result<(), Failure> {
    let Some(process) = process_of(target)? else {
        return Ok(());
    };
    let warden = target.vm.as_ref().and_then(process::open_warden);
    match force {
        true => end(&process)?,
        false => ask(target, &process, patience)?,
    }
    // Its socket and its name are gone then.
    if let Some(warden) = warden {
        has_ended(&warden, CLEANING)?;
    }
    Ok(())
}

/// Has the guest switch itself off.
fn ask(target: &Target, process: &OwnedFd, patience: Option<Duration>) -> Result<(), Failure> {
    let patience = patience.unwrap_or(PATIENCE);
    match Shape::ask(&target.client).state.as_deref() {
        // There is no guest that could be asked.
        Some("Not started") => signal(process, Signal::TERM)?,
        Some("Paused") => {
            return Err(Failure::run(
                "the VM is paused, and its guest cannot switch itself off: `resume` it first, or `stop --force`",
            ));
        }
        _ => act(target, "SendCtrlAltDel")?,
    }
    match has_ended(process, patience)? {
        true => Ok(()),
        false => Err(Failure::run(format!(
            "the guest has not switched itself off within {patience:?}: give it a longer --timeout, or \
             `stop --force`"
        ))),
    }
}

/// Ends a process: so that it can clean up, if it still can.
fn end(process: &OwnedFd) -> Result<(), Failure> {
    signal(process, Signal::INT)?;
    if has_ended(process, CLEANING)? {
        return Ok(());
    }
    signal(process, Signal::KILL)?;
    match has_ended(process, DYING)? {
        true => Ok(()),
        false => Err(Failure::run(
            "the kernel has not ended the VM's process: it waits for a disk or another device",
        )),
    }
}

/// The process of a VM; `None` when it has ended.
fn process_of(target: &Target) -> Result<Option<OwnedFd>, Failure> {
    match &target.vm {
        Some(vm) => Ok(process::open(vm)),
        None => maker(target).map(Some),
    }
}

/// The process that has made the socket of a VM that is not among the running ones. A service manager may
/// have made it and handed it on: that one must not be ended.
fn maker(target: &Target) -> Result<OwnedFd, Failure> {
    let pid = target.client.peer().map_err(Failure::run)?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let process = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .filter(|_| ["ravelin", "firecracker"].contains(&name.trim_end()))
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    process.ok_or_else(|| {
        Failure::run(format!(
            "the process behind {} cannot be told: stop the VM by its name, or by its process id",
            target.socket.display()
        ))
    })
}

fn signal(process: &OwnedFd, signal: Signal) -> Result<(), Failure> {
    match pidfd_send_signal(process, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(Failure::run(format!(
            "the VM's process cannot be signalled ({error}): its owner or root may"
        ))),
    }
}

/// Whether a process ends within `patience`.
fn has_ended(process: &OwnedFd, patience: Duration) -> Result<bool, Failure> {
    let mut fds = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
    // What no timespec holds is longer than anybody waits.
    let timeout = Timespec::try_from(patience).ok();
    match poll(&mut fds, timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(error) => Err(Failure::run(std::io::Error::from(error))),
    }
}
