//! containerd's side: a bundle, the shim started in it, calls to it, and the events that it tells.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CloseIORequest, CreateTaskRequest, DeleteRequest, Empty, ExecProcessRequest, ForwardRequest,
    KillRequest, ShutdownRequest, StartRequest, WaitRequest,
};
use containerd_shim_protos::events::task::TaskExit;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim_async::{Client, Events, TaskClient, create_events};
use protobuf::Message;
use serde_json::json;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;
use ttrpc::asynchronous::transport::Listener;
use ttrpc::asynchronous::{Server, TtrpcContext};
use ttrpc::context::{self, Context};

use crate::AS_MONITOR;

pub(crate) const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-ravelin-v2");
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A container, and what stands around it. Dropped, nothing of it is left.
pub(crate) struct Engine {
    /// The container's name.
    pub(crate) id: String,
    /// Its directory.
    pub(crate) bundle: PathBuf,
    /// Calls to the shim.
    pub(crate) task: TaskClient,
    /// The shim's process.
    pub(crate) shim: u32,
    told: Mutex<mpsc::UnboundedReceiver<(String, Any)>>,
    address: String,
    _events: Server,
    _root: tempfile::TempDir,
}

struct Ear(mpsc::UnboundedSender<(String, Any)>);

#[async_trait]
impl Events for Ear {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let envelope = request.envelope.unwrap_or_default();
        let _ = self
            .0
            .send((envelope.topic, envelope.event.unwrap_or_default()));
        Ok(Empty::new())
    }
}

/// Runs a test on a runtime of its own, within its time.
pub(crate) fn within(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { timeout(LIMIT, test).await.expect("the test takes too long") });
}

/// The time that a call may take.
pub(crate) fn limit() -> Context {
    context::with_timeout(i64::try_from(LIMIT.as_nanos()).unwrap())
}

