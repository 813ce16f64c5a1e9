//! The `ravelin` command: parse, run, exit code. The only place where an error chain is printed.

mod cli;
mod console;
mod logger;
mod resident;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
