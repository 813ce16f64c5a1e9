//! The flags of `ravelin api` and its help.

use std::os::fd::RawFd;
use std::path::PathBuf;

use clap::ArgAction;
use log::LevelFilter;

use crate::cli::jail::{Place, Told};
use crate::cli::{inherited, jail, size, vm_name};
use crate::failure::Failure;
use crate::jail::cell::WallSet;
use crate::registry::Registry;
use crate::serve::launch::{
    Face, First, Launch, Listen, LogSettings, PAYLOAD_LIMIT, ProcessTimes, Socket,
};
use crate::serve::ready::Ready;
use crate::warden::Charge;

/// Serve a VM's REST socket: Firecracker's API, and ravelin's own under /ravelin
///
/// The VM is described and started through the socket, or by --config. Its serial port is stdin and stdout.
#[derive(clap::Args)]
#[command(
    after_help = EXAMPLES,
    after_long_help = AFTER_LONG_HELP,
    next_help_heading = "Socket",
    disable_help_flag = true
)]
pub(crate) struct Args {
    /// The VM's name, for `ravelin ps` and `ravelin ctl` [default: vm- and the process id]
    #[arg(long, alias = "id", value_name = "NAME", value_parser = vm_name)]
    name: Option<String>,
    /// The unix socket [default: NAME.sock where this user's VMs are: see below]
    #[arg(long, value_name = "PATH")]
    api_sock: Option<PathBuf>,
    /// A descriptor that whoever started ravelin has left open, and that listens already
    #[arg(
        long,
        value_name = "N",
        conflicts_with_all = ["api_sock", "sock_mode"],
        allow_negative_numbers = true
    )]
    listen_fd: Option<RawFd>,
    /// The socket's permissions: 0600 for its owner alone, 0660 for a group
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = mode)]
    sock_mode: u32,
    /// Serve only root, ravelin's own user and this one, as the kernel names them; may be given again
    #[arg(long, value_name = "UID", action = ArgAction::Append)]
    allow_uid: Vec<u32>,
    /// Write a line to this descriptor, and close it, when the socket accepts
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    ready_fd: Option<RawFd>,
    /// The longest body of a request [default: 51200 bytes]
    #[arg(long, alias = "http-api-max-payload-size", value_name = "SIZE", value_parser = limit)]
    payload_limit: Option<usize>,
    /// The largest metadata store [default: --payload-limit]
    #[arg(long, alias = "mmds-size-limit", value_name = "SIZE", value_parser = limit)]
    mmds_limit: Option<usize>,
    /// A VM as JSON, started at once, as `ravelin run --print-config` or GET /vm/config write it
    #[arg(long, alias = "config-file", value_name = "FILE", help_heading = GUEST)]
    config: Option<PathBuf>,
    /// The metadata store's content as JSON
    #[arg(long, value_name = "FILE", help_heading = GUEST)]
    metadata: Option<PathBuf>,
    /// Log how long the guest's boot took, when the guest says that it is over
    #[arg(long, help_heading = GUEST)]
    boot_timer: bool,
    /// The walls around the monitor
    #[command(flatten)]
    jail: jail::Args,
    /// Say nothing but errors
    #[arg(short, long, help_heading = RUN)]
    quiet: bool,
    /// Say what is asked, opened and built; -vv also when; -vvv everything
    #[arg(short, long, action = ArgAction::Count, help_heading = RUN)]
    verbose: u8,
    /// Append log lines to a file or fifo, with the time of day, and not to stderr
    #[arg(long, alias = "log-path", value_name = "FILE", help_heading = RUN)]
    log_file: Option<PathBuf>,
    /// Append metrics to a file or fifo, as JSON, a line a minute
    #[arg(long, alias = "metrics-path", value_name = "FILE", help_heading = RUN)]
    metrics_file: Option<PathBuf>,
    /// Print help: a summary with -h, everything with --help
    #[arg(short, long, action = ArgAction::Help, help_heading = RUN)]
    help: Option<bool>,
}

/// The heading of what is of the guest.
const GUEST: &str = "Guest";
/// The heading of what is of neither the socket nor the guest.
const RUN: &str = "Run";

const EXAMPLES: &str = "\
Examples:
  ravelin api --name web --api-sock web.sock
  ravelin api --name web --config vm.json
  curl --unix-socket web.sock http://localhost/

The whole story, with a VM made by curl: ravelin api --help";

