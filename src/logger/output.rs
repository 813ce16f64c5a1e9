//! Where lines go.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vmm::line_file::LineFile;

use crate::console::{line, terminal};

/// Where lines go.
#[derive(Debug)]
pub(super) enum Output {
    /// The user's terminal, or what stands for it.
    Stderr,
    /// Where Firecracker's lines go until they are told otherwise. **Never waited for.**
    Stdout,
    /// A file or named pipe, never waited for.
    File(LineFile),
}

impl Output {
    /// Writes a line that ends with `\n`.
    ///
    /// # Errors
    /// When the line is lost.
    pub(super) fn write(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::Stderr => write_stderr(line),
            Self::Stdout => write_at_once(&io::stdout(), line),
            Self::File(file) => file.write(line.as_bytes()),
        }
    }
}

/// Writes lines to stderr, waiting for it.
pub(super) fn write_stderr(lines: &str) -> io::Result<()> {
    let text = format!("{}{lines}", line::begin());
    io::stderr().write_all(as_shown(&io::stderr(), text).as_bytes())
}

/// Writes a line to somebody else's descriptor, if it has room: one that says so takes a page without making
/// its writer wait, and a line is no longer.
fn write_at_once(to: &(impl AsFd + IsTerminal), line: &str) -> io::Result<()> {
    let mut room = [PollFd::new(to, PollFlags::OUT)];
    poll(&mut room, Some(&Timespec::default()))?;
    if !room.iter().any(|fd| fd.revents().contains(PollFlags::OUT)) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let text = as_shown(to, line.to_owned());
    let taken = rustix::io::write(to, text.as_bytes())?;
    if taken == text.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

fn as_shown(to: &impl IsTerminal, text: String) -> String {
    if terminal::is_raw() && to.is_terminal() {
        text.replace('\n', "\r\n")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn a_full_pipe_that_is_not_ours_to_change_loses_lines_and_blocks_nobody() {
        let (reader, writer) = io::pipe().unwrap();
        let (mut reader, writer) = (reader, File::from(OwnedFd::from(writer)));
        let line = format!("{}\n", "x".repeat(4000));
        let mut taken = 0;
        while write_at_once(&writer, &line).is_ok() {
            taken += line.len();
        }
        assert!(taken > 0);
        drop(writer);
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all.len(), taken);
        assert!(all.lines().all(|one| one.len() == 4000));
    }

    #[test]
    fn a_pipe_without_a_reader_loses_the_line() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let writer = File::from(OwnedFd::from(writer));
        assert!(write_at_once(&writer, "line\n").is_err());
    }
}
