//! Processes as VMs are remembered by: a number and when it started.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Vm;

/// When a process started, in clock ticks since the host's boot; `None` when there is none.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before the parenthesis may itself hold any character; the start is field 22, and the state
    // after the name is field 3 (`proc_pid_stat(5)`).
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

/// Whether the process of a VM is still there.
pub(super) fn runs(vm: &Vm) -> bool {
    start_time(vm.pid) == Some(vm.pid_start)
}

/// The process of a VM, and no other that has its number by now.
pub(crate) fn open(vm: &Vm) -> Option<OwnedFd> {
    let pid = Pid::from_raw(vm.pid.try_into().ok()?)?;
    // The descriptor first: the process that is looked at afterwards is the one that it means, or is gone.
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    runs(vm).then_some(process)
}

/// The process that clears up after a VM, while the VM is there.
pub(crate) fn open_warden(vm: &Vm) -> Option<OwnedFd> {
    let pid = Pid::from_raw(vm.warden?.try_into().ok()?)?;
    let warden = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // It stays for as long as the VM runs, so this is it.
    runs(vm).then_some(warden)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn this_process() -> Vm {
        let pid = std::process::id();
        Vm {
            name: "a".to_owned(),
            pid,
            pid_start: start_time(pid).unwrap(),
            warden: None,
            socket: None,
            kernel: None,
            image: None,
            started_at: 0,
        }
    }

    #[test]
    fn a_process_is_found_by_its_number_and_start() {
        assert!(open(&this_process()).is_some());
    }

    #[test]
    fn a_number_that_was_given_to_another_process_is_not_believed() {
        let mut vm = this_process();
        vm.pid_start += 1;
        assert!(open(&vm).is_none());
    }

    #[test]
    fn there_is_no_process_zero() {
        let vm = Vm {
            pid: 0,
            ..this_process()
        };
        assert!(open(&vm).is_none());
        assert!(
            open(&Vm {
                pid: u32::MAX,
                ..vm
            })
            .is_none()
        );
    }
}
