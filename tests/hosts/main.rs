//! Walls that stand on what the host's kernel has: control groups of either version, AppArmor, SELinux.
//!
//! Each test runs on the kernel that has what it is about, and says so where this one has not. `tools/test` runs them on
//! this machine and in the testbed, which has cgroups of version 2 and AppArmor, or SELinux in its place.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod apparmor;
mod cgroups;
#[expect(dead_code, reason = "its other users need more of it")]
#[path = "../run/guest.rs"]
mod guest;
#[path = "../support/monitor.rs"]
mod monitor;
#[expect(dead_code, reason = "its other users need more of it")]
#[path = "../run/process.rs"]
mod process;
mod selinux;
#[expect(dead_code, reason = "its other users need more of it")]
#[path = "../support/mod.rs"]
mod support;

use std::fs;

use rustix::process::{Signal, geteuid};

use crate::guest::Guest;
use crate::process::{Piped, until};

/// A guest that runs until it is ended.
fn boot(arguments: &[&str]) -> Piped {
    let mut ravelin = Piped::boot(&Guest::default().say("here\n").halt(), arguments);
    let line = ravelin.line();
    assert_eq!(line, "here\n", "{:?}", ravelin.message());
    ravelin
}

/// A monitor with a label is gone when the process outside of its jail was killed.
fn goes_with_its_warden(mut ravelin: Piped) {
    let monitor = ravelin.monitor().unwrap();
    ravelin.signal(Signal::KILL);
    until("the monitor's end", || {
        // One that nobody has waited for yet has no command line any more.
        let line = fs::read_to_string(format!("/proc/{monitor}/cmdline"));
        line.map_or(true, |line| line.is_empty()).then_some(())
    });
}

/// Whether this is root; says so when it is not.
fn root() -> bool {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root may do this");
    }
    geteuid().is_root()
}
