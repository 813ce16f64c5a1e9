//! The subcommands, one module each, and how they end.

mod doctor;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit status: something failed while running.
pub(crate) const FAILED: u8 = 1;

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
    Doctor(doctor::Args),
}

/// Runs the subcommand of this process's command line.
pub(crate) fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Doctor(args) => doctor::run(&args),
    }
}