const AFTER_LONG_HELP: &str = "\
A VM made by curl, once `ravelin api --api-sock web.sock` runs:
  api() { curl -sS --unix-socket web.sock -X \"$1\" \"http://localhost$2\" -d \"$3\"; }
  api PUT /machine-config '{\"vcpu_count\": 2, \"mem_size_mib\": 512}'
  api PUT /boot-source '{\"kernel_image_path\": \"vmlinux\"}'
  api PUT /drives/rootfs '{\"drive_id\": \"rootfs\", \"path_on_host\": \"disk.ext4\", \"is_root_device\": true}'
  api PUT /actions '{\"action_type\": \"InstanceStart\"}'
While it runs:
  api PATCH /vm '{\"state\": \"Paused\"}'
  api PATCH /vm '{\"state\": \"Resumed\"}'
  api PUT /actions '{\"action_type\": \"SendCtrlAltDel\"}'
What only ravelin has:
  curl --unix-socket web.sock http://localhost/ravelin/health
  curl --unix-socket web.sock http://localhost/ravelin/metrics
  curl --unix-socket web.sock -N http://localhost/ravelin/events
The same without curl: ravelin ps, ravelin ctl web pause, ravelin ctl web stop

Where this user's VMs are: /run/ravelin for root, $XDG_RUNTIME_DIR/ravelin for others, and /tmp/ravelin-UID where \
there is no XDG_RUNTIME_DIR.

Readiness: --ready-fd, or a systemd service with Type=notify; the socket then accepts.

Signals: SIGTERM or SIGHUP presses the guest's power button, a second one ends it at once. SIGINT ends it at once.

Programs that start Firecracker start this with Firecracker's own flags when it is called `firecracker`: \
ravelin help firecracker.";

impl Args {
    /// Where this process is.
    ///
    /// # Errors
    /// When it cannot be settled there.
    pub(super) fn place(&self) -> Result<Place, Failure> {
        self.jail.place(self.quiet)
    }

    /// What the warden of this VM is to do.
    ///
    /// # Errors
    /// When a descriptor is not there, or no directory for the socket.
    pub(super) fn charge(&self, walls: WallSet) -> Result<Charge, Failure> {
        let name = self.name();
        Ok(Charge {
            socket: Some((self.listen(&name)?, Some(self.sock_mode))),
            ready: self.ready()?,
            speaker: Some(name.clone()),
            ..self.jail.charge(name, walls, self.quiet)
        })
    }

    fn name(&self) -> String {
        let unnamed = || format!("vm-{}", std::process::id());
        self.name.clone().unwrap_or_else(unnamed)
    }

    fn listen(&self, name: &str) -> Result<Listen, Failure> {
        let take = |fd| inherited::take("--listen-fd", fd).map_err(Failure::usage);
        Ok(match (self.listen_fd, &self.api_sock) {
            (Some(fd), _) => Listen::Fd(take(fd)?),
            (None, Some(path)) => Listen::Path(path.clone()),
            (None, None) => {
                let path = Registry::of_this_user().socket(name);
                Listen::Path(path.map_err(Failure::run)?)
            }
        })
    }

    fn ready(&self) -> Result<Ready, Failure> {
        let take = |fd| inherited::take("--ready-fd", fd).map_err(Failure::usage);
        let fd = self.ready_fd.map(take).transpose()?;
        Ready::new(fd).map_err(|error| {
            Failure::run(format!(
                "the service manager's socket in NOTIFY_SOCKET cannot be reached ({error}): unset the variable \
                 where no service manager waits for a word"
            ))
        })
    }

    /// The VM that the flags describe. The monitor in a cell has its socket, and those who wait for it, outside.
    ///
    /// # Errors
    /// When a descriptor is not there, or no directory for the socket.
    pub(super) fn launch(self, told: Told) -> Result<Launch, Failure> {
        let level = self.level();
        let id = told.name.unwrap_or_else(|| self.name());
        let (listen, ready) = match told.in_cell {
            true => (Listen::Path(PathBuf::new()), Ready::default()),
            false => (self.listen(&id)?, self.ready()?),
        };
        let payload_limit = self.payload_limit.unwrap_or(PAYLOAD_LIMIT);
        Ok(Launch {
            face: Face::Ravelin,
            id,
            api: Some(Socket {
                listen,
                mode: Some(self.sock_mode),
                allowed_uids: self.allow_uid,
                payload_limit,
            }),
            first: First {
                config_file: self.config,
                metadata: self.metadata,
                boot_timer: self.boot_timer,
                mmds_size_limit: self.mmds_limit.unwrap_or(payload_limit),
            },
            log: LogSettings {
                path: self.log_file,
                level: Some(level),
                ..LogSettings::default()
            },
            metrics_path: self.metrics_file,
            times: ProcessTimes::default(),
            ready,
            seccomp: self.jail.seccomp(),
            in_cell: told.in_cell,
            warnings: Vec::new(),
        })
    }

    fn level(&self) -> LevelFilter {
        match (self.quiet, self.verbose) {
            (true, _) => LevelFilter::Error,
            (false, 0) => LevelFilter::Warn,
            (false, 1) => LevelFilter::Info,
            (false, 2) => LevelFilter::Debug,
            (false, _) => LevelFilter::Trace,
        }
    }
}

/// Permission bits in octal.
fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("permissions in octal were expected, such as 0600 or 0660".to_owned()),
    }
}

/// A size in bytes that fits into memory.
fn limit(text: &str) -> Result<usize, String> {
    let bytes = size::bytes(text)?;
    match usize::try_from(bytes) {
        Ok(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(format!(
            "`{text}` was given and a size of at least a byte was expected"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_octal() {
        assert_eq!(mode("0660"), Ok(0o660));
        assert_eq!(mode("600"), Ok(0o600));
        for text in ["", "rw", "0888", "1777", "-1"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_limit_is_at_least_a_byte() {
        assert_eq!(limit("50K"), Ok(51_200));
        for text in ["0", "", "x", "-1"] {
            assert!(limit(text).is_err(), "{text}");
        }
    }
}
