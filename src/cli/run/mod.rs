//! `ravelin run`: flags -> spec -> a guest and its console.

mod config;
mod session;
mod signals;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ArgAction;
use log::LevelFilter;
use vmm::boot::BootProtocol;
use vmm::controller::{Draft, StartError};

use self::session::Session;
use super::disk::Disk;
use super::net::Net;
use super::progress::Progress;
use super::{Failure, size};
use crate::logger;

/// Boot a guest and give its console
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Kernel: an ELF vmlinux or a bzImage
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initial RAM disk, in any compression the kernel knows
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// Kernel parameters to append to the default ones; may be given again
    #[arg(long, value_name = "STR", action = ArgAction::Append)]
    cmdline: Vec<String>,
    /// How the kernel is entered: by PVH where it can be, or as said
    #[arg(long, value_enum, default_value_t = Protocol::Auto)]
    protocol: Protocol,
    /// Disk with the root filesystem: PATH[,ro] and the options of --disk
    #[arg(long, value_name = "DISK", value_parser = Disk::parse)]
    root: Option<Disk>,
    /// A disk: PATH[,ro][,id=ID][,serial=TEXT][,engine=sync|uring][,cache=unsafe|writeback][,bw=SIZE][,iops=N];
    /// may be given again
    #[arg(long, value_name = "DISK", value_parser = Disk::parse)]
    disk: Vec<Disk>,
    /// A network card: tap=NAME[,id=ID][,mac=MAC][,mtu=N][,rx-bw=SIZE][,rx-pps=N][,tx-bw=SIZE][,tx-pps=N];
    /// the tap is made, and removed afterwards, if it does not exist; may be given again
    #[arg(long, value_name = "NET", value_parser = Net::parse)]
    net: Vec<Net>,
    /// Guest memory, such as 512M or 2G [default: 512M]
    #[arg(long, value_name = "SIZE", value_parser = size::mebibytes)]
    mem: Option<u64>,
    /// vCPUs, 1 to 32 [default: 1]
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// The guest's serial port: the terminal, a file, or nothing
    #[arg(long, value_name = "tty|file=PATH|off", default_value = "tty", value_parser = Console::parse)]
    console: Console,
    /// A name for the VM, in log lines and as the guest's network addresses' seed
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A VM as JSON, with the names of Firecracker's configuration file; flags add to it and override it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the VM as JSON, with the flags applied, and do nothing else
    #[arg(long)]
    print_config: bool,
    /// End the guest after this time, such as 90s or 5m
    #[arg(long, value_name = "TIME", value_parser = size::duration)]
    timeout: Option<Duration>,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// Say more; -vv says still more
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
    /// Append log lines to a file, not to stderr
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// A command for the guest to run in place of a shell (images made by tools/guest); its status becomes
    /// ravelin's
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

const AFTER_HELP: &str = "\
Examples:
  ravelin run --kernel vmlinux --root disk.ext4
  ravelin run --kernel bzImage --initrd initrd.img --mem 1G --cpus 2 --net tap=tap0
  ravelin run --kernel vmlinux --root disk.ext4,ro -- uname -a

On the console: Ctrl-A x ends the guest at once, Ctrl-A c shows the keys.
SIGTERM or SIGHUP presses the guest's power button; a second one ends it at once. SIGINT ends it at once.

Exit status: the command's, or 0 when the guest powered off; 120 the guest rebooted, 121 it panicked,
122 it ended in a triple fault, 124 --timeout ran out, 130 ended by Ctrl-A x or SIGINT, 143 ended by a second
SIGTERM, 1 something failed, 2 the command line or a configuration is wrong.";

/// How the kernel is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Protocol {
    /// PVH if the kernel offers it, else linux64
    Auto,
    /// Linux's 64-bit boot protocol
    Linux64,
    /// PVH, for ELF kernels with its note
    Pvh,
}

impl From<Protocol> for BootProtocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Auto => Self::Auto,
            Protocol::Linux64 => Self::Linux64,
            Protocol::Pvh => Self::Pvh,
        }
    }
}

/// Where the guest's serial port leads.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Console {
    /// To stdin and stdout.
    Tty,
    /// Its output into a file; no input.
    File(PathBuf),
    /// Nowhere.
    Off,
}

impl Console {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "tty" => Ok(Self::Tty),
            None if text == "off" => Ok(Self::Off),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err("tty, off or file=PATH was expected".to_owned()),
        }
    }
}

/// Runs the subcommand.
///
/// # Errors
/// What kept the guest from starting, or broke it off.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    logger::init(level(args), args.log_file.as_deref()).map_err(|error| {
        let path = args.log_file.clone().unwrap_or_default();
        Failure::run(format!(
            "the log file {} cannot be opened: {error}",
            path.display()
        ))
    })?;
    let spec = config::spec(args)?;
    if args.print_config {
        let text = serde_json::to_string_pretty(&spec).map_err(Failure::run)?;
        println!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    let draft = Draft::new(spec, args.protocol.into()).map_err(Failure::usage)?;
    // Before the first thread starts: the threads inherit which signals wait for the event loop.
    let signals = signals::Signals::take().map_err(Failure::run)?;
    let mut progress = Progress::new(args.quiet);
    progress.say("loading");
    let live = draft.boot().map_err(failure)?;
    progress.say("booting");
    Session::new(live, signals, progress, args)?.serve()
}

/// A start that failed: where KVM was the reason, in the words of the host's examination.
fn failure(error: StartError) -> Failure {
    let explained = error.is_of_kvm().then(vmm::host::explain).flatten();
    match explained {
        Some(sentence) => Failure::run(sentence),
        None => Failure::run(error),
    }
}

fn level(args: &Args) -> LevelFilter {
    match (args.quiet, args.verbose) {
        (true, _) => LevelFilter::Error,
        (false, 0) => LevelFilter::Warn,
        (false, 1) => LevelFilter::Info,
        (false, 2) => LevelFilter::Debug,
        (false, _) => LevelFilter::Trace,
    }
}

/// Reads a configuration file.
fn read_config(path: &std::path::Path) -> Result<vmm::spec::Spec, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::usage(format!(
            "the configuration {} cannot be read: {error}",
            path.display()
        ))
    })?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::usage(format!(
            "the configuration {} is wrong: {error}",
            path.display()
        ))
    })
}
