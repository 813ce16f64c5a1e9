//! The service's end of TCP, one for each card: smoltcp, its connections, and the bounds on both.
//!
//! **A guest can neither stall the thread nor make it grow.** A frame of the guest is one packet for
//! smoltcp, then one turn of at most [`MOST_CONNECTIONS`] connections, each bounded by its send buffer.
//! Frames to the guest wait in a bounded queue, and connections in as many places as there are: who asks for
//! one more gets the place of the one that has not got on for the longest time. With the last connection the
//! buffers are gone.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, PollResult, SocketSet};
use smoltcp::socket::tcp::{Socket, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};

use crate::mmds::connection::{self, Connection};
use crate::mmds::ether::{self, Content, Neighbours, Packet};
use crate::mmds::wire::{Outbox, Wire};
use crate::mmds::{Attachment, Metrics};

/// Connections at a time.
const MOST_CONNECTIONS: usize = 8;
/// The service's port.
const PORT: u16 = 80;
/// The longest frame that is read: more than fits into a connection's receive buffer, whose size the
/// guest knows.
pub(crate) const LONGEST_FRAME: usize = 8192;
/// Rounds of sending in a turn. Each fills the queue further or is the last one, unless its segments are to
/// nobody.
const MOST_ROUNDS: u32 = 64;
/// The shortest time between two turns that the stack itself asks for.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
/// What every host takes (RFC 791), and what Ethernet carries: the bounds of a packet to the guest.
const SMALLEST_MTU: u16 = 576;
const LARGEST_MTU: u16 = 1500;

/// One card's stack. Times count from any moment that stays the same.
pub(crate) struct Stack {
    attachment: Attachment,
    metrics: Arc<Metrics>,
    interface: Interface,
    sockets: SocketSet<'static>,
    connections: Vec<Connection>,
    neighbours: Neighbours,
    outbox: Outbox,
    mtu: u16,
}

impl Stack {
    /// A stack for a card with packets of at most `mtu` bytes.
    pub(crate) fn new(attachment: &Attachment, mtu: u16, now: Duration) -> Self {
        let mtu = mtu.clamp(SMALLEST_MTU, LARGEST_MTU);
        let metrics = attachment.mmds.metrics();
        let (mut outbox, neighbours) = (Outbox::default(), Neighbours::default());
        let mut wire = Wire {
            incoming: None,
            outbox: &mut outbox,
            neighbours: &neighbours,
            mtu: mtu.into(),
            metrics: &metrics,
        };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = attachment.mmds.seed();
        let mut interface = Interface::new(config, &mut wire, instant(now));
        interface.update_ip_addrs(|addresses| {
            // Whatever address the guest has, it is on this link.
            let _ = addresses.push(IpCidr::new(attachment.address.into(), 0));
        });
        Self {
            attachment: attachment.clone(),
            metrics,
            interface,
            sockets: SocketSet::new(Vec::new()),
            connections: Vec::new(),
            neighbours,
            outbox,
            mtu,
        }
    }

    /// Takes a frame of the guest for which [`Attachment::claims`] has held.
    pub(crate) fn take(&mut self, now: Duration, frame: &[u8]) {
        self.metrics.rx_accepted.increment();
        if frame.len() > LONGEST_FRAME || self.outbox.is_overfull() {
            self.metrics.rx_accepted_err.increment();
            return;
        }
        match self.neighbours.read(self.attachment.address, frame) {
            Content::Question(reply) => self.outbox.push(reply.to_vec(), &self.metrics),
            Content::Tcp(packet) => self.take_segment(now, &packet),
            Content::Unusual => self.metrics.rx_accepted_unusual.increment(),
            Content::Malformed => self.metrics.rx_accepted_err.increment(),
            Content::Foreign => self.metrics.rx_bad_eth.increment(),
        }
    }

    /// Does what is due by now.
    pub(crate) fn advance(&mut self, now: Duration) {
        for connection in &mut self.connections {
            let socket = self.sockets.get_mut(connection.handle);
            connection.expire(socket, now);
            connection.serve(socket, &self.attachment.mmds, now);
        }
        self.send(now);
        self.sweep();
    }

    /// The next frame for the guest; it stays until [`Stack::pop`].
    pub(crate) fn front(&self) -> Option<&[u8]> {
        self.outbox.front()
    }

    /// Takes the next frame for the guest away; behind it comes what had no room.
    pub(crate) fn pop(&mut self, now: Duration) {
        let was_full = self.outbox.is_full();
        if let Some(frame) = self.outbox.pop() {
            let bytes = u64::try_from(frame.len()).unwrap_or(u64::MAX);
            self.metrics.tx_frames.increment();
            self.metrics.tx_bytes.add(bytes);
        }
        if was_full && !self.outbox.is_full() {
            self.advance(now);
        }
    }

