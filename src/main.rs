//! The `ravelin` command: parse, run, exit code. The only place where an error chain is printed.

#[expect(
    dead_code,
    unused_imports,
    reason = "the command does not open the socket yet"
)]
mod api;
mod cli;
mod console;
mod logger;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "VMs are entered when the socket is connected")
)]
mod registry;
mod resident;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
