//! The subcommands, one module each, and how they end.

mod api;
mod audit;
mod client;
mod completions;
mod ctl;
mod disk;
mod doctor;
mod firecracker;
mod gc;
mod grammar;
mod id;
mod image;
mod inherited;
mod jail;
mod jailer;
mod net;
mod options;
mod ps;
mod run;
mod size;
mod style;
mod vsock;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::warden::Estate;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// The widest a help text gets, in columns.
const WIDTH: usize = 100;

#[derive(Parser)]
#[command(
    name = "ravelin",
    version,
    about = "A lightweight KVM microVM monitor whose own process is treated as hostile",
    after_help = "Start with `ravelin doctor`: it says whether this host can run guests.",
    arg_required_else_help = true,
    max_term_width = WIDTH
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
    Gc(gc::Args),
    Images(image::ImagesArgs),
    Rmi(image::RmiArgs),
    Cache(image::CacheArgs),
    Doctor(doctor::Args),
    Audit(audit::Args),
    Completions(completions::Args),
}

/// Runs the subcommand of this process's command line.
///
/// **No subcommand is inlined here**: what each needs of the stack would be taken for all of them, and stay in
/// memory as long as a guest runs.
pub(crate) fn main() -> ExitCode {
    if let Some((args, _)) = called("firecracker", env::args_os()) {
        return firecracker::main(args);
    }
    if let Some((args, by_name)) = called("jailer", env::args_os()) {
        return jailer::main(args, by_name);
    }
    if let Some(estate) = Estate::of_command_line() {
        estate.clear();
        return ExitCode::SUCCESS;
    }
    let done = match parse() {
        Command::Run(args) => run::run(&args),
        Command::Api(args) => api::run(*args),
        Command::Ps(args) => ps::run(&args),
        Command::Ctl(args) => ctl::run(*args),
        Command::Gc(args) => gc::run(&args),
        Command::Images(args) => image::images(&args),
        Command::Rmi(args) => image::rmi(&args),
        Command::Cache(args) => image::cache(&args),
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
    let called = env::args_os().nth(1);
    let args = match called.as_deref().and_then(OsStr::to_str) {
        Some("run") => image::rewritten(env::args_os()),
        _ => env::args_os().collect(),
    };
    let cli = Cli::from_arg_matches(&parser(called.as_deref()).get_matches_from(args));
    cli.unwrap_or_else(|error| error.exit()).command
}

/// The command line with what `called` needs of it. **A VM's process knows its own flags only**: those of the others
/// would take time before its socket accepts, and leave its heap in pieces.
fn parser(called: Option<&OsStr>) -> clap::Command {
    match called.and_then(OsStr::to_str) {
        Some("run") => alone::<run::Args>("run"),
        Some("api") => alone::<api::Args>("api"),
        _ => command(),
    }
}

/// The command line as if it had one subcommand only.
fn alone<A: clap::Args>(name: &'static str) -> clap::Command {
    clap::Command::new("ravelin")
        .max_term_width(WIDTH)
        .subcommand(A::augment_args(clap::Command::new(name)))
}

/// The whole command line, for the parser, the help, the completions and the man pages.
fn command() -> clap::Command {
    Cli::command()
        .subcommand(firecracker::command())
        .subcommand(jailer::command())
}

/// What stands after the name of a program that is called by another's name, which is `true` then, or after that
/// name as a subcommand: its grammar is not clap's.
fn called(
    other: &str,
    mut args: impl Iterator<Item = OsString>,
) -> Option<(impl Iterator<Item = OsString>, bool)> {
    let name = args.next()?;
    let is_other = |name: &OsStr| name == other;
    if Path::new(&name).file_name().is_some_and(is_other) {
        return Some((args, true));
    }
    args.next().filter(|first| is_other(first))?;
    Some((args, false))
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

    fn args(other: &str, line: &[&str]) -> Option<(Vec<OsString>, bool)> {
        let (args, by_name) = called(other, line.iter().map(OsString::from))?;
        Some((args.collect(), by_name))
    }

    #[test]
    fn a_program_of_anothers_name_has_its_command_line() {
        for (line, is_by_name) in [
            (&["firecracker", "--id", "a"][..], true),
            (&["/usr/bin/firecracker", "--id", "a"], true),
            (&["ravelin", "firecracker", "--id", "a"], false),
        ] {
            let (args, by_name) = args("firecracker", line).unwrap();
            assert_eq!(
                (args, by_name),
                (vec!["--id".into(), "a".into()], is_by_name)
            );
        }
        for line in [
            &["ravelin"][..],
            &["ravelin", "run", "firecracker"],
            &["firecracker/ravelin", "api"],
            &["firecracker-v1", "api"],
            &["jailer", "--id", "firecracker"],
            &[],
        ] {
            assert_eq!(args("firecracker", line), None, "{line:?}");
        }
        assert!(args("jailer", &["/opt/jailer", "--version"]).is_some());
    }

    #[test]
    fn a_subcommand_that_stands_alone_is_the_one_among_the_others() {
        for name in ["run", "api"] {
            let told = |mut command: clap::Command, flag| {
                let told = command.try_get_matches_from_mut(["ravelin", name, flag]);
                told.unwrap_err().to_string()
            };
            for flag in ["--help", "-h", "--unknown", "--versoin", "stray"] {
                let alone = told(parser(Some(OsStr::new(name))), flag);
                assert_eq!(alone, told(command(), flag), "{name} {flag}");
            }
            assert_eq!(parser(Some(OsStr::new(name))).get_subcommands().count(), 1);
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
