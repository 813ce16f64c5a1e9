//! The subcommands, one module each, and how they end.

mod disk;
mod doctor;
mod net;
mod options;
mod progress;
mod run;
mod size;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    Doctor(doctor::Args),
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
    match Cli::parse().command {
        Command::Run(args) => run::run(&args).unwrap_or_else(|failure| failure.report()),
        Command::Doctor(args) => doctor::run(&args),
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
