//! `ravelin images`, `ravelin rmi` and `ravelin cache`: what the program that reads images does, by ravelin's name.

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use super::program::{command, missing};
use crate::failure::Failure;

/// List the container images that are here
#[derive(clap::Args)]
pub(crate) struct ImagesArgs {
    /// Print a JSON array of objects: {image, digest, taken_at, disk, bytes, in_use}
    #[arg(long)]
    json: bool,
}

/// Forget container images, and remove their disks unless a VM has them
#[derive(clap::Args)]
pub(crate) struct RmiArgs {
    /// Their names, as `ravelin images` shows them
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// List or remove the disks that were made of container images
#[derive(clap::Args)]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(clap::Subcommand)]
enum CacheCommand {
    /// List disks, those first that were used last
    Ls {
        /// Print a JSON array of objects: {id, path, bytes, used_at, in_use}
        #[arg(long)]
        json: bool,
    },
    /// Remove disks that no VM has
    Rm {
        /// Their numbers, or how these begin
        #[arg(value_name = "DISK", required_unless_present = "all")]
        disks: Vec<String>,
        /// All that no VM has
        #[arg(long)]
        all: bool,
    },
}

/// Runs `ravelin images`.
///
/// # Errors
/// When the program is not there.
pub(crate) fn images(args: &ImagesArgs) -> Result<ExitCode, Failure> {
    become_it("ls", args.json, &[])
}

/// Runs `ravelin rmi`.
///
/// # Errors
/// When the program is not there.
pub(crate) fn rmi(args: &RmiArgs) -> Result<ExitCode, Failure> {
    become_it("rm", false, &args.images)
}

/// Runs `ravelin cache`.
///
/// # Errors
/// When the program is not there.
pub(crate) fn cache(args: &CacheArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        CacheCommand::Ls { json } => become_it("cache ls", *json, &[]),
        CacheCommand::Rm {
            disks: _,
            all: true,
        } => become_it("cache rm --all", false, &[]),
        CacheCommand::Rm { disks, all: false } => become_it("cache rm", false, disks),
    }
}

fn become_it(words: &str, json: bool, names: &[String]) -> Result<ExitCode, Failure> {
    let mut command = command();
    command.args(words.split(' '));
    if json {
        command.arg("--json");
    }
    if !names.is_empty() {
        command.arg("--").args(names);
    }
    Err(missing(&command.exec()))
}
