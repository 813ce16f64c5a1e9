//! Standard streams: between containerd's fifos and the connections to the agent, a bounded piece at a time.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The largest piece that is on its way, bytes.
const PIECE: usize = 32 << 10;
/// What may still come of an output once its process has ended, bytes: more than all buffers on the way hold.
const MOST_AFTER: u64 = 32 << 20;

/// Where a process's streams are on the host; an empty one is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Paths {
    /// What it reads.
    pub(crate) stdin: String,
    /// What it prints.
    pub(crate) stdout: String,
    /// What it complains.
    pub(crate) stderr: String,
    /// Whether it has a terminal: then stdout has all that it prints.
    pub(crate) terminal: bool,
}

/// A stream that cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StdioError {
    /// It cannot be opened.
    #[error("the stream {0} cannot be opened: {1}")]
    Open(PathBuf, #[source] io::Error),
    /// A kind that this shim does not have.
    #[error(
        "the stream {0} is neither a fifo nor a file: use fifo paths or file:// for a container's output"
    )]
    Kind(String),
}

/// What a process prints, on its way to the host.
#[derive(Debug)]
pub(crate) enum Sink {
    /// A fifo, which stays open where its reader goes: so containerd may be started anew.
    Fifo(pipe::Sender),
    /// A file that is written to at its end.
    File(tokio::fs::File),
}

/// What a process reads: the fifo, and an end for writing that keeps it from ending.
#[derive(Debug)]
pub(crate) struct Source {
    fifo: pipe::Receiver,
    /// Dropped when the input is to end: then it does with its last writer.
    hold: OwnedFd,
}

impl Sink {
    /// Opens what a path of containerd's names.
    ///
    /// # Errors
    /// When there is no such fifo or file.
    pub(crate) fn open(text: &str) -> Result<Self, StdioError> {
        let path = text.strip_prefix("file://").unwrap_or(text);
        if path.contains("://") {
            return Err(StdioError::Kind(text.to_owned()));
        }
        let is_file = path.len() < text.len();
        let flags = match is_file {
            true => OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE,
            // For reading too, so that nobody is waited for.
            false => OFlags::RDWR | OFlags::NONBLOCK,
        };
        let fd = open(path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))
            .map_err(|error| failed(path, error.into()))?;
        match kind(&fd).map_err(|error| failed(path, error))? {
            FileType::Fifo => Ok(Self::Fifo(
                pipe::Sender::from_owned_fd(fd).map_err(|error| failed(path, error))?,
            )),
            FileType::RegularFile | FileType::CharacterDevice => {
                Ok(Self::File(File::from(fd).into()))
            }
            _ => Err(StdioError::Kind(text.to_owned())),
        }
    }

    /// Passes on what comes over `stream`, to its end. Nothing is dropped: a reader that is slow makes the guest wait.
    pub(crate) fn drain(self, stream: UnixStream) -> Pump {
        let (progress, seen) = tokio::sync::watch::channel(0_u64);
        let task = tokio::spawn(async move {
            match self {
                Self::Fifo(fifo) => copy(stream, fifo, &progress).await,
                Self::File(file) => copy(stream, file, &progress).await,
            }
        });
        Pump { task, seen }
    }
}

impl Source {
    /// Opens the fifo that a path of containerd's names.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn open(path: &str) -> Result<Self, StdioError> {
        let flags = OFlags::NONBLOCK | OFlags::CLOEXEC;
        let get =
            |flags| open(path, flags, Mode::empty()).map_err(|error| failed(path, error.into()));
        let read = get(flags | OFlags::RDONLY)?;
        let hold = get(flags | OFlags::WRONLY)?;
        let fifo = pipe::Receiver::from_owned_fd(read).map_err(|error| failed(path, error))?;
        Ok(Self { fifo, hold })
    }

    /// Passes on what is written into it, and its end. What is returned keeps it from ending.
    pub(crate) fn feed(self, mut stream: UnixStream) -> Feed {
        let Self { mut fifo, hold } = self;
        let task = tokio::spawn(async move {
            let mut piece = vec![0; PIECE];
            while let Ok(taken @ 1..) = fifo.read(&mut piece).await {
                if stream.write_all(&piece[..taken]).await.is_err() {
                    return;
                }
            }
            // The agent may have hung up.
            let _ = stream.shutdown().await;
            // It stays connected until the agent has read all of it.
            let _ = stream.read(&mut [0]).await;
        });
        Feed {
            task,
            hold: Some(hold),
        }
    }
}

