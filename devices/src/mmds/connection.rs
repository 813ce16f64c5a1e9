//! One connection of the guest: bytes become requests, answers become bytes.

use std::net::Ipv4Addr;
use std::time::Duration;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};

use crate::mmds::Mmds;
use crate::mmds::http::{self, LONGEST_REQUEST};

/// What the guest may send before it was read, and what may be on its way to it.
const RECEIVE_BUFFER: usize = 4096;
const SEND_BUFFER: usize = 16_384;
/// A connection without progress ends after this time: first politely, then not.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection, from the segment that asks for it on.
///
/// **Memory: two buffers, one request and one answer**, the last one of the document's limit and a head.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) handle: SocketHandle,
    /// Bytes of requests not yet answered.
    received: Vec<u8>,
    /// Whether a whole request may be among them.
    is_unread: bool,
    /// The answer on its way, and how much of it smoltcp has.
    answer: Vec<u8>,
    given: usize,
    /// Nothing follows that answer.
    is_last: bool,
    /// What smoltcp held at the end of the last turn.
    queued: usize,
    /// When it last got on.
    pub(super) progress: Duration,
    /// Its time is over and the guest has been told.
    is_overdue: bool,
    /// Whether it is more than a place for one that may come.
    pub(super) has_begun: bool,
}

/// A socket with fresh buffers.
pub(super) fn socket() -> Socket<'static> {
    let mut socket = Socket::new(
        SocketBuffer::new(vec![0; RECEIVE_BUFFER]),
        SocketBuffer::new(vec![0; SEND_BUFFER]),
    );
    // Answers are written whole, so neither saves a segment: the last one of an answer would wait for the
    // guest's delayed acknowledgement.
    socket.set_nagle_enabled(false);
    socket.set_ack_delay(None);
    socket
}

/// Whether `socket` talks with `port` of `host`.
pub(super) fn is_with(socket: &Socket<'_>, host: Ipv4Addr, port: u16) -> bool {
    let remote = socket.remote_endpoint();
    remote.is_some_and(|remote| remote.addr == host.into() && remote.port == port)
}

impl Connection {
    pub(super) fn new(handle: SocketHandle, now: Duration) -> Self {
        Self {
            handle,
            received: Vec::new(),
            is_unread: false,
            answer: Vec::new(),
            given: 0,
            is_last: false,
            queued: 0,
            progress: now,
            is_overdue: false,
            has_begun: false,
        }
    }

    /// When it is out of time.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.has_begun
            .then(|| self.progress.saturating_add(PATIENCE))
    }

    /// Ends a connection that is out of time.
    pub(super) fn expire(&mut self, socket: &mut Socket<'_>, now: Duration) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        self.progress = now;
        if std::mem::replace(&mut self.is_overdue, true) {
            socket.abort();
        } else {
            self.is_last = true;
            socket.close();
        }
    }

    /// Reads, answers and writes until the guest's turn has come. **Bounded by the send buffer**: each
    /// round either fills it further or is the last one.
    pub(super) fn serve(&mut self, socket: &mut Socket<'_>, mmds: &Mmds, now: Duration) {
        if socket.send_queue() < self.queued {
            self.progress = now;
        }
        while self.write(socket) {
            if self.is_last {
                socket.close();
                discard(socket);
                break;
            }
            self.receive(socket, now);
            if !self.answer_next(mmds) {
                if socket.state() == State::CloseWait {
                    socket.close();
                }
                break;
            }
        }
        self.queued = socket.send_queue();
    }

    /// Takes what the guest has sent, up to a request's length.
    fn receive(&mut self, socket: &mut Socket<'_>, now: Duration) {
        // Twice at most: the buffer is a ring.
        while socket.can_recv() && self.received.len() < LONGEST_REQUEST {
            let room = LONGEST_REQUEST.saturating_sub(self.received.len());
            let taken = socket.recv(|bytes| {
                let part = bytes.get(..room).unwrap_or(bytes);
                self.received.extend_from_slice(part);
                (part.len(), ())
            });
            if taken.is_err() {
                return;
            }
            self.is_unread = true;
            self.progress = now;
        }
    }

    /// Answers the next request, if a whole one is here; whether it was.
    fn answer_next(&mut self, mmds: &Mmds) -> bool {
        if !self.is_unread {
            return false;
        }
        let Some(answer) = http::answer(mmds, &self.received) else {
            self.is_unread = false;
            return false;
        };
        self.received.drain(..answer.used.min(self.received.len()));
        self.answer = answer.bytes;
        self.is_last = answer.closes;
        true
    }

    /// Gives smoltcp what it takes of the answer; whether that was all.
    fn write(&mut self, socket: &mut Socket<'_>) -> bool {
        let rest = self.answer.get(self.given..).unwrap_or_default();
        if rest.is_empty() {
            return true;
        }
        match socket.send_slice(rest) {
            Ok(given) => self.given = self.given.saturating_add(given),
            // The guest has ended the connection.
            Err(_) => self.given = self.answer.len(),
        }
        if self.given < self.answer.len() {
            return false;
        }
        self.answer = Vec::new();
        self.given = 0;
        true
    }
}

/// Takes what still comes on a connection that has had its last answer: it is of no interest, but the
/// guest's end behind it is.
fn discard(socket: &mut Socket<'_>) {
    while socket.can_recv() {
        if socket.recv(|bytes| (bytes.len(), ())).is_err() {
            return;
        }
    }
}
