//! A VM: its monitor started in its jail, described over its socket, and ended.

mod mortal;
pub(crate) mod rest;
pub(crate) mod size;
mod tail;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use self::rest::{Rest, RestError};
use self::size::Size;
use self::tail::Tail;
use image::config::Config;

/// The guest's parameters: its console is kept for messages, it is quiet, and it ends when it panics.
const PARAMETERS: &str = "console=ttyS0 reboot=k,panic_warm panic=1 quiet retain_initrd";
/// How long a VM may take to end when it is asked to end at once.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a monitor may take until its socket is there.
const SOCKET_LIMIT: Duration = Duration::from_secs(20);

/// What a VM is to be.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Its name in `ravelin ps`.
    pub(crate) name: String,
    /// The shim's own directory, where its sockets are.
    pub(crate) directory: PathBuf,
    /// The container's cgroup, which the VM's own is made in.
    pub(crate) cgroup: Option<PathBuf>,
    /// How large it is.
    pub(crate) size: Size,
    /// The container's root.
    pub(crate) disk: File,
}

/// What a VM could not be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VmError {
    /// The monitor.
    #[error(
        "the monitor {0} cannot be started: {1}; install ravelin beside this shim, or name it in /etc/ravelin/config.toml"
    )]
    Monitor(PathBuf, #[source] io::Error),
    /// It has ended already.
    #[error("the VM ended before its guest ran: {0}")]
    Ended(String),
    /// A file that it is made of.
    #[error("{0} cannot be opened: {1}; name it in /etc/ravelin/config.toml")]
    File(PathBuf, #[source] io::Error),
    /// It refuses the description.
    #[error("the VM cannot be started: {0}")]
    Rest(#[from] RestError),
}

/// A VM that has been started. Dropped it is killed.
#[derive(Debug)]
pub(crate) struct Vm {
    /// The warden's number.
    pub(crate) pid: u32,
    end: watch::Receiver<Option<ExitStatus>>,
    tail: Tail,
    /// Where the monitor says that its socket accepts.
    ready: Mutex<pipe::Receiver>,
}

impl Vm {
    /// Starts a monitor, which serves its socket and has no guest yet.
    ///
    /// # Errors
    /// When there is no such program.
    pub(crate) fn start(plan: &Plan, config: &Config) -> Result<Self, VmError> {
        let program = config.monitor();
        let failed = |error| VmError::Monitor(program.clone(), error);
        let mut command = Command::new(&program);
        command
            .arg("api")
            .arg("--quiet")
            .args(["--name", &plan.name]);
        command.arg("--api-sock").arg(api_socket(&plan.directory));
        if let Some(cgroup) = &plan.cgroup {
            command
                .arg("--cgroup-parent")
                .arg(Path::new("/").join(cgroup));
        }
        let (ready, told) = pipe(&mut command).map_err(failed)?;
        mortal::bind_to_this_process(&mut command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(failed)?;
        drop(told);
        let tail = Tail::default();
        if let Some(out) = child.stdout.take() {
            tail.follow(out);
        }
        if let Some(errors) = child.stderr.take() {
            tail.follow(errors);
        }
        let pid = child.id().unwrap_or_default();
        let (sender, end) = watch::channel(None);
        tokio::spawn(reap(child, sender));
        Ok(Self {
            pid,
            end,
            tail,
            ready: Mutex::new(ready),
        })
    }

    /// Describes the VM and lets its guest run; [`Self::await_socket`] comes before.
    ///
    /// # Errors
    /// What the monitor refuses.
    pub(crate) async fn run(&self, plan: &Plan, config: &Config) -> Result<(), VmError> {
        let files = Files::open(plan, config)?;
        let socket = api_socket(&plan.directory);
        let vsock = vsock(&plan.directory);
        let (size, parameters) = (
            plan.size,
            format!("{PARAMETERS} {}", config.kernel_parameters),
        );
        let told = tokio::task::spawn_blocking(move || {
            describe(&socket, &files, size, parameters.trim(), &vsock)
        });
        match told.await {
            Ok(Err(error)) => Err(self.explain(error).await),
            Ok(Ok(())) => Ok(()),
            Err(_) => Err(VmError::Ended("the shim ends".to_owned())),
        }
    }

    /// Waits until the monitor, in its jail, says that its socket accepts.
    ///
    /// # Errors
    /// When it never does.
    pub(crate) async fn await_socket(&self) -> Result<(), VmError> {
        let mut ready = self.ready.lock().await;
        match timeout(SOCKET_LIMIT, ready.read_u8()).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(VmError::Ended(self.last_words().await)),
        }
    }

    /// A monitor that is gone has said more on stderr than its socket.
    async fn explain(&self, error: RestError) -> VmError {
        match error {
            RestError::Socket(..) => VmError::Ended(self.last_words().await),
            error => error.into(),
        }
    }

    /// What it said last.
    pub(crate) async fn last_words(&self) -> String {
        let _ = timeout(Duration::from_millis(500), self.ended()).await;
        self.tail.text()
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) {
        // The sender lives until then.
        let _ = self.end.clone().wait_for(Option::is_some).await;
    }

    /// Ends it at once, and waits until nothing of it is left.
    pub(crate) async fn end(&self) {
        for signal in [Signal::INT, Signal::KILL] {
            if self.is_over() {
                return;
            }
            if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, signal);
            }
            let _ = timeout(LIMIT, self.ended()).await;
        }
    }
}

