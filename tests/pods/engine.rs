//! A containerd of a test's own, with an image of busybox, and `ctr` to speak to it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The image that every test has.
pub(crate) const IMAGE: &str = "docker.io/library/busybox:test";
/// The runtime.
const RUNTIME: &str = "io.containerd.ravelin.v2";
/// How long a call of ctr may take, for timeout(1).
const LIMIT: &str = "150";

/// A containerd. Dropped, it is ended, with all of its containers.
pub(crate) struct Engine {
    child: Child,
    root: tempfile::TempDir,
}

/// What stands in the way of a container.
pub(crate) fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("containerd and its shims are root's".to_owned());
    }
    if Command::new("containerd")
        .arg("--version")
        .output()
        .is_err()
    {
        return Some(
            "containerd is not installed (tools/test runs them in the testbed)".to_owned(),
        );
    }
    let kit = kit();
    for name in ["vmlinux-trimmed", "agent.cpio"] {
        if !kit.contains_key(name) {
            return Some(format!("the guest kit has no {name}: run tools/guest all"));
        }
    }
    let doctor = Command::new(ravelin()).args(["doctor", "--quiet"]).status();
    let can = doctor.is_ok_and(|status| status.success());
    (!can).then(|| {
        "this machine's KVM cannot boot Linux (tools/test runs them in the testbed)".to_owned()
    })
}

/// The monitor's program.
pub(crate) fn ravelin() -> PathBuf {
    std::env::var_os("RAVELIN_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_ravelin").into(), PathBuf::from)
}

fn shim() -> PathBuf {
    let beside = || ravelin().with_file_name("containerd-shim-ravelin-v2");
    std::env::var_os("RAVELIN_SHIM").map_or_else(beside, PathBuf::from)
}

fn kit() -> BTreeMap<String, PathBuf> {
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/guest");
    let text = match std::env::var_os("RAVELIN_KIT") {
        Some(path) => fs::read(path).unwrap(),
        None => Command::new(tool)
            .arg("--json")
            .output()
            .map(|output| output.stdout)
            .unwrap_or_default(),
    };
    serde_json::from_slice(&text).unwrap_or_default()
}

impl Engine {
    /// Starts a containerd with an image in it.
    pub(crate) fn new() -> Self {
        Self::configured("")
    }

    /// The same with further lines in the shim's configuration.
    pub(crate) fn configured(more: &str) -> Self {
        let root = tempfile::Builder::new().prefix("pods.").tempdir().unwrap();
        let kit = kit();
        let file = |name: &str| {
            kit.get(name)
                .unwrap_or_else(|| panic!("the guest kit has no {name}: run tools/guest all"))
        };
        let config = format!(
            // In the testbed everything is ten times slower, and stands still for seconds at times.
            "start_seconds = 150\nanswer_seconds = 60\n\
             ravelin = {:?}\nkernel = {:?}\nagent = {:?}\ncache = {:?}\n{more}\n",
            ravelin(),
            file("vmlinux-trimmed"),
            file("agent.cpio"),
            root.path().join("cache"),
        );
        fs::write(root.path().join("ravelin.toml"), config).unwrap();
        let engine = Self {
            child: start(root.path()),
            root,
        };
        engine.await_answer();
        engine.import();
        engine
    }

