//! AppArmor, with the monitor's profile (`resources/apparmor`).

use std::fs;
use std::process::{Command, Output};

use crate::guest::Guest;
use crate::process::{kvm, last_line, run, stderr, stdout};
use crate::support::RAVELIN;
use crate::{boot, goes_with_its_warden, root};

const PROFILE: &str = "ravelin-monitor";

/// Whether the profile is loaded; says so when it is not. In the testbed it is.
fn loaded() -> bool {
    let profiles = fs::read_to_string("/sys/kernel/security/apparmor/profiles");
    let there = profiles.is_ok_and(|text| text.contains(PROFILE));
    if !there {
        eprintln!("SKIPPED: AppArmor is not active here, or its profile {PROFILE} is not loaded");
    }
    there && kvm() && root()
}

/// A program of the shell's, in the profile.
fn confined(program: &str) -> Output {
    let script = format!("echo 'exec {PROFILE}' >/proc/self/attr/apparmor/exec && exec {program}");
    Command::new("sh").args(["-c", &script]).output().unwrap()
}

#[test]
fn a_monitor_is_in_its_profile_without_being_asked_for() {
    if !loaded() {
        return;
    }
    let mut ravelin = boot(&[]);
    let monitor = ravelin.monitor().unwrap();
    let current = fs::read_to_string(format!("/proc/{monitor}/attr/apparmor/current")).unwrap();
    assert_eq!(current, "ravelin-monitor (enforce)\n");
    let audit = Command::new(RAVELIN)
        .args(["audit", &monitor.to_string(), "--require", "label"])
        .output()
        .unwrap();
    assert_eq!(audit.status.code(), Some(0), "{}", stdout(&audit));
}

#[test]
fn a_monitor_in_its_profile_goes_with_its_warden() {
    if loaded() {
        goes_with_its_warden(boot(&[]));
    }
}

#[test]
fn a_process_in_the_profile_opens_no_file_and_uses_those_it_was_given() {
    if !loaded() {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "given").unwrap();
    let path = file.path().display();
    let given = confined(&format!("busybox cat <{path}"));
    assert_eq!(stdout(&given), "given", "{given:?}");
    let opened = confined(&format!("busybox cat {path}"));
    assert_eq!(stdout(&opened), "");
    assert!(stderr(&opened).contains("Permission denied"), "{opened:?}");
    let other = Command::new("busybox").arg("cat").arg(file.path()).output();
    assert_eq!(stdout(&other.unwrap()), "given", "elsewhere it opens");
}

#[test]
fn a_process_in_the_profile_ends_no_other() {
    if !loaded() {
        return;
    }
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let killed = confined(&format!("busybox kill -9 {}", other.id()));
    assert!(stderr(&killed).contains("Permission denied"), "{killed:?}");
    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_profile_that_is_not_loaded_stops_the_start() {
    if !loaded() {
        return;
    }
    let kernel = Guest::default().power_off().kernel();
    let kernel = kernel.path().to_str().unwrap();
    let output = run(["--kernel", kernel, "--apparmor-profile", "no-such-profile"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(last_line(&output).contains("no-such-profile"), "{output:?}");
}
