//! One client: what it sent, what it is sent, and how long it may take.
//!
//! ```text
//! Requests --bad request, `close`--> Closing --written--> Lingering --client closes, or a second--> Gone
//!    \--the service says so--> Stream                 Refused (never a client of ours) --written--^
//! ```
//! Lingering: our side is shut, and what still comes is thrown away. To close with bytes unread would make the
//! client's next write or read fail before it has seen the answer (RFC 9112 §9.6).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use super::inbox::{Inbox, Step, Whole};
use super::outbox::Outbox;
use super::peer::Peer;
use super::receive::{Received, receive};
use super::response::{self, Persistence, Response};
use super::server::Limits;
use super::service::Request;
use super::stream::Stream;

/// How long a client may take to notice that its connection ends.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes of one read.
const READ: usize = 4096;
/// Reads in one turn: others wait meanwhile.
const READS: usize = 8;

/// A client's connection.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    peer: Peer,
    inbox: Inbox,
    outbox: Outbox,
    phase: Phase,
    /// Until when the request in hand must be whole, or the answer taken.
    deadline: Option<Instant>,
    patience: Duration,
    /// The client sends nothing more.
    ended: bool,
}

#[derive(Debug)]
enum Phase {
    Requests,
    Stream(Stream),
    Closing,
    Refused,
    Lingering,
    Gone,
}

/// What an answer needs to know of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    persistence: Persistence,
    chunks: bool,
}

impl Connection {
    /// A client to be served.
    pub(super) fn new(socket: OwnedFd, peer: Peer, limits: &Limits) -> Self {
        Self {
            socket,
            peer,
            inbox: Inbox::new(limits.payload),
            outbox: Outbox::default(),
            phase: Phase::Requests,
            deadline: None,
            patience: limits.deadline,
            ended: false,
        }
    }

    /// A client that gets this answer to whatever it asks.
    pub(super) fn refused(socket: OwnedFd, peer: Peer, limits: &Limits, answer: &Response) -> Self {
        let mut refused = Self::new(socket, peer, limits);
        refused.outbox.put(answer.encode(Persistence::Close));
        refused.phase = Phase::Refused;
        refused
    }

