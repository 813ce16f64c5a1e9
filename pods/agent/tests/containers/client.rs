//! A caller of the agent, as a shim is one.

use std::path::PathBuf;
use std::time::Duration;

use protocol::api::{
    ContainerRequest, CreateRequest, Empty, ExecRequest, ProcessRequest, Root, SignalRequest,
    Streams,
};
use protocol::service::AgentClient;
use protocol::{AGENT_PORT, STREAM_PORT};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use ttrpc::asynchronous::Client;
use ttrpc::asynchronous::transport::Socket;
use ttrpc::context::{self, Context};

/// The longest that a request may take: a guest in an emulated machine on a busy host is slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// How the agent is reached.
#[derive(Clone)]
pub(crate) enum Way {
    /// Two sockets in a folder.
    Folder(PathBuf),
    /// The socket of a guest's vsock device.
    Vsock(PathBuf),
}

impl Way {
    async fn connect(&self, port: u32) -> std::io::Result<UnixStream> {
        match self {
            Self::Folder(folder) => {
                let name = if port == AGENT_PORT {
                    "agent"
                } else {
                    "streams"
                };
                UnixStream::connect(folder.join(name)).await
            }
            Self::Vsock(path) => {
                let mut stream = UnixStream::connect(path).await?;
                stream
                    .write_all(format!("CONNECT {port}\n").as_bytes())
                    .await?;
                let line = line(&mut stream).await?;
                assert!(line.starts_with("OK "), "{line:?}");
                Ok(stream)
            }
        }
    }
}

async fn line(stream: &mut UnixStream) -> std::io::Result<String> {
    let mut line = Vec::new();
    loop {
        let byte = stream.read_u8().await?;
        if byte == b'\n' {
            return Ok(String::from_utf8(line).unwrap());
        }
        line.push(byte);
    }
}

/// The caller.
#[derive(Clone)]
pub(crate) struct Caller {
    way: Way,
    pub(crate) agent: AgentClient,
}

/// What a process has left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: u32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Ended {
    /// What it printed, as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// The context of a request.
pub(crate) fn patient() -> Context {
    context::with_duration(PATIENCE)
}

/// A sentence of the agent's.
pub(crate) fn said<T: std::fmt::Debug>(result: ttrpc::Result<T>) -> String {
    match result.unwrap_err() {
        ttrpc::Error::RpcStatus(status) => status.message,
        other => panic!("{other:?}"),
    }
}

impl Caller {
    /// Connects.
    pub(crate) async fn new(way: Way) -> Self {
        let stream = way.connect(AGENT_PORT).await.unwrap();
        let agent = AgentClient::new(Client::new(Socket::new(stream)));
        Self { way, agent }
    }

    /// The folder that files are put into, as the agent sees it.
    pub(crate) fn files(&self) -> String {
        match &self.way {
            Way::Folder(folder) => format!("{}/files", folder.display()),
            Way::Vsock(_) => "/run/ravelin/files".into(),
        }
    }

    /// A connection of a stream, and the agent's answer to its line.
    pub(crate) async fn stream(&self, line_of: &str) -> (UnixStream, String) {
        let mut stream = self.way.connect(STREAM_PORT).await.unwrap();
        stream
            .write_all(format!("{line_of}\n").as_bytes())
            .await
            .unwrap();
        let answer = line(&mut stream).await.unwrap_or_default();
        (stream, answer)
    }

    /// One that is taken.
    pub(crate) async fn taken(&self, line_of: &str) -> UnixStream {
        let (stream, answer) = self.stream(line_of).await;
        assert_eq!(answer, "OK");
        stream
    }

    /// Makes a container.
    pub(crate) async fn create(
        &self,
        name: &str,
        spec: &Value,
        streams: Streams,
    ) -> ttrpc::Result<u32> {
        let mut request = CreateRequest::new();
        request.container = name.into();
        request.spec = spec.to_string().into_bytes();
        let mut root = Root::new();
        root.serial = "rootfs".into();
        root.filesystem = "erofs".into();
        root.writable_bytes = 32 << 20;
        request.root = Some(root).into();
        request.streams = Some(streams).into();
        let reply = self.agent.create(patient(), &request).await?;
        Ok(reply.pid)
    }

