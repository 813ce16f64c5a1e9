//! `ravelin api`: a VM behind a socket.

mod args;

use std::process::ExitCode;

pub(super) use self::args::Args;
use crate::failure::Failure;
use crate::serve::serve;

/// Runs the subcommand.
///
/// # Errors
/// What kept the VM from being started, or broke it off.
#[inline(never)]
pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    serve(args.launch()?)
}
