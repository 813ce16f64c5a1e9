//! Monitors that are just ending: a moment after their kill they still hold disks, taps and sockets.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use devices::outside;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// What the processes of this program are called, as far as the kernel shows it.
const NAME: &str = "ravelin";
/// How long the ends are waited for. The memory of a large guest is not freed at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// The flag of a process that is on its way out (`PF_EXITING`, Linux `linux/sched.h`).
const EXITING: u64 = 4;

/// Waits for the end of monitors that are just ending, a bounded time; whether there were any. What they held can be had
/// then.
pub fn await_ending() -> bool {
    if let Some(way) = outside::way() {
        return way.await_ending();
    }
    let end = Instant::now() + PATIENCE;
    let ending: Vec<OwnedFd> = processes().filter_map(ending).collect();
    for process in &ending {
        wait(process, end);
    }
    !ending.is_empty()
}

fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = rustix::process::getpid();
    entries
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(move |pid| *pid != own)
}

/// The process, if it is a monitor that is ending.
fn ending(pid: Pid) -> Option<OwnedFd> {
    let place = format!("/proc/{}", pid.as_raw_nonzero());
    let stat = fs::read_to_string(format!("{place}/stat")).ok()?;
    let process = is_ours(&stat).then(|| pidfd_open(pid, PidfdFlags::empty()).ok())??;
    let is_ending = is_exiting(&stat) || {
        let status = fs::read_to_string(format!("{place}/status")).unwrap_or_default();
        is_killed(&status)
    };
    is_ending.then_some(process)
}

/// Whether a line of `/proc/PID/stat` is that of a process of this program.
fn is_ours(stat: &str) -> bool {
    let name = stat
        .split_once('(')
        .and_then(|(_, rest)| rest.rsplit_once(')'));
    name.is_some_and(|(name, _)| name.starts_with(NAME))
}

/// Whether it is on its way out: the flags are field 9, and the state behind the name is field 3
/// (`proc_pid_stat(5)`).
fn is_exiting(stat: &str) -> bool {
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
    let flags = fields.and_then(|fields| fields.split_ascii_whitespace().nth(9 - 3));
    let flags = flags.and_then(|flags| flags.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & EXITING != 0)
}

/// Whether SIGKILL waits for a process (`proc_pid_status(5)`, `SigPnd` and `ShdPnd`).
fn is_killed(status: &str) -> bool {
    let pending = |key: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(key))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    };
    let kill = 1 << (libc::SIGKILL - 1);
    ["SigPnd:", "ShdPnd:"]
        .iter()
        .any(|key| pending(key).is_some_and(|mask| mask & kill != 0))
}

/// Waits for the end of a process, until `end`.
fn wait(process: &OwnedFd, end: Instant) {
    loop {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).ok();
        let mut fds = [PollFd::new(process, PollFlags::IN)];
        match poll(&mut fds, left.as_ref()) {
            Err(Errno::INTR) => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_name_whatever_stands_in_it() {
        assert!(is_ours("17 (ravelin) S 1 17 17 0 -1 4194304"));
        assert!(is_ours("17 (ravelin-1.2) S 1"));
        assert!(!is_ours("17 (x (ravelin) S 1"));
        assert!(!is_ours("17 (sh) S 1 (ravelin)"));
        assert!(!is_ours(""));
    }

    #[test]
    fn a_process_on_its_way_out_is_told_by_its_flags_or_its_signals() {
        assert!(is_exiting("17 (ravelin) R 1 17 17 0 -1 4194308 0"));
        assert!(!is_exiting("17 (ravelin) R 1 17 17 0 -1 4194304 4"));
        assert!(!is_exiting("17 (ravelin) R"));
        assert!(is_killed(
            "SigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n"
        ));
        assert!(is_killed(
            "SigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n"
        ));
        assert!(!is_killed(
            "SigPnd:\t0000000000000000\nSigBlk:\t0000000000000100\n"
        ));
    }

    #[test]
    fn nobody_is_waited_for_where_nobody_ends() {
        // This process is none, whatever else runs here.
        assert!(ending(rustix::process::getpid()).is_none());
    }
}
