//! Where lines go.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use vmm::line_file::LineFile;

use crate::console::{line, terminal};

/// Where lines go.
#[derive(Debug)]
pub(super) enum Output {
    /// The user's terminal, or what stands for it. **Waited for a second, and then no more.**
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

/// How long stderr's reader is waited for. It may be a program that has forgotten it, and whoever waited longer
/// would not serve the guest, the socket and the signals.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// What is written without waiting to whoever has room: a page, as a pipe takes it (`pipe(7)`, PIPE_BUF).
const PART: usize = 4096;

/// Writes lines to stderr, waiting for it up to [`PATIENCE`]; once that was in vain, not at all until it has room
/// again.
pub(super) fn write_stderr(lines: &str) -> io::Result<()> {
    static IS_FORGOTTEN: AtomicBool = AtomicBool::new(false);
    let text = format!("{}{lines}", line::begin());
    write_patiently(&io::stderr(), text, PATIENCE, &IS_FORGOTTEN)
}

fn write_patiently(
    to: &(impl AsFd + IsTerminal),
    text: String,
    patience: Timespec,
    is_forgotten: &AtomicBool,
) -> io::Result<()> {
    for part in as_shown(to, text).as_bytes().chunks(PART) {
        let patience = match is_forgotten.load(Ordering::Relaxed) {
            true => Timespec::default(),
            false => patience,
        };
        let room = wait_for_room(to, patience);
        is_forgotten.store(room.is_err(), Ordering::Relaxed);
        room?;
        write_part(to, part)?;
    }
    Ok(())
}

/// Writes a line to somebody else's descriptor, if it has room: a line is no longer than a part.
fn write_at_once(to: &(impl AsFd + IsTerminal), line: &str) -> io::Result<()> {
    wait_for_room(to, Timespec::default())?;
    write_part(to, as_shown(to, line.to_owned()).as_bytes())
}

fn wait_for_room(to: &impl AsFd, patience: Timespec) -> io::Result<()> {
    let mut room = [PollFd::new(to, PollFlags::OUT)];
    while let Err(error) = poll(&mut room, Some(&patience)) {
        if error != Errno::INTR {
            return Err(error.into());
        }
    }
    match room.iter().any(|fd| fd.revents().contains(PollFlags::OUT)) {
        true => Ok(()),
        false => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn write_part(to: &impl AsFd, part: &[u8]) -> io::Result<()> {
    let taken = rustix::io::write(to, part)?;
    if taken == part.len() {
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
    fn a_reader_that_has_forgotten_stderr_is_waited_for_once_and_heard_again() {
        let (mut reader, writer) = io::pipe().unwrap();
        let writer = File::from(OwnedFd::from(writer));
        let line = format!("{}\n", "x".repeat(4000));
        while write_at_once(&writer, &line).is_ok() {}
        let is_forgotten = AtomicBool::new(false);
        let write = |milliseconds: i64| {
            let patience = Timespec {
                tv_sec: milliseconds / 1000,
                tv_nsec: milliseconds % 1000 * 1_000_000,
            };
            write_patiently(&writer, line.clone(), patience, &is_forgotten)
        };
        assert_eq!(write(1).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let start = std::time::Instant::now();
        assert!(write(60_000).is_err(), "nobody reads");
        assert!(start.elapsed().as_secs() < 30, "waited again");
        let mut some = vec![0; 8192];
        reader.read_exact(&mut some).unwrap();
        write(60_000).unwrap();
        assert!(!is_forgotten.load(Ordering::Relaxed));
    }

    #[test]
    fn a_pipe_without_a_reader_loses_the_line() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let writer = File::from(OwnedFd::from(writer));
        assert!(write_at_once(&writer, "line\n").is_err());
    }
}
