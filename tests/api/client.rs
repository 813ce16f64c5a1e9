//! A client of the socket: HTTP/1.1 by hand, so that every byte of an answer can be looked at.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// Beyond this, an answer does not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that stays open from request to request.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    /// The value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What the `fault_message` says; empty without any.
    pub(crate) fn fault(&self) -> String {
        match serde_json::from_str::<Value>(&self.body) {
            Ok(body) => body["fault_message"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            Err(_) => String::new(),
        }
    }
}

impl Client {
    /// Connects.
    pub(crate) fn to(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Asks, and reads the answer.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: Option<&str>) -> Reply {
        self.send(method, path, body);
        self.reply()
            .unwrap_or_else(|| panic!("no answer to {method} {path} {body:?}"))
    }

    fn send(&mut self, method: &str, path: &str, body: Option<&str>) {
        let length = match body {
            Some(body) => format!("Content-Length: {}\r\n", body.len()),
            None => String::new(),
        };
        let body = body.unwrap_or_default();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n{body}");
        self.write(request.as_bytes());
    }

    /// Sends bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Reads an answer; of a stream of events only the head. `None` where the connection ends.
    pub(crate) fn reply(&mut self) -> Option<Reply> {
        let line = self.line()?;
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok());
        let mut headers = Vec::new();
        while let Some((name, value)) = self.line()?.split_once(": ") {
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut reply = Reply {
            status: status.unwrap_or_else(|| panic!("no status line: {line:?}")),
            headers,
            body: String::new(),
        };
        let length = reply.header("content-length").unwrap_or("0");
        let mut body = vec![0; length.parse().unwrap()];
        self.stream.read_exact(&mut body).unwrap();
        reply.body = String::from_utf8(body).unwrap();
        Some(reply)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end_matches("\r\n").to_owned()),
        }
    }
}
