//! A client of a VM's socket: one request a connection, everything bounded in size and time.

mod answer;
mod events;

use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt,
};
use serde_json::Value;

use self::answer::Answer;
pub(super) use self::events::Event;
use self::events::Events;

/// The longest body of an answer, in bytes.
const LONGEST_BODY: u64 = 16 << 20;
/// What is longer than anybody waits, and shorter than a clock can count.
const LONGEST_PATIENCE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("the socket {} does not exist: `ravelin ps` shows the VMs that run", .0.display())]
    Missing(PathBuf),
    #[error("nobody serves the socket {} any more: its VM has ended", .0.display())]
    Refused(PathBuf),
    #[error("this user may not use the socket {}: its owner or root may", .0.display())]
    Denied(PathBuf),
    #[error("the VM's socket {} takes no more connections: others use it, or its process hangs", .0.display())]
    Full(PathBuf),
    #[error("the VM has not answered within {patience:?} on {}: it hangs, or needs a longer --timeout", path.display())]
    Late {
        /// The socket.
        path: PathBuf,
        /// How long it was waited for.
        patience: Duration,
    },
    #[error("the connection ended before the VM had answered: it has ended, or does not serve this user ({})", .0.display())]
    Cut(PathBuf),
    #[error("what answers on {} is no VM: its answer is not HTTP", .0.display())]
    Foreign(PathBuf),
    #[error("the answer on {} has more than {LONGEST_BODY} bytes, which no VM's has", .0.display())]
    Endless(PathBuf),
    /// The VM's own words.
    #[error("the VM refused ({status}): {message}")]
    Fault {
        /// HTTP's status.
        status: u16,
        /// What it says.
        message: String,
    },
    #[error("the socket {} failed", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

/// Requests to one socket.
#[derive(Clone, Debug)]
pub(super) struct Client {
    path: PathBuf,
    /// How long an answer may take, all in all.
    patience: Duration,
}

impl Client {
    /// A client of the socket at `path`, which has `patience` with each answer.
    pub(super) fn new(path: &Path, patience: Duration) -> Self {
        Self {
            path: path.to_owned(),
            patience: patience.min(LONGEST_PATIENCE),
        }
    }

    /// The body of the answer to a GET.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub(super) fn get(&self, path: &str) -> Result<String, ClientError> {
        let body = self.ask("GET", path, None)?;
        String::from_utf8(body).map_err(|_| ClientError::Foreign(self.path.clone()))
    }

    /// The answer to a GET as JSON.
    ///
    /// # Errors
    /// As [`Client::get`], and when it is not JSON.
    pub(super) fn get_json(&self, path: &str) -> Result<Value, ClientError> {
        serde_json::from_str(&self.get(path)?).map_err(|_| ClientError::Foreign(self.path.clone()))
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub(super) fn send(&self, method: &str, path: &str, body: &Value) -> Result<(), ClientError> {
        self.ask(method, path, Some(body)).map(drop)
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Vec<u8>, ClientError> {
        let body = body.map(Value::to_string);
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n");
        if let Some(body) = &body {
            let length = body.len();
            request.push_str("Content-Type: application/json\r\n");
            request.push_str(&format!("Content-Length: {length}\r\n"));
        }
        request.push_str("\r\n");
        request.push_str(&body.unwrap_or_default());
        self.exchange(&request)?.body()
    }

    /// Follows a stream of server-sent events (HTML, section 9.2). It is asked for as HTTP/1.0: the stream then
    /// comes as it is, and ends with the connection.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub(super) fn follow(&self, path: &str) -> Result<Events, ClientError> {
        let request =
            format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
        self.exchange(&request)?.into_events()
    }

    /// The process that has made the socket.
    ///
    /// # Errors
    /// When nobody serves it.
    pub(super) fn peer(&self) -> Result<u32, ClientError> {
        let stream = self.connect()?;
        let peer = sockopt::socket_peercred(&stream).map_err(|error| self.failed(error.into()))?;
        Ok(peer.pid.as_raw_pid().unsigned_abs())
    }

    fn exchange(&self, request: &str) -> Result<Answer, ClientError> {
        let end = Instant::now() + self.patience;
        let mut stream = self.connect()?;
        stream
            .set_write_timeout(Some(self.patience))
            .map_err(|error| self.failed(error))?;
        // Whoever refuses a request before all of it is there still answers.
        let sent = stream.write_all(request.as_bytes());
        match (Answer::read(self, stream, end), sent) {
            (Err(ClientError::Cut(_)), Err(error)) => Err(self.failed(error)),
            (answer, _) => answer,
        }
    }

    /// Connects without waiting: a socket whose server takes nobody would wait for ever.
    fn connect(&self) -> Result<UnixStream, ClientError> {
        let connected = || -> rustix::io::Result<UnixStream> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            connect(&socket, &SocketAddrUnix::new(&self.path)?)?;
            Ok(socket.into())
        };
        let path = self.path.clone();
        let stream = connected().map_err(|error| match error {
            Errno::NOENT => ClientError::Missing(path),
            Errno::CONNREFUSED => ClientError::Refused(path),
            Errno::ACCESS | Errno::PERM => ClientError::Denied(path),
            Errno::AGAIN => ClientError::Full(path),
            error => ClientError::Io(path, error.into()),
        })?;
        stream
            .set_nonblocking(false)
            .map_err(|error| self.failed(error))?;
        Ok(stream)
    }

    fn failed(&self, error: io::Error) -> ClientError {
        let path = self.path.clone();
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => ClientError::Late {
                path,
                patience: self.patience,
            },
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => {
                ClientError::Cut(path)
            }
            _ => ClientError::Io(path, error),
        }
    }
}
