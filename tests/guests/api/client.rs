//! A client of the socket: one connection for each request.

use std::fmt;
use std::io::{BufRead, BufReader, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::Value;

/// No answer takes longer, even in an emulated machine on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Sends a request, with descriptors beside it, and reads the answer.
pub(crate) fn ask(
    socket: &Path,
    line: &str,
    body: Option<&Value>,
    fds: &[BorrowedFd<'_>],
) -> Answer {
    let stream = open(socket, line, body, fds);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    let (status, length) = head(&mut reader);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Answer {
        status,
        body: String::from_utf8(body).unwrap(),
    }
}

/// Sends a request; the answer is still to be read.
pub(crate) fn open(
    socket: &Path,
    line: &str,
    body: Option<&Value>,
    fds: &[BorrowedFd<'_>],
) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    let body = body.map(Value::to_string).unwrap_or_default();
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
    };
    let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n{body}");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    }
    let bytes = [IoSlice::new(request.as_bytes())];
    let sent = sendmsg(&stream, &bytes, &mut control, SendFlags::empty()).unwrap();
    assert_eq!(sent, request.len());
    stream
}

/// Reads an answer's head: its status and its body's length.
fn head(reader: &mut impl BufRead) -> (u16, usize) {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            return (status, length);
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().unwrap();
        }
    }
}

impl Answer {
    /// Asserts that the request was done and there is nothing to say.
    pub(crate) fn done(&self) {
        assert_eq!((self.status, self.body.as_str()), (204, ""), "{self}");
    }

    /// The JSON that was asked for.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{self}");
        serde_json::from_str(&self.body).unwrap()
    }

    /// Asserts that the request was refused, with `text` in the reason.
    pub(crate) fn refused(&self, status: u16, text: &str) {
        assert_eq!(self.status, status, "{self}");
        assert!(
            self.body.contains(text),
            "`{text}` was expected in {}",
            self.body
        );
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.body)
    }
}
