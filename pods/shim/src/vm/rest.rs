//! A client of the monitor's REST socket, as any user would write one: a request, its descriptors, its answer.
//!
//! It is used before the guest runs, when the monitor is its user's alone, and blocks.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Serialize;

/// The longest answer that is read.
const LONGEST: usize = 64 << 10;
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Why the monitor did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestError {
    /// The socket.
    #[error("{0} {1}: the monitor does not answer: {2}")]
    Socket(&'static str, String, #[source] io::Error),
    /// It refuses.
    #[error("{0}")]
    Refused(String),
    /// No HTTP.
    #[error("{0} {1}: the monitor's answer cannot be understood")]
    Unreadable(&'static str, String),
}

/// A connection to a monitor.
#[derive(Debug)]
pub(crate) struct Rest {
    stream: UnixStream,
}

impl Rest {
    /// Connects.
    ///
    /// # Errors
    /// When nobody is there.
    pub(crate) fn connect(socket: &Path) -> Result<Self, RestError> {
        let failed = |error| RestError::Socket("connect", socket.display().to_string(), error);
        let stream = UnixStream::connect(socket).map_err(failed)?;
        stream.set_read_timeout(Some(LIMIT)).map_err(failed)?;
        stream.set_write_timeout(Some(LIMIT)).map_err(failed)?;
        Ok(Self { stream })
    }

    /// Passes a descriptor, which later requests name `fd:NAME`.
    ///
    /// # Errors
    /// A refusal.
    pub(crate) fn pass(&mut self, name: &str, fd: BorrowedFd<'_>) -> Result<(), RestError> {
        self.send("PUT", &format!("/ravelin/fds/{name}"), "", Some(fd))
    }

    /// Puts a resource.
    ///
    /// # Errors
    /// A refusal, in the monitor's words.
    pub(crate) fn put(&mut self, path: &str, body: &impl Serialize) -> Result<(), RestError> {
        let unreadable = |_| RestError::Unreadable("PUT", path.to_owned());
        let text = serde_json::to_string(body).map_err(unreadable)?;
        self.send("PUT", path, &text, None)
    }

    fn send(
        &mut self,
        method: &'static str,
        path: &str,
        body: &str,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), RestError> {
        let failed = |error| RestError::Socket(method, path.to_owned(), error);
        let head = format!(
            "{method} {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        match fd {
            Some(fd) => self.send_with(head.as_bytes(), fd).map_err(failed)?,
            None => self.stream.write_all(head.as_bytes()).map_err(failed)?,
        }
        self.answer(method, path)
    }

    fn send_with(&mut self, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [fd];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let sent = sendmsg(
            &self.stream,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        self.stream.write_all(&bytes[sent..])
    }

    fn answer(&mut self, method: &'static str, path: &str) -> Result<(), RestError> {
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match whole(&bytes).map_err(|()| RestError::Unreadable(method, path.to_owned()))? {
                Some((200..=299, _)) => return Ok(()),
                Some((_, body)) => return Err(RestError::Refused(sentence(&body))),
                None => {}
            }
            let failed = |error| RestError::Socket(method, path.to_owned(), error);
            match self.stream.read(&mut piece).map_err(failed)? {
                0 => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
                taken => bytes.extend(&piece[..taken]),
            }
        }
    }
}

/// Status and body, once all of it is there.
fn whole(bytes: &[u8]) -> Result<Option<(u16, Vec<u8>)>, ()> {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes).map_err(|_| ())? else {
        return if bytes.len() > LONGEST {
            Err(())
        } else {
            Ok(None)
        };
    };
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.map_or(Some(0), |header| {
        std::str::from_utf8(header.value).ok()?.trim().parse().ok()
    });
    let length: usize = length.filter(|length| *length <= LONGEST).ok_or(())?;
    let body = bytes.get(head..head + length).map(<[u8]>::to_owned);
    Ok(body.map(|body| (response.code.unwrap_or_default(), body)))
}

/// What a refusal says.
fn sentence(body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let words = value
        .get("fault_message")
        .and_then(serde_json::Value::as_str);
    words
        .unwrap_or("the monitor refuses without a word")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_once_it_is_whole() {
        let answer = b"HTTP/1.1 400 \r\nContent-Length: 22\r\n\r\n{\"fault_message\":\"no\"}";
        for cut in 0..answer.len() {
            assert_eq!(whole(&answer[..cut]), Ok(None), "{cut}");
        }
        let (status, body) = whole(answer).unwrap().unwrap();
        assert_eq!((status, sentence(&body).as_str()), (400, "no"));
        assert_eq!(
            whole(b"HTTP/1.1 204 \r\nServer: x\r\n\r\n"),
            Ok(Some((204, Vec::new())))
        );
    }

    #[test]
    fn an_answer_without_an_end_is_none() {
        assert_eq!(
            whole(b"HTTP/1.1 200 \r\nContent-Length: 99999999\r\n\r\n"),
            Err(())
        );
        assert_eq!(whole(b"nonsense\r\n\r\n"), Err(()));
    }
}