    /// The directory that all of it is in.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    fn await_answer(&self) {
        let end = Instant::now() + Duration::from_secs(60);
        while !self.ctr(&["version"]).status.success() {
            assert!(
                Instant::now() < end,
                "containerd does not answer: {}",
                self.log()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn import(&self) {
        let archive = self.root().join("image.tar");
        let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/pods-image");
        assert!(
            Command::new(tool)
                .arg(&archive)
                .arg(IMAGE)
                .status()
                .unwrap()
                .success()
        );
        let imported = self.ctr(&["image", "import", archive.to_str().unwrap()]);
        assert!(imported.status.success(), "{imported:?}");
        fs::remove_file(archive).unwrap();
    }

    /// What containerd and the shims have said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.root().join("log")).unwrap_or_default()
    }

    /// `ctr` with these words: it is killed when it takes too long.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["-s", "KILL", LIMIT, "ctr", "--address"])
            .arg(self.root().join("c.sock"))
            .args(words);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `ctr` to its end.
    pub(crate) fn ctr(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs `ctr` to its end, which must be a good one: what it printed.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let output = self.ctr(words);
        assert!(
            output.status.success(),
            "{words:?}: {output:?}\n{}",
            self.log()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a container to its end.
    pub(crate) fn run(&self, options: &[&str], id: &str, command: &[&str]) -> Output {
        self.ctr(&Self::words(&["run", "--rm"], options, id, command))
    }

    /// Starts a container that goes on.
    pub(crate) fn begin(&self, options: &[&str], id: &str, command: &[&str]) {
        self.ok(&Self::words(
            &["run", "-d", "--null-io"],
            options,
            id,
            command,
        ));
    }

    /// The words for a container in a microVM.
    pub(crate) fn words<'a>(
        first: &[&'a str],
        options: &[&'a str],
        id: &'a str,
        command: &[&'a str],
    ) -> Vec<&'a str> {
        let runtime = ["--runtime", RUNTIME];
        [first, &runtime, options, &[IMAGE, id], command].concat()
    }

    /// Runs a further process to its end.
    pub(crate) fn exec(&self, id: &str, exec: &str, command: &[&str]) -> Output {
        self.ctr(&[&["task", "exec", "--exec-id", exec, id], command].concat())
    }

    /// The state of a container, in ctr's words.
    pub(crate) fn state(&self, id: &str) -> Option<String> {
        let list = self.ok(&["task", "ls"]);
        let line = list
            .lines()
            .find(|line| line.split_whitespace().next() == Some(id))?;
        line.split_whitespace().nth(2).map(str::to_owned)
    }

    /// Waits until a container is in a state.
    pub(crate) fn await_state(&self, id: &str, state: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.state(id).as_deref() != Some(state) {
            assert!(
                Instant::now() < end,
                "{id} is {:?} and not {state}: {}",
                self.state(id),
                self.log()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The number of a container's monitor.
    pub(crate) fn monitor(&self, id: &str) -> u32 {
        let list = self.ok(&["task", "ls"]);
        let line = list
            .lines()
            .find(|line| line.split_whitespace().next() == Some(id))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The number of a container's shim.
    pub(crate) fn shim(&self, id: &str) -> u32 {
        let socket = self.root().join("c.sock");
        let all = processes().into_iter();
        let mut own = all.filter(|(_, line)| {
            line.contains("containerd-shim-ravelin-v2")
                && line.contains(socket.to_str().unwrap())
                && line.split(' ').any(|word| word == id)
        });
        own.next().unwrap_or_else(|| panic!("{id} has no shim")).0
    }

    /// Kills containerd, and starts it anew.
    pub(crate) fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = start(self.root.path());
        self.await_answer();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("containerd and its shims said:\n{}", self.log());
        }
        for id in String::from_utf8_lossy(&self.ctr(&["task", "ls", "-q"]).stdout).lines() {
            self.ctr(&["task", "rm", "-f", id]);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(root: &Path) -> Child {
    let config = format!(
        "version = 2\nroot = {0:?}\nstate = {1:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {2:?}\n\
         [ttrpc]\naddress = {3:?}\n",
        root.join("root"),
        root.join("state"),
        root.join("c.sock"),
        root.join("c.sock.ttrpc"),
    );
    fs::write(root.join("config.toml"), config).unwrap();
    let log = File::options()
        .append(true)
        .create(true)
        .open(root.join("log"))
        .unwrap();
    let shims = shim().parent().unwrap().display().to_string();
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new("containerd");
    command.arg("--config").arg(root.join("config.toml"));
    command
        .env("PATH", format!("{shims}:{path}"))
        .env("RAVELIN_CONFIG", root.join("ravelin.toml"));
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    command.spawn().unwrap()
}

/// All processes: numbers and command lines.
pub(crate) fn processes() -> Vec<(u32, String)> {
    let numbers = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let all = numbers.filter_map(|pid: u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
    });
    all.filter(|(_, line)| !line.is_empty()).collect()
}

/// Standard output as text.
pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
