//! The ways between a guest's ports and sockets of the host: one that listens, and one to those that guests call.
//!
//! A monitor in its jail cannot connect to anything. It has a *line* to somebody outside who may: a socket of packets,
//! opened before the guest runs. A packet to them is a ticket and a port, a packet from them the ticket and an error
//! number, with the connected socket beside it where that is 0. They know which paths those may be and are told nothing
//! but the number, so there is nothing else to ask for. Neither side ever waits for the other.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg,
    send, sendmsg, socket_with, socketpair,
};

/// Bytes of a question, and of an answer.
const WORD: usize = 8;
/// Questions that go unanswered at a time: their answers, and the descriptors beside them, fit into any socket.
pub(super) const MOST_CALLS: usize = 64;

/// How many calls are answered in a time. **Who answers does so outside of the VM's limits**, so a guest that does nothing
/// but call must not have more of a processor than this: 3,200 calls a second, a twentieth of one or less.
const CALLS: u32 = 64;
const TIME: Duration = Duration::from_millis(20);

/// How the sockets are reached that a guest calls.
#[derive(Debug)]
pub enum Dial {
    /// By this process: they are at this path, `_`, and the port.
    Here(PathBuf),
    /// By who is at the other end of this line.
    Line(OwnedFd),
    /// Not at all: every call is refused.
    Nowhere,
}

/// What became of a call.
#[derive(Debug)]
pub(super) struct Answered {
    /// Which one.
    pub(super) ticket: u32,
    /// A connected socket that does not block.
    pub(super) stream: io::Result<OwnedFd>,
}

impl Dial {
    /// The same once more.
    ///
    /// # Errors
    /// When the kernel grants no descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Here(path) => Self::Here(path.clone()),
            Self::Line(line) => Self::Line(line.try_clone()?),
            Self::Nowhere => Self::Nowhere,
        })
    }

    /// The line, if there is one.
    pub(super) fn line(&self) -> Option<&OwnedFd> {
        match self {
            Self::Line(line) => Some(line),
            _ => None,
        }
    }

    /// Calls the socket of `port`. `None`: the answer comes over the line.
    pub(super) fn call(&self, ticket: u32, port: u32) -> Option<io::Result<OwnedFd>> {
        match self {
            Self::Here(path) => Some(reach(path, port).map_err(io::Error::from)),
            Self::Nowhere => Some(Err(Errno::CONNREFUSED.into())),
            Self::Line(line) => match say(line.as_fd(), ticket, port, None) {
                Ok(()) => None,
                Err(error) => Some(Err(error.into())),
            },
        }
    }

    /// The next answer on the line; `None` when none is there.
    ///
    /// # Errors
    /// When nobody is at the other end any more, or what they say makes no sense.
    pub(super) fn answer(&self) -> io::Result<Option<Answered>> {
        let Some(line) = self.line() else {
            return Ok(None);
        };
        let Some((ticket, number, fd)) = hear(line.as_fd())? else {
            return Ok(None);
        };
        let stream = match (i32::try_from(number), fd) {
            (Ok(0), Some(fd)) => Ok(fd),
            (Ok(0), None) | (Err(_), _) => Err(Errno::PROTO.into()),
            (Ok(number), _) => Err(io::Error::from_raw_os_error(number)),
        };
        Ok(Some(Answered { ticket, stream }))
    }
}

/// The end of a line at which calls are answered.
#[derive(Debug)]
pub struct Operator {
    line: OwnedFd,
    path: PathBuf,
    /// When the present time began, and the calls answered in it.
    since: Instant,
    answered: u32,
}

impl Operator {
    /// Lays a line for sockets at `path`, `_`, and a port; its other end is a monitor's.
    ///
    /// # Errors
    /// When the kernel grants no sockets.
    pub fn lay(path: PathBuf) -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (line, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let operator = Self {
            line,
            path,
            since: Instant::now(),
            answered: 0,
        };
        Ok((operator, theirs))
    }

    /// Readable when somebody calls.
    pub fn line(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }

    /// How long calls are to wait, so that they are not too many; `None`: not at all.
    pub fn rest(&mut self) -> Option<Duration> {
        let left = TIME.checked_sub(self.since.elapsed());
        if left.is_none() {
            self.since = Instant::now();
            self.answered = 0;
        }
        left.filter(|_| self.answered >= CALLS)
    }

    /// Answers one call, if there is one, and waits for nothing: neither for a socket whose owner does not accept, nor for
    /// a monitor that does not listen.
    ///
    /// # Errors
    /// When the other end is gone, or speaks nonsense: then the line is of no more use.
    pub fn answer(&mut self) -> io::Result<()> {
        self.answered = self.answered.saturating_add(1);
        let Some((ticket, port, _)) = hear(self.line.as_fd())? else {
            return Ok(());
        };
        let answered = match reach(&self.path, port) {
            Ok(stream) => say(self.line.as_fd(), ticket, 0, Some(stream.as_fd())),
            Err(error) => {
                let number = u32::try_from(error.raw_os_error()).unwrap_or_default();
                say(self.line.as_fd(), ticket, number, None)
            }
        };
        match answered {
            // Who asks for more than they take up gets no answer.
            Err(Errno::AGAIN | Errno::TOOMANYREFS) => Ok(()),
            answered => Ok(answered?),
        }
    }
}

/// The path of the socket that the guest calls by `port`.
fn path_of(path: &Path, port: u32) -> PathBuf {
    let mut text = OsString::from(path);
    text.push(format!("_{port}"));
    PathBuf::from(text)
}

/// Connects to the socket of `port`. A Unix socket accepts at once or not at all.
fn reach(path: &Path, port: u32) -> Result<OwnedFd, Errno> {
    let address = SocketAddrUnix::new(path_of(path, port))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    loop {
        match connect(&stream, &address) {
            Ok(()) => return Ok(stream),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends two numbers, and a descriptor beside them.
fn say(
    line: BorrowedFd<'_>,
    ticket: u32,
    number: u32,
    fd: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let [a, b, c, d] = ticket.to_le_bytes();
    let [e, f, g, h] = number.to_le_bytes();
    let word = [a, b, c, d, e, f, g, h];
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        let sent = match fd {
            None => send(line, &word, flags),
            Some(fd) => {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut beside = SendAncillaryBuffer::new(&mut space);
                let fds = [fd];
                beside.push(SendAncillaryMessage::ScmRights(&fds));
                sendmsg(line, &[IoSlice::new(&word)], &mut beside, flags)
            }
        };
        match sent {
            Err(Errno::INTR) => {}
            sent => return sent.map(drop),
        }
    }
}

/// Two numbers from the other end, and what lies beside them; `None` when nothing is there.
fn hear(line: BorrowedFd<'_>) -> io::Result<Option<(u32, u32, Option<OwnedFd>)>> {
    let mut word = [0; WORD];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = loop {
        let into = &mut [IoSliceMut::new(&mut word)];
        match recvmsg(line, into, &mut beside, flags) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            got => break got?,
        }
    };
    let fd = beside.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    if got.bytes != WORD {
        let why = if got.bytes == 0 {
            Errno::PIPE
        } else {
            Errno::PROTO
        };
        return Err(why.into());
    }
    let [a, b, c, d, e, f, g, h] = word;
    let numbers = (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    );
    Ok(Some((numbers.0, numbers.1, fd)))
}
