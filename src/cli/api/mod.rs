//! `ravelin api`: a VM behind a socket.

mod args;

use std::process::ExitCode;

pub(super) use self::args::Args;
use crate::cli::jail::Place;
use crate::failure::Failure;
use crate::serve::serve;
use crate::warden::watch;

/// Runs the subcommand.
///
/// # Errors
/// What kept the VM from being started, or broke it off.
#[inline(never)]
pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.place()? {
        Place::Outside(walls) => watch(args.charge(walls)?),
        Place::Monitor(told) => serve(args.launch(told)?),
    }
}
