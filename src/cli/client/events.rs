//! A stream of events (server-sent events: HTML, section 9.2).

use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::ClientError;

/// The longest line, in bytes.
const LONGEST_LINE: u64 = 1 << 20;

/// A stream of events, until the VM or its reader ends.
#[derive(Debug)]
pub(crate) struct Events {
    path: PathBuf,
    stream: BufReader<io::Chain<io::Cursor<Vec<u8>>, UnixStream>>,
}

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// What happened.
    pub(crate) name: String,
    /// The details, as JSON.
    pub(crate) data: String,
}

impl Events {
    /// A stream of which the first bytes were read already.
    pub(crate) fn new(path: &Path, first: Vec<u8>, stream: UnixStream) -> Self {
        Self {
            path: path.to_owned(),
            stream: BufReader::new(io::Cursor::new(first).chain(stream)),
        }
    }
}

impl Iterator for Events {
    type Item = Result<Event, ClientError>;

    /// Waits for the next event; `None` when the stream has ended.
    fn next(&mut self) -> Option<Self::Item> {
        let mut event = Event::default();
        loop {
            let mut line = Vec::new();
            let read = (&mut self.stream)
                .take(LONGEST_LINE)
                .read_until(b'\n', &mut line);
            match read {
                Ok(0) => return None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => return Some(Err(ClientError::Io(self.path.clone(), error))),
                Ok(_) if line.last() != Some(&b'\n') => {
                    return Some(Err(ClientError::Foreign(self.path.clone())));
                }
                Ok(_) => {}
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            match line.split_once(':') {
                // The end of an event; one without data is none.
                None if line.is_empty() && event.data.is_empty() => event = Event::default(),
                None if line.is_empty() => return Some(Ok(event)),
                Some(("event", value)) => event.name = field(value),
                Some(("data", value)) => event.add(&field(value)),
                // A comment, which keeps the connection alive, or a field of no use here.
                _ => {}
            }
        }
    }
}

impl Event {
    fn add(&mut self, line: &str) {
        if !self.data.is_empty() {
            self.data.push('\n');
        }
        self.data.push_str(line);
    }
}

/// A field's value: one space after the colon does not belong to it.
fn field(value: &str) -> String {
    value.strip_prefix(' ').unwrap_or(value).to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn events(text: &str) -> Vec<Event> {
        let (mut server, stream) = UnixStream::pair().unwrap();
        server.write_all(text.as_bytes()).unwrap();
        drop(server);
        let events = Events::new(Path::new("x"), Vec::new(), stream);
        events.map(Result::unwrap).collect()
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        let read = events(
            ": hello\n\nevent: paused\ndata: {}\n\nid: 7\ndata:a\r\ndata:  b\r\n\r\ndata: cut off\n",
        );
        let event = |name: &str, data: &str| Event {
            name: name.to_owned(),
            data: data.to_owned(),
        };
        assert_eq!(read, [event("paused", "{}"), event("", "a\n b")]);
    }
}
