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
    expect(dead_code, reason = "the commands that look for VMs come next")
)]
mod registry;
mod resident;
#[expect(dead_code, unused_imports, reason = "the socket asks for the rest")]
mod session;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
