//! Containers of a real containerd in real guests, run by `ctr` as a user runs them.
//!
//! The tests need root, containerd, a KVM that can boot Linux, and the guest kit with its agent (`tools/guest all`). Where
//! one of them is missing all are listed as ignored, and the reason is said; with `RAVELIN_GUESTS=required` they run, and
//! fail. `tools/test` carries this binary into the testbed.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `RAVELIN_GUESTS=required` | not being able to run them is a failure |
//! | `RAVELIN_BIN`, `RAVELIN_SHIM` | the programs to test, in place of those that were built with the tests |
//! | `RAVELIN_KIT` | a file with the kit's paths as `tools/guest --json` prints them |
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod cleanup;
mod ends;
mod engine;
mod kills;
mod limits;
mod run;
mod streams;
mod traces;
#[path = "../support/ttrpc.rs"]
mod ttrpc;
mod update;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Tests by their names.
macro_rules! tests {
    ($($body:ident),* $(,)?) => {
        pub(crate) const TESTS: &[(&str, fn())] = &[$((concat!(module_path!(), "::", stringify!($body)), $body)),*];
    };
}
use tests;

fn main() -> ExitCode {
    let required = std::env::var("RAVELIN_GUESTS").is_ok_and(|value| value == "required");
    let obstacle = if required { None } else { engine::obstacle() };
    if let Some(reason) = &obstacle {
        eprintln!("pods: SKIPPED, all of them: {reason}");
    }
    let all = [
        run::TESTS,
        streams::TESTS,
        limits::TESTS,
        update::TESTS,
        ends::TESTS,
        kills::TESTS,
        cleanup::TESTS,
    ];
    let trials = all.iter().copied().flatten().map(|&(name, body)| {
        let name = name.split_once("::").map_or(name, |(_, name)| name);
        let run = move || {
            body();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(obstacle.is_some())
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
