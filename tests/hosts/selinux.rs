//! SELinux, with ravelin's policy module (`resources/selinux`). The tests change what the whole machine obeys, so they
//! run where they may: in the testbed.

use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::guest::Guest;
use crate::process::{Piped, kvm, last_line, stderr, stdout, until};
use crate::support::RAVELIN;
use crate::{boot, goes_with_its_warden, root};

const ENFORCE: &str = "/sys/fs/selinux/enforce";
const LOAD: &str = "/sys/fs/selinux/load";
/// The policy that was active when the machine came up, and the same without ravelin's module.
const POLICY: &str = "/etc/selinux/default/policy/policy.33";
const POLICY_WITHOUT: &str = "/etc/selinux/policy-without-ravelin";
/// What is before the categories of a monitor of these tests, and of a file.
const MONITOR: &str = "system_u:system_r:ravelin_vm_t:s0";
const IMAGE: &str = "system_u:object_r:ravelin_image_t:s0";

/// The machine's SELinux, for one test at a time. It warns only, once the value is dropped.
struct Selinux {
    _turn: File,
}

impl Selinux {
    /// `None`, said aloud, where it is not active, or the machine is not the testbed's.
    fn take() -> Option<Self> {
        if !Path::new(ENFORCE).exists() || !Path::new(POLICY_WITHOUT).exists() {
            eprintln!(
                "SKIPPED: this is no testbed with SELinux (tools/testbed up --security selinux)"
            );
            return None;
        }
        if !kvm() || !root() {
            return None;
        }
        let turn = File::create("/tmp/ravelin-tests-selinux").unwrap();
        flock(&turn, FlockOperation::LockExclusive).unwrap();
        // Every file that this thread makes is one of a VM's.
        fs::write("/proc/thread-self/attr/fscreate", IMAGE).unwrap();
        Some(Self { _turn: turn })
    }

    /// The same, and it enforces.
    fn enforcing() -> Option<Self> {
        let selinux = Self::take()?;
        fs::write(ENFORCE, "1").unwrap();
        Some(selinux)
    }
}

impl Drop for Selinux {
    fn drop(&mut self) {
        fs::write(ENFORCE, "0").unwrap();
    }
}

/// Loads a policy.
fn load(policy: &str) {
    fs::write(LOAD, fs::read(policy).unwrap()).unwrap();
}

fn context(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap();
    text.trim_end_matches('\0').to_owned()
}

fn audit(ravelin: &mut Piped) -> Output {
    let monitor = ravelin.monitor().unwrap().to_string();
    Command::new(RAVELIN)
        .args(["audit", &monitor, "--require", "label"])
        .output()
        .unwrap()
}

/// A directory with an image of each of two VMs, and a program that a monitor may be.
struct Place(TempDir);

/// The categories of the two.
const ONE: &str = "c17,c203";
const OTHER: &str = "c18,c204";

/// An image's: a comma would end a disk's path on the command line.
fn name(pair: &str) -> String {
    format!("{}.img", pair.replace(',', "-"))
}

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for pair in [ONE, OTHER] {
            fs::write(place.image(pair), vec![b'x'; 4096]).unwrap();
            label(&place.image(pair), &format!("{IMAGE}:{pair}"));
        }
        let program = place.0.path().join("busybox");
        fs::copy("/bin/busybox", &program).unwrap();
        label(&program, "system_u:object_r:ravelin_exec_t:s0");
        place
    }

    fn image(&self, pair: &str) -> PathBuf {
        self.0.path().join(name(pair))
    }

    /// busybox as a monitor with these categories, as root and in this directory.
    fn monitor(&self, pair: &str, words: &[&str]) -> Command {
        let mut command = Command::new("runcon");
        command
            .args([&format!("{MONITOR}:{pair}"), "./busybox"])
            .args(words)
            .current_dir(self.0.path());
        command
    }

    /// What it says.
    fn as_monitor(&self, pair: &str, words: &[&str]) -> Output {
        self.monitor(pair, words).output().unwrap()
    }
}

fn label(path: &Path, context: &str) {
    let done = Command::new("chcon")
        .arg(context)
        .arg(path)
        .status()
        .unwrap();
    assert!(done.success(), "{}", path.display());
}

#[test]
fn a_monitor_has_its_label_without_being_asked_for_and_it_is_enforced() {
    let Some(_selinux) = Selinux::enforcing() else {
        return;
    };
    let (mut one, mut other) = (boot(&[]), boot(&[]));
    let audit = audit(&mut one);
    assert_eq!(audit.status.code(), Some(0), "{}", stdout(&audit));
    let (one, other) = (one.monitor().unwrap(), other.monitor().unwrap());
    let (one, other) = (context(one), context(other));
    assert!(one.starts_with(&format!("{MONITOR}:c")), "{one}");
    assert!(other.starts_with(&format!("{MONITOR}:c")), "{other}");
    assert_ne!(one, other);
}

