//! The connections of one device, and the two ways in which they begin.
//!
//! Everything here has a bound, whatever the guest and the host's processes do: [`MOST`] connections, a window each, one
//! place in each line of waiting for each of them, and [`MOST_REPLIES`] answers before no more packets are taken.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_manager::{EventOps, Events};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use vmm_sys_util::epoll::EventSet;

use super::Metrics;
use super::connection::{Connection, MOST_WIDE, NARROW, Stage, WIDE, owed};
use super::dial::{Dial, MOST_CALLS};
use super::greeting::{self, Greeting};
use super::packet::{NO_RECEIVE, NO_SEND, Ports, STREAM};
use super::socket::Host;
use super::timer::Timer;

/// Connections at a time, those included that are not complete: Firecracker's number.
pub(super) const MOST: usize = 1023;
/// Answers to packets that belong to no connection; when so many wait for the guest's buffers, its packets wait too.
pub(super) const MOST_REPLIES: usize = 256;
/// What comes in of one kind before others have their turn.
const MOST_AT_ONCE: usize = 64;
/// How long whoever connects may take to name a port, and the guest, and whoever connects for a monitor in its jail, to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Ports on the host of connections that begin there: Firecracker's, from 2^30 on.
const FIRST_PORT: u32 = 1 << 30;
const LAST_PORT: u32 = (1 << 31) - 1;

/// What an event is about; from [`FIRST_STREAM`] on it is a connection's place.
pub(super) const RX_KICK: u32 = 0;
pub(super) const TX_KICK: u32 = 1;
pub(super) const EVENT_KICK: u32 = 2;
pub(super) const LISTENER: u32 = 3;
pub(super) const LINE: u32 = 4;
pub(super) const TIMER: u32 = 5;
pub(super) const FIRST_STREAM: u32 = 16;

/// An answer to a packet of no connection, or the end of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply {
    pub(super) ports: Ports,
    pub(super) kind: u16,
}

/// The connections of a device.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) cid: u32,
    host: Host,
    slots: Vec<Option<Box<Connection>>>,
    free: Vec<u16>,
    pub(super) by_ports: HashMap<Ports, u16>,
    /// Those that have something for the guest, each once.
    pub(super) ready: VecDeque<u16>,
    /// Refusals, which go before everything else.
    pub(super) replies: VecDeque<Reply>,
    /// Those whose ports are to be called, and how many calls are unanswered.
    calls: VecDeque<u16>,
    unanswered: usize,
    next_port: u32,
    next_ticket: u32,
    timer: Timer,
    /// Whether nobody is accepted at present, for want of descriptors.
    is_closed: bool,
    pub(super) metrics: Arc<Metrics>,
}

impl Hub {
    /// No connections, and the ways to them.
    ///
    /// # Errors
    /// When the kernel grants no timer.
    pub(super) fn new(cid: u32, host: Host, metrics: Arc<Metrics>) -> io::Result<Self> {
        Ok(Self {
            cid,
            host,
            slots: Vec::new(),
            free: Vec::new(),
            by_ports: HashMap::new(),
            ready: VecDeque::new(),
            replies: VecDeque::new(),
            calls: VecDeque::new(),
            unanswered: 0,
            next_port: FIRST_PORT,
            next_ticket: 0,
            timer: Timer::new()?,
            is_closed: false,
            metrics,
        })
    }

    /// Drops all connections: the guest knows of none.
    pub(super) fn clear(&mut self) {
        let live = self.slots.iter().flatten().count();
        self.metrics
            .conns_removed
            .add(u64::try_from(live).unwrap_or_default());
        self.slots.clear();
        self.free.clear();
        self.by_ports.clear();
        self.ready.clear();
        self.replies.clear();
        self.calls.clear();
        self.timer.stop();
    }

