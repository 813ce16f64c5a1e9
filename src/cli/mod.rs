//! The subcommands, one module each, and how they end.

mod api;
mod audit;
mod client;
mod completions;
mod ctl;
mod disk;
mod doctor;
mod firecracker;
mod inherited;
mod net;
mod options;
mod ps;
mod run;
mod size;
mod style;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

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
    Audit(audit::Args),
    Completions(completions::Args),
}

/// Runs the subcommand of this process's command line.
///
/// **No subcommand is inlined here**: what each needs of the stack would be taken for all of them, and stay in
/// memory as long as a guest runs.
pub(crate) fn main() -> ExitCode {
    if let Some(args) = as_firecracker(env::args_os()) {
        return firecracker::main(args);
    }
    let done = match parse() {
        Command::Run(args) => run::run(&args),
        Command::Api(args) => api::run(*args),
        Command::Ps(args) => ps::run(&args),
        Command::Ctl(args) => ctl::run(*args),
        Command::Doctor(args) => Ok(doctor::run(&args)),
        Command::Audit(args) => audit::run(&args),
        Command::Completions(args) => Ok(completions::run(&args)),
    };
    done.unwrap_or_else(|failure| failure.report())
}

/// The subcommand of this process's command line. Not inlined: what the parser needs of the stack would stay
/// there, and in memory, as long as the guest runs.
#[inline(never)]
fn parse() -> Command {
    let cli = Cli::from_arg_matches(&command().get_matches());
    cli.unwrap_or_else(|error| error.exit()).command
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
