//! The command line.

mod bar;
mod kept;
mod kit;
mod take;
mod walls;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use image::cache::Cache;
use image::config::Config;

/// Container images as disks for microVMs
#[derive(Parser)]
#[command(name = "ravelin-image", version, max_term_width = 100)]
struct Cli {
    /// Where disks are kept [default: `images` in $RAVELIN_CACHE; /var/lib/ravelin for root; else ~/.cache/ravelin]
    #[arg(long, value_name = "DIR", global = true)]
    cache: Option<PathBuf>,
    /// Bytes of disks that are kept; what was not used for longest is removed beyond that [default: the configuration's]
    #[arg(long, value_name = "BYTES", global = true)]
    keep: Option<u64>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take an image, and make its disk
    Pull(take::Pull),
    /// Take an image if it is not there, and describe its container as JSON
    Resolve(Box<take::Resolve>),
    /// Print the digest that a reference means now
    Digest(Named),
    /// List images
    Ls,
    /// Forget images, and remove their disks unless somebody has them
    Rm(Several),
    /// List or remove disks
    #[command(subcommand)]
    Cache(kept::Cache),
}

/// An image.
#[derive(Args)]
struct Named {
    /// A reference, as in registry.example/app:1, or the path of an archive or a layout
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Images.
#[derive(Args)]
struct Several {
    /// Their names, as `ls` shows them
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// Everything that can go wrong, as one sentence with its causes.
type Failure = Box<dyn std::error::Error>;

/// Runs the command line.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            let causes = std::iter::successors(Some(&*error), |error| error.source());
            let mut text: Vec<String> = Vec::new();
            for cause in causes.map(ToString::to_string) {
                // A wrapper that says what its cause says.
                if text.last() != Some(&cause) {
                    text.push(cause);
                }
            }
            eprintln!("ravelin-image: {}", text.join(": "));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let config = Config::of_this_host()?;
    let place = cli.cache.unwrap_or_else(|| Cache::place(&config));
    let cache = Cache::open(&place, cli.keep.unwrap_or(config.cache_mib << 20))?;
    match cli.command {
        Command::Pull(pull) => take::pull(&cache, &pull, cli.json)?,
        Command::Resolve(resolve) => take::resolve(&cache, &config, &resolve)?,
        Command::Digest(named) => take::digest(&cache, &named.image)?,
        Command::Ls => kept::images(&cache, cli.json)?,
        Command::Rm(several) => return kept::remove(&cache, &several.images),
        Command::Cache(command) => return kept::run(&cache, &command, cli.json),
    }
    Ok(ExitCode::SUCCESS)
}
