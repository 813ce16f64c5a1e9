//! Connections that carry standard streams.
//!
//! The shim connects to [`STREAM_PORT`](crate::STREAM_PORT) and says one line, `<container> <exec> <stream>\n`, with
//! `-` for a container's first process. The agent answers `OK\n`, or a sentence and the end. From then on every byte is
//! the stream's. For stdin the end of the shim's side is the end of the input; for stdout and stderr the end of the
//! agent's side is the end of the output.

use std::fmt;
use std::str::FromStr;

use crate::name::{self, BadName};

/// The longest line, with its end, bytes.
pub const LONGEST: usize = 2 * name::LONGEST + 10;
/// The agent's answer to a line that it takes.
pub const TAKEN: &[u8] = b"OK\n";

/// Which of a process's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What it reads.
    Stdin,
    /// What it prints; all of it where it has a terminal.
    Stdout,
    /// What it complains.
    Stderr,
}

/// Whose stream a connection is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stream {
    /// The container's name.
    pub container: String,
    /// The process's; none is the container's first.
    pub exec: Option<String>,
    /// Which one.
    pub kind: Kind,
}

/// A line that names no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadStream {
    /// Other words than three.
    #[error(
        "a stream is named by three words: container, process or '-', and stdin, stdout or stderr"
    )]
    Words,
    /// One of the words.
    #[error(transparent)]
    Name(#[from] BadName),
}

impl fmt::Display for Stream {
    /// The line, without its end.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exec = self.exec.as_deref().unwrap_or("-");
        let kind = match self.kind {
            Kind::Stdin => "stdin",
            Kind::Stdout => "stdout",
            Kind::Stderr => "stderr",
        };
        write!(out, "{} {exec} {kind}", self.container)
    }
}

impl FromStr for Stream {
    type Err = BadStream;

    /// From a line without its end.
    fn from_str(line: &str) -> Result<Self, BadStream> {
        let words: Vec<&str> = line.split(' ').collect();
        let &[container, exec, kind] = &words[..] else {
            return Err(BadStream::Words);
        };
        let kind = match kind {
            "stdin" => Kind::Stdin,
            "stdout" => Kind::Stdout,
            "stderr" => Kind::Stderr,
            _ => return Err(BadStream::Words),
        };
        let exec = match exec {
            "-" => None,
            exec => Some(name::check(exec)?.to_owned()),
        };
        Ok(Self {
            container: name::check(container)?.to_owned(),
            exec,
            kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_the_same() {
        for line in ["web - stdin", "web sh-1 stdout", "a.b c stderr"] {
            assert_eq!(line.parse::<Stream>().unwrap().to_string(), line);
        }
    }

    #[test]
    fn another_line_is_refused() {
        for line in [
            "",
            "web",
            "web -",
            "web - stdfoo",
            "web - stdin ",
            "a/b - stdin",
            "web .. stdin",
        ] {
            assert!(line.parse::<Stream>().is_err(), "{line:?}");
        }
    }

    #[test]
    fn the_longest_line_is_as_long_as_it_may_be() {
        let name = "f".repeat(name::LONGEST);
        let line = format!("{name} {name} stdout\n");
        assert!(line.len() <= LONGEST);
    }
}
