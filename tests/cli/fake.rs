//! A small VM: an entry among the running ones, a process, and a socket that answers as it is told.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// The program under test.
pub(crate) const RAVELIN: &str = env!("CARGO_BIN_EXE_ravelin");

/// A directory of running VMs of a test's own.
pub(crate) struct Place {
    around: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            around: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.around.path()
    }

    /// `ravelin` with `args`, to its end, with nothing on stdin.
    pub(crate) fn ravelin(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(RAVELIN);
        command
            .args(args)
            .env("RAVELIN_RUNTIME_DIR", self.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.sock"))
    }

    /// Enters a VM of a process. It runs for as long as the file, which is locked, is open.
    pub(crate) fn enter(&self, name: &str, pid: u32) -> File {
        self.enter_as(name, pid, start_time(pid))
    }

    pub(crate) fn enter_as(&self, name: &str, pid: u32, pid_start: u64) -> File {
        let entry = json!({
            "name": name,
            "pid": pid,
            "pid_start": pid_start,
            "socket": self.socket(name),
            "kernel": "vmlinux",
            "started_at": 0,
        });
        let mut file = File::create(self.path().join(format!("{name}.json"))).unwrap();
        file.lock().unwrap();
        file.write_all(entry.to_string().as_bytes()).unwrap();
        file
    }

    /// A VM that answers.
    pub(crate) fn vm(&self, name: &str, answer: impl Fn(&str) -> String + Send + 'static) -> Vm {
        let child = sleeper("exec sleep 1000");
        let entry = self.enter(name, child.id());
        Vm {
            requests: serve(UnixListener::bind(self.socket(name)).unwrap(), answer),
            child,
            _entry: entry,
        }
    }
}

/// A running VM. Dropping it ends it.
pub(crate) struct Vm {
    requests: Arc<Mutex<Vec<String>>>,
    pub(crate) child: Child,
    _entry: File,
}

impl Vm {
    /// What was asked: method, path and body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process of a shell script.
pub(crate) fn sleeper(script: &str) -> Child {
    Command::new("sh").args(["-c", script]).spawn().unwrap()
}

/// When a process started, in clock ticks since the host's boot.
pub(crate) fn start_time(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().nth(19).unwrap().parse().unwrap()
}

/// Answers each connection's request, and keeps what was asked.
pub(crate) fn serve(
    listener: UnixListener,
    answer: impl Fn(&str) -> String + Send + 'static,
) -> Arc<Mutex<Vec<String>>> {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let kept = requests.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // Who only looks whether somebody is there asks nothing.
            let Some(request) = request(&stream) else {
                continue;
            };
            kept.lock().unwrap().push(request.clone());
            // A client may have seen enough.
            let _ = stream.write_all(answer(&request).as_bytes());
        }
    });
    requests
}

/// Reads a request, if one comes: `METHOD /path body`.
fn request(stream: &UnixStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut words = line.split(' ');
    let mut text = format!("{} {}", words.next()?, words.next()?);
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        match header.trim_end().split_once(": ") {
            Some(("Content-Length", value)) => length = value.parse().unwrap(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    if length > 0 {
        text.push_str(&format!(" {}", String::from_utf8(body).unwrap()));
    }
    Some(text)
}

/// An answer with a body.
pub(crate) fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 \r\nServer: Firecracker API\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// The answer to what was done.
pub(crate) fn done() -> String {
    "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n".to_owned()
}

/// A refusal.
pub(crate) fn refusal(message: &str) -> String {
    let body = json!({ "fault_message": message }).to_string();
    let length = body.len();
    format!("HTTP/1.1 400 \r\nContent-Length: {length}\r\n\r\n{body}")
}

/// The answers of a VM in a state, and to everything else that it is done.
pub(crate) fn in_state(state: &'static str) -> impl Fn(&str) -> String + Send + 'static {
    move |request| match request {
        "GET /" => ok(&json!({
            "id": "web", "state": state, "vmm_version": "1.17.0-dev", "app_name": "Firecracker",
        })
        .to_string()),
        "GET /machine-config" => ok(r#"{"vcpu_count":2,"mem_size_mib":512}"#),
        _ => done(),
    }
}

/// What was written to stdout.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What was written to stderr.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// stdout as JSON.
pub(crate) fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}
