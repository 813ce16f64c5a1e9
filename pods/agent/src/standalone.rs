//! One container on the guest's console, without a host to ask: what `ravelin run --image` boots.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use guest_init::cmdline::Options;
use guest_init::session;
use protocol::stream::Kind;
use rustix::termios::{OptionalActions, tcdrain, tcgetattr, tcsetattr};

use crate::disk::{Source, Writable};
use crate::error::{AgentError, Doing};
use crate::pod::{Creation, Pod};
use crate::poll::Pollable;
use crate::process::{Process, Wanted};
use crate::spec::{ConsoleSize, Spec};

/// What the container is called.
const NAME: &str = "container";
/// The serial of the disk that its root is on, and what is on it.
const SERIAL: &str = "rootfs";
const FILESYSTEM: &str = "erofs";
/// Status of what could not be run.
const FAILED: u8 = 125;

/// Runs the container that this file describes to its end, and gives its status.
pub(crate) async fn run(pod: &Pod, config: &Path) -> u8 {
    match start(pod, config).await {
        Ok(process) => {
            let exit = process.wait().await;
            drain();
            exit.status
        }
        Err(error) => {
            guest_init::kmsg::error(&error);
            error.status
        }
    }
}

/// Why it does not run, and the status that says so.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
struct Failure {
    source: AgentError,
    status: u8,
}

impl From<AgentError> for Failure {
    fn from(source: AgentError) -> Self {
        Self {
            source,
            status: FAILED,
        }
    }
}

async fn start(pod: &Pod, config: &Path) -> Result<Arc<Process>, Failure> {
    let text = std::fs::read(config).doing(format!("read {}", config.display()))?;
    let mut spec = Spec::parse(&text).map_err(AgentError::from)?;
    let terminal = spec.process().terminal;
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    if let (Some(process), Some(size)) = (&mut spec.process, Options::parse(&line).size) {
        process.console_size = Some(ConsoleSize {
            height: size.rows,
            width: size.columns,
        });
    }
    let is_read_only = spec.root.as_ref().is_some_and(|root| root.readonly);
    let process = pod
        .create(Creation {
            name: NAME.into(),
            spec,
            source: Source::Disk {
                serial: SERIAL.into(),
                filesystem: FILESYSTEM.into(),
            },
            writable: Writable {
                bytes: 0,
                is_read_only,
            },
            wanted: Wanted {
                // A serial port has no end, and drops what nobody reads in time: no way for a pipe.
                stdin: terminal,
                stdout: true,
                stderr: !terminal,
                terminal,
            },
        })
        .await?;
    connect(&process, terminal).doing("use the console")?;
    if let Err(source) = process.start().await {
        // What could not be executed has ended with the status that says why.
        let status = process.wait().await.status;
        return Err(Failure { source, status });
    }
    Ok(process)
}

/// Joins the container's streams and the console. With a terminal in the container the console is a wire; without, the
/// container has no input.
fn connect(process: &Process, terminal: bool) -> io::Result<()> {
    let tty = console()?;
    if terminal {
        let mut attributes = tcgetattr(&tty)?;
        attributes.make_raw();
        tcsetattr(&tty, OptionalActions::Now, &attributes)?;
    }
    drop(tty);
    let other = if terminal { Kind::Stdin } else { Kind::Stderr };
    for kind in [Kind::Stdout, other] {
        process.streams().connect(kind, Pollable::new(console()?)?);
    }
    Ok(())
}

fn console() -> io::Result<OwnedFd> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(session::console())?;
    Ok(file.into())
}

/// Waits until the console has sent everything.
fn drain() {
    if let Ok(tty) = console() {
        // Not a terminal: nothing is queued.
        let _ = tcdrain(tty.as_fd());
    }
}