    /// Makes a process in a container.
    pub(crate) async fn exec(
        &self,
        name: &str,
        exec: &str,
        process: &Value,
        streams: Streams,
    ) -> ttrpc::Result<()> {
        let mut request = ExecRequest::new();
        request.container = name.into();
        request.exec = exec.into();
        request.process = process.to_string().into_bytes();
        request.streams = Some(streams).into();
        self.agent.exec(patient(), &request).await.map(drop)
    }

    pub(crate) async fn start(&self, name: &str, exec: &str) -> ttrpc::Result<u32> {
        let reply = self.agent.start(patient(), &of(name, exec)).await?;
        Ok(reply.pid)
    }

    pub(crate) async fn wait(&self, name: &str, exec: &str) -> u32 {
        let reply = self.agent.wait(patient(), &of(name, exec)).await.unwrap();
        reply.status
    }

    pub(crate) async fn signal(
        &self,
        name: &str,
        exec: &str,
        signal: u32,
        all: bool,
    ) -> ttrpc::Result<Empty> {
        let mut request = SignalRequest::new();
        request.container = name.into();
        request.exec = exec.into();
        request.signal = signal;
        request.all = all;
        self.agent.signal(patient(), &request).await
    }

    pub(crate) async fn remove(&self, name: &str, exec: &str) -> ttrpc::Result<Empty> {
        self.agent.remove(patient(), &of(name, exec)).await
    }

    /// Connects the outputs of what has been made, starts it with this input, and waits for its end.
    pub(crate) async fn finish(&self, name: &str, exec: &str, input: &[u8]) -> Ended {
        let word = if exec.is_empty() { "-" } else { exec };
        let mut stdin = self.taken(&format!("{name} {word} stdin")).await;
        let stdout = self.taken(&format!("{name} {word} stdout")).await;
        let stderr = self.taken(&format!("{name} {word} stderr")).await;
        let (stdout, stderr) = (collect(stdout), collect(stderr));
        self.start(name, exec).await.unwrap();
        // Whoever does not read it all has ended.
        let _ = stdin.write_all(input).await;
        let _ = stdin.shutdown().await;
        let status = self.wait(name, exec).await;
        Ended {
            status,
            stdout: stdout.await.unwrap(),
            stderr: stderr.await.unwrap(),
        }
    }

    /// Runs a container with three streams to its end, and removes it.
    pub(crate) async fn run(&self, name: &str, spec: &Value, input: &[u8]) -> Ended {
        self.create(name, spec, three()).await.unwrap();
        let ended = self.finish(name, "", input).await;
        self.remove(name, "").await.unwrap();
        ended
    }

    /// A container that lasts.
    pub(crate) async fn lasting(&self, name: &str, spec: &Value) {
        self.create(name, spec, Streams::new()).await.unwrap();
        self.start(name, "").await.unwrap();
    }

    /// Runs a process in a container to its end.
    pub(crate) async fn run_in(&self, name: &str, exec: &str, script: &str, input: &[u8]) -> Ended {
        self.exec(name, exec, &process(script), three())
            .await
            .unwrap();
        let ended = self.finish(name, exec, input).await;
        self.remove(name, exec).await.unwrap();
        ended
    }
}

/// Reads a stream to its end.
pub(crate) fn collect(mut stream: UnixStream) -> tokio::task::JoinHandle<Vec<u8>> {
    tokio::spawn(async move {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        bytes
    })
}

/// A process by its name.
pub(crate) fn of(name: &str, exec: &str) -> ProcessRequest {
    let mut request = ProcessRequest::new();
    request.container = name.into();
    request.exec = exec.into();
    request
}

/// A container by its name.
pub(crate) fn named(name: &str) -> ContainerRequest {
    let mut request = ContainerRequest::new();
    request.container = name.into();
    request
}

/// All three streams.
pub(crate) fn three() -> Streams {
    let mut streams = Streams::new();
    streams.stdin = true;
    streams.stdout = true;
    streams.stderr = true;
    streams
}

/// A process that runs a script.
pub(crate) fn process(script: &str) -> Value {
    json!({
        "args": ["/bin/sh", "-c", script],
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0},
        "capabilities": capabilities(),
        "noNewPrivileges": true
    })
}

fn capabilities() -> Value {
    let usual = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_KILL",
        "CAP_MKNOD",
    ];
    json!({"bounding": usual, "effective": usual, "permitted": usual})
}

/// A container, much as containerd describes one, whose first process runs a script.
pub(crate) fn container(script: &str) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": process(script),
        "root": {"path": "rootfs"},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/run", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "cgroupsPath": "/default/x",
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware", "/proc/not-there"],
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
