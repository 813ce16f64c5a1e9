//! The shim as containerd drives it, with a monitor and an agent that are fakes of ours: no VM is needed, and an agent can
//! be as hostile as it likes.
//!
//! The test program is three things: the tests, which speak to the shim as containerd does; the monitor, when the shim
//! starts it by a script; and in it the guest's agent, which behaves as the variable `FAKE` says.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod agent;
mod engine;
mod hostile;
mod life;
mod monitor;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// The first word of the command line of a fake monitor.
const AS_MONITOR: &str = "--as-monitor";

/// Tests by their names.
macro_rules! tests {
    ($($body:ident),* $(,)?) => {
        pub(crate) const TESTS: &[(&str, fn())] = &[$((concat!(module_path!(), "::", stringify!($body)), $body)),*];
    };
}
use tests;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if words.get(1).is_some_and(|word| word == AS_MONITOR) {
        monitor::run(&words[2..]);
        return ExitCode::SUCCESS;
    }
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("shim: SKIPPED, all of them: containerd and its shims are root's");
    }
    let all = life::TESTS.iter().chain(hostile::TESTS);
    let trials = all.map(|&(name, body)| {
        let name = name.split_once("::").map_or(name, |(_, name)| name);
        let run = move || {
            body();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(!is_root)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