/// An output on its way.
#[derive(Debug)]
pub(crate) struct Pump {
    task: JoinHandle<()>,
    seen: tokio::sync::watch::Receiver<u64>,
}

impl Pump {
    /// Waits until all of it has arrived; given up when nothing moves for `patience`, or when more comes than can be on
    /// its way: the process that wrote it has ended.
    pub(crate) async fn finish(mut self, patience: Duration) {
        let before = *self.seen.borrow();
        loop {
            tokio::select! {
                _ = &mut self.task => return,
                moved = timeout(patience, self.seen.changed()) => match moved {
                    Ok(Ok(())) if self.seen.borrow().wrapping_sub(before) < MOST_AFTER => {}
                    Ok(Ok(())) => break,
                    // It has just ended.
                    Ok(Err(_)) => return,
                    Err(_) => break,
                },
            }
        }
        self.task.abort();
    }
}

/// An input on its way.
#[derive(Debug)]
pub(crate) struct Feed {
    task: JoinHandle<()>,
    hold: Option<OwnedFd>,
}

impl Feed {
    /// The input ends when its last writer has.
    pub(crate) fn close(&mut self) {
        self.hold = None;
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn copy(
    mut from: UnixStream,
    mut to: impl AsyncWrite + Unpin,
    progress: &tokio::sync::watch::Sender<u64>,
) {
    let mut piece = vec![0; PIECE];
    while let Ok(taken @ 1..) = from.read(&mut piece).await {
        let mut rest = &piece[..taken];
        while !rest.is_empty() {
            match to.write(rest).await {
                Ok(written @ 1..) => {
                    rest = &rest[written..];
                    progress.send_modify(|bytes| *bytes = bytes.wrapping_add(written as u64));
                }
                _ => return,
            }
        }
    }
    // A fifo has nothing to flush; a file may refuse, and nobody is left to be told.
    let _ = to.flush().await;
}

fn kind(fd: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode))
}

fn failed(path: &str, error: io::Error) -> StdioError {
    StdioError::Open(Path::new(path).to_owned(), error)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn fifo(directory: &tempfile::TempDir) -> String {
        let path = directory.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn output_arrives_whole_and_ends() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(&directory);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let pump = Sink::open(&path).unwrap().drain(ours);
        let reader = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            File::open(path).unwrap().read_to_end(&mut all).unwrap();
            all
        });
        let data: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        theirs.write_all(&data).await.unwrap();
        drop(theirs);
        pump.finish(Duration::from_secs(60)).await;
        assert!(reader.await.unwrap() == data);
    }

    #[tokio::test]
    async fn output_that_nobody_reads_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let pump = Sink::open(&fifo(&directory)).unwrap().drain(ours);
        let flood =
            tokio::spawn(async move { while theirs.write_all(&[7; 4096]).await.is_ok() {} });
        pump.finish(Duration::from_millis(50)).await;
        flood.await.unwrap();
    }

    #[tokio::test]
    async fn input_ends_once_it_is_closed_and_its_writer_has_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(&directory);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut feed = Source::open(&path).unwrap().feed(ours);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .write_all(b"one")
            .unwrap();
        let mut got = [0; 3];
        theirs.read_exact(&mut got).await.unwrap();
        // A second writer: the first one's end was not the input's.
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .write_all(b"two")
            .unwrap();
        feed.close();
        let mut rest = Vec::new();
        theirs.read_to_end(&mut rest).await.unwrap();
        assert_eq!((&got, rest.as_slice()), (b"one", b"two".as_slice()));
    }

    #[test]
    fn a_program_as_output_is_refused_with_a_sentence() {
        let error = Sink::open("binary:///bin/logger").unwrap_err();
        assert!(error.to_string().contains("file://"), "{error}");
    }
}
