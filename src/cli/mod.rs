//! The subcommands, one module each, and how they end.

mod api;
mod client;
mod completions;
mod ctl;
mod disk;
mod doctor;
pub(crate) mod firecracker;
mod inherited;
pub(crate) mod launch;
pub(crate) mod nearest;
mod net;
mod options;
mod ps;
pub(crate) mod ready;
mod run;
mod size;
mod style;

use std::env;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::logger;

/// Exit status: something failed while running.
pub(crate) const FAILED: u8 = 1;
/// Exit status: the command line or a configuration is wrong.
pub(crate) const USAGE: u8 = 2;

#[derive(Parser)]
#[command(
    name = "ravelin",
    version,
    about = "A lightweight KVM microVM monitor whose own process is treated as hostile",
    after_help = "Start with `ravelin doctor`: it says whether this host can run guests.",
    arg_required_else_help = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(Box<run::Args>),
    Api(Box<api::Args>),
    Ps(ps::Args),
    Ctl(Box<ctl::Args>),
    Doctor(doctor::Args),
    Completions(completions::Args),
}

/// Why a subcommand ended without doing what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The user asked for something that cannot be: exit status 2.
    Usage(Box<dyn Error>),
    /// It could be, but failed: exit status 1.
    Run(Box<dyn Error>),
}

impl Failure {
    /// A usage failure.
    pub(crate) fn usage(error: impl Into<Box<dyn Error>>) -> Self {
        Self::Usage(error.into())
    }

    /// A run-time failure.
    pub(crate) fn run(error: impl Into<Box<dyn Error>>) -> Self {
        Self::Run(error.into())
    }

    fn report(&self) -> ExitCode {
        let (error, status) = match self {
            Self::Usage(error) => (error, USAGE),
            Self::Run(error) => (error, FAILED),
        };
        logger::tell(&chain(error.as_ref()));
        ExitCode::from(status)
    }
}

/// Runs the subcommand of this process's command line.
pub(crate) fn main() -> ExitCode {
    if let Some(args) = as_firecracker(env::args_os()) {
        return firecracker::main(args);
    }
    let cli = Cli::from_arg_matches(&command().get_matches());
    let done = match cli.unwrap_or_else(|error| error.exit()).command {
        Command::Run(args) => run::run(&args),
        Command::Api(args) => api::run(*args),
        Command::Ps(args) => ps::run(&args),
        Command::Ctl(args) => ctl::run(*args),
        Command::Doctor(args) => Ok(doctor::run(&args)),
        Command::Completions(args) => Ok(completions::run(&args)),
    };
    done.unwrap_or_else(|failure| failure.report())
}

/// The whole command line, for the parser, the help, the completions and the man pages.
fn command() -> clap::Command {
    Cli::command().subcommand(firecracker::command())
}

/// What stands after the name of a program that is called `firecracker`, or after that subcommand: its
/// grammar is not clap's.
fn as_firecracker(
    mut args: impl Iterator<Item = OsString>,
) -> Option<impl Iterator<Item = OsString>> {
    let name = args.next()?;
    let is_firecracker = |name: &OsStr| name == "firecracker";
    if Path::new(&name).file_name().is_some_and(is_firecracker) {
        return Some(args);
    }
    args.next().filter(|first| is_firecracker(first))?;
    Some(args)
}

/// Prints what was asked for. Who reads the start only has read what it wanted.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// A VM's name: it stands in a line without breaking it, and in a file's name.
fn vm_name(text: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&text.len())
        && !text.starts_with('.')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if fits {
        Ok(text.to_owned())
    } else {
        Err(
            "1 to 64 letters, digits, `-`, `_` and `.` were expected, and no `.` as the first"
                .to_owned(),
        )
    }
}

/// An error and its causes in one sentence, each said once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firecracker_args(line: &[&str]) -> Option<Vec<OsString>> {
        as_firecracker(line.iter().map(OsString::from)).map(Iterator::collect)
    }

    #[test]
    fn a_program_called_firecracker_has_its_command_line() {
        for line in [
            &["firecracker", "--id", "a"][..],
            &["/usr/bin/firecracker", "--id", "a"],
            &["ravelin", "firecracker", "--id", "a"],
        ] {
            let args = firecracker_args(line).unwrap();
            assert_eq!(args, ["--id", "a"], "{line:?}");
        }
        for line in [
            &["ravelin"][..],
            &["ravelin", "run", "firecracker"],
            &["firecracker/ravelin", "api"],
            &["firecracker-v1", "api"],
            &[],
        ] {
            assert_eq!(firecracker_args(line), None, "{line:?}");
        }
    }

    #[test]
    fn the_command_line_is_well_made() {
        command().debug_assert();
    }

    #[test]
    fn a_name_fits_into_a_line_and_a_file_name() {
        assert_eq!(vm_name("web-1"), Ok("web-1".to_owned()));
        let long = "a".repeat(65);
        for text in ["", "a b", "a\nb", "é", "a/b", "..", ".a", &long] {
            assert!(vm_name(text).is_err(), "{text}");
        }
    }
}
