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
use crate::virtio::poll::Poll;
use crate::virtio::queue::Popped;
use crate::virtio::{Chain, QueueError, VirtQueue};

/// Frames taken from the guest before other devices of the thread get their turn.
const FRAMES_PER_TURN: u32 = 128;

/// Why frames are no longer taken.
enum Stop {
    /// The queue has nothing more.
    Empty,
    /// The turn is over.
    Spent,
    /// The limiter's timer or the tap's room leads back here.
    Waiting,
}

/// The transmit queue in work.
pub(super) struct Tx {
    pub(super) queue: VirtQueue,
    pub(super) limiter: Limiter,
    chain: Chain,
    vecs: IoVecs,
    poll: Poll,
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
            poll: Poll::default(),
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

    /// Sends what the guest has put, up to a turn's measure, and lingers for more if the driver has been quick.
    ///
    /// # Errors
    /// When the queue is broken.
    pub(super) fn serve(&mut self, net: &Common, port: BorrowedFd<'_>) -> Result<(), QueueError> {
        if self.is_stalled {
            return Ok(());
        }
        self.poll.woken();
        let mut left = FRAMES_PER_TURN;
        loop {
            self.queue.hush(&net.ram)?;
            let stop = self.take(&mut left, net, port)?;
            self.queue.notify(&net.ram, &net.interrupt)?;
            match stop {
                Stop::Empty => {}
                Stop::Waiting => return Ok(()),
                Stop::Spent => {
                    // More may be waiting: come back after the thread's other devices.
                    let _ = self.queue.doorbell().write(1);
                    return Ok(());
                }
            }
            if !self.linger(net) && !self.queue.listen(&net.ram)? {
                return Ok(());
            }
            // A driver that takes back what it put gets no endless turn.
            left = left.saturating_sub(1);
        }
    }

    fn linger(&mut self, net: &Common) -> bool {
        let queue = &self.queue;
        let found = self
            .poll
            .linger(|| !queue.is_drained(&net.ram).unwrap_or_default());
        if found {
            net.metrics.tx_lingered.increment();
        }
        found
    }

    /// Takes up to `left` frames.
    fn take(
        &mut self,
        left: &mut u32,
        net: &Common,
        port: BorrowedFd<'_>,
    ) -> Result<Stop, QueueError> {
        while *left > 0 {
            *left = left.saturating_sub(1);
            if !self.limiter.admit() {
                net.metrics.throttled.increment();
                return Ok(Stop::Waiting);
            }
            match self.queue.pop(&net.ram, &mut self.chain)? {
                Popped::Chain(head) => match self.send(net, port) {
                    Sent::Done => self.queue.complete(&net.ram, head, 0)?,
                    Sent::Full => {
                        self.queue.undo_pop(head);
                        self.is_stalled = true;
                        net.metrics.tx_stalled.increment();
                        return Ok(Stop::Waiting);
                    }
                },
                Popped::Malformed(head, _) => {
                    net.metrics.malformed.increment();
                    self.queue.complete(&net.ram, head, 0)?;
                }
                Popped::Empty => return Ok(Stop::Empty),
            }
        }
        Ok(Stop::Spent)
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
