//! An answer of HTTP/1, read within its bounds and its time.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use serde_json::Value;

use super::{Client, ClientError, Events, LONGEST_BODY};
use crate::cli::style::plain;

/// The longest head, in bytes.
const LONGEST_HEAD: usize = 16 << 10;
/// The most header lines.
const MOST_HEADERS: usize = 64;
/// HTTP's status of an answer without a body.
const NO_CONTENT: u16 = 204;

/// An answer that is being read.
#[derive(Debug)]
pub(super) struct Answer {
    client: Client,
    stream: UnixStream,
    /// When there must be all of it.
    end: Instant,
    head: Head,
    /// What has come and was not looked at.
    rest: Vec<u8>,
}

/// What an answer begins with.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    status: u16,
    /// The length of the body; without one it ends with the connection.
    length: Option<u64>,
}

impl Answer {
    /// Reads an answer's head from `stream`, until `end`.
    ///
    /// # Errors
    /// When it does not come or is none.
    pub(super) fn read(
        client: &Client,
        stream: UnixStream,
        end: Instant,
    ) -> Result<Self, ClientError> {
        let mut answer = Self {
            client: client.clone(),
            stream,
            end,
            head: Head::default(),
            rest: Vec::new(),
        };
        answer.read_head()?;
        Ok(answer)
    }

    /// The body.
    ///
    /// # Errors
    /// When it does not come, or the answer is a refusal.
    pub(super) fn body(mut self) -> Result<Vec<u8>, ClientError> {
        let body = self.read_body()?;
        match self.is_refusal() {
            true => Err(fault(self.head.status, &body)),
            false => Ok(body),
        }
    }

    /// The body as a stream of events that has no end in time.
    ///
    /// # Errors
    /// When the answer is a refusal.
    pub(super) fn into_events(mut self) -> Result<Events, ClientError> {
        if self.is_refusal() {
            return Err(fault(self.head.status, &self.read_body()?));
        }
        let unbounded = self.stream.set_read_timeout(None);
        unbounded.map_err(|error| self.client.failed(error))?;
        Ok(Events::new(&self.client.path, self.rest, self.stream))
    }

    fn is_refusal(&self) -> bool {
        !(200..300).contains(&self.head.status)
    }

    /// Reads until the head is complete.
    fn read_head(&mut self) -> Result<(), ClientError> {
        loop {
            if let Some((head, length)) = self.parse()? {
                self.rest.drain(..length);
                self.head = head;
                // What comes before the answer itself.
                if head.status >= 200 {
                    return Ok(());
                }
            } else if self.rest.len() > LONGEST_HEAD {
                return Err(self.foreign());
            } else if self.read_some()? == 0 {
                return Err(ClientError::Cut(self.client.path.clone()));
            }
        }
    }

    /// The head and its length in bytes, if all of it is there.
    fn parse(&self) -> Result<Option<(Head, usize)>, ClientError> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&self.rest).map_err(|_| self.foreign())?;
        let httparse::Status::Complete(length) = parsed else {
            return Ok(None);
        };
        let status = response.code.ok_or_else(|| self.foreign())?;
        let named =
            |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case("content-length");
        let body = response.headers.iter().find(named);
        let body = body.map(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok());
        let head = Head {
            status,
            length: match body {
                _ if status == NO_CONTENT || status < 200 => Some(0),
                Some(length) => Some(length.ok_or_else(|| self.foreign())?),
                None => None,
            },
        };
        Ok(Some((head, length)))
    }

    fn read_body(&mut self) -> Result<Vec<u8>, ClientError> {
        let most = self.head.length.unwrap_or(LONGEST_BODY + 1);
        if self.head.length.is_some_and(|length| length > LONGEST_BODY) {
            return Err(ClientError::Endless(self.client.path.clone()));
        }
        while (self.rest.len() as u64) < most && self.read_some()? > 0 {}
        let length = self.rest.len() as u64;
        match self.head.length {
            Some(expected) if length < expected => Err(ClientError::Cut(self.client.path.clone())),
            None if length >= most => Err(ClientError::Endless(self.client.path.clone())),
            _ => Ok(std::mem::take(&mut self.rest)),
        }
    }

    /// Reads what there is, until the time for the answer is over.
    fn read_some(&mut self) -> Result<usize, ClientError> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.client.failed(ErrorKind::TimedOut.into()));
        }
        let mut buffer = [0; 4096];
        let read = self
            .stream
            .set_read_timeout(Some(left))
            .and_then(|()| self.stream.read(&mut buffer));
        match read {
            Ok(length) => {
                self.rest
                    .extend_from_slice(buffer.get(..length).unwrap_or_default());
                Ok(length)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => self.read_some(),
            Err(error) => Err(self.client.failed(error)),
        }
    }

    fn foreign(&self) -> ClientError {
        ClientError::Foreign(self.client.path.clone())
    }
}

/// A refusal in its own words: Firecracker's two keys for them, else the text.
fn fault(status: u16, body: &[u8]) -> ClientError {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = ["fault_message", "error"]
        .iter()
        .find_map(|key| json.get(key)?.as_str());
    let text = String::from_utf8_lossy(body);
    let message = said.unwrap_or(text.trim());
    let message = message.lines().next().unwrap_or_default();
    ClientError::Fault {
        status,
        message: match message {
            "" => "without a word".to_owned(),
            words => plain(words),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_its_own_words() {
        for (body, words) in [
            (
                r#"{"fault_message":"Boot source error: x"}"#,
                "Boot source error: x",
            ),
            (r#"{"error":"Bad method.\nMore."}"#, "Bad method."),
            ("plain\ntext", "plain"),
            ("", "without a word"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
        ] {
            let text = fault(400, body.as_bytes()).to_string();
            assert_eq!(text, format!("the VM refused (400): {words}"));
        }
    }
}
