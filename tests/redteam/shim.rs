//! A monitor that containerd's shim has started, as it starts one for each container.
//!
//! The shim is driven as containerd drives it, up to the call that makes a container: its guest waits for ever and no
//! agent calls, so the shim waits with its monitor under the same walls as ever.

use std::fs::{self, Permissions};
use std::io::{PipeReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::arena::{ARENA, Arena, User};
use crate::page::Page;
use crate::support::monitor_of;
use crate::ttrpc::{field, request};

/// Longer than a start takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The shim's program, if it is built.
pub(crate) fn program() -> Option<PathBuf> {
    let beside =
        || Path::new(env!("CARGO_BIN_EXE_ravelin")).with_file_name("containerd-shim-ravelin-v2");
    let path = std::env::var_os("RAVELIN_SHIM").map_or_else(beside, PathBuf::from);
    path.exists().then_some(path)
}

/// A shim with a container that is being made. Dropping it ends both, and what is left is removed as containerd does it.
#[derive(Debug)]
pub(crate) struct Shim {
    process: Child,
    id: String,
    bundle: PathBuf,
    /// Held: who hangs up wants no container.
    _call: UnixStream,
}

impl Shim {
    /// Has a shim start a monitor with further `flags`, whose stderr is `page`; it is there once its guest runs.
    pub(crate) fn start(arena: &Arena, flags: &[&str], page: &Page) -> Self {
        let id = arena.name();
        let bundle = arena.runtime(User::Root).join(&id);
        fs::create_dir_all(bundle.join("rootfs")).unwrap();
        let spec = format!(
            r#"{{"ociVersion": "1.0.2", "process": {{"args": ["sh"], "cwd": "/"}}, "root": {{"path": "rootfs"}},
                "linux": {{"cgroupsPath": "/{id}"}}}}"#
        );
        fs::write(bundle.join("config.json"), spec).unwrap();
        let (console, end) = std::io::pipe().unwrap();
        let handed = [OwnedFd::from(page.file()), OwnedFd::from(end)];
        configure(&bundle, arena.program(), flags, &handed);
        let socket = bundle.join("s");
        let listener: OwnedFd = UnixListener::bind(&socket).unwrap().into();
        let mut command = command(&id, &bundle);
        let process = command.stdin(Stdio::from(listener)).spawn().unwrap();
        let mut call = UnixStream::connect(&socket).unwrap();
        call.write_all(&create(&id, &bundle)).unwrap();
        let line = line(console);
        assert_eq!(line, "here\n", "no guest: {}", page.said());
        Self {
            process,
            id,
            bundle,
            _call: call,
        }
    }

    /// The number of the monitor in its jail, and its warden's.
    pub(crate) fn monitor(&self) -> u32 {
        let pid = self.process.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let mut wardens = children
            .split_whitespace()
            .map(|word| word.parse().unwrap());
        wardens.find_map(monitor_of).unwrap()
    }

    /// The signal that has ended the monitor, as its warden says.
    pub(crate) fn signal(page: &Page) -> i32 {
        let begin = Instant::now();
        loop {
            let said = page.said();
            if said.contains("killed by its seccomp filter") {
                return libc::SIGSYS;
            }
            if let Some((_, rest)) = said.split_once("was ended by signal ") {
                return rest.split_whitespace().next().unwrap().parse().unwrap();
            }
            assert!(begin.elapsed() < PATIENCE, "why did it end? {said}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let cleared = command(&self.id, &self.bundle).arg("delete").output();
        if !std::thread::panicking() {
            assert!(cleared.unwrap().status.success());
            fs::remove_dir_all(&self.bundle).unwrap();
        }
    }
}

/// What the guest says, if it says something in time.
fn line(mut console: PipeReader) -> String {
    let limit = Timespec {
        tv_sec: PATIENCE.as_secs().cast_signed(),
        tv_nsec: 0,
    };
    let mut line = [0; 5];
    if poll(&mut [PollFd::new(&console, PollFlags::IN)], Some(&limit)) == Ok(1) {
        console.read_exact(&mut line).unwrap();
    }
    String::from_utf8_lossy(&line).into_owned()
}

/// The shim's command line, as containerd writes it.
fn command(id: &str, bundle: &Path) -> Command {
    let mut command = Command::new(program().unwrap());
    command
        .args(["-namespace", "redteam", "-id", id, "-address"])
        .arg(Path::new(ARENA).join("containerd"))
        .current_dir(bundle)
        .env("RAVELIN_CONFIG", bundle.join("config.toml"))
        .env("RAVELIN_RUNTIME_DIR", bundle.parent().unwrap())
        // Nobody hears its events.
        .env("TTRPC_ADDRESS", bundle.join("events"))
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// The shim's configuration. Its monitor is a script that becomes the red team: with the page as stderr, where the shim
/// would have a pipe, and the test's pipe as stdout.
fn configure(bundle: &Path, program: &Path, flags: &[&str], [page, end]: &[OwnedFd; 2]) {
    let open = |fd: &OwnedFd| format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
    let script = bundle.join("monitor");
    // What is said on stderr comes behind the page.
    let text = format!(
        "#!/bin/sh\nexec 2<>{} >{}\nhead -c 4096 <&2 >/dev/null\nexec {} \"$@\" {}\n",
        open(page),
        open(end),
        program.display(),
        flags.join(" ")
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    let (kernel, agent) = (
        Path::new(ARENA).join("kernel"),
        Path::new(ARENA).join("public"),
    );
    let config = format!(
        "ravelin = {script:?}\nkernel = {kernel:?}\nagent = {agent:?}\ncache = {:?}\nmemory_mib = 128\nstart_seconds = 600\n",
        bundle.join("cache")
    );
    fs::write(bundle.join("config.toml"), config).unwrap();
}

/// containerd's call for a container.
fn create(id: &str, bundle: &Path) -> Vec<u8> {
    let payload = [field(1, id), field(2, bundle.to_str().unwrap())];
    request("Create", payload.concat())
}
