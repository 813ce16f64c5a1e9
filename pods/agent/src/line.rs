//! What the agent and a process that it is making say to each other, over a pair of sockets that keeps messages apart.
//!
//! | from the process | then |
//! | --- | --- |
//! | `Spawned` | this is who speaks |
//! | `Pid` | the process that will be the container's has this number; who said so ends |
//! | `Map` | it waits for its users to be mapped, then for one byte |
//! | `Terminal` | here is the terminal's other end |
//! | `Ready` | it waits for one byte, then runs its program |
//! | `Failed` | it could not, and ends |
//! | the end | the program runs |

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use tokio::io::unix::AsyncFd;

/// The longest message, bytes.
const LONGEST: usize = 2048;

/// What a process says while it is made.
#[derive(Debug)]
pub(crate) enum Word {
    Spawned(u32),
    Pid(u32),
    Map,
    Terminal(OwnedFd),
    Ready,
    /// The status that its end is to have, and a sentence.
    Failed(u8, String),
    End,
}

/// The process's side, which waits.
pub(crate) struct Inner(OwnedFd);

/// The agent's side, which does not.
pub(crate) struct Outer(AsyncFd<OwnedFd>);

/// Both sides of a line.
pub(crate) fn pair() -> io::Result<(Outer, OwnedFd)> {
    let (outer, inner) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::io::ioctl_fionbio(&outer, true)?;
    Ok((Outer(crate::raw::register(outer)?), inner))
}

impl Inner {
    /// The side that the agent has left to this process.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Says something. Nobody hears it only where the agent has given this process up.
    pub(crate) fn say(&self, word: &Word) {
        let (tag, text): (u8, Vec<u8>) = match word {
            Word::Pid(pid) => (b'P', pid.to_ne_bytes().to_vec()),
            Word::Spawned(pid) => (b'S', pid.to_ne_bytes().to_vec()),
            Word::Map => (b'M', Vec::new()),
            Word::Terminal(_) => (b'T', Vec::new()),
            Word::Ready => (b'R', Vec::new()),
            Word::Failed(status, text) => (b'F', [&[*status], text.as_bytes()].concat()),
            Word::End => return,
        };
        let mut message = vec![tag];
        message.extend(text);
        message.truncate(LONGEST);
        // The agent ends whoever it has given up.
        let _ = match word {
            Word::Terminal(terminal) => send_with(&self.0, &message, terminal.as_fd()),
            // A filter that is on already may forbid everything else.
            _ => rustix::io::write(&self.0, &message),
        };
    }

    /// Waits for the agent's byte. False when the agent has given this process up.
    pub(crate) fn hear(&self) -> bool {
        let mut byte = [0];
        loop {
            match rustix::io::read(&self.0, &mut byte) {
                Ok(count) => return count == 1,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

fn send_with(socket: &OwnedFd, message: &[u8], fd: BorrowedFd<'_>) -> Result<usize, Errno> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(
        socket,
        &[IoSlice::new(message)],
        &mut control,
        SendFlags::empty(),
    )
}

impl Outer {
    /// Waits for the next thing that is said.
    ///
    /// # Errors
    ///
    /// What came is none of these.
    pub(crate) async fn hear(&self) -> io::Result<Word> {
        loop {
            let mut guard = self.0.readable().await?;
            if let Ok(word) = guard.try_io(|socket| receive(socket.get_ref())) {
                return word;
            }
        }
    }

    /// Says the byte that it waits for.
    ///
    /// # Errors
    ///
    /// The process has ended.
    pub(crate) fn go(&self) -> io::Result<()> {
        // One byte fits always.
        Ok(rustix::io::write(self.0.get_ref(), b"S").map(drop)?)
    }
}

fn receive(socket: &OwnedFd) -> io::Result<Word> {
    let mut message = [0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut message)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    );
    let count = match received {
        Ok(received) => received.bytes,
        // It has ended with something unread.
        Err(Errno::CONNRESET) => 0,
        Err(error) => return Err(error.into()),
    };
    let terminal = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    word(&message[..count], terminal)
}

fn word(message: &[u8], terminal: Option<OwnedFd>) -> io::Result<Word> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "a word that is none");
    match (message, terminal) {
        ([], _) => Ok(Word::End),
        ([b'P', pid @ ..], _) => {
            let pid = pid.try_into().map_err(|_| strange())?;
            Ok(Word::Pid(u32::from_ne_bytes(pid)))
        }
        ([b'S', pid @ ..], _) => {
            let pid = pid.try_into().map_err(|_| strange())?;
            Ok(Word::Spawned(u32::from_ne_bytes(pid)))
        }
        ([b'M'], _) => Ok(Word::Map),
        ([b'T'], Some(terminal)) => Ok(Word::Terminal(terminal)),
        ([b'R'], _) => Ok(Word::Ready),
        ([b'F', status, text @ ..], _) => Ok(Word::Failed(
            *status,
            String::from_utf8_lossy(text).into_owned(),
        )),
        _ => Err(strange()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_said_is_heard_in_order_and_then_the_end() {
        let (outer, inner) = pair().unwrap();
        let inner = Inner::new(inner);
        inner.say(&Word::Pid(70_000));
        let (_, terminal) = rustix::pipe::pipe().unwrap();
        inner.say(&Word::Terminal(terminal));
        inner.say(&Word::Failed(127, "no such thing".into()));
        outer.go().unwrap();
        assert!(inner.hear());
        drop(inner);
        assert!(matches!(outer.hear().await.unwrap(), Word::Pid(70_000)));
        assert!(matches!(outer.hear().await.unwrap(), Word::Terminal(_)));
        let Word::Failed(127, text) = outer.hear().await.unwrap() else {
            panic!("another word");
        };
        assert_eq!(text, "no such thing");
        // A byte was read, so this is an end and not a reset.
        assert!(matches!(outer.hear().await.unwrap(), Word::End));
    }

    #[test]
    fn other_bytes_are_no_words() {
        for bytes in [&b"P12"[..], b"X", b"T", b"MM", b"F"] {
            assert!(word(bytes, None).is_err(), "{bytes:?}");
        }
    }
}
