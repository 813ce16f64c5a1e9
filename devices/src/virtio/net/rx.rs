//! Frames from the tap to the guest, and those of the metadata service, taking turns.
//!
//! The worker is woken by the tap, by the guest's kick and by the limiter's timer, each of them edge by
//! edge. **[`Rx::serve`] returns only when one of them is due**: the tap has said that it is empty (and
//! the service has nothing, whose next frame comes with one of the guest's or with its timer), the
//! driver was asked to kick and has put nothing since, the timer is set, or the doorbell was rung for the
//! next turn. So a full tap and a full queue can meet in any order and the frames still flow
//! (CVE-2020-16843 was a return without any of these).

use std::io;
use std::os::fd::BorrowedFd;

use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;

use crate::limiter::Limiter;
use crate::virtio::chain::ChainError;
use crate::virtio::net::detour::Detour;
use crate::virtio::net::offloads::Offloads;
use crate::virtio::net::window::{Frame, Window};
use crate::virtio::net::worker::Common;
use crate::virtio::net::{HEADER, LONGEST, SHORTEST};
use crate::virtio::queue::Popped;
use crate::virtio::{Chain, QueueError, VirtQueue};

/// Frames given to the guest before other devices of the thread get their turn.
const FRAMES_PER_TURN: u32 = 64;
/// Where `num_buffers` stands in the header (virtio 1.2 §5.1.6).
const NUM_BUFFERS: usize = 10;
/// A frame of a network of the usual MTU, with header and VLAN tag. A longer one is received too, with a
/// copy of what is over.
const USUAL: usize = HEADER + 1518;

/// The receive queue in work.
pub(super) struct Rx {
    pub(super) queue: VirtQueue,
    pub(super) limiter: Limiter,
    chain: Chain,
    window: Window,
    merges: bool,
    /// A frame that waits for more buffers.
    held: Option<Frame>,
    /// The tap had nothing more when it was last asked.
    is_dry: bool,
    /// The last frame was the metadata service's: now it is the tap's turn.
    was_detoured: bool,
}

/// What became of the attempt to have room for a frame.
enum Room {
    /// There is enough.
    Enough,
    /// Not yet, and the queue is empty.
    Starved,
    /// Never: all the buffers that can be had are here.
    Never,
    /// Not before the buffers here are gone, for a chain behind them is bad.
    Blocked,
}

impl Rx {
    pub(super) fn new(queue: VirtQueue, limiter: Limiter, window: Window, net: &Common) -> Self {
        Self {
            chain: Chain::with_capacity(queue.size()),
            queue,
            limiter,
            window,
            merges: net.has(VIRTIO_NET_F_MRG_RXBUF),
            held: None,
            is_dry: false,
            was_detoured: false,
        }
    }

    /// Gives back the buffers taken in advance. A frame that waits for more of them is lost, as any frame
    /// may be.
    pub(super) fn into_parts(mut self, net: &Common) -> (VirtQueue, Limiter, Window) {
        self.drop_held(net);
        self.window.undo(&mut self.queue);
        (self.queue, self.limiter, self.window)
    }

    /// The tap has something to read.
    pub(super) fn refilled(&mut self) {
        self.is_dry = false;
    }

    /// Gives the guest what there is, up to a turn's measure.
    ///
    /// # Errors
    /// When the queue is broken.
    pub(super) fn serve(
        &mut self,
        net: &Common,
        port: BorrowedFd<'_>,
        detour: &mut Option<Detour>,
    ) -> Result<(), QueueError> {
        self.queue.hush(&net.ram)?;
        self.take_turn(net, port, detour)?;
        self.queue.notify(&net.ram, &net.interrupt)
    }

