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
#[cfg(feature = "redteam")]
mod redteam;
mod registry;
mod remnant;
mod resident;
mod serve;
mod session;
mod warden;

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "redteam")]
    redteam::arm();
    resident::share_one_heap();
    cli::main()
}
