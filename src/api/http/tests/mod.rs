//! Whole conversations over real sockets.

mod clock;
mod descriptors;
mod endings;
mod exhaustion;
mod hostile;
mod random;
mod requests;
mod streams;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use tempfile::TempDir;

use super::*;

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server on its own thread, ended with the test.
struct Running {
    path: PathBuf,
    stop: OwnedFd,
    thread: Option<JoinHandle<(Ending, Server)>>,
    _folder: TempDir,
}

fn start(limits: Limits, events: Option<EventSource>) -> Running {
    start_with(limits, events, Echo)
}

fn start_with(
    limits: Limits,
    events: Option<EventSource>,
    mut service: impl Service + Send + 'static,
) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.socket");
    let listener = Listener::bind(&path, None).unwrap();
    let mut server = Server::new(listener, limits, events).unwrap();
    let stop = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let stopped = stop.try_clone().unwrap();
    let thread = thread::spawn(move || {
        let ending = server.serve(&mut service, stopped.as_fd()).unwrap();
        (ending, server)
    });
    Running {
        path,
        stop,
        thread: Some(thread),
        _folder: folder,
    }
}

impl Running {
    fn client(&self) -> Client {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream,
            ahead: Vec::new(),
        }
    }

    fn stop(&self) {
        rustix::io::write(&self.stop, &1u64.to_ne_bytes()).unwrap();
    }

    /// Waits until the server has ended.
    fn ended(&mut self) -> (Ending, Server) {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

struct Client {
    stream: UnixStream,
    ahead: Vec<u8>,
}

#[derive(Debug)]
struct Reply {
    head: String,
    body: String,
}

impl Reply {
    fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }
}

impl Client {
    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// One request without a body, and its reply.
    fn get(&mut self, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\n\r\n"));
        self.reply()
    }

    /// Reads until `done` finds its end in what was read, and takes that much.
    fn take(&mut self, done: impl Fn(&[u8]) -> Option<usize>) -> Vec<u8> {
        loop {
            if let Some(end) = done(&self.ahead) {
                return self.ahead.drain(..end).collect();
            }
            let mut bytes = [0; 4096];
            let count = self.stream.read(&mut bytes).unwrap();
            assert!(count > 0, "the server closed after {:?}", self.text());
            self.ahead.extend_from_slice(&bytes[..count]);
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.ahead).into_owned()
    }

    /// The head of the next reply.
    fn head(&mut self) -> String {
        let end = |bytes: &[u8]| {
            let mut places = bytes.windows(4);
            places.position(|four| four == b"\r\n\r\n").map(|at| at + 4)
        };
        String::from_utf8(self.take(end)).unwrap()
    }

    fn reply(&mut self) -> Reply {
        let head = self.head();
        let mut lines = head.lines();
        let length = lines.find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        let body = self.take(|bytes| (bytes.len() >= length).then_some(length));
        Reply {
            head,
            body: String::from_utf8(body).unwrap(),
        }
    }

    /// All that comes until the server closes.
    fn rest(&mut self) -> String {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return self.text(),
                Ok(count) => self.ahead.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return self.text(),
                Err(error) => panic!("{error} after {:?}", self.text()),
            }
        }
    }

    fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

/// Says what it was asked.
struct Echo;

/// What `/large` answers: more than a socket's buffer holds.
const LARGE: usize = 2 << 20;

impl Service for Echo {
    fn call(&mut self, request: Request) -> Answer {
        match request.path.as_str() {
            "/nothing" => Answer::Response(Response::no_content()),
            "/large" => Answer::Response(Response::text(200, vec![b'x'; LARGE])),
            "/events" => Answer::Stream,
            "/last" => Answer::Last(Response::fault(400, "the end")),
            path => {
                let body = String::from_utf8_lossy(&request.body);
                let text = format!("{:?} {path} {body}", request.method);
                Answer::Response(Response::text(200, text))
            }
        }
    }
}
