//! A monitor that serves a socket, and the guest in it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, pipe};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{self, Answer};
use crate::guest::{Outcome, Running, ravelin};
use crate::kit;
use crate::transcript::Transcript;

/// A socket is there sooner, even in an emulated machine on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);
/// What each guest here is told: a quiet console on the serial port, and a reset that ends it.
pub(crate) const ARGS: &str = "console=ttyS0 reboot=k panic=1 quiet";

/// A monitor with a socket. It is killed when dropped.
pub(crate) struct Monitor {
    running: Running,
    /// Firecracker's log; ravelin's is its stderr.
    log: Transcript,
    folder: TempDir,
}

impl Monitor {
    /// One that is called `firecracker`, and has Firecracker's command line.
    pub(crate) fn firecracker() -> Self {
        Self::firecracker_with(&[])
    }

    /// The same with more flags. Its log is a fifo, which says when the socket is served.
    pub(crate) fn firecracker_with(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        mkfifoat(CWD, &log, Mode::RUSR | Mode::WUSR).unwrap();
        // For writing too: the fifo has a reader before it has a writer.
        let reader = rustix::fs::open(&log, OFlags::RDWR, Mode::empty()).unwrap();
        let transcript = Transcript::of(File::from(reader));
        let mut command = Command::new(named_firecracker(folder.path()));
        command.arg("--api-sock").arg(folder.path().join("socket"));
        command.args(["--id", "guest", "--log-path"]).arg(&log);
        let monitor = Self::spawn(command.args(flags), Some(transcript), folder);
        monitor.wait_for_log("API server started.");
        monitor
    }

    /// `ravelin api`.
    pub(crate) fn ravelin() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mut ready, writer) = pipe().unwrap();
        fcntl_setfd(&writer, FdFlags::empty()).unwrap();
        let mut command = Command::new(ravelin());
        command
            .args(["api", "--ready-fd", &writer.as_raw_fd().to_string()])
            .arg("--api-sock")
            .arg(folder.path().join("socket"))
            .arg("--image-dir")
            .arg(folder.path())
            // Where running VMs are listed.
            .env("XDG_RUNTIME_DIR", folder.path());
        let monitor = Self::spawn(&mut command, None, folder);
        drop(writer);
        let mut line = String::new();
        ready.read_to_string(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        monitor
    }

    fn spawn(command: &mut Command, log: Option<Transcript>, folder: TempDir) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let console = Transcript::of(process.stdout.take().unwrap());
        Self {
            running: Running::new(process, console),
            log: log.unwrap_or_default(),
            folder,
        }
    }

    /// Waits until Firecracker's log says `marker`.
    pub(crate) fn wait_for_log(&self, marker: &str) {
        assert!(
            self.log.wait_for(marker, Instant::now() + PATIENCE),
            "the log never said `{marker}`: {}\n--- console\n{}",
            self.log.text(),
            self.said()
        );
    }

    /// A path of this monitor's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The socket's path.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path("socket")
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        client::ask(&self.socket(), &format!("GET {path}"), None, &[])
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers write `json!` there")]
    pub(crate) fn put(&self, path: &str, body: Value) -> Answer {
        client::ask(&self.socket(), &format!("PUT {path}"), Some(&body), &[])
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers write `json!` there")]
    pub(crate) fn patch(&self, path: &str, body: Value) -> Answer {
        client::ask(&self.socket(), &format!("PATCH {path}"), Some(&body), &[])
    }

    /// Leaves a descriptor under a name.
    pub(crate) fn deposit(&self, name: &str, fd: BorrowedFd<'_>) {
        let line = format!("PUT /ravelin/fds/{name}");
        client::ask(&self.socket(), &line, None, &[fd]).done();
    }

    /// What happens from now on.
    pub(crate) fn events(&self) -> UnixStream {
        client::open(&self.socket(), "GET /ravelin/events", None, &[])
    }

    /// Describes a guest with the trimmed kernel that runs a shell script.
    pub(crate) fn describe(&self, script: &str) {
        self.describe_with(ARGS, script);
    }

    /// The same with a command line.
    pub(crate) fn describe_with(&self, args: &str, script: &str) {
        self.put(
            "/machine-config",
            json!({ "vcpu_count": 1, "mem_size_mib": 256 }),
        )
        .done();
        let source = json!({
            "kernel_image_path": kit::file("vmlinux-trimmed"),
            "initrd_path": kit::file("initramfs"),
            "boot_args": with_script(args, script),
        });
        self.put("/boot-source", source).done();
    }

    /// Adds a disk of a file.
    pub(crate) fn drive(&self, id: &str, path: &Path) {
        let drive = json!({ "drive_id": id, "is_root_device": false, "path_on_host": path });
        self.put(&format!("/drives/{id}"), drive).done();
    }

    /// Lets the guest run.
    pub(crate) fn start(&self) {
        self.act("InstanceStart");
    }

    /// Does an action.
    pub(crate) fn act(&self, action: &str) {
        self.put("/actions", json!({ "action_type": action }))
            .done();
    }

    /// Pauses the guest or lets it run on.
    pub(crate) fn set_state(&self, state: &str) {
        self.patch("/vm", json!({ "state": state })).done();
    }

    /// Waits for the guest's end.
    pub(crate) fn end(self) -> Outcome {
        let mut outcome = self.running.end();
        // What it says there of its end tells a guest that powered off from one that broke.
        outcome.errors.push_str(&self.log.text());
        outcome
    }
}

impl Deref for Monitor {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl DerefMut for Monitor {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.running
    }
}

/// ravelin under Firecracker's name.
pub(crate) fn named_firecracker(folder: &Path) -> PathBuf {
    let path = folder.join("firecracker");
    std::os::unix::fs::symlink(ravelin(), &path).unwrap();
    path
}

/// A command line that has our init run a script (`docs/guest-kit.md`).
pub(crate) fn with_script(args: &str, script: &str) -> String {
    let mut line = format!("{args} ravelin.command=sh%00-c%00");
    for byte in script.bytes() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'_'
            | b'.'
            | b'/'
            | b':'
            | b'$'
            | b';'
            | b'='
            | b'>'
            | b'<'
            | b'('
            | b')'
            | b'['
            | b']'
            | b'|'
            | b'&' => {
                line.push(byte.into());
            }
            _ => write!(line, "%{byte:02x}").unwrap(),
        }
    }
    line
}