    /// Everything to watch.
    pub(super) fn sources(&self) -> impl Iterator<Item = Events> {
        let listener = match self.is_closed {
            true => EventSet::empty(),
            false => EventSet::IN,
        };
        let listener = Events::with_data(self.host.listener(), LISTENER, listener);
        let line = self.host.dial.line();
        let line = line.map(|line| Events::with_data(line, LINE, EventSet::IN));
        let timer = Events::with_data(self.timer.fd(), TIMER, EventSet::IN);
        let slots = (FIRST_STREAM..).zip(&self.slots);
        let streams = slots.filter_map(|(data, slot)| slot.as_ref()?.events(data));
        [Some(listener), line, Some(timer)]
            .into_iter()
            .flatten()
            .chain(streams)
    }

    pub(super) fn get(&mut self, slot: u16) -> Option<&mut Connection> {
        self.slots.get_mut(usize::from(slot))?.as_deref_mut()
    }

    /// Processes of the host have come.
    pub(super) fn accept(&mut self, events: &mut EventOps<'_>) {
        for _ in 0..MOST_AT_ONCE {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match accept_with(self.host.listener(), flags) {
                Ok(stream) => self.welcome(stream, events),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => {
                    // For want of descriptors, say: who waits is looked for again in a second.
                    log::warn!("vsock: a connection cannot be accepted: {error}");
                    self.metrics.muxer_event_fails.increment();
                    self.is_closed = true;
                    let nothing =
                        Events::with_data(self.host.listener(), LISTENER, EventSet::empty());
                    let _ = events.modify(nothing);
                    self.timer.start();
                    return;
                }
            }
        }
    }

    fn welcome(&mut self, stream: OwnedFd, events: &mut EventOps<'_>) {
        // Who finds no place is sent away: the socket is closed.
        if let Some(slot) = self.add(Ports::default(), Stage::Greeting) {
            let deadline = self.deadline();
            if let Some(connection) = self.get(slot) {
                connection.deadline = deadline;
            }
            self.attach(slot, stream, events);
        }
    }

    /// The guest calls a port of the host.
    pub(super) fn called(
        &mut self,
        ports: Ports,
        kind: u16,
        events: &mut EventOps<'_>,
    ) -> Option<u16> {
        let Some(slot) = self.add(ports, Stage::Dialing) else {
            self.reply(ports, kind);
            return None;
        };
        self.by_ports.insert(ports, slot);
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        let deadline = self.deadline();
        if let Some(connection) = self.get(slot) {
            // The place is part of it, so that an answer finds it; the number keeps old answers from new connections.
            connection.ticket = (ticket << 10) | u32::from(slot);
            connection.deadline = deadline;
        }
        self.calls.push_back(slot);
        self.dial(events);
        Some(slot)
    }

    /// Calls whose turn it is.
    fn dial(&mut self, events: &mut EventOps<'_>) {
        while self.unanswered < MOST_CALLS
            && let Some(slot) = self.calls.pop_front()
        {
            let Some(connection) = self.get(slot) else {
                continue;
            };
            let (ticket, port) = (connection.ticket, connection.ports.host);
            match self.host.dial.call(ticket, port) {
                None => self.unanswered = self.unanswered.saturating_add(1),
                Some(stream) => self.connected(slot, stream, events),
            }
        }
    }

    /// Calls were answered.
    pub(super) fn answered(&mut self, events: &mut EventOps<'_>) {
        for _ in 0..MOST_CALLS {
            match self.host.dial.answer() {
                Ok(None) => break,
                Ok(Some(answered)) => {
                    self.unanswered = self.unanswered.saturating_sub(1);
                    let slot = u16::try_from(answered.ticket & 0x3ff).unwrap_or_default();
                    let is_meant = self.get(slot).is_some_and(|connection| {
                        connection.stage == Stage::Dialing && connection.ticket == answered.ticket
                    });
                    if is_meant {
                        self.connected(slot, answered.stream, events);
                    }
                }
                Err(error) => {
                    log::warn!("vsock: nobody connects for the guest any more: {error}");
                    self.metrics.muxer_event_fails.increment();
                    if let Some(line) = self.host.dial.line() {
                        let _ = events.remove(Events::empty(line));
                    }
                    self.host.dial = Dial::Nowhere;
                    self.unanswered = 0;
                    break;
                }
            }
        }
        self.dial(events);
    }

