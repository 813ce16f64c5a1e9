//! A process of a container, from its first instruction to its program.
//!
//! The agent runs tokio; what forks, and changes its namespaces, its user and its rights must have one thread and hold
//! nothing of the agent's. So the agent executes itself again, as `ravelin-agent run`, with an [`Order`] in a file in
//! memory and a [line](crate::line) to report on. That process makes the namespaces, or enters those of the container,
//! and forks once, since the first process of a pid namespace is a child of who made it. Its parent ends, so the agent,
//! which is the guest's first process, becomes the parent.

mod console;
mod fresh;
mod identity;
mod nodes;
mod options;
mod place;
mod program;
mod root;
mod seccomp;

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, pidfd_open, set_dumpable_behavior};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};
use serde::{Deserialize, Serialize};

use crate::line::{Inner, Word};
use crate::raw::{self, Fork};
use crate::spec::{NamespaceKind, Process, Seccomp, Spec};

pub(crate) use seccomp::compile as compile_seccomp;

/// The first argument that makes this program a container's process.
pub(crate) const MODE: &str = "run";
/// Status of what could not be made.
const FAILED: u8 = 128;

/// What is to be made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) kind: Kind,
    /// The cgroup's folder, where there is one.
    pub(crate) cgroup: Option<PathBuf>,
    /// Where what is bound comes from.
    pub(crate) files: Vec<PathBuf>,
}

/// A container, or a process in one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// A container: its whole description.
    Container {
        spec: Box<Spec>,
        /// Where its root is mounted.
        root: PathBuf,
        read_only: bool,
    },
    /// A process in the container of this process.
    Exec {
        process: Box<Process>,
        seccomp: Option<Box<Seccomp>>,
        first: u32,
        user_namespace: bool,
    },
}

/// What could not be done, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {source}")]
pub(crate) struct RunError {
    what: String,
    source: io::Error,
}

/// Names what was to be done when it fails.
pub(crate) trait During<T> {
    /// `cannot WHAT: why`
    fn during(self, what: impl Into<String>) -> Result<T, RunError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, what: impl Into<String>) -> Result<T, RunError> {
        self.map_err(|source| RunError {
            what: what.into(),
            source: source.into(),
        })
    }
}

/// Carries out the order; comes back only if that fails. The arguments are two descriptors that were left open: this
/// process's side of the line, and the order.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    let number = |word: &OsString| word.to_str()?.parse().ok();
    let numbers: Vec<Option<RawFd>> = arguments.iter().map(number).collect();
    let [Some(line), Some(order)] = numbers[..] else {
        return refuse();
    };
    let (Some(line), Some(order)) = (raw::left_open(line), raw::left_open(order)) else {
        return refuse();
    };
    let line = Inner::new(line);
    match carry_out(order, &line) {
        Ok(never) => match never {},
        Err(error) => {
            line.say(&Word::Failed(FAILED, error.to_string()));
            ExitCode::from(FAILED)
        }
    }
}

fn refuse() -> ExitCode {
    eprintln!("ravelin-agent run is how the agent makes a container, not a command for people");
    ExitCode::from(2)
}

fn carry_out(order: OwnedFd, line: &Inner) -> Result<Infallible, RunError> {
    line.say(&Word::Spawned(std::process::id()));
    // Nobody in the container looks into this process, or writes to its program by /proc.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).during("hide the process")?;
    let mut text = Vec::new();
    fs::File::from(order)
        .read_to_end(&mut text)
        .during("read the order")?;
    let order: Order = serde_json::from_slice(&text).during("read the order")?;
    if let Some(cgroup) = &order.cgroup {
        fs::write(cgroup.join("cgroup.procs"), "0").during("enter the container's cgroup")?;
    }
    match order.kind {
        Kind::Container {
            spec,
            root,
            read_only,
        } => container(&spec, &root, read_only, &order.files, line),
        Kind::Exec {
            process,
            seccomp,
            first,
            user_namespace,
        } => exec(&process, seccomp.as_deref(), first, user_namespace, line),
    }
}

fn container(
    spec: &Spec,
    root: &Path,
    read_only: bool,
    files: &[PathBuf],
    line: &Inner,
) -> Result<Infallible, RunError> {
    let process = spec.process();
    oom_score(process)?;
    let owns_network = fresh::namespaces(spec, line)?;
    become_child(line)?;
    let terminal = fresh::fill(spec, root, read_only, files, owns_network)?;
    program::run(process, spec.linux.seccomp.as_ref(), terminal, line)
}

fn exec(
    process: &Process,
    seccomp: Option<&Seccomp>,
    first: u32,
    user_namespace: bool,
    line: &Inner,
) -> Result<Infallible, RunError> {
    oom_score(process)?;
    enter(first, user_namespace)?;
    become_child(line)?;
    rustix::process::chdir("/").during("enter the container's root")?;
    let root = place::Root::open(Path::new("/"))?;
    let terminal = if process.terminal {
        Some(console::Terminal::open(&root, process.console_size)?)
    } else {
        None
    };
    program::run(process, seccomp, terminal, line)
}

/// Into the namespaces of the container whose first process this is.
fn enter(first: u32, user_namespace: bool) -> Result<(), RunError> {
    let what = "enter the container";
    let first = i32::try_from(first)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(Errno::SRCH)
        .during(what)?;
    let first = pidfd_open(first, PidfdFlags::empty()).during(what)?;
    let mut kinds = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::NETWORK;
    if user_namespace {
        kinds |= ThreadNameSpaceType::USER;
    }
    move_into_thread_name_spaces(first.as_fd(), kinds).during(what)
}

/// Forks, reports the child, and goes on as that.
fn become_child(line: &Inner) -> Result<(), RunError> {
    match raw::fork().during("make the container's process")? {
        Fork::Parent(child) => {
            line.say(&Word::Pid(child));
            std::process::exit(0);
        }
        Fork::Child => Ok(()),
    }
}

/// What the kernel ends first when memory runs out: the agent's own place in that order is inherited otherwise.
fn oom_score(process: &Process) -> Result<(), RunError> {
    let score = process.oom_score_adj.unwrap_or(0);
    fs::write("/proc/self/oom_score_adj", score.to_string())
        .during(format!("set the OOM score to {score}"))
}

/// The namespaces that every container has.
const ALWAYS: UnshareFlags = UnshareFlags::NEWNS
    .union(UnshareFlags::NEWPID)
    .union(UnshareFlags::NEWIPC)
    .union(UnshareFlags::NEWUTS)
    .union(UnshareFlags::NEWCGROUP);

/// Whether a container asks for a namespace of a kind that belongs to nobody else.
fn asks(spec: &Spec, kind: NamespaceKind) -> bool {
    spec.linux.namespaces.iter().any(|namespace| {
        namespace.kind == kind && namespace.path.as_deref().unwrap_or("").is_empty()
    })
}
