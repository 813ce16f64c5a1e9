//! Where the guest's output goes.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::net::{SendFlags, send};
use vmm::outside;

use super::line::{self, Line};

/// How much is taken from the guest at a time.
const CHUNK: usize = 4096;

/// A place for the guest's output, and what it has not taken yet (at most one chunk).
#[derive(Debug)]
pub(crate) struct Sink {
    /// `None`: the output is thrown away.
    file: Option<File>,
    pending: Vec<u8>,
    kind: Kind,
}

/// What needs to be known of the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Its line is the guest's.
    Terminal,
    /// Cannot be opened anew; written to without waiting all the same.
    Socket,
    /// A pipe, a file, a device.
    Other,
}

impl Sink {
    /// Stdout. It is opened anew, so that not blocking is a property of ravelin's own descriptor and not of
    /// the shell's.
    ///
    /// # Errors
    /// When stdout is closed.
    pub(crate) fn stdout() -> io::Result<Self> {
        let reopened = outside::open(Path::new("/proc/self/fd/1"), OFlags::WRONLY | flags());
        let file = match reopened {
            // A regular file keeps its place only in the descriptor that the shell opened.
            Ok(file) if !file.metadata()?.is_file() => file,
            _ => File::from(io::stdout().as_fd().try_clone_to_owned()?),
        };
        Ok(Self::over(Some(file)))
    }

    /// A file, created or emptied, or a pipe, which needs no reader yet.
    ///
    /// # Errors
    /// When it cannot be, or is a disk: nobody wants a console's words over a filesystem.
    pub(crate) fn file(path: &Path) -> io::Result<Self> {
        let access = match outside::is_pipe(path) {
            // A pipe that is open for reading has a reader (`fifo(7)`).
            true => OFlags::RDWR,
            false => OFlags::WRONLY,
        };
        let file = outside::open(path, access | OFlags::CREATE | OFlags::TRUNC | flags())?;
        if file.metadata()?.file_type().is_block_device() {
            return Err(io::Error::other("it is a disk"));
        }
        Ok(Self::over(Some(file)))
    }

    /// Nowhere.
    pub(crate) fn nowhere() -> Self {
        Self::over(None)
    }

    fn over(file: Option<File>) -> Self {
        Self {
            kind: file.as_ref().map_or(Kind::Other, kind),
            file,
            pending: Vec::with_capacity(CHUNK),
        }
    }

    /// The descriptor to wait for when [`Self::is_behind`].
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Whether something taken from the guest still waits to be written.
    pub(crate) fn is_behind(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Writes as much as can be written without waiting, taking it from `take(at most)`; true when the guest
    /// has nothing more.
    pub(crate) fn pump(&mut self, mut take: impl FnMut(usize) -> Vec<u8>) -> bool {
        loop {
            if self.pending.is_empty() {
                self.pending = take(CHUNK);
            }
            if self.pending.is_empty() {
                return true;
            }
            if !self.write_pending() {
                return false;
            }
        }
    }

    /// Writes once; false when the place takes nothing now.
    fn write_pending(&mut self) -> bool {
        let Some(file) = &mut self.file else {
            self.pending.clear();
            return true;
        };
        let written = match self.kind {
            Kind::Socket => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                send(&*file, &self.pending, flags).map_err(io::Error::from)
            }
            Kind::Terminal | Kind::Other => file.write(&self.pending),
        };
        match written {
            Ok(written) => {
                let last = self.pending.drain(..written).next_back();
                if self.kind == Kind::Terminal {
                    line::set(match last {
                        Some(b'\n') | None => Line::Fresh,
                        Some(_) => Line::Guest,
                    });
                }
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) => {
                // A closed pipe or a full disk: the guest lives on, its output is lost.
                log::warn!("the guest's console output is lost from here on: {error}");
                self.file = None;
                self.pending.clear();
                true
            }
        }
    }
}

fn kind(file: &File) -> Kind {
    if file.is_terminal() {
        return Kind::Terminal;
    }
    match file.metadata() {
        Ok(metadata) if metadata.file_type().is_socket() => Kind::Socket,
        _ => Kind::Other,
    }
}

fn flags() -> OFlags {
    OFlags::NONBLOCK | OFlags::NOCTTY
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_file_gets_all_of_it_in_order() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut sink = Sink::file(file.path()).unwrap();
        let mut parts = vec![b"world".to_vec(), b"hello ".to_vec()];
        assert!(sink.pump(|_| parts.pop().unwrap_or_default()));
        assert_eq!(std::fs::read(file.path()).unwrap(), b"hello world");
    }

    #[test]
    fn a_pipe_without_a_reader_waits_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).unwrap();
        let mut sink = Sink::file(&path).unwrap();
        assert!(!sink.pump(|most| vec![b'x'; most]), "full, and not lost");
        let mut reader = File::open(&path).unwrap();
        let mut some = vec![0; 2 * CHUNK];
        reader.read_exact(&mut some).unwrap();
        assert!(sink.pump(|_| Vec::new()), "goes on when it is read");
    }

    #[test]
    fn a_reader_that_does_not_read_holds_back_one_chunk_and_blocks_nobody() {
        let (reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let mut sink = Sink::over(Some(File::from(std::os::fd::OwnedFd::from(writer))));
        assert!(!sink.pump(|most| vec![b'x'; most]));
        assert!(sink.is_behind());
        drop(reader);
    }

    #[test]
    fn a_socket_is_written_to_without_waiting() {
        let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut sink = Sink::over(Some(File::from(std::os::fd::OwnedFd::from(writer))));
        assert_eq!(sink.kind, Kind::Socket);
        assert!(!sink.pump(|most| vec![b'x'; most]));
        assert!(sink.is_behind());
        drop(reader);
        assert!(sink.pump(|_| Vec::new()));
    }

    #[test]
    fn a_reader_that_went_away_ends_nothing() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut sink = Sink::over(Some(File::from(std::os::fd::OwnedFd::from(writer))));
        let mut left = 3;
        assert!(sink.pump(|_| {
            left -= 1;
            if left > 0 { b"x".to_vec() } else { Vec::new() }
        }));
    }
}
