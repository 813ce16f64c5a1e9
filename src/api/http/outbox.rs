//! Bytes that one client has not taken yet.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

/// What is still to be written. The writer sees to it that it stays small: [`len`](Self::len).
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    /// The socket took no more; it must say when it does.
    blocked: bool,
}

impl Outbox {
    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The socket is writable again.
    pub(super) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Puts bytes behind those that wait.
    pub(super) fn put(&mut self, bytes: Vec<u8>) {
        if self.is_empty() {
            self.bytes = bytes;
        } else {
            self.bytes.drain(..self.sent);
            self.bytes.extend_from_slice(&bytes);
        }
        self.sent = 0;
    }

    /// Sends what the socket takes.
    ///
    /// # Errors
    /// When nobody will ever read it.
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        while !self.is_empty() && !self.blocked {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(socket, &self.bytes[self.sent..], flags) {
                Ok(sent) => self.sent += sent,
                Err(Errno::AGAIN) => self.blocked = true,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.is_empty() {
            *self = Self::default();
        }
        Ok(())
    }
}
