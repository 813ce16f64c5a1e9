//! The loop: accept, read, ask the service, write.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use super::connection::{Connection, Terms};
use super::listen::Listener;
use super::peer::{Peer, own_uid};
use super::response::Response;
use super::service::{Answer, Service};
use super::slots::Slots;
use super::stream::EventSource;
use super::{DEFAULT_PAYLOAD, MAX_STREAMS};

const LISTENER: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;
const EVENTS: u64 = u64::MAX - 2;

/// New connections taken in one turn.
const ACCEPTS: usize = 16;
/// How long no connection is accepted after the process has run out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);
/// How long answers that are made may take to be written once the server ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a client may do.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// The largest body of a request, in bytes. Held in memory, so many times over as there are clients.
    pub(crate) payload: usize,
    /// From a request's first byte to its last, and for taking an answer.
    pub(crate) deadline: Duration,
    /// Users who may ask beside root and our own; `None`: whoever can connect.
    pub(crate) allowed_uids: Option<Vec<u32>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload: DEFAULT_PAYLOAD,
            deadline: Duration::from_secs(10),
            allowed_uids: None,
        }
    }
}

/// Why [`Server::serve`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// `stop` became readable.
    Stopped,
    /// The service gave [`Answer::Last`], and it is written as far as its client reads.
    Last,
}

/// The server of one socket.
#[derive(Debug)]
pub(crate) struct Server {
    listener: Listener,
    epoll: OwnedFd,
    slots: Slots,
    limits: Limits,
    events: Option<EventSource>,
    /// Until when nothing is accepted.
    paused: Option<Instant>,
}

/// What a turn of the loop woke up for, beside connections.
#[derive(Debug, Default)]
struct Turn {
    stop: bool,
    accept: bool,
}

impl Server {
    /// A server that does not serve yet; clients can connect already and wait.
    ///
    /// # Errors
    /// When the kernel has no epoll or descriptor left.
    pub(crate) fn new(
        listener: Listener,
        limits: Limits,
        events: Option<EventSource>,
    ) -> io::Result<Self> {
        own_uid();
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        if let Some(events) = &events {
            epoll::add(&epoll, events, EventData::new_u64(EVENTS), EventFlags::IN)?;
        }
        Ok(Self {
            listener,
            epoll,
            slots: Slots::default(),
            limits,
            events,
            paused: None,
        })
    }

    /// Serves until `stop` is readable or the service gives its last answer; then writes what is answered, for at
    /// most a second, and closes every connection.
    ///
    /// # Errors
    /// When epoll fails. What clients do is no error.
    pub(crate) fn serve(
        &mut self,
        service: &mut dyn Service,
        stop: BorrowedFd<'_>,
    ) -> io::Result<Ending> {
        let watch = |token| (EventData::new_u64(token), EventFlags::IN);
        let (token, flags) = watch(LISTENER);
        epoll::add(&self.epoll, &self.listener, token, flags)?;
        let (token, flags) = watch(STOP);
        epoll::add(&self.epoll, stop, token, flags)?;
        let ending = self.run(service);
        epoll::delete(&self.epoll, stop)?;
        epoll::delete(&self.epoll, &self.listener)?;
        self.part();
        ending
    }

    fn run(&mut self, service: &mut dyn Service) -> io::Result<Ending> {
        loop {
            let mut turn = Turn::default();
            let now = self.wait(self.timeout(), &mut turn)?;
            if turn.stop {
                return Ok(Ending::Stopped);
            }
            let last = self.answer_all(service);
            self.settle_all(now);
            if last {
                return Ok(Ending::Last);
            }
            // Last, so that no event of this turn meets another connection in the same place.
            if turn.accept || self.paused.is_some_and(|until| until <= now) {
                self.accept(now)?;
            }
        }
    }

    /// How long nothing needs to be done unless somebody says something.
    fn timeout(&self) -> Option<Duration> {
        if self.slots.iter().any(Connection::is_eager) {
            return Some(Duration::ZERO);
        }
        let deadlines = self.slots.iter().filter_map(Connection::deadline);
        let next = deadlines.chain(self.paused).min();
        next.map(|next| next.saturating_duration_since(Instant::now()))
    }

    /// Waits for events and hands them to their connections. The time it returns is before anything was read: what
    /// came in time counts, however long others took.
    fn wait(&mut self, timeout: Option<Duration>, turn: &mut Turn) -> io::Result<Instant> {
        let mut space = [MaybeUninit::<Event>::uninit(); 16];
        let timeout = timeout.map(whole_milliseconds);
        let ready = match epoll::wait(&self.epoll, &mut space, timeout.as_ref()) {
            Ok((ready, _)) => ready,
            Err(Errno::INTR) => &mut [],
            Err(error) => return Err(error.into()),
        };
        let now = Instant::now();
        for event in ready {
            match event.data.u64() {
                LISTENER => turn.accept = true,
                STOP => turn.stop = true,
                EVENTS => self.publish(),
                token => {
                    let index = usize::try_from(token).unwrap_or(usize::MAX);
                    if let Some(connection) = self.slots.get(index) {
                        connection.ready(event.flags, now);
                    }
                }
            }
        }
        Ok(now)
    }

    /// Hands what happened to every stream.
    fn publish(&mut self) {
        if let Some(source) = &self.events {
            let (lost, events) = source.take();
            for connection in self.slots.iter_mut() {
                connection.offer(lost, events.iter().map(|event| &**event));
            }
        }
    }

