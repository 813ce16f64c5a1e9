//! The wire between smoltcp and the guest's card: one packet in, a bounded queue of frames out.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use smoltcp::phy::{
    Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken,
};
use smoltcp::time::Instant;

use crate::mmds::Metrics;
use crate::mmds::ether::{LINK, Neighbours};

/// Frames that may wait for the guest before nothing more is sent.
const MOST_SENT: usize = 32;
/// As many again may be answers to its own frames, so that a full queue does not make it deaf.
const MOST_ANSWERED: usize = 64;

/// The frames that wait for the guest. **Never more than [`MOST_ANSWERED`].**
#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: VecDeque<Vec<u8>>,
}

impl Outbox {
    /// Whether the stack has to wait before it sends of its own accord.
    pub(super) fn is_full(&self) -> bool {
        self.frames.len() >= MOST_SENT
    }

    /// Whether answers have to wait too.
    pub(super) fn is_overfull(&self) -> bool {
        self.frames.len() >= MOST_ANSWERED
    }

    pub(super) fn front(&self) -> Option<&[u8]> {
        self.frames.front().map(Vec::as_slice)
    }

    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        self.frames.pop_front()
    }

    pub(super) fn push(&mut self, frame: Vec<u8>, metrics: &Metrics) {
        if self.is_overfull() {
            metrics.tx_errors.increment();
            return;
        }
        metrics.tx_count.increment();
        self.frames.push_back(frame);
    }
}

/// The wire for the time of one call of smoltcp.
pub(super) struct Wire<'a> {
    /// The packet that comes, if one does.
    pub(super) incoming: Option<&'a [u8]>,
    pub(super) outbox: &'a mut Outbox,
    pub(super) neighbours: &'a Neighbours,
    /// The most bytes of a packet to the guest.
    pub(super) mtu: usize,
    pub(super) metrics: &'a Metrics,
}

/// A packet of the guest.
pub(super) struct Incoming<'a>(&'a [u8]);

/// Room for a packet to the guest.
pub(super) struct Outgoing<'a> {
    outbox: &'a mut Outbox,
    neighbours: &'a Neighbours,
    metrics: &'a Metrics,
}

impl Device for Wire<'_> {
    type RxToken<'b>
        = Incoming<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Outgoing<'b>
    where
        Self: 'b;

    fn receive(&mut self, _now: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let incoming = Incoming(self.incoming.take()?);
        Some((incoming, self.outgoing()))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outgoing<'_>> {
        (!self.outbox.is_full()).then(|| self.outgoing())
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut checksum = ChecksumCapabilities::default();
        // The guest may have left the checksum to its card (virtio 1.2 §5.1.6.2), and between its memory and
        // ours nothing gets lost on the way.
        checksum.tcp = Checksum::Tx;
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities.checksum = checksum;
        capabilities
    }
}

impl Wire<'_> {
    fn outgoing(&mut self) -> Outgoing<'_> {
        Outgoing {
            outbox: self.outbox,
            neighbours: self.neighbours,
            metrics: self.metrics,
        }
    }
}

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut frame = vec![0; LINK.saturating_add(len)];
        let (link, packet) = frame.split_at_mut(LINK);
        let outcome = write(packet);
        let host = packet
            .get(16..20)
            .and_then(|host| <[u8; 4]>::try_from(host).ok());
        match host.and_then(|host| self.neighbours.link_to(Ipv4Addr::from(host))) {
            Some(to) => {
                link.copy_from_slice(&to);
                self.outbox.push(frame, self.metrics);
            }
            None => self.metrics.tx_errors.increment(),
        }
        outcome
    }
}
