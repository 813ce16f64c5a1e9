//! A place for jails, and a VM in one.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::isolated::unshared;

/// The program under test.
pub(crate) const RAVELIN: &str = env!("CARGO_BIN_EXE_ravelin");
/// Set in a test's second self: its place.
const PLACE: &str = "RAVELIN_TEST_PLACE";
/// Longer than any start takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who the jailed program is.
pub(crate) const UID: u32 = 1234;
/// Its group.
pub(crate) const GID: u32 = 2345;

/// Runs `test` in namespaces of its own, with its place; it is skipped, and says so, where that cannot be.
pub(crate) fn jailing<F: FnOnce(&Place)>(test: F) {
    if let Some(path) = std::env::var_os(PLACE) {
        return test(&Place { path: path.into() });
    }
    let name = std::any::type_name::<F>();
    let name = name.strip_suffix("::{{closure}}").unwrap();
    let (_, name) = name.split_once("::").unwrap();
    let place = tempfile::tempdir().unwrap();
    if let Some(why) = cannot(place.path()) {
        eprintln!("SKIPPED {name}: {why}");
        return;
    }
    let this = std::env::current_exe().unwrap();
    let script = "mount -t tmpfs -o mode=0755 tmpfs \"$0\" && exec \"$@\"";
    let output = unshared(script)
        .arg(place.path())
        .arg(this)
        .args([name, "--exact", "--nocapture"])
        .env(PLACE, place.path())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("ok. 1 passed"), "in its namespaces: {said}");
}

/// Why no jail can be built here.
fn cannot(place: &Path) -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("a jail is built by root");
    }
    let script = "mount -t tmpfs tmpfs \"$0\" && mknod \"$0/null\" c 1 3 && : >\"$0/null\"";
    match unshared(script).arg(place).output() {
        Ok(output) if output.status.success() => None,
        _ => Some("this host allows no namespaces, mounts or devices, or has no unshare(1)"),
    }
}

/// A directory of a test's own, as only the inside knows it.
pub(crate) struct Place {
    path: PathBuf,
}

impl Place {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The chroot base, made when it is first asked for.
    pub(crate) fn base(&self) -> PathBuf {
        let base = self.path.join("base");
        fs::create_dir_all(&base).unwrap();
        base
    }

    /// The root of the jail `web`.
    pub(crate) fn root(&self) -> PathBuf {
        self.base().join("firecracker/web/root")
    }

    /// A copy of ravelin under Firecracker's name.
    pub(crate) fn firecracker(&self) -> PathBuf {
        let program = self.path.join("firecracker");
        if !program.exists() {
            fs::copy(RAVELIN, &program).unwrap();
        }
        program
    }

    /// `ravelin jailer` for the jail `web`, with what a line says besides and behind `--`.
    pub(crate) fn jailer(&self, line: &str) -> Command {
        self.jailer_as((UID, GID), line)
    }

    pub(crate) fn jailer_as(&self, (uid, gid): (u32, u32), line: &str) -> Command {
        let mut command = Command::new(RAVELIN);
        command
            .args(["jailer", "--id", "web", "--exec-file"])
            .arg(self.firecracker())
            .args(["--uid", &uid.to_string(), "--gid", &gid.to_string()])
            .arg("--chroot-base-dir")
            .arg(self.base())
            .args(line.split_whitespace())
            .stdin(Stdio::null());
        command
    }

    /// Runs the jailer, which is refused: its sentence.
    pub(crate) fn refusal(&self, line: &str) -> String {
        refusal(&self.jailer(line).output().unwrap())
    }

    /// Starts the jailer and waits for the socket.
    pub(crate) fn start(&self, line: &str) -> Vm {
        self.start_by(&mut self.jailer(line))
    }

    pub(crate) fn start_by(&self, jailer: &mut Command) -> Vm {
        let child = jailer.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let socket = self.root().join("run/firecracker.socket");
        let begin = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            let ended = child.try_wait().unwrap();
            // A daemon's first process ends well.
            if begin.elapsed() > PATIENCE || ended.is_some_and(|status| !status.success()) {
                let _ = child.kill();
                panic!("no socket: {:?}", child.wait_with_output());
            }
            std::thread::yield_now();
        }
        Vm {
            child: Some(child),
            socket,
            pid_file: self.root().join("firecracker.pid"),
        }
    }
}

/// The sentence of a jailer that refused.
pub(crate) fn refusal(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(text.lines().count(), 1, "{text}");
    text.trim_end().to_owned()
}

/// A jailed VM. Dropping it ends it.
pub(crate) struct Vm {
    child: Option<Child>,
    socket: PathBuf,
    pid_file: PathBuf,
}

impl Vm {
    /// The number in the pid file.
    pub(crate) fn pid(&self) -> u32 {
        fs::read_to_string(&self.pid_file).unwrap().parse().unwrap()
    }

    /// The number of the process that was started as the jailer.
    pub(crate) fn child(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// A file of /proc about the VM's process.
    pub(crate) fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.pid())).unwrap()
    }

    /// The value of a line of /proc/PID/status.
    pub(crate) fn status(&self, key: &str) -> String {
        let status = self.proc("status");
        let start = format!("{key}:");
        let value = status.lines().find_map(|line| line.strip_prefix(&start));
        let value = value.unwrap_or_else(|| panic!("no {key} in {status}"));
        value.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// A namespace of the VM's process.
    pub(crate) fn namespace(&self, name: &str) -> PathBuf {
        fs::read_link(format!("/proc/{}/ns/{name}", self.pid())).unwrap()
    }

    /// Asks, and gets an answer, all of it.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all((head + body).as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !is_whole(&answer) && stream.read(&mut byte).unwrap() == 1 {
            answer.push(byte[0]);
        }
        String::from_utf8(answer).unwrap()
    }

    /// Sets something, which must be done.
    pub(crate) fn put(&self, path: &str, body: &str) {
        let answer = self.ask("PUT", path, body);
        assert!(answer.starts_with("HTTP/1.1 204"), "{path}: {answer}");
    }

    /// Waits until the jailer's first process has ended well, while the VM runs on.
    pub(crate) fn first_ends(&mut self) {
        assert!(self.child.as_mut().unwrap().wait().unwrap().success());
    }

    /// Waits for the end of the process that was started, and of all output.
    pub(crate) fn end(&mut self) -> Output {
        self.child.take().unwrap().wait_with_output().unwrap()
    }
}

/// Whether an answer has all its bytes.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    body.len() >= length.map_or(0, |length| length.trim().parse().unwrap())
}

impl Drop for Vm {
    fn drop(&mut self) {
        let pid = fs::read_to_string(&self.pid_file).unwrap_or_default();
        let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}
