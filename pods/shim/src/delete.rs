//! `delete`: what a shim has left behind is ended and removed, from what is on disk alone. Doing it twice does no harm.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::Message as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::arguments::Arguments;
use crate::bundle::Note;
use crate::{Failure, address, cgroup, process};

/// How long a killed warden and what it holds may take to end.
const LIMIT: Duration = Duration::from_secs(5);

/// Clears up behind the shim that the command line names, and tells containerd how its container ended: it was killed.
///
/// # Errors
/// When nobody takes the answer.
pub(crate) fn answer(arguments: &Arguments) -> Result<(), Failure> {
    clear(&address::directory(arguments));
    let _ = fs::remove_file(address::socket(
        &arguments.address,
        &arguments.namespace,
        &arguments.id,
    ));
    let mut response = DeleteResponse::new();
    response.exit_status = process::KILLED;
    response.exited_at = Some(SystemTime::now().into()).into();
    io::stdout().write_all(&response.write_to_bytes()?)?;
    Ok(())
}

/// Ends what a shim has begun, as its directory tells, and removes what is left of it.
pub(crate) fn clear(directory: &Path) {
    if let Some(note) = Note::read(directory) {
        end(note.warden, note.warden_start);
        if let Some(path) = &note.cgroup {
            cgroup::remove(path);
        }
        if let Some(disk) = &note.disk {
            let _ = fs::remove_file(disk);
        }
    }
    // Sockets and the note; nothing else is in there.
    let _ = fs::remove_dir_all(directory);
    if let Some(above) = directory.parent() {
        // It stays where another shim is in it.
        let _ = fs::remove_dir(above);
    }
}

/// Kills a warden, if the process of that number is the one that was noted; its monitor dies with it, its keeper removes
/// their cgroups.
fn end(pid: u32, start: u64) {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(process) = number.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
        return;
    };
    if start_time(pid) != Some(start) {
        return;
    }
    let _ = pidfd_send_signal(&process, Signal::KILL);
    let limit = Timespec {
        tv_sec: LIMIT.as_secs().cast_signed(),
        tv_nsec: 0,
    };
    let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit));
}

/// When a process was started, in the kernel's ticks.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(PathBuf::from(format!("/proc/{pid}/stat"))).ok()?;
    // The name, in parentheses, may hold anything; the start is the twentieth field behind it.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_was_noted_is_ended_and_gone_and_a_second_time_does_no_harm() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("pods/one");
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let disk = root.path().join("disk");
        fs::write(&disk, "").unwrap();
        let warden_start = start_time(child.id()).unwrap();
        let note = Note {
            warden: child.id(),
            warden_start,
            cgroup: None,
            disk: Some(disk.clone()),
        };
        note.write(&directory).unwrap();
        clear(&directory);
        assert!(!child.wait().unwrap().success());
        assert!(!disk.exists() && !directory.exists());
        clear(&directory);
    }

    #[test]
    fn a_process_that_has_a_number_by_chance_lives() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        end(child.id(), start_time(child.id()).unwrap() + 1);
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