    /// When [`Stack::advance`] is due, if nothing happens before.
    pub(crate) fn deadline(&mut self, now: Duration) -> Option<Duration> {
        let patience = self.connections.iter().filter_map(Connection::deadline);
        // What has no room comes with the guest's next buffer, not with time.
        let network = if self.outbox.is_full() {
            None
        } else {
            self.interface.poll_at(instant(now), &self.sockets)
        };
        let network = network.map(|at| Duration::from_micros(at.total_micros().unsigned_abs()));
        let earliest = patience.chain(network).min()?;
        Some(earliest.max(now.saturating_add(SHORTEST_WAIT)))
    }

    fn take_segment(&mut self, now: Duration, packet: &Packet<'_>) {
        self.metrics.rx_count.increment();
        if let Some((port, PORT)) = packet.syn {
            self.make_room(now, packet.source, port);
        }
        let mut wire = Wire {
            incoming: Some(packet.bytes),
            outbox: &mut self.outbox,
            neighbours: &self.neighbours,
            mtu: self.mtu.into(),
            metrics: &self.metrics,
        };
        self.interface
            .poll_ingress_single(instant(now), &mut wire, &mut self.sockets);
        self.count_beginnings(now);
        self.advance(now);
    }

    /// Has a socket listen for a connection from `host`, unless it has this one already.
    fn make_room(&mut self, now: Duration, host: Ipv4Addr, port: u16) {
        let is_served = |connection: &Connection| {
            let socket = self.sockets.get::<Socket<'_>>(connection.handle);
            socket.is_listening() || connection::is_with(socket, host, port)
        };
        if self.connections.iter().any(is_served) {
            return;
        }
        if self.connections.len() >= MOST_CONNECTIONS {
            self.evict(now);
        }
        let mut socket = connection::socket();
        if socket.listen(PORT).is_ok() {
            let handle = self.sockets.add(socket);
            self.connections.push(Connection::new(handle, now));
        }
    }

    /// Ends the connection that has not got on for the longest time; one that waits only for stray segments
    /// before all others.
    fn evict(&mut self, now: Duration) {
        let idlest = self.connections.iter().min_by_key(|connection| {
            let socket = self.sockets.get::<Socket<'_>>(connection.handle);
            (socket.state() != State::TimeWait, connection.progress)
        });
        let Some(handle) = idlest.map(|connection| connection.handle) else {
            return;
        };
        self.sockets.get_mut::<Socket<'_>>(handle).abort();
        self.send(now);
        // If there was no room to tell the guest, it finds out with its next segment.
        self.remove(|connection| connection.handle == handle);
    }

    fn count_beginnings(&mut self, now: Duration) {
        for connection in self.connections.iter_mut().filter(|it| !it.has_begun) {
            let socket = self.sockets.get::<Socket<'_>>(connection.handle);
            if socket.remote_endpoint().is_some() {
                connection.has_begun = true;
                connection.progress = now;
                self.metrics.connections_created.increment();
            }
        }
    }

    /// Sends what may be sent, as long as there is room.
    fn send(&mut self, now: Duration) {
        let mut wire = Wire {
            incoming: None,
            outbox: &mut self.outbox,
            neighbours: &self.neighbours,
            mtu: self.mtu.into(),
            metrics: &self.metrics,
        };
        for _ in 0..MOST_ROUNDS {
            let result = self
                .interface
                .poll_egress(instant(now), &mut wire, &mut self.sockets);
            if result == PollResult::None {
                return;
            }
        }
    }

    /// Gives back the places of connections that have ended.
    fn sweep(&mut self) {
        let sockets = &self.sockets;
        let ended = |connection: &Connection| {
            let socket = sockets.get::<Socket<'_>>(connection.handle);
            // One that was reset by the guest listens again, for the next one.
            let is_over = socket.state() == State::Closed || socket.is_listening();
            connection.has_begun && is_over && socket.remote_endpoint().is_none()
        };
        let handles: Vec<_> = self
            .connections
            .iter()
            .filter(|connection| ended(connection))
            .map(|connection| connection.handle)
            .collect();
        self.remove(|connection| handles.contains(&connection.handle));
    }

    fn remove(&mut self, is_meant: impl Fn(&Connection) -> bool) {
        let sockets = &mut self.sockets;
        let metrics = &self.metrics;
        self.connections.retain(|connection| {
            if !is_meant(connection) {
                return true;
            }
            sockets.remove(connection.handle);
            metrics
                .connections_destroyed
                .add(connection.has_begun.into());
            false
        });
    }
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack")
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

/// smoltcp's word for a time.
fn instant(time: Duration) -> Instant {
    Instant::from_micros(i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
}

impl Attachment {
    /// Whether a frame that begins with `head`, its first [`ether::HEAD`] bytes or all of it, is for the
    /// service.
    pub(crate) fn claims(&self, head: &[u8]) -> bool {
        ether::is_for(self.address, head)
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
