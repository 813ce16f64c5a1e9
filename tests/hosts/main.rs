//! Walls that stand on what the host's kernel has: control groups of either version.
//!
//! Each test runs on the kernel that has what it is about, and says so where this one has not. `tools/test` runs them on
//! this machine and in the testbed, which has cgroups of version 2.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod cgroups;
#[expect(dead_code, reason = "its other users need more of it")]
#[path = "../run/guest.rs"]
mod guest;
#[path = "../support/monitor.rs"]
mod monitor;
#[expect(dead_code, reason = "its other users need more of it")]
#[path = "../run/process.rs"]
mod process;
#[expect(dead_code, reason = "its other users need more of it")]
#[path = "../support/mod.rs"]
mod support;

use rustix::process::geteuid;

use crate::guest::Guest;
use crate::process::Piped;

/// A guest that runs until it is ended.
fn boot(arguments: &[&str]) -> Piped {
    let mut ravelin = Piped::boot(&Guest::default().say("here\n").halt(), arguments);
    let line = ravelin.line();
    assert_eq!(line, "here\n", "{:?}", ravelin.message());
    ravelin
}

/// Whether this is root; says so when it is not.
fn root() -> bool {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root may do this");
    }
    geteuid().is_root()
}
