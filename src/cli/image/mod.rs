//! Container images: what `ravelin run --image` boots, and the subcommands that list and remove images.
//!
//! **No byte of an image is read here**: another program does that, behind walls of its own, and says where the disk is
//! that it has made, and what is to run on it.

mod archive;
mod boot;
mod kept;
mod program;
mod volume;

use std::path::PathBuf;

use clap::{ArgAction, ValueEnum};

pub(super) use self::boot::{Around, boot};
pub(super) use self::kept::{CacheArgs, ImagesArgs, RmiArgs, cache, images, rmi};
pub(super) use self::program::digest;
use self::volume::Volume;
pub(super) use self::volume::rewritten;

use crate::registry::VmImage;

/// The heading of these flags.
const IMAGE: &str = "Image";

/// The flags of `ravelin run` for an image.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Boot a container image: an archive, an OCI layout, or a reference as in registry.example/app:1
    #[arg(long, value_name = "IMAGE", help_heading = IMAGE, conflicts_with_all = ["root", "config", "print_config"])]
    pub(crate) image: Option<String>,
    /// When a registry is asked for the image
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Missing, hide_short_help = true, requires = "image", help_heading = IMAGE)]
    pull: When,
    /// A variable of the container, NAME=VALUE; may be given again
    #[arg(short, long, value_name = "NAME=VALUE", action = ArgAction::Append, requires = "image", help_heading = IMAGE)]
    env: Vec<String>,
    /// Whom the container runs as, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]", requires = "image", help_heading = IMAGE)]
    user: Option<String>,
    /// The directory that it starts in
    #[arg(short, long, value_name = "DIR", requires = "image", help_heading = IMAGE)]
    workdir: Option<String>,
    /// A program in place of the image's entrypoint
    #[arg(long, value_name = "PROGRAM", hide_short_help = true, requires = "image", help_heading = IMAGE)]
    entrypoint: Option<String>,
    /// A copy of a file or directory of this host in the container, read-only; also -v SRC:DST; may be given again
    #[arg(long, value_name = "SRC:DST[:ro]", action = ArgAction::Append, value_parser = Volume::parse, requires = "image", help_heading = IMAGE)]
    volume: Vec<Volume>,
    /// The initial RAM disk with ravelin's agent [default: agent in /etc/ravelin/config.toml]
    #[arg(long, value_name = "FILE", hide_short_help = true, requires = "image", help_heading = IMAGE)]
    agent: Option<PathBuf>,
    /// What was made of the image, for the process that boots it
    #[arg(long, value_name = "JSON", hide = true, requires = "image", value_parser = Made::parse)]
    pub(crate) made: Option<Made>,
}

/// When a registry is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum When {
    /// Always, also if the image is here
    Always,
    /// If the image is not here
    Missing,
    /// Never
    Never,
}

impl When {
    fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Missing => "missing",
            Self::Never => "never",
        }
    }
}

/// What was made of an image: enough to boot it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Made {
    /// What the image is called.
    pub(crate) name: String,
    /// What that meant.
    pub(crate) digest: String,
    /// The disk with its files.
    pub(crate) disk: PathBuf,
    /// The kernel.
    pub(crate) kernel: PathBuf,
    /// The agent, and the container's description behind it.
    pub(crate) initrd: PathBuf,
    /// Whether the container's console is a terminal.
    pub(crate) has_terminal: bool,
}

impl Made {
    /// The image, as those that list VMs are told of it.
    pub(crate) fn origin(&self) -> VmImage {
        VmImage {
            name: self.name.clone(),
            digest: self.digest.clone(),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}
