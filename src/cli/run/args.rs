//! The flags of `ravelin run` and its help.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgAction;
use log::LevelFilter;
use vmm::boot::BootProtocol;
use vmm::sandbox::Sandbox;

use crate::cli::disk::Disk;
use crate::cli::net::Net;
use crate::cli::vsock::Vsock;
use crate::cli::{image, jail, size, vm_name};

/// Boot a guest and give its console
///
/// The guest is a Linux kernel with an initial RAM disk, a root disk, or both. Its serial port is this terminal:
/// what it says is on stdout, what is typed or piped in is its input, and what ravelin itself has to say is on
/// stderr.
#[derive(clap::Args)]
#[command(
    after_help = EXAMPLES,
    after_long_help = AFTER_LONG_HELP,
    next_help_heading = "Guest",
    disable_help_flag = true
)]
pub(crate) struct Args {
    /// Kernel: an ELF vmlinux or a bzImage
    #[arg(long, value_name = "FILE")]
    pub(super) kernel: Option<PathBuf>,
    /// Initial RAM disk, in any compression the kernel knows
    #[arg(long, value_name = "FILE")]
    pub(super) initrd: Option<PathBuf>,
    /// Kernel parameters to append to the default ones; may be given again
    #[arg(long, value_name = "STR", action = ArgAction::Append)]
    pub(super) cmdline: Vec<String>,
    /// How the kernel is entered
    #[arg(long, value_enum, default_value_t = Protocol::Auto)]
    pub(super) protocol: Protocol,
    /// Disk with the root filesystem, the guest's /dev/vda: PATH[,ro][,OPTION...]
    #[arg(long, value_name = "DISK", value_parser = Disk::parse)]
    pub(super) root: Option<Disk>,
    /// Another disk: PATH[,ro][,OPTION...]; may be given again
    #[arg(long, value_name = "DISK", value_parser = Disk::parse)]
    pub(super) disk: Vec<Disk>,
    /// A network card on a tap: tap=NAME[,OPTION...]; may be given again
    #[arg(long, value_name = "NET", value_parser = Net::parse)]
    pub(super) net: Vec<Net>,
    /// Sockets between guest and host, behind this one: PATH[,cid=N]
    #[arg(long, value_name = "VSOCK", value_parser = Vsock::parse)]
    pub(super) vsock: Option<Vsock>,
    /// Guest memory, such as 512M or 2G [default: 512M]
    #[arg(
        long,
        value_name = "SIZE",
        value_parser = size::mebibytes,
        allow_negative_numbers = true
    )]
    pub(super) mem: Option<u64>,
    /// vCPUs, 1 to 32 [default: 1]
    #[arg(
        long,
        value_name = "N",
        value_parser = size::vcpus,
        allow_negative_numbers = true
    )]
    pub(super) cpus: Option<u32>,
    /// A VM as JSON, with the names of Firecracker's configuration file; other flags add to it and override it
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print the VM as JSON, with the flags applied, and do nothing else
    #[arg(long)]
    pub(super) print_config: bool,
    /// The guest's serial port: this terminal, a file, or nothing
    #[arg(
        long,
        value_name = "tty|file=PATH|off",
        default_value = "tty",
        value_parser = Console::parse,
        help_heading = RUN
    )]
    pub(super) console: Console,
    /// End the guest after this time, such as 90s, 500ms or 5m
    #[arg(long, value_name = "TIME", value_parser = size::duration, allow_negative_numbers = true, help_heading = RUN)]
    pub(super) timeout: Option<Duration>,
    /// A name for the VM, for people who run several: ravelin's messages and log lines begin with it
    #[arg(long, value_name = "NAME", value_parser = vm_name, help_heading = RUN)]
    pub(super) name: Option<String>,
    /// Serve Firecracker's API, and ravelin's own, on this unix socket while the guest runs; `ravelin ps` and
    /// `ravelin ctl` then find the VM
    #[arg(long, value_name = "PATH", help_heading = RUN)]
    pub(super) api_sock: Option<PathBuf>,
    /// A container image
    #[command(flatten)]
    pub(super) image: image::Args,
    /// The walls around the monitor
    #[command(flatten)]
    pub(super) jail: jail::Args,
    /// Say nothing but errors
    #[arg(short, long, help_heading = RUN)]
    pub(super) quiet: bool,
    /// Say what is opened, built and where; -vv also when; -vvv everything
    #[arg(short, long, action = ArgAction::Count, help_heading = RUN)]
    pub(super) verbose: u8,
    /// Append log lines to a file, with the time of day, and not to stderr
    #[arg(long, value_name = "FILE", help_heading = RUN)]
    pub(super) log_file: Option<PathBuf>,
    /// Print help: a summary with -h, everything with --help
    #[arg(short, long, action = ArgAction::Help, help_heading = RUN)]
    help: Option<bool>,
    /// A command for the guest to run in place of a shell, or of what its image names: its output is ravelin's, and
    /// so is its exit status
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