impl Engine {
    /// A shim for a container that runs `args` with an agent that lies as `lie` says.
    pub(crate) async fn new(lie: &str, id: &str, args: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let root = tempfile::tempdir().unwrap();
        let bundle = root.path().join("bundle");
        fs::create_dir_all(bundle.join("rootfs")).unwrap();
        let spec = json!({"ociVersion": "1.0.2", "process": {"args": args, "cwd": "/"}, "root": {"path": "rootfs"}});
        fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
        configure(root.path(), lie);
        let (sender, told) = mpsc::unbounded_channel();
        let events = root.path().join("events");
        let listener = std::os::unix::net::UnixListener::bind(&events).unwrap();
        let mut server = Server::new()
            .add_listener(Listener::try_from(listener).unwrap())
            .register_service(create_events(Arc::new(Ear(sender))));
        server.start().await.unwrap();
        let address = format!(
            "{}/{}",
            root.path().display(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let mut engine = Self {
            id: id.to_owned(),
            task: TaskClient::new(start(&address, id, &bundle, root.path()).await),
            bundle,
            shim: 0,
            told: Mutex::new(told),
            address,
            _events: server,
            _root: root,
        };
        let asked = containerd_shim_protos::api::ConnectRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        engine.shim = engine.task.connect(limit(), &asked).await.unwrap().shim_pid;
        engine
    }

    /// Asks for the container, with its output in the fifo `stdout` of the bundle, and its input, if so, in `stdin`.
    pub(crate) async fn create(&self, has_stdin: bool) -> ttrpc::Result<u32> {
        let stdout = self.fifo("stdout");
        let stdin = if has_stdin {
            self.fifo("stdin")
        } else {
            String::new()
        };
        let request = CreateTaskRequest {
            id: self.id.clone(),
            bundle: self.bundle.display().to_string(),
            stdin,
            stdout,
            ..Default::default()
        };
        Ok(self.task.create(limit(), &request).await?.pid)
    }

    /// A fifo in the bundle.
    pub(crate) fn fifo(&self, name: &str) -> String {
        let path = self.bundle.join(name);
        assert!(
            Command::new("mkfifo")
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
        path.to_str().unwrap().to_owned()
    }

    /// All that is written into the fifo `name` until nobody has it open any more.
    pub(crate) fn output(&self, name: &str) -> tokio::task::JoinHandle<Vec<u8>> {
        let path = self.bundle.join(name);
        tokio::task::spawn_blocking(move || fs::read(path).unwrap())
    }

    /// Starts a process.
    pub(crate) async fn start(&self, exec: &str) -> ttrpc::Result<u32> {
        let request = StartRequest {
            id: self.id.clone(),
            exec_id: exec.to_owned(),
            ..Default::default()
        };
        Ok(self.task.start(limit(), &request).await?.pid)
    }

    /// Makes a further process, without streams.
    pub(crate) async fn exec(&self, exec: &str, args: &[&str]) -> ttrpc::Result<()> {
        let mut spec = Any::new();
        spec.value = json!({"args": args, "cwd": "/"}).to_string().into_bytes();
        let request = ExecProcessRequest {
            id: self.id.clone(),
            exec_id: exec.to_owned(),
            spec: Some(spec).into(),
            ..Default::default()
        };
        self.task.exec(limit(), &request).await.map(drop)
    }

    /// Signals a process.
    pub(crate) async fn kill(&self, exec: &str, signal: u32) -> ttrpc::Result<()> {
        let request = KillRequest {
            id: self.id.clone(),
            exec_id: exec.to_owned(),
            signal,
            ..Default::default()
        };
        self.task.kill(limit(), &request).await.map(drop)
    }

    /// Waits for a process's end: its status.
    pub(crate) async fn wait(&self, exec: &str) -> ttrpc::Result<u32> {
        let request = WaitRequest {
            id: self.id.clone(),
            exec_id: exec.to_owned(),
            ..Default::default()
        };
        Ok(self.task.wait(limit(), &request).await?.exit_status)
    }

    /// Forgets a process: its status.
    pub(crate) async fn delete(&self, exec: &str) -> ttrpc::Result<u32> {
        let request = DeleteRequest {
            id: self.id.clone(),
            exec_id: exec.to_owned(),
            ..Default::default()
        };
        Ok(self.task.delete(limit(), &request).await?.exit_status)
    }

    /// Says that no more is written to a process's input.
    pub(crate) async fn close_stdin(&self) -> ttrpc::Result<()> {
        let request = CloseIORequest {
            id: self.id.clone(),
            stdin: true,
            ..Default::default()
        };
        self.task.close_io(limit(), &request).await.map(drop)
    }

    /// Ends the shim, and waits until it is gone.
    pub(crate) async fn shut_down(&self) {
        let request = ShutdownRequest {
            id: self.id.clone(),
            ..Default::default()
        };
        let _ = self.task.shutdown(limit(), &request).await;
        self.await_end().await;
    }

    /// Waits until the shim's process is gone.
    pub(crate) async fn await_end(&self) {
        while Path::new(&format!("/proc/{}/cmdline", self.shim)).exists()
            && !fs::read(format!("/proc/{}/cmdline", self.shim))
                .unwrap_or_default()
                .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The next event: its topic, and the status of an exit.
    pub(crate) async fn event(&self) -> (String, Option<u32>) {
        let (topic, any) = self.told.lock().await.recv().await.unwrap();
        let exit = (topic == "/tasks/exit")
            .then(|| TaskExit::parse_from_bytes(&any.value).unwrap().exit_status);
        (topic, exit)
    }

    /// The topics of the next `count` events.
    pub(crate) async fn topics(&self, count: usize) -> Vec<String> {
        let mut topics = Vec::new();
        for _ in 0..count {
            topics.push(self.event().await.0);
        }
        topics
    }

    /// The most memory that the shim has had, KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.shim)).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// What containerd does when a shim is gone.
    pub(crate) fn delete_from_outside(&self) {
        let output = command(&self.address, &self.id, &self.bundle, self._root.path())
            .arg("delete")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Processes, sockets and directories of this container that are there.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        let mark = self._root.path().to_str().unwrap().to_owned();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read(entry.path().join("environ")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            if line.contains(&mark) {
                left.push(format!("process {}", entry.file_name().display()));
            }
        }
        let socket = fs::read_to_string(self.bundle.join("address")).unwrap();
        if Path::new(socket.strip_prefix("unix://").unwrap()).exists() {
            left.push(socket);
        }
        left
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .args(["-KILL", &self.shim.to_string()])
            .stderr(std::process::Stdio::null())
            .status();
        self.delete_from_outside();
    }
}

/// A configuration whose monitor is this program.
fn configure(root: &Path, lie: &str) {
    let script = root.join("monitor");
    let own = std::env::current_exe().unwrap();
    fs::write(
        &script,
        format!(
            "#!/bin/sh\nFAKE={lie} exec '{}' {AS_MONITOR} \"$@\"\n",
            own.display()
        ),
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let nothing = "/dev/null";
    let config = format!(
        "ravelin = {script:?}\nkernel = {nothing:?}\nagent = {nothing:?}\ncache = {:?}\nstart_seconds = 3\nanswer_seconds = 3\n",
        root.join("cache")
    );
    fs::write(root.join("config.toml"), config).unwrap();
}

fn command(address: &str, id: &str, bundle: &Path, root: &Path) -> Command {
    let mut command = Command::new(SHIM);
    command.current_dir(bundle);
    command
        .env("RAVELIN_CONFIG", root.join("config.toml"))
        .env("TTRPC_ADDRESS", root.join("events"));
    command
        .args([
            "-namespace",
            "test",
            "-address",
            address,
            "-id",
            id,
            "-publish-binary",
            "/nonexistent",
            "-bundle",
        ])
        .arg(bundle);
    command
}

async fn start(address: &str, id: &str, bundle: &Path, root: &Path) -> Client {
    let output = command(address, id, bundle, root)
        .arg("start")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let socket = String::from_utf8(output.stdout).unwrap();
    assert!(socket.starts_with("unix:///run/containerd/s/"), "{socket}");
    Client::connect(&socket).await.unwrap()
}
