//! What the kernel's log says of a process that its filter has killed: audit record 1326 (`AUDIT_SECCOMP`).

use std::os::fd::OwnedFd;
use std::str::FromStr;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, read};
use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};
use syscalls::x86_64::Sysno;

/// A record is not longer (Linux `CONSOLE_EXT_LOG_MAX`).
const RECORD: usize = 8192;
/// How many records are looked at: the log itself is bounded, and somebody may be filling it.
const RECORDS: usize = 100_000;
/// How long the kernel may take to write the record, in ms.
const PATIENCE: i64 = 100;
/// An older record is of another process that had this number, in s. The log's clock is another one, and may be off.
const RECENT: i64 = 60;

/// The call for which `pid` was killed, and the thread that made it, in words; nothing where this user may not read the log
/// or an audit daemon has taken the record.
pub(super) fn killing_call(pid: Pid) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let log = open("/dev/kmsg", flags, Mode::empty()).ok()?;
    let now = clock_gettime(ClockId::Monotonic).tv_sec;
    let mut buffer = [0; RECORD];
    let mut found = None;
    for _ in 0..RECORDS {
        match read(&log, &mut buffer[..]) {
            Ok(length) => {
                let record = String::from_utf8_lossy(buffer.get(..length)?);
                found = told(&record, pid, now).or(found);
            }
            // Overwritten before it was read.
            Err(Errno::PIPE | Errno::INTR) => {}
            Err(Errno::AGAIN) if found.is_none() && has_more(&log) => {}
            Err(_) => break,
        }
    }
    found
}

/// Whether another record comes soon.
fn has_more(log: &OwnedFd) -> bool {
    let soon = Timespec {
        tv_sec: 0,
        tv_nsec: PATIENCE * 1_000_000,
    };
    let mut fds = [PollFd::new(log, PollFlags::IN)];
    poll(&mut fds, Some(&soon)).is_ok_and(|ready| ready > 0)
}

/// `LEVEL,NUMBER,MICROSECONDS,FLAGS;audit: type=1326 ... pid=PID comm="THREAD" ... syscall=NUMBER ...`
fn told(record: &str, pid: Pid, now: i64) -> Option<String> {
    let (prefix, text) = record.split_once(';')?;
    let micros: i64 = prefix.split(',').nth(2)?.parse().ok()?;
    let is_of_it = text.starts_with("audit: type=1326 ")
        && field::<i32>(text, "pid") == Some(pid.as_raw_nonzero().get())
        && (now - micros / 1_000_000).abs() < RECENT;
    if !is_of_it {
        return None;
    }
    let number: usize = field(text, "syscall")?;
    let name = Sysno::new(number).map_or("unknown", |call| call.name());
    let thread: String = field(text, "comm").unwrap_or_default();
    Some(format!(
        "the system call {number} ({name}), which its thread {} made",
        thread.trim_matches('"').escape_default()
    ))
}

fn field<T: FromStr>(text: &str, key: &str) -> Option<T> {
    let value = |word: &str| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok();
    text.split_ascii_whitespace().find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "5,1337,33341916796,-;audit: type=1326 audit(1795550650.211:555): auid=1 uid=0 gid=0 ses=1 \
                          pid=28859 comm=\"api\" exe=\"/x\" sig=31 arch=c000003e syscall=10 compat=0 ip=0x7f code=0x80000000";

    fn told_of(pid: i32, now: i64) -> Option<String> {
        told(RECORD, Pid::from_raw(pid).unwrap(), now)
    }

    #[test]
    fn a_record_names_the_call_and_the_thread() {
        let words = told_of(28859, 33342).unwrap();
        assert_eq!(
            words,
            "the system call 10 (mprotect), which its thread api made"
        );
    }

    #[test]
    fn a_record_of_another_or_of_long_ago_says_nothing() {
        assert_eq!(told_of(28860, 33342), None);
        assert_eq!(told_of(28859, 33341 + RECENT), None);
        assert_eq!(told("", Pid::INIT, 0), None);
    }
}
