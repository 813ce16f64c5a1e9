//! What a VM with a socket starts from: what `ravelin api` and Firecracker's command line both come to.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use log::LevelFilter;
use rustix::net::{SocketAddrUnix, getsockname};
use rustix::time::{ClockId, clock_gettime};
use vmm::metrics::process::ApiServer;
use vmm::sandbox::Mode;
use vmm::spec::LoggerConfig;

use super::ready::Ready;

/// The longest body of a request where nothing was said, in bytes: Firecracker's default.
pub(crate) const PAYLOAD_LIMIT: usize = 51_200;
/// The same, as it is typed.
pub(crate) const PAYLOAD_LIMIT_TEXT: &str = "51200";
/// The permission bits of a socket for its owner alone.
const OWNER_ALONE: u32 = 0o600;
/// The VM's name where nothing was said: Firecracker's.
pub(crate) const ANONYMOUS: &str = "anonymous-instance";

/// A VM with a socket, or from a configuration file alone, that is to be started.
#[derive(Debug)]
pub(crate) struct Launch {
    /// Whose words and exit statuses the process has.
    pub(crate) face: Face,
    /// The VM's name: 1 to 64 letters, digits and `-` (as ravelin, also `_` and `.`).
    pub(crate) id: String,
    /// The socket; none with `--no-api`, and then there is a configuration file.
    pub(crate) api: Option<Socket>,
    /// What the VM has before the first request.
    pub(crate) first: First,
    /// What is logged, where and how.
    pub(crate) log: LogSettings,
    /// The file or fifo for the metrics' JSON lines.
    pub(crate) metrics_path: Option<PathBuf>,
    /// What started this process, and when.
    pub(crate) times: ProcessTimes,
    /// Who is told that the socket accepts.
    pub(crate) ready: Ready,
    /// What becomes of a system call that no filter lists.
    pub(crate) seccomp: Mode,
    /// Whether this process is in a cell.
    pub(crate) in_cell: bool,
    /// What the user is warned of in the log as soon as it is set up.
    pub(crate) warnings: Vec<String>,
}

/// Whose behaviour the process shows where the two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// Sentences for people; exit statuses 1 and 2; the VM is found by `ravelin ps`.
    Ravelin,
    /// Firecracker's log lines and exit statuses; no entry among the running VMs, since its names need not
    /// differ and its root directory is its caller's.
    Firecracker,
}

/// The socket and who may use it.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Where it is, or the descriptor that already listens.
    pub(crate) listen: Listen,
    /// The permission bits of its file; without them, what the umask leaves.
    pub(crate) mode: Option<u32>,
    /// The users that may use it besides root and this process's own; empty for whoever can connect.
    pub(crate) allowed_uids: Vec<u32>,
    /// The longest body of a request, in bytes.
    pub(crate) payload_limit: usize,
}

impl Socket {
    /// A socket at `path` for its owner alone.
    pub(crate) fn at(path: &Path) -> Self {
        Self {
            listen: Listen::Path(path.to_owned()),
            mode: Some(OWNER_ALONE),
            allowed_uids: Vec::new(),
            payload_limit: PAYLOAD_LIMIT,
        }
    }
}

/// Where requests come in.
#[derive(Debug)]
pub(crate) enum Listen {
    /// A socket to be made here.
    Path(PathBuf),
    /// A socket that listens already, made by whoever started this process.
    Fd(OwnedFd),
}

impl Listen {
    /// Where others reach the socket, if that can be told.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        let path = match self {
            Self::Path(path) => return Some(path.clone()),
            Self::Fd(fd) => SocketAddrUnix::try_from(getsockname(fd).ok()?).ok()?,
        };
        let path = PathBuf::from(OsStr::from_bytes(path.path_bytes()?));
        // A relative one was so where it was made, which is not known here.
        path.is_absolute().then_some(path)
    }
}

/// What a VM has before the first request.
#[derive(Debug, Default)]
pub(crate) struct First {
    /// The whole VM as JSON, which is then started at once.
    pub(crate) config_file: Option<PathBuf>,
    /// The content of the metadata store as JSON.
    pub(crate) metadata: Option<PathBuf>,
    /// Whether the guest gets the device whose write logs how long its boot took.
    pub(crate) boot_timer: bool,
    /// The largest metadata store, in bytes.
    pub(crate) mmds_size_limit: usize,
}

/// What is logged, where and how.
#[derive(Debug, Default)]
pub(crate) struct LogSettings {
    /// The file or fifo; without one, stdout as Firecracker and stderr as ravelin.
    pub(crate) path: Option<PathBuf>,
    /// The least level; without one, info as Firecracker and warnings as ravelin.
    pub(crate) level: Option<LevelFilter>,
    /// Only what modules whose path begins so have to say.
    pub(crate) module: Option<String>,
    /// Whether lines have their level, in Firecracker's format.
    pub(crate) show_level: bool,
    /// Whether lines have their file and line number, in Firecracker's format.
    pub(crate) show_origin: bool,
}

/// What Firecracker's jailer says of the time before, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProcessTimes {
    /// The monotonic clock when the jailer started.
    pub(crate) start_us: Option<u64>,
    /// The processor time of the process when it started.
    pub(crate) start_cpu_us: Option<u64>,
    /// The processor time of the jailer.
    pub(crate) parent_cpu_us: Option<u64>,
}

impl LogSettings {
    /// The same as the body of `PUT /logger`.
    pub(crate) fn config(&self) -> LoggerConfig {
        LoggerConfig {
            log_path: self
                .path
                .as_ref()
                .map(|path| path.to_string_lossy().into_owned()),
            level: self.level.and_then(|level| level.as_str().parse().ok()),
            show_level: Some(self.show_level),
            show_log_origin: Some(self.show_origin),
            module: self.module.clone(),
        }
    }
}

impl ProcessTimes {
    /// Counts how long the start took, if it is known when it began: in real time, and in processor time with
    /// the jailer's.
    pub(crate) fn tell(&self, api: &ApiServer) {
        let now = |clock| {
            let time = clock_gettime(clock);
            let micros = time.tv_sec.saturating_mul(1_000_000) + time.tv_nsec / 1000;
            u64::try_from(micros).unwrap_or_default()
        };
        if let Some(start) = self.start_us {
            let took = now(ClockId::Monotonic).saturating_sub(start);
            api.process_startup_time_us.set(took);
        }
        if let Some(start) = self.start_cpu_us {
            let own = now(ClockId::ProcessCPUTime).saturating_sub(start);
            let jailers = self.parent_cpu_us.unwrap_or_default();
            api.process_startup_time_cpu_us
                .set(own.saturating_add(jailers));
        }
    }
}
