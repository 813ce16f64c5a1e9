//! Real Linux guests, run by `ravelin run` as a user runs it.
//!
//! The tests need a KVM that can boot Linux, and the guest kit (`tools/guest all`). Where one of them is missing, every
//! test that needs it is listed as ignored, and the reason is said on stderr; with `RAVELIN_GUESTS=required` such a test
//! runs, and fails. `tools/test` carries this binary into the testbed where the machine's own KVM cannot boot Linux.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `RAVELIN_GUESTS=required` | not being able to run guests is a failure |
//! | `RAVELIN_BIN` | the ravelin to test, in place of the one that was built with the tests |
//! | `RAVELIN_KIT` | a file with the kit's paths as `tools/guest --json` prints them, in place of a call of it |
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod api;
mod boot;
mod console;
mod disks;
mod endings;
mod guest;
mod images;
mod kit;
mod machine;
mod network;
mod transcript;
mod vsock;

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};

/// A test: where it stands, which files of the kit it needs, and itself.
struct Test {
    /// With the crate's name first, which [`Test::name`] leaves out.
    path: &'static str,
    needs: &'static [&'static str],
    body: fn(),
}

impl Test {
    /// What it is called: `MODULE::FUNCTION`.
    fn name(&self) -> &'static str {
        self.path
            .split_once("::")
            .map_or(self.path, |(_, name)| name)
    }
}

/// The tests of the module this stands in, with the files of the kit that each of them needs.
macro_rules! tests {
    ($($needs:ident => [$($body:ident),* $(,)?]),* $(,)?) => {
        pub(crate) const TESTS: &[crate::Test] = &[$($(crate::Test {
            path: concat!(module_path!(), "::", stringify!($body)),
            needs: crate::kit::$needs,
            body: $body,
        }),*),*];
    };
}
use tests;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let required = std::env::var("RAVELIN_GUESTS").is_ok_and(|value| value == "required");
    let obstacle = if required { None } else { obstacle() };
    if let Some(reason) = &obstacle {
        eprintln!("guests: SKIPPED, all of them: {reason}");
    }
    let tests = [
        boot::TESTS,
        machine::TESTS,
        disks::TESTS,
        network::TESTS,
        vsock::TESTS,
        console::TESTS,
        endings::TESTS,
        images::TESTS,
    ];
    let trials = tests
        .iter()
        .chain(api::TESTS)
        .copied()
        .flatten()
        .map(|test| {
            let missing = if required || obstacle.is_some() {
                None
            } else {
                kit::missing(test.needs)
            };
            if let Some(name) = missing {
                eprintln!(
                    "guests: SKIPPED {}: the guest kit has no {name}: run tools/guest all",
                    test.name()
                );
            }
            let ignored = obstacle.is_some() || missing.is_some();
            Trial::test(test.name(), move || {
                (test.body)();
                Ok(())
            })
            .with_ignored_flag(ignored)
        });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Why no guest can run here, in the words of `ravelin doctor`.
fn obstacle() -> Option<String> {
    let doctor = Command::new(guest::ravelin())
        .arg("doctor")
        .output()
        .unwrap();
    if doctor.status.success() {
        return None;
    }
    let report = String::from_utf8_lossy(&doctor.stdout).into_owned();
    let verdict = report
        .lines()
        .last()
        .unwrap_or("ravelin doctor says nothing");
    Some(format!("{verdict} (tools/test runs them in the testbed)"))
}
