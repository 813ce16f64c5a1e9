//! The flags of `ravelin ctl` and its help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Subcommand, ValueEnum};
use vmm::spec::TokenBucket;

use crate::cli::{options, size};

/// Ask something of a VM that runs behind a socket
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP, subcommand_precedence_over_arg = true, arg_required_else_help = true)]
pub(crate) struct Args {
    /// The VM's name, as `ravelin ps` shows it
    #[arg(required_unless_present = "sock")]
    pub(super) name: Option<String>,
    /// The VM's socket, for one that `ravelin ps` does not show
    #[arg(long, value_name = "PATH", conflicts_with = "name")]
    pub(super) sock: Option<PathBuf>,
    /// How long an answer may take [default: 10s], and with `stop` the guest's own end [default: 60s]
    #[arg(long, global = true, value_name = "TIME", value_parser = size::duration)]
    pub(super) timeout: Option<Duration>,
    #[command(subcommand)]
    pub(super) action: Action,
}

const AFTER_HELP: &str = "\
Examples:
  ravelin ctl web pause
  ravelin ctl web stop --timeout 30s || ravelin ctl web stop --force
  ravelin ctl web drive data --path bigger.ext4 --bw 100M
  ravelin ctl web metrics --json
  ravelin ctl --sock /run/firecracker.socket info

Exit status: 0 done, 1 the VM refused or does not answer, 2 wrong usage.";

/// What is asked.
#[derive(Subcommand)]
pub(super) enum Action {
    /// Show the VM's state, size and process
    Info {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Start the guest of a VM that was described through its socket
    Start,
    /// Halt the guest where it is
    Pause,
    /// Let a halted guest go on
    Resume,
    /// Ask the guest to switch itself off, and wait until it has
    ///
    /// A VM whose guest was not started ends at once.
    Stop {
        /// End the VM at once instead: by SIGINT, and by SIGKILL where that is not enough
        #[arg(long)]
        force: bool,
    },
    /// Show what the VM has counted so far, as far as it is not 0
    Metrics(Form),
    /// Print the whole VM as JSON, as --config reads it
    Config,
    /// Give a disk another file or other limits
    Drive(Drive),
    /// Give a network card other limits
    Net(Net),
    /// Print what happens to the VM, as it happens, until the VM ends or Ctrl-C
    Events {
        /// Print each event as a line of JSON, with its name as `event`
        #[arg(long)]
        json: bool,
    },
    /// Read or write the metadata that the guest sees
    Mmds {
        /// What to do with it
        #[arg(value_enum)]
        verb: Verb,
        /// A file with JSON, or `-` for stdin
        #[arg(value_name = "FILE", required_if_eq_any = [("verb", "put"), ("verb", "patch")])]
        file: Option<PathBuf>,
    },
}

/// How metrics are shown.
#[derive(clap::Args)]
#[group(multiple = false)]
pub(super) struct Form {
    /// Show those that are 0 too
    #[arg(long)]
    pub(super) all: bool,
    /// Print all of them as a JSON array of objects: {name, labels, value}
    #[arg(long)]
    pub(super) json: bool,
    /// Print the text that Prometheus reads
    #[arg(long)]
    pub(super) prometheus: bool,
}

/// What `ravelin ctl NAME drive` changes.
#[derive(clap::Args)]
#[command(group = any_of("changes", ["path", "bw", "iops"]))]
pub(super) struct Drive {
    /// The disk's id, as `ravelin ctl NAME config` shows it
    pub(super) id: String,
    /// Its new file
    #[arg(long, value_name = "FILE")]
    pub(super) path: Option<PathBuf>,
    /// Bytes a second, such as 100M; `off` for no limit
    #[arg(long, value_name = "SIZE", value_parser = limit)]
    pub(super) bw: Option<TokenBucket>,
    /// Requests a second; `off` for no limit
    #[arg(long, value_name = "N", value_parser = limit)]
    pub(super) iops: Option<TokenBucket>,
}

/// What `ravelin ctl NAME net` changes.
#[derive(clap::Args)]
#[command(group = any_of("limits", ["rx_bw", "rx_pps", "tx_bw", "tx_pps"]))]
pub(super) struct Net {
    /// The card's id, as `ravelin ctl NAME config` shows it
    pub(super) id: String,
    /// Bytes a second that the guest receives, such as 100M; `off` for no limit
    #[arg(long, value_name = "SIZE", value_parser = limit)]
    pub(super) rx_bw: Option<TokenBucket>,
    /// Packets a second that the guest receives; `off` for no limit
    #[arg(long, value_name = "N", value_parser = limit)]
    pub(super) rx_pps: Option<TokenBucket>,
    /// Bytes a second that the guest sends; `off` for no limit
    #[arg(long, value_name = "SIZE", value_parser = limit)]
    pub(super) tx_bw: Option<TokenBucket>,
    /// Packets a second that the guest sends; `off` for no limit
    #[arg(long, value_name = "N", value_parser = limit)]
    pub(super) tx_pps: Option<TokenBucket>,
}

/// What is done with the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Verb {
    /// Print it
    Get,
    /// Replace it
    Put,
    /// Merge into it; null removes (RFC 7396)
    Patch,
}

/// At least one of some flags.
fn any_of<const N: usize>(id: &'static str, flags: [&'static str; N]) -> ArgGroup {
    ArgGroup::new(id).required(true).multiple(true).args(flags)
}

/// A limit per second, or none: Firecracker's bucket of no size.
fn limit(text: &str) -> Result<TokenBucket, String> {
    if text == "off" {
        return Ok(TokenBucket {
            size: 0,
            refill_time: 0,
            one_time_burst: None,
        });
    }
    options::per_second(text)
}