    /// Takes no place of a client: it may go at any time.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Refused | Phase::Lingering | Phase::Gone)
    }

    pub(super) fn is_stream(&self) -> bool {
        matches!(self.phase, Phase::Stream(_))
    }

    /// Another whole request may be here already.
    pub(super) fn is_eager(&self) -> bool {
        matches!(self.phase, Phase::Requests) && self.outbox.is_empty() && self.inbox.is_fresh()
    }

    /// Answers wait to be written.
    pub(super) fn is_writing(&self) -> bool {
        !self.outbox.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Gives back time that the server itself has spent.
    pub(super) fn forgive(&mut self, spent: Duration) {
        self.deadline = self.deadline.map(|deadline| deadline + spent);
    }

    /// The socket is ready.
    pub(super) fn ready(&mut self, flags: EventFlags, now: Instant) {
        if flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
            self.outbox.unblock();
        }
        let done = match self.phase {
            Phase::Requests => self.read(now),
            Phase::Lingering => self.discard(),
            // Nobody will read what there is.
            _ if flags.intersects(EventFlags::HUP | EventFlags::ERR) => Err(Errno::PIPE.into()),
            _ => Ok(()),
        };
        if done.is_err() {
            self.phase = Phase::Gone;
        }
    }

    fn read(&mut self, now: Instant) -> io::Result<()> {
        let mut bytes = [0; READ];
        for _ in 0..READS {
            let room = self.inbox.room().min(READ);
            if room == 0 || self.ended {
                break;
            }
            match receive(self.socket.as_fd(), &mut bytes[..room])? {
                Received::Nothing => break,
                Received::End => self.ended = true,
                Received::Bytes(count, fds) => {
                    self.deadline.get_or_insert(now + self.patience);
                    self.inbox.put(&bytes[..count], fds);
                    if count < room {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Without room for control messages the kernel closes the descriptors in them. The socket never waits.
    fn discard(&mut self) -> io::Result<()> {
        let mut bytes = [0; READ];
        for _ in 0..READS {
            match rustix::io::read(&self.socket, &mut bytes[..]) {
                Ok(0) => return Err(Errno::PIPE.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The next request, once the answer before it is written.
    pub(super) fn next(&mut self) -> Option<(Request, Terms)> {
        let busy = !self.outbox.is_empty() && !self.inbox.awaits_body();
        if busy || !matches!(self.phase, Phase::Requests) {
            return None;
        }
        match self.inbox.next() {
            Ok(Step::Wait) => None,
            Ok(Step::GoOn) => {
                self.outbox.put(response::go_on());
                None
            }
            Ok(Step::Request(whole)) => Some(self.request(whole)),
            Err(refusal) => {
                log::debug!("API: a request was refused: {refusal}");
                let answer = Response::bad_request(&refusal.to_string());
                // Firecracker's very head, although the connection does end.
                self.outbox.put(answer.encode(Persistence::KeepAlive));
                self.close();
                None
            }
        }
    }

    fn request(&mut self, whole: Whole) -> (Request, Terms) {
        self.deadline = None;
        let Whole { head, body, fds } = whole;
        let persistence = match head.keep_alive {
            true => Persistence::KeepAlive,
            false => Persistence::Close,
        };
        let terms = Terms {
            persistence,
            chunks: head.chunks,
        };
        let request = Request {
            method: head.method,
            path: head.path,
            query: head.query,
            body,
            fds,
            peer: self.peer,
            accept: head.accept,
        };
        (request, terms)
    }

    /// Puts the answer to the request that [`next`](Self::next) gave.
    pub(super) fn answer(&mut self, answer: &Response, terms: Terms) {
        self.outbox.put(answer.encode(terms.persistence));
        if terms.persistence == Persistence::Close {
            self.close();
        }
    }

    /// Turns the connection into a stream.
    pub(super) fn stream(&mut self, terms: Terms) {
        self.outbox.put(response::stream_head(terms.chunks));
        self.inbox.clear();
        self.deadline = None;
        self.phase = Phase::Stream(Stream::new(terms.chunks));
    }

    fn close(&mut self) {
        self.inbox.clear();
        self.deadline = None;
        self.phase = Phase::Closing;
    }

    /// Gives a stream its events; others get none.
    pub(super) fn offer<'a>(&mut self, lost: u64, events: impl Iterator<Item = &'a str>) {
        if let Phase::Stream(stream) = &mut self.phase {
            stream.miss(lost);
            for event in events {
                stream.offer(&mut self.outbox, event);
            }
        }
    }

    /// Ends a stream in order.
    pub(super) fn finish(&mut self) {
        if let Phase::Stream(stream) = &self.phase {
            stream.finish(&mut self.outbox);
        }
    }

    /// Writes what can be written and says what to wait for; `None`: the connection is over.
    pub(super) fn settle(&mut self, now: Instant) -> Option<EventFlags> {
        self.write(now).ok()?;
        if let Phase::Closing | Phase::Refused = self.phase
            && self.outbox.is_empty()
        {
            if self.ended {
                return None;
            }
            shutdown(&self.socket, Shutdown::Write).ok()?;
            self.phase = Phase::Lingering;
            self.deadline = Some(now + LINGER);
        }
        let over = match self.phase {
            Phase::Requests => self.ended && self.outbox.is_empty() && !self.inbox.is_fresh(),
            Phase::Gone => true,
            _ => false,
        };
        let late = self.deadline.is_some_and(|deadline| deadline <= now);
        (!over && !late).then(|| self.interest())
    }

    /// Writes, and keeps the deadline of the writing.
    fn write(&mut self, now: Instant) -> io::Result<()> {
        if self.outbox.is_empty() && !self.is_stream() {
            return Ok(());
        }
        self.outbox.send(self.socket.as_fd())?;
        if let Phase::Stream(stream) = &mut self.phase {
            if self.outbox.is_empty() {
                stream.catch_up(&mut self.outbox);
                self.outbox.send(self.socket.as_fd())?;
            }
        } else if !self.outbox.is_empty() {
            self.deadline.get_or_insert(now + self.patience);
        } else if !self.inbox.awaits_body() {
            // The next request's time begins only now.
            self.deadline = self.inbox.has_begun().then(|| now + self.patience);
        }
        Ok(())
    }

    fn interest(&self) -> EventFlags {
        let writing = match self.outbox.is_empty() {
            true => EventFlags::empty(),
            false => EventFlags::OUT,
        };
        let reads = match self.phase {
            Phase::Requests => {
                let turn = self.outbox.is_empty() || self.inbox.awaits_body();
                turn && self.inbox.room() > 0 && !self.ended
            }
            Phase::Lingering => true,
            _ => false,
        };
        match reads {
            true => writing | EventFlags::IN,
            false => writing,
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
