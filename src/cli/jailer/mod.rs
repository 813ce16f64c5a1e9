//! The command line of Firecracker's jailer, for a ravelin that is called `jailer` or by that subcommand.

mod flags;
mod read;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Command;

use self::read::ValueError;
use super::grammar::{Given, Grammar, Request, help, text};
use super::print;
use crate::api::FIRECRACKER_VERSION;
use crate::jail::{self, JailError};

/// Why nothing runs in a jail.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Value(#[from] ValueError),
    #[error(transparent)]
    Jail(#[from] JailError),
}

/// The subcommand's flags, for help, completions and man pages.
pub(super) fn command() -> Command {
    flags::command()
}

/// Does what a command line without its program's name asks for: by the name `jailer` that of Firecracker's jailer,
/// by the subcommand with a flag of ravelin's own. Not inlined: what it needs of the stack is no guest's.
#[inline(never)]
pub(super) fn main(args: impl Iterator<Item = OsString>, by_name: bool) -> ExitCode {
    let grammar = if by_name { &flags::JAILER } else { &flags::OWN };
    match run(grammar, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            // A stderr that is gone stops nothing.
            let _ = writeln!(io::stderr(), "{refusal}");
            ExitCode::FAILURE
        }
    }
}

fn run(grammar: &Grammar, args: impl Iterator<Item = OsString>) -> Result<(), Refusal> {
    let args: Result<Vec<_>, _> = args.map(text).collect();
    let given = match args.and_then(|args| grammar.parse(&args)) {
        Ok(Request::Flags(given)) => given,
        Ok(Request::Help) => {
            print(&format!("{}{}\n{REST}", version(), help(grammar.flags)));
            return Ok(());
        }
        Ok(Request::Version) => {
            print(&version());
            return Ok(());
        }
        Err(error) => return Err(ValueError::from(error).into()),
    };
    build(&given)
}

fn build(given: &Given) -> Result<(), Refusal> {
    let plan = read::plan(given)?;
    Ok(jail::run(&plan)?)
}

const REST: &str =
    "Any arguments after the -- separator will be supplied to the jailed binary.\n\n";

fn version() -> String {
    format!("Jailer v{FIRECRACKER_VERSION}\n\n")
}

#[cfg(test)]
mod tests;