/// A pipe that the monitor writes to when its socket accepts: our end, and theirs, which is to be dropped once it is theirs.
fn pipe(command: &mut Command) -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (ours, theirs) = io::pipe()?;
    let theirs = OwnedFd::from(theirs);
    // Nothing else is started meanwhile that would have it too.
    fcntl_setfd(&theirs, FdFlags::empty())?;
    command.args(["--ready-fd", &theirs.as_raw_fd().to_string()]);
    Ok((pipe::Receiver::from_owned_fd(ours.into())?, theirs))
}

async fn reap(mut child: Child, sender: watch::Sender<Option<ExitStatus>>) {
    if let Ok(status) = child.wait().await {
        sender.send_replace(Some(status));
    }
}

/// The monitor's REST socket.
fn api_socket(directory: &Path) -> PathBuf {
    directory.join("api")
}

/// The socket of the VM's vsock device.
pub(crate) fn vsock(directory: &Path) -> PathBuf {
    directory.join("v")
}

/// What a VM is made of, opened: the monitor gets descriptors and no paths.
#[derive(Debug)]
struct Files {
    kernel: File,
    agent: File,
    disk: File,
}

impl Files {
    fn open(plan: &Plan, config: &Config) -> Result<Self, VmError> {
        let open =
            |path: &Path| File::open(path).map_err(|error| VmError::File(path.to_owned(), error));
        Ok(Self {
            kernel: open(&config.kernel)?,
            agent: open(&config.agent)?,
            disk: plan
                .disk
                .try_clone()
                .map_err(|error| VmError::File("the container's disk".into(), error))?,
        })
    }
}

fn describe(
    socket: &Path,
    files: &Files,
    size: Size,
    parameters: &str,
    vsock: &Path,
) -> Result<(), RestError> {
    let mut rest = Rest::connect(socket)?;
    rest.put(
        "/machine-config",
        &json!({"vcpu_count": size.vcpus, "mem_size_mib": size.memory_mib}),
    )?;
    rest.pass("kernel", files.kernel.as_fd())?;
    rest.pass("agent", files.agent.as_fd())?;
    rest.put(
        "/boot-source",
        &json!({"kernel_image_path": "fd:kernel", "initrd_path": "fd:agent", "boot_args": parameters}),
    )?;
    rest.pass("rootfs", files.disk.as_fd())?;
    rest.put(
        "/drives/rootfs",
        &json!({"drive_id": "rootfs", "path_on_host": "fd:rootfs", "is_root_device": false, "is_read_only": true}),
    )?;
    rest.put("/vsock", &json!({"guest_cid": 3, "uds_path": vsock}))?;
    rest.put("/actions", &json!({"action_type": "InstanceStart"}))
}