    fn take_turn(
        &mut self,
        net: &Common,
        port: BorrowedFd<'_>,
        detour: &mut Option<Detour>,
    ) -> Result<(), QueueError> {
        for _ in 0..FRAMES_PER_TURN {
            if self.held.is_none() && self.is_dry && !has_frame(detour) {
                return Ok(());
            }
            match self.make_room(net)? {
                Room::Enough => {}
                Room::Never | Room::Blocked if self.held.is_none() => break,
                Room::Never if self.merges => {
                    self.drop_held(net);
                    continue;
                }
                Room::Never | Room::Blocked => {
                    self.refuse_buffers(net)?;
                    continue;
                }
                Room::Starved => {
                    net.metrics.no_rx_avail_buffer.increment();
                    if self.queue.listen(&net.ram)? {
                        continue;
                    }
                    return Ok(());
                }
            }
            if self.held.is_none() {
                if !self.limiter.admit() {
                    net.metrics.rx_rate_limiter_throttled.increment();
                    return Ok(());
                }
                self.next(net, port, detour.as_mut());
            }
            self.deliver(net)?;
        }
        // More may be waiting: come back after the thread's other devices.
        let _ = self.queue.doorbell().write(1);
        Ok(())
    }

    /// Takes buffers until the frame that is held, or any that may come, has room. Without a held frame,
    /// some room is enough: what does not fit waits in the spare buffer.
    fn make_room(&mut self, net: &Common) -> Result<Room, QueueError> {
        // Each turn takes one chain or finds an end.
        for _ in 0..self.queue.size() {
            if self.has_room(net) {
                return Ok(Room::Enough);
            }
            if self.window.is_full(self.queue.size()) || !self.may_merge() {
                return Ok(self.end_of_buffers(Room::Never));
            }
            match self.queue.pop(&net.ram, &mut self.chain)? {
                Popped::Chain(head) if self.fits() => {
                    self.window.push(&net.ram, head, &self.chain);
                }
                Popped::Chain(head) | Popped::Malformed(head, _) if self.window.is_empty() => {
                    net.metrics.rx_malformed.increment();
                    self.queue.complete(&net.ram, head, 0)?;
                }
                // A bad chain behind good ones stays in the queue until those are gone: chains are put
                // back in the order in which they were taken.
                Popped::Chain(head) | Popped::Malformed(head, _) => {
                    self.queue.undo_pop(head);
                    return Ok(self.end_of_buffers(Room::Blocked));
                }
                Popped::Empty => {
                    let has_all = self.window.count() >= self.queue.size().into();
                    let end = if has_all { Room::Never } else { Room::Starved };
                    return Ok(self.end_of_buffers(end));
                }
            }
        }
        Ok(self.end_of_buffers(Room::Never))
    }

    /// Whether the window holds all that is wanted of it.
    fn has_room(&self, net: &Common) -> bool {
        match self.held {
            Some(frame) => self.window.room() >= frame.len,
            None if !self.merges => !self.window.is_empty(),
            None => self.window.room() >= longest(net.offloads),
        }
    }

    /// Whether another chain may be added to those of the window.
    fn may_merge(&self) -> bool {
        self.merges || self.window.is_empty()
    }

    /// Whether the chain is long enough to be of use (virtio 1.2 §5.1.6.3.1): a header, and the whole of
    /// the shortest frame if it stands alone.
    fn fits(&self) -> bool {
        let least = if self.merges { HEADER } else { SHORTEST };
        usize::try_from(self.chain.writable_len()).is_ok_and(|len| len >= least)
    }

    /// No more buffers: a held frame needs what it needs, another takes what there is.
    fn end_of_buffers(&self, otherwise: Room) -> Room {
        if self.held.is_none() && !self.window.is_empty() {
            Room::Enough
        } else {
            otherwise
        }
    }

    /// Reads a frame of the metadata service if it has one, or of the tap, by turns if both may have.
    fn next(&mut self, net: &Common, port: BorrowedFd<'_>, detour: Option<&mut Detour>) {
        let is_due = self.is_dry || !self.was_detoured;
        match detour.filter(|detour| is_due && detour.has_frame()) {
            Some(detour) => {
                self.was_detoured = true;
                self.fetch(net, detour);
            }
            None => {
                self.was_detoured = false;
                self.read(net, port);
            }
        }
    }

