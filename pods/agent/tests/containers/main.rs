//! Containers, made by the agent for a caller, as a shim asks for them.
//!
//! The same tests run on this machine, as root and without cgroups (`here::`), and in a guest (`guest::`), where the
//! machine can boot one and the guest kit has `agent.cpio`. What cannot run says so, and is counted as ignored.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod basics;
#[expect(dead_code, reason = "tests of guests use the rest")]
mod client;
mod here;

use std::pin::Pin;
use std::process::ExitCode;

use client::Caller;
use libtest_mimic::{Arguments, Trial};

/// A test: its name, and itself.
struct Case {
    name: &'static str,
    body: fn(Caller) -> Pin<Box<dyn Future<Output = ()>>>,
}

/// The tests of some modules, as `module::function`.
macro_rules! cases {
    ($($module:ident => [$($body:ident),* $(,)?]),* $(,)?) => {
        &[$($(Case {
            name: concat!(stringify!($module), "::", stringify!($body)),
            body: |caller| Box::pin($module::$body(caller)),
        }),*),*]
    };
}

/// Those that need nothing but a kernel with namespaces.
const EVERYWHERE: &[Case] = cases! {
    basics => [
        the_agent_says_who_it_is,
        what_a_container_prints_and_its_status_arrive,
        a_container_reads_its_input_to_the_end,
        a_command_that_is_not_there_is_said_at_the_start,
        a_name_is_taken_once_and_free_again,
        a_container_that_is_removed_before_its_start_is_gone,
    ],
};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let obstacle = here::obstacle();
    if let Some(reason) = &obstacle {
        eprintln!("containers: SKIPPED, all of here::: {reason}");
    }
    let trials = EVERYWHERE
        .iter()
        .map(|case| {
            let trial = Trial::test(format!("here::{}", case.name), || {
                here::run(case.body);
                Ok(())
            });
            trial.with_ignored_flag(obstacle.is_some())
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
