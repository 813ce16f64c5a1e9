//! How a guest ends: processes told, files safe, exit status left with the monitor, power off or reset.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, wait};
use rustix::system::{RebootCommand, reboot};

use crate::kmsg;
use crate::mounts;
use crate::raw::{Port, SignalSet};

/// Port of ravelin's power block where a guest leaves its exit status.
const STATUS_PORT: u16 = 0x603;
/// The power block's sleep control register (ACPI 6.4 §4.8.3.7) and the value that means off: sleep type 5
/// with enable. A kernel booted with `acpi=off` does not know it.
const SLEEP_PORT: u16 = 0x600;
const SLEEP_OFF: u8 = 5 << 2 | 1 << 5;
/// How long a process may take to end when asked.
const GRACE: Duration = Duration::from_secs(2);

/// How the guest shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Power off with this exit status.
    PowerOff {
        /// 0 to 255.
        status: u8,
    },
    /// Reset.
    Reboot,
}

/// Ends the guest.
pub fn end(ending: Ending) -> ! {
    stop_processes();
    mounts::leave();
    let command = match ending {
        Ending::PowerOff { status } => {
            report(status);
            RebootCommand::PowerOff
        }
        Ending::Reboot => RebootCommand::Restart,
    };
    if command == RebootCommand::PowerOff && !Path::new("/sys/firmware/acpi").exists() {
        power_off_without_acpi();
    }
    if let Err(error) = reboot(command) {
        kmsg::error(&format_args!("the kernel refuses to end: {error}"));
    }
    // The first process must not return: the kernel would panic.
    loop {
        std::thread::park();
    }
}

/// Leaves the exit status where the monitor reads it. With that it also stops listening to the console: the
/// kernel's farewell does not follow a command's output.
fn report(status: u8) {
    match Port::open(STATUS_PORT) {
        Ok(port) => port.write(status),
        Err(error) => kmsg::error(&format_args!(
            "cannot report the exit status {status}: {error}"
        )),
    }
}

/// Without ACPI tables the kernel could only halt, and the guest would hold its memory for ever.
fn power_off_without_acpi() {
    match Port::open(SLEEP_PORT) {
        Ok(port) => port.write(SLEEP_OFF),
        Err(error) => kmsg::error(&format_args!("cannot power off: {error}")),
    }
}

/// Asks every process to end, waits a moment, then ends those that are left.
fn stop_processes() {
    for signal in [Signal::HUP, Signal::TERM, Signal::CONT] {
        tell_all(signal);
    }
    if !reap_all(GRACE) {
        tell_all(Signal::KILL);
        reap_all(GRACE);
    }
}

/// Sends a signal to all processes but this one: kill(2) with -1, the negated number of the first process.
fn tell_all(signal: Signal) {
    match kill_process_group(Pid::INIT, signal) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => kmsg::error(&format_args!(
            "cannot send {signal:?} to all processes: {error}"
        )),
    }
}

/// Takes the status of every process that has ended; true when none is left, false after `limit`.
fn reap_all(limit: Duration) -> bool {
    let ended = SignalSet::new(&[libc::SIGCHLD]);
    ended.block();
    let end = Instant::now() + limit;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => continue,
            Err(_) => return true,
            Ok(None) => {}
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || ended.wait(Some(left)).is_none() {
            return false;
        }
    }
}