    /// Reads a frame of the metadata service.
    fn fetch(&mut self, net: &Common, detour: &mut Detour) {
        let Some(frame) = detour.front() else {
            return;
        };
        match self.window.fill(&net.ram, frame) {
            Ok(frame) => {
                self.limiter.charge(frame_bytes(frame), 1);
                self.held = Some(frame);
            }
            Err(_) => net.metrics.rx_fails.increment(),
        }
        detour.pop();
    }

    /// Reads a frame of the tap. Whatever the tap says but a frame, it is asked again only after its next event.
    fn read(&mut self, net: &Common, port: BorrowedFd<'_>) {
        match self.window.read(port) {
            // The end of a file, which a tap does not have.
            Ok(frame) if frame.len == 0 => self.is_dry = true,
            Ok(frame) if frame.len < SHORTEST || self.window.is_cut(frame) => {
                net.metrics.rx_fails.increment();
            }
            Ok(frame) => {
                net.metrics.rx_count.increment();
                self.limiter.charge(frame_bytes(frame), 1);
                self.held = Some(frame);
            }
            Err(error) => {
                self.is_dry = true;
                if error.kind() != io::ErrorKind::WouldBlock {
                    net.metrics.tap_read_fails.increment();
                    log::warn!("net: cannot read from the tap: {error}");
                }
            }
        }
    }

    /// Gives the held frame to the driver if there is room for all of it.
    fn deliver(&mut self, net: &Common) -> Result<(), QueueError> {
        let Some(frame) = self.held else {
            return Ok(());
        };
        if self.window.room() < frame.len {
            net.metrics.rx_split.increment();
            return Ok(());
        }
        let chains = self.window.chains_for(frame.len);
        let written = self
            .window
            .join(&net.ram, frame)
            .and_then(|()| self.finish_header(net, chains));
        if written.is_err() {
            self.drop_held(net);
            return Ok(());
        }
        self.held = None;
        net.metrics.rx_packets_count.increment();
        net.metrics.rx_bytes_count.add(frame_bytes(frame));
        self.window
            .complete(&net.ram, &mut self.queue, chains, frame.len)
    }

    /// Writes what the tap leaves open (virtio 1.2 §5.1.6.4.1): `num_buffers`, and `flags` of zero for a
    /// driver that knows nothing of checksums.
    fn finish_header(&self, net: &Common, chains: usize) -> Result<(), ChainError> {
        if !Offloads::negotiated(net.features).has_checksum() {
            self.window.write_at(&net.ram, 0, &[0])?;
        }
        let buffers = u16::try_from(chains).unwrap_or(u16::MAX);
        self.window
            .write_at(&net.ram, NUM_BUFFERS, &buffers.to_le_bytes())
    }

    /// Gives up the held frame and the buffers that are too short for it: they come back empty, or they
    /// would stand in the way for ever.
    fn refuse_buffers(&mut self, net: &Common) -> Result<(), QueueError> {
        self.drop_held(net);
        net.metrics.rx_malformed.increment();
        let chains = self.window.count();
        self.window.complete(&net.ram, &mut self.queue, chains, 0)
    }

    /// Gives up the held frame.
    fn drop_held(&mut self, net: &Common) {
        if self.held.take().is_some() {
            net.metrics.rx_fails.increment();
        }
    }
}

/// Whether the metadata service has a frame for the guest.
fn has_frame(detour: &Option<Detour>) -> bool {
    detour.as_ref().is_some_and(Detour::has_frame)
}

/// The longest frame to expect, with its header.
fn longest(offloads: Offloads) -> usize {
    if offloads.has_segmentation() {
        LONGEST
    } else {
        USUAL
    }
}

fn frame_bytes(frame: Frame) -> u64 {
    u64::try_from(frame.len.saturating_sub(HEADER)).unwrap_or(u64::MAX)
}
