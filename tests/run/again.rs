//! A monitor that was killed and ends slowly: whoever starts the next one at once gets what it held.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::guest::Guest;
use crate::process::{Piped, kvm, until};

/// Where the kernel can keep processes from ending: a frozen one takes no signal, not even its last
/// (cgroup v1, freezer-subsystem.rst).
const FREEZER: &str = "/sys/fs/cgroup/freezer";

/// A cgroup whose processes stand still. Dropping it lets them go and removes it.
struct Ice(PathBuf);

impl Ice {
    fn around(pid: u32) -> Self {
        let place = Path::new(FREEZER).join(format!("ravelin-test-{pid}"));
        fs::create_dir(&place).unwrap();
        let ice = Self(place);
        fs::write(ice.0.join("cgroup.procs"), pid.to_string()).unwrap();
        ice.set("FROZEN");
        until("that it stands still", || {
            let state = fs::read_to_string(ice.0.join("freezer.state")).unwrap();
            (state.trim() == "FROZEN").then_some(())
        });
        ice
    }

    fn set(&self, state: &str) {
        fs::write(self.0.join("freezer.state"), state).unwrap();
    }
}

impl Drop for Ice {
    fn drop(&mut self) {
        self.set("THAWED");
        until("the end of the cgroup", || fs::remove_dir(&self.0).ok());
    }
}

/// Whether a process waits for the end of another: it has a descriptor of it (`pidfd_open(2)`).
fn waits_for(waiting: u32, other: u32) -> bool {
    let line = format!("Pid:\t{other}\n");
    let all = fs::read_dir(format!("/proc/{waiting}/fdinfo"));
    let mut all = all.into_iter().flatten().flatten();
    all.any(|one| fs::read_to_string(one.path()).is_ok_and(|text| text.contains(&line)))
}

#[test]
fn the_next_one_waits_for_the_disk_and_the_tap_of_one_that_is_ending() {
    if !kvm() || !geteuid().is_root() || !Path::new(FREEZER).join("tasks").exists() {
        eprintln!("SKIPPED: only root, with a freezer of cgroup v1, keeps a process from ending");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (disk, socket) = (place.path().join("disk"), place.path().join("api.sock"));
    fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    let disk = format!("--disk={}", disk.display());
    let tap = format!("--net=tap=rva{}", std::process::id());
    let socket = format!("--api-sock={}", socket.display());
    let guest = Guest::default().say("here\n").halt();
    for what in [&disk, &tap, &socket] {
        let arguments = ["--quiet", "--name", "again", what];
        let mut first = Piped::boot(&guest, &arguments);
        assert_eq!(first.line(), "here\n");
        let monitor = first.monitor().unwrap();
        let ice = Ice::around(monitor);
        drop(first);
        let mut next = Piped::boot(&guest, &arguments);
        let warden = next.pid().as_raw_nonzero().get().unsigned_abs();
        until("that the next one waits", || {
            let has_failed = next.try_end().is_some();
            assert!(!has_failed, "{what}: {}", next.message());
            waits_for(warden, monitor).then_some(())
        });
        drop(ice);
        assert_eq!(next.line(), "here\n", "{what}");
    }
}

#[test]
fn a_disk_of_one_that_runs_is_refused_at_once() {
    if !kvm() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let disk = place.path().join("disk");
    fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    let disk = format!("--disk={}", disk.display());
    let guest = Guest::default().say("here\n").halt();
    let mut first = Piped::boot(&guest, &[&disk]);
    assert_eq!(first.line(), "here\n");
    let output = crate::process::boot(&guest, &[&disk]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = crate::process::last_line(&output);
    assert!(said.contains("is in use by another process"), "{said}");
}