    fn connected(&mut self, slot: u16, stream: io::Result<OwnedFd>, events: &mut EventOps<'_>) {
        match stream {
            Ok(stream) => {
                if let Some(connection) = self.get(slot) {
                    connection.stage = Stage::Open;
                    connection.deadline = None;
                    connection.owed |= owed::RESPONSE;
                }
                self.attach(slot, stream, events);
                self.queue(slot);
            }
            Err(error) => {
                log::debug!("vsock: a call of the guest's is refused: {error}");
                self.reset(slot, events);
            }
        }
    }

    /// Something has happened at the host's side of a connection.
    pub(super) fn stirred(&mut self, slot: u16, set: EventSet, events: &mut EventOps<'_>) {
        let Some(connection) = self.get(slot) else {
            return;
        };
        let down = &mut connection.down;
        let gone = EventSet::HANG_UP | EventSet::ERROR;
        down.is_hung_up |= set.intersects(gone);
        down.is_ending |= set.intersects(gone | EventSet::READ_HANG_UP);
        down.is_readable |= set.intersects(gone | EventSet::READ_HANG_UP | EventSet::IN);
        if down.is_hung_up && down.ended & NO_SEND != 0 {
            connection.end_host(NO_RECEIVE);
        }
        match connection.stage {
            Stage::Greeting => self.greet(slot, events),
            Stage::Flushing if set.intersects(gone) => self.remove(slot, events),
            _ => {
                if set.contains(EventSet::OUT) {
                    self.flush(slot, events);
                }
                self.queue(slot);
            }
        }
    }

    fn greet(&mut self, slot: u16, events: &mut EventOps<'_>) {
        let Some(connection) = self.get(slot) else {
            return;
        };
        let is_ending = connection.down.is_ending;
        let greeting = connection
            .stream
            .as_ref()
            .map_or(Greeting::Bad, |stream| greeting::take(stream.as_fd()));
        match greeting {
            Greeting::Port(port) => self.request(slot, port),
            Greeting::Unfinished if !is_ending => {}
            Greeting::Unfinished | Greeting::Bad => {
                self.metrics.conn_event_fails.increment();
                self.remove(slot, events);
            }
        }
    }

    fn request(&mut self, slot: u16, guest: u32) {
        let host = self.free_port(guest);
        let ports = Ports { host, guest };
        let deadline = self.deadline();
        if let Some(connection) = self.get(slot) {
            connection.ports = ports;
            connection.stage = Stage::Requested;
            connection.owed |= owed::REQUEST;
            connection.deadline = deadline;
            // What stands behind the line is for the guest.
            connection.down.is_readable = true;
        }
        self.by_ports.insert(ports, slot);
        self.queue(slot);
    }

    /// A port of the host that has no connection with `guest`'s port. Of more ports than there may be connections one is
    /// free.
    fn free_port(&mut self, guest: u32) -> u32 {
        loop {
            let host = self.next_port;
            self.next_port = match host {
                LAST_PORT => FIRST_PORT,
                host => host.saturating_add(1),
            };
            if !self.by_ports.contains_key(&Ports { host, guest }) {
                return host;
            }
        }
    }

    /// A second has passed since somebody began to wait.
    pub(super) fn tick(&mut self, events: &mut EventOps<'_>) {
        self.timer.fired();
        let now = Instant::now();
        let mut is_waiting = false;
        for slot in 0..u16::try_from(self.slots.len()).unwrap_or(u16::MAX) {
            let deadline = self.get(slot).and_then(|connection| connection.deadline);
            match deadline {
                Some(deadline) if deadline <= now => self.expire(slot, events),
                Some(_) => is_waiting = true,
                None => {}
            }
        }
        if std::mem::take(&mut self.is_closed) {
            let open = Events::with_data(self.host.listener(), LISTENER, EventSet::IN);
            let _ = events.modify(open);
        }
        if !is_waiting {
            self.timer.stop();
        }
    }