#[test]
fn a_label_that_only_warns_is_not_in_force() {
    let Some(_selinux) = Selinux::take() else {
        return;
    };
    let mut ravelin = boot(&[]);
    assert!(context(ravelin.monitor().unwrap()).starts_with(MONITOR));
    let audit = audit(&mut ravelin);
    assert_eq!(audit.status.code(), Some(1), "{}", stdout(&audit));
    assert!(
        stdout(&audit).contains("SELinux only warns"),
        "{}",
        stdout(&audit)
    );
}

#[test]
fn a_monitor_with_a_label_goes_with_its_warden() {
    if let Some(_selinux) = Selinux::enforcing() {
        goes_with_its_warden(boot(&[]));
    }
}

#[test]
fn a_vms_process_opens_its_own_image_and_not_anothers() {
    let Some(_selinux) = Selinux::enforcing() else {
        return;
    };
    let place = Place::new();
    for (own, others) in [(ONE, OTHER), (OTHER, ONE)] {
        let opened = place.as_monitor(own, &["head", "-c", "3", &name(own)]);
        assert_eq!(stdout(&opened), "xxx", "{opened:?}");
        let refused = place.as_monitor(own, &["head", "-c", "3", &name(others)]);
        assert_eq!(stdout(&refused), "");
        assert!(
            stderr(&refused).contains("Permission denied"),
            "{refused:?}"
        );
    }
    // It is the label alone: the same user without it opens both.
    assert!(fs::read(place.image(ONE)).is_ok() && fs::read(place.image(OTHER)).is_ok());
}

#[test]
fn a_vms_process_opens_no_file_that_is_no_vms() {
    let Some(_selinux) = Selinux::enforcing() else {
        return;
    };
    let place = Place::new();
    let path = place.0.path().join("other");
    fs::write(&path, "other").unwrap();
    let read = || stdout(&place.as_monitor(ONE, &["cat", "other"]));
    assert_eq!(read(), "other", "with an image's label it opens");
    label(&path, "system_u:object_r:etc_t:s0");
    assert_eq!(read(), "");
}

#[test]
fn an_image_is_used_by_the_monitor_with_its_categories_only() {
    let Some(_selinux) = Selinux::enforcing() else {
        return;
    };
    let place = Place::new();
    let label = format!("{MONITOR}:{ONE}");
    let disk = |pair| place.image(pair).to_str().unwrap().to_owned();
    let mut ravelin = boot(&["--selinux-label", &label, "--disk", &disk(ONE)]);
    assert_eq!(context(ravelin.monitor().unwrap()), label);
    ravelin.signal(Signal::INT);
    assert_eq!(ravelin.end().status.code(), Some(130));
    let guest = Guest::default().power_off();
    let refused =
        crate::process::boot(&guest, &["--selinux-label", &label, "--disk", &disk(OTHER)]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(
        last_line(&refused).contains("its label is for"),
        "{refused:?}"
    );
}

#[test]
fn a_vms_process_signals_no_other_vms() {
    let Some(_selinux) = Selinux::enforcing() else {
        return;
    };
    let place = Place::new();
    let mut target = place.monitor(ONE, &["sleep", "60"]).spawn().unwrap();
    until("the target's label", || {
        context(target.id()).ends_with(ONE).then_some(())
    });
    let signal = |pair| place.as_monitor(pair, &["kill", "-CONT", &target.id().to_string()]);
    assert!(signal(ONE).status.success(), "{:?}", signal(ONE));
    let refused = signal(OTHER);
    assert!(
        stderr(&refused).contains("Permission denied"),
        "{refused:?}"
    );
    target.kill().unwrap();
    target.wait().unwrap();
}

#[test]
fn a_context_that_the_policy_does_not_have_stops_the_start() {
    let Some(_selinux) = Selinux::enforcing() else {
        return;
    };
    let guest = Guest::default().power_off();
    let label = "system_u:system_r:no_such_t:s0";
    let output = crate::process::boot(&guest, &["--selinux-label", label]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(last_line(&output).contains(label), "{output:?}");
}

#[test]
fn a_host_without_the_module_is_told_so_and_runs_guests() {
    let Some(_selinux) = Selinux::take() else {
        return;
    };
    load(POLICY_WITHOUT);
    let output = crate::process::boot(&Guest::default().power_off(), &[]);
    load(POLICY);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        stderr(&output).contains("policy module is not loaded"),
        "{output:?}"
    );
}
