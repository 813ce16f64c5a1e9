//! Frames from the guest to the tap.
//!
//! As in [`rx`](super::rx), a turn ends only when something is due to begin the next one: the driver's
//! kick, the limiter's timer, the tap's word that it has room again, or the doorbell rung by the worker
//! itself.

use std::io;
use std::os::fd::BorrowedFd;

use crate::iovec::IoVecs;
use crate::limiter::Limiter;
use crate::virtio::net::worker::Common;
use crate::virtio::net::{HEADER, LONGEST, SHORTEST};
use crate::virtio::queue::Popped;
use crate::virtio::{Chain, QueueError, VirtQueue};

/// Frames taken from the guest before other devices of the thread get their turn.
const FRAMES_PER_TURN: u32 = 128;

/// The transmit queue in work.
pub(super) struct Tx {
    pub(super) queue: VirtQueue,
    pub(super) limiter: Limiter,
    chain: Chain,
    vecs: IoVecs,
    /// The tap is full and the worker waits for it.
    is_stalled: bool,
}

/// What became of a frame.
enum Sent {
    /// It left, or it was dropped: its chain goes back.
    Done,
    /// The tap is full: its chain stays.
    Full,
}

impl Tx {
    pub(super) fn new(queue: VirtQueue, limiter: Limiter) -> Self {
        let size = queue.size();
        Self {
            queue,
            limiter,
            chain: Chain::with_capacity(size),
            vecs: IoVecs::with_capacity(usize::from(size)),
            is_stalled: false,
        }
    }

    pub(super) fn into_parts(self) -> (VirtQueue, Limiter) {
        (self.queue, self.limiter)
    }

    /// Whether the worker has to wait until the tap has room.
    pub(super) fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// The tap has room again.
    pub(super) fn drained(&mut self) {
        self.is_stalled = false;
    }

    /// Sends what the guest has put, up to a turn's measure.
    ///
    /// # Errors
    /// When the queue is broken.
    pub(super) fn serve(&mut self, net: &Common, port: BorrowedFd<'_>) -> Result<(), QueueError> {
        if self.is_stalled {
            return Ok(());
        }
        self.queue.hush(&net.ram)?;
        self.take_turn(net, port)?;
        self.queue.notify(&net.ram, &net.interrupt)
    }

    fn take_turn(&mut self, net: &Common, port: BorrowedFd<'_>) -> Result<(), QueueError> {
        for _ in 0..FRAMES_PER_TURN {
            if !self.limiter.admit() {
                net.metrics.throttled.increment();
                return Ok(());
            }
            match self.queue.pop(&net.ram, &mut self.chain)? {
                Popped::Chain(head) => match self.send(net, port) {
                    Sent::Done => self.queue.complete(&net.ram, head, 0)?,
                    Sent::Full => {
                        self.queue.undo_pop(head);
                        self.is_stalled = true;
                        net.metrics.tx_stalled.increment();
                        return Ok(());
                    }
                },
                Popped::Malformed(head, _) => {
                    net.metrics.malformed.increment();
                    self.queue.complete(&net.ram, head, 0)?;
                }
                Popped::Empty if self.queue.listen(&net.ram)? => {}
                Popped::Empty => return Ok(()),
            }
        }
        // More may be waiting: come back after the thread's other devices.
        let _ = self.queue.doorbell().write(1);
        Ok(())
    }

    /// Writes the chain's frame to the tap, straight from guest memory. The kernel checks the header
    /// against the frame and refuses what makes no sense.
    fn send(&mut self, net: &Common, port: BorrowedFd<'_>) -> Sent {
        let len = usize::try_from(self.chain.readable_len()).unwrap_or(usize::MAX);
        if !(SHORTEST..=LONGEST).contains(&len) {
            net.metrics.malformed.increment();
            return Sent::Done;
        }
        self.vecs.clear();
        let listed =
            self.chain
                .readable_vecs(&net.ram, 0, self.chain.readable_len(), &mut self.vecs);
        let written = match listed {
            Ok(()) => self.vecs.writev(port),
            Err(_) => Err(io::ErrorKind::InvalidInput.into()),
        };
        match written {
            Ok(_) => {
                let bytes = u64::try_from(len.saturating_sub(HEADER)).unwrap_or(u64::MAX);
                self.limiter.charge(bytes, 1);
                net.metrics.tx_frames.increment();
                net.metrics.tx_bytes.add(bytes);
                Sent::Done
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Full,
            Err(_) => {
                net.metrics.tx_dropped.increment();
                Sent::Done
            }
        }
    }
}
