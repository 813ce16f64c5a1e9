//! The `ravelin` command: parse, run, exit code. The only place where an error chain is printed.

mod api;
mod audit;
mod cli;
mod console;
mod failure;
mod jail;
mod json_file;
mod logger;
mod nearest;
mod registry;
mod remnant;
mod resident;
mod serve;
mod session;
mod warden;

use std::process::ExitCode;

fn main() -> ExitCode {
    resident::share_one_heap();
    cli::main()
}