    /// At most one request of each client. True: that was the last answer.
    fn answer_all(&mut self, service: &mut dyn Service) -> bool {
        for index in 0..self.slots.len() {
            let next = self.slots.get(index).and_then(Connection::next);
            if let Some((request, terms)) = next {
                let start = Instant::now();
                let answer = service.call(request);
                let spent = start.elapsed();
                for connection in self.slots.iter_mut() {
                    connection.forgive(spent);
                }
                if self.reply(index, answer, terms) {
                    return true;
                }
            }
        }
        false
    }

    /// True: that was the last answer.
    fn reply(&mut self, index: usize, answer: Answer, terms: Terms) -> bool {
        let streams = self.slots.iter().filter(|other| other.is_stream()).count();
        let no_stream = match (&self.events, streams) {
            (None, _) => Some(Response::fault(400, "This server has no events to stream.")),
            (_, MAX_STREAMS..) => Some(Response::fault(503, &too_many_streams())),
            _ => None,
        };
        let Some(connection) = self.slots.get(index) else {
            return false;
        };
        match (answer, no_stream) {
            (Answer::Response(response), _) => connection.answer(&response, terms),
            (Answer::Stream, None) => connection.stream(terms),
            (Answer::Stream, Some(fault)) => connection.answer(&fault, terms),
            (Answer::Last(response), _) => {
                connection.answer(&response, terms);
                return true;
            }
        }
        false
    }

    /// Writes, and lets go of what is over.
    fn settle_all(&mut self, now: Instant) {
        for index in 0..self.slots.len() {
            if let Some(connection) = self.slots.get(index) {
                let interest = connection.settle(now);
                self.slots.watch(index, interest, &self.epoll);
            }
        }
    }

    fn accept(&mut self, now: Instant) -> io::Result<()> {
        for _ in 0..ACCEPTS {
            match self.listener.accept() {
                Ok(Some(socket)) => {
                    if let Ok(peer) = Peer::of(&socket) {
                        self.admit(socket, peer, now);
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    log::warn!("API: no connection can be accepted for a while: {error}");
                    self.paused = Some(now + PAUSE);
                    return self.listen(EventFlags::empty());
                }
            }
        }
        match self.paused.take() {
            Some(_) => self.listen(EventFlags::IN),
            None => Ok(()),
        }
    }

    fn listen(&self, flags: EventFlags) -> io::Result<()> {
        let token = EventData::new_u64(LISTENER);
        Ok(epoll::modify(&self.epoll, &self.listener, token, flags)?)
    }

    fn admit(&mut self, socket: OwnedFd, peer: Peer, now: Instant) {
        let refusal = if !peer.is_allowed(self.limits.allowed_uids.as_deref()) {
            Some(Response::fault(403, &not_allowed(peer)))
        } else if self.slots.are_full() {
            Some(Response::too_many_connections())
        } else {
            None
        };
        let connection = match refusal {
            Some(answer) => {
                log::debug!("API: a connection of {peer:?} got a {}", answer.status);
                Connection::refused(socket, peer, &self.limits, &answer)
            }
            None => Connection::new(socket, peer, &self.limits),
        };
        self.slots.admit(connection, now, &self.epoll);
    }

    /// Writes what is answered, within bounds, and closes everything.
    fn part(&mut self) {
        let end = Instant::now() + FAREWELL;
        // What happened before the end, though the turn that saw the end may not have seen it.
        self.publish();
        self.slots.iter_mut().for_each(Connection::finish);
        loop {
            let now = Instant::now();
            for index in 0..self.slots.len() {
                if let Some(connection) = self.slots.get(index) {
                    let alive = connection.settle(now).is_some() && connection.is_writing();
                    let interest = alive.then_some(EventFlags::OUT);
                    self.slots.watch(index, interest, &self.epoll);
                }
            }
            let over = self.slots.iter().next().is_none() || now >= end;
            if over || self.wait(Some(end - now), &mut Turn::default()).is_err() {
                break;
            }
        }
        self.slots = Slots::default();
    }
}

fn too_many_streams() -> String {
    format!("All {MAX_STREAMS} event streams are taken. Close one of them.")
}

fn not_allowed(peer: Peer) -> String {
    format!(
        "User {} may not use this socket: it is neither root nor the server's own user, nor in its list of allowed users.",
        peer.uid
    )
}

/// Rounded up: to wake before a deadline is to wake twice.
fn whole_milliseconds(time: Duration) -> Timespec {
    let nanos = time.as_nanos().div_ceil(1_000_000) * 1_000_000;
    Timespec {
        tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_user_who_is_not_in_the_list_gets_a_403() {
        let folder = tempfile::tempdir().unwrap();
        let listener = Listener::bind(&folder.path().join("socket"), None).unwrap();
        let limits = Limits {
            allowed_uids: Some(vec![4711]),
            ..Limits::default()
        };
        let mut server = Server::new(listener, limits, None).unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let peer = Peer {
            uid: 4712,
            gid: 0,
            pid: 1,
        };
        server.admit(theirs.into(), peer, Instant::now());
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 403 \r\n"), "{text}");
        let message = "{\"fault_message\":\"User 4712 may not use this socket: it is neither root nor the server's own user, nor in its list of allowed users.\"}";
        assert!(text.ends_with(message), "{text}");
        assert!(!server.slots.are_full());
    }

    #[test]
    fn a_timeout_is_rounded_up_to_whole_milliseconds() {
        let rounded = |nanos| {
            let time = whole_milliseconds(Duration::from_nanos(nanos));
            (time.tv_sec, time.tv_nsec)
        };
        assert_eq!(rounded(0), (0, 0));
        assert_eq!(rounded(1), (0, 1_000_000));
        assert_eq!(rounded(1_999_000_001), (2, 0));
    }
}