/// The heading of what is not of the guest.
const RUN: &str = "Run";

const EXAMPLES: &str = "\
Examples:
  ravelin run --kernel vmlinux --root disk.ext4
  ravelin run --kernel bzImage --initrd initrd.img --mem 1G --cpus 2
  ravelin run --kernel vmlinux --root disk.ext4,ro -- uname -a
  ravelin run --config vm.json --net tap=tap0
  ravelin run --image app.tar -v ./conf:/etc/app -- serve

The whole story, with what each option means: ravelin run --help";

const AFTER_LONG_HELP: &str = "\
Options of a disk:
  ro                      the guest may only read
  id=ID                   its name in messages [default: rootfs, disk1, ...]
  serial=TEXT             found in the guest as /dev/disk/by-id/virtio-TEXT
                          [default: the id]
  engine=sync|uring       how requests reach the host [default: sync]
  cache=writeback|unsafe  whether a guest's flush reaches the host's disk
                          [default: writeback]
  bw=SIZE, iops=N         limits per second, as in bw=100M,iops=2000

Options of a network card:
  id=ID                   its name in messages [default: eth0, ...]
  mac=MAC                 the guest's address, such as 06:00:ac:10:00:02
  mtu=N                   the largest packet in bytes
  rx-bw=SIZE, rx-pps=N    limits per second on what the guest receives
  tx-bw=SIZE, tx-pps=N    limits per second on what the guest sends
A tap that does not exist is made, and removed when the guest has ended.

Sockets between guest and host (AF_VSOCK in the guest):
  PATH        a unix socket that is made: who connects says `CONNECT PORT` first
              and is joined to the guest's PORT; the guest's connections to PORT
              of the host (context id 2) come to the unix socket PATH_PORT
  cid=N       the guest's context id, from 3 on [default: 3]

On the console, when stdin is a terminal:
  Ctrl-A x  end the guest at once
  Ctrl-A c  show the keys
  Ctrl-A a  send Ctrl-A to the guest

Signals: SIGTERM or SIGHUP presses the guest's power button, a second one ends it at once. SIGINT ends it at once.

Exit status:
    0  the guest powered off, or its COMMAND's status
    1  something failed: a file, KVM, the host
    2  the command line or a configuration is wrong
  120  the guest rebooted
  121  the guest's kernel panicked
  122  the guest's processor shut down (triple fault)
  124  --timeout ran out
  130  ended by Ctrl-A x or SIGINT
  143  ended by a second SIGTERM or SIGHUP

Examples:
  A root disk, and a shell on it:
      ravelin run --kernel vmlinux --root disk.ext4
  A distribution's kernel and initrd, two processors, a network card:
      ravelin run --kernel bzImage --initrd initrd.img --cpus 2 --net tap=tap0
  One command in a guest that cannot change its disk:
      ravelin run --kernel vmlinux --root disk.ext4,ro -- uname -a
  Write a configuration, look at it, use it:
      ravelin run --kernel vmlinux --root disk.ext4 --print-config > vm.json
      ravelin run --config vm.json --mem 2G

Whether guests can run here at all, `ravelin doctor` says.";

impl Args {
    /// What the VM is called among those that run.
    pub(super) fn id(&self) -> String {
        let unnamed = || format!("vm-{}", std::process::id());
        self.name.clone().unwrap_or_else(unnamed)
    }

    /// Whether the guest hears what stands on stdin: a container of an image does from a terminal only.
    pub(super) fn has_input(&self) -> bool {
        let made = self.image.made.as_ref();
        self.console == Console::Tty && made.is_none_or(|made| made.has_terminal)
    }

    /// How the process is confined, which is in a cell or not.
    pub(super) fn sandbox(&self, in_cell: bool) -> Sandbox {
        Sandbox {
            mode: self.jail.seccomp(),
            has_socket: self.api_sock.is_some(),
            in_cell,
            has_terminal: io::stdin().is_terminal(),
        }
    }

    /// How much is logged.
    pub(super) fn level(&self) -> LevelFilter {
        match (self.quiet, self.verbose) {
            (true, _) => LevelFilter::Error,
            (false, 0) => LevelFilter::Warn,
            (false, 1) => LevelFilter::Info,
            (false, 2) => LevelFilter::Debug,
            (false, _) => LevelFilter::Trace,
        }
    }
}

/// How the kernel is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Protocol {
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
pub(super) enum Console {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_is_the_terminal_a_file_or_nothing() {
        assert_eq!(Console::parse("tty"), Ok(Console::Tty));
        assert_eq!(Console::parse("off"), Ok(Console::Off));
        assert_eq!(Console::parse("file=a=b"), Ok(Console::File("a=b".into())));
        for text in ["", "file", "file=", "pipe=a", "TTY"] {
            assert!(Console::parse(text).is_err(), "{text}");
        }
    }
}
