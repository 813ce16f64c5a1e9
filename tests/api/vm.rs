//! A ravelin that serves a socket, with its folder. Dropping it ends it.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::build::built;
use crate::client::{Client, Reply};

/// The program under test.
pub(crate) const RAVELIN: &str = env!("CARGO_BIN_EXE_ravelin");
/// Beyond this, what a test waits for does not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether guests can run here; says so when they cannot.
pub(crate) fn kvm() -> bool {
    let there = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    if let Err(error) = &there {
        eprintln!("SKIPPED: /dev/kvm cannot be opened here: {error}");
    }
    there.is_ok()
}

/// The payload, built once into this build's own folder.
pub(crate) fn payload() -> &'static Path {
    static PAYLOAD: OnceLock<PathBuf> = OnceLock::new();
    PAYLOAD.get_or_init(|| {
        built(
            "tools/payload",
            "payload",
            &["--release"],
            "release/payload",
        )
    })
}

/// Asks again until `look` finds something. For what has no event to wait for.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} does not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Which command line is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// `ravelin api`.
    Ravelin,
    /// `ravelin firecracker`.
    Firecracker,
    /// The same, in a network namespace of its own.
    Secluded,
}

/// A VM behind a socket.
#[derive(Debug)]
pub(crate) struct Vm {
    child: Child,
    folder: TempDir,
}

impl Vm {
    /// A `ravelin firecracker`.
    pub(crate) fn firecracker() -> Self {
        Self::start(Face::Firecracker, &[])
    }

    /// A ravelin that accepts connections.
    pub(crate) fn start(face: Face, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = command(face, &folder.path().join("api.sock"))
            .args(arguments)
            // Where a registry of running VMs is kept.
            .env("XDG_RUNTIME_DIR", folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(fs::File::create(folder.path().join("stdout")).unwrap())
            .stderr(fs::File::create(folder.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let socket = folder.path().join("api.sock");
        until("the socket", || {
            assert_eq!(child.try_wait().unwrap(), None, "{arguments:?}");
            UnixStream::connect(&socket).ok()
        });
        Self { child, folder }
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder().join("api.sock")
    }

    /// A connection to it.
    pub(crate) fn client(&self) -> Client {
        Client::to(&self.socket())
    }

    /// Asks on a connection of its own.
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Reply {
        self.client().ask(method, path, body)
    }

    /// Describes the payload as its kernel, to do `work`, and starts it.
    pub(crate) fn boot(&self, work: &str) {
        let kernel = payload().display();
        let source =
            format!(r#"{{"kernel_image_path": "{kernel}", "boot_args": "payload={work}"}}"#);
        let mut client = self.client();
        let set = client.ask("PUT", "/boot-source", Some(&source));
        assert_eq!(set.status, 204, "{set:?}");
        let start = r#"{"action_type": "InstanceStart"}"#;
        let started = client.ask("PUT", "/actions", Some(start));
        assert_eq!(started.status, 204, "{started:?}");
    }

    /// A file in its folder.
    pub(crate) fn file(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.folder().join(name);
        fs::File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    }

    /// The process's number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        until("the end", || self.child.try_wait().unwrap())
    }

    /// Whether it has not ended.
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it has written to stdout so far.
    pub(crate) fn stdout(&self) -> String {
        self.text("stdout")
    }

    /// What it has written to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        self.text("stderr")
    }

    fn text(&self, name: &str) -> String {
        let mut bytes = Vec::new();
        let mut file = fs::File::open(self.folder().join(name)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command line that serves `socket`.
fn command(face: Face, socket: &Path) -> Command {
    let mut command = match face {
        Face::Secluded => {
            let mut command = Command::new("unshare");
            command.args(["--net", "--", RAVELIN, "firecracker"]);
            command
        }
        Face::Firecracker => {
            let mut command = Command::new(RAVELIN);
            command.arg("firecracker");
            command
        }
        Face::Ravelin => {
            let mut command = Command::new(RAVELIN);
            command.arg("api");
            command
        }
    };
    command.arg("--api-sock").arg(socket);
    command
}