    /// Somebody was waited for long enough. Of who has named no port yet the guest knows nothing.
    fn expire(&mut self, slot: u16, events: &mut EventOps<'_>) {
        match self.get(slot).map(|connection| &connection.stage) {
            Some(Stage::Greeting) => {
                self.metrics.conn_event_fails.increment();
                self.remove(slot, events);
            }
            _ => self.reset(slot, events),
        }
    }

    pub(super) fn deadline(&mut self) -> Option<Instant> {
        self.timer.start();
        Instant::now().checked_add(PATIENCE)
    }

    /// Has the connection wait for the guest's buffers if it has something for the guest.
    pub(super) fn queue(&mut self, slot: u16) {
        if let Some(connection) = self.get(slot)
            && !connection.is_queued
            && connection.has_word()
        {
            connection.is_queued = true;
            self.ready.push_back(slot);
        }
    }

    /// Tells the guest that there is no connection between these ports.
    pub(super) fn reply(&mut self, ports: Ports, kind: u16) {
        self.replies.push_back(Reply { ports, kind });
    }

    /// Ends a connection at once, for both sides.
    pub(super) fn reset(&mut self, slot: u16, events: &mut EventOps<'_>) {
        let Some(connection) = self.get(slot) else {
            return;
        };
        let (ports, is_known) = (connection.ports, connection.is_known());
        if is_known {
            self.reply(ports, STREAM);
        }
        self.metrics.conns_killed.increment();
        self.remove(slot, events);
    }

    /// Forgets a connection, and closes the host's side.
    pub(super) fn remove(&mut self, slot: u16, events: &mut EventOps<'_>) {
        let Some(connection) = self.slots.get_mut(usize::from(slot)).and_then(Option::take) else {
            return;
        };
        self.forget_ports(connection.ports, slot);
        if connection.is_queued {
            self.ready.retain(|one| *one != slot);
        }
        if connection.stage == Stage::Dialing {
            self.calls.retain(|one| *one != slot);
        }
        if let Some(stream) = &connection.stream {
            let _ = events.remove(Events::empty_raw(stream.as_raw_fd()));
        }
        self.free.push(slot);
        self.metrics.conns_removed.increment();
    }

    /// The guest knows of no connection between these ports any more.
    pub(super) fn forget_ports(&mut self, ports: Ports, slot: u16) {
        if self.by_ports.get(&ports) == Some(&slot) {
            self.by_ports.remove(&ports);
        }
    }

    fn add(&mut self, ports: Ports, stage: Stage) -> Option<u16> {
        let live = self.slots.len().saturating_sub(self.free.len());
        let window = if live < MOST_WIDE { WIDE } else { NARROW };
        let connection = Box::new(Connection::new(ports, stage, window));
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < MOST => {
                let slot = u16::try_from(self.slots.len()).ok()?;
                self.slots.push(None);
                slot
            }
            None => return None,
        };
        *self.slots.get_mut(usize::from(slot))? = Some(connection);
        self.metrics.conns_added.increment();
        Some(slot)
    }

    fn attach(&mut self, slot: u16, stream: OwnedFd, events: &mut EventOps<'_>) {
        let Some(connection) = self.get(slot) else {
            return;
        };
        connection.stream = Some(stream);
        let watched = connection.events(FIRST_STREAM.saturating_add(slot.into()));
        if watched.is_some_and(|watched| events.add(watched).is_err()) {
            self.metrics.conn_event_fails.increment();
            self.reset(slot, events);
        }
    }

    /// Watches the host's side for what matters now.
    pub(super) fn watch(&mut self, slot: u16, events: &EventOps<'_>) {
        let data = FIRST_STREAM.saturating_add(slot.into());
        let watched = self
            .get(slot)
            .and_then(|connection| connection.events(data));
        if watched.is_some_and(|watched| events.modify(watched).is_err()) {
            self.metrics.conn_event_fails.increment();
        }
    }
}
