//! Frames from the guest to the tap.
//!
//! As in [`rx`](super::rx), a turn ends only when something is due to begin the next one: the driver's
//! kick, the limiter's timer, the tap's word that it has room again, or the doorbell rung by the worker
//! itself.

use std::io;
use std::os::fd::BorrowedFd;

use crate::iovec::IoVecs;
use crate::limiter::Limiter;
use crate::metrics::Sampler;
use crate::virtio::net::detour::Detour;
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
    sampler: Sampler,
    /// Whether a chain was taken since the worker was woken.
    has_taken: bool,
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
            sampler: Sampler::default(),
            has_taken: false,
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
    pub(super) fn serve(
        &mut self,
        net: &Common,
        port: BorrowedFd<'_>,
        detour: &mut Option<Detour>,
    ) -> Result<(), QueueError> {
        if self.is_stalled {
            return Ok(());
        }
        self.poll.woken();
        let mut left = FRAMES_PER_TURN;
        loop {
            self.queue.hush(&net.ram)?;
            let stop = self.take(&mut left, net, port, detour)?;
            self.queue.notify(&net.ram, &net.interrupt)?;
            match stop {
                Stop::Empty => {}
                Stop::Waiting => return self.leave(net),
                Stop::Spent => {
                    // More may be waiting: come back after the thread's other devices.
                    let _ = self.queue.doorbell().write(1);
                    return self.leave(net);
                }
            }
            if !self.linger(net) && !self.queue.listen(&net.ram)? {
                return Ok(());
            }
            // A driver that takes back what it put gets no endless turn.
            left = left.saturating_sub(1);
        }
    }

    /// The driver has kicked: serves the queue as [`Self::serve`] does.
    ///
    /// # Errors
    /// When the queue is broken.
    pub(super) fn kicked(
        &mut self,
        net: &Common,
        port: BorrowedFd<'_>,
        detour: &mut Option<Detour>,
    ) -> Result<(), QueueError> {
        net.metrics.tx_queue_event_count.increment();
        self.has_taken = self.is_stalled;
        self.serve(net, port, detour)?;
        if !self.has_taken {
            net.metrics.no_tx_avail_buffer.increment();
        }
        Ok(())
    }

    /// Ends a turn that leaves frames behind.
    fn leave(&self, net: &Common) -> Result<(), QueueError> {
        let waiting = self.queue.waiting(&net.ram)?;
        net.metrics.tx_remaining_reqs_count.add(waiting.into());
        Ok(())
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
        detour: &mut Option<Detour>,
    ) -> Result<Stop, QueueError> {
        while *left > 0 {
            *left = left.saturating_sub(1);
            if !self.limiter.admit() {
                self.has_taken = true;
                net.metrics.tx_rate_limiter_throttled.increment();
                return Ok(Stop::Waiting);
            }
            match self.queue.pop(&net.ram, &mut self.chain)? {
                Popped::Chain(head) => match self.send(net, port, detour.as_mut()) {
                    Sent::Done => self.queue.complete(&net.ram, head, 0)?,
                    Sent::Full => {
                        self.queue.undo_pop(head);
                        (self.is_stalled, self.has_taken) = (true, true);
                        net.metrics.tx_stalled.increment();
                        return Ok(Stop::Waiting);
                    }
                },
                Popped::Malformed(head, _) => {
                    net.metrics.tx_malformed_frames.increment();
                    net.metrics.tx_fails.increment();
                    self.queue.complete(&net.ram, head, 0)?;
                }
                Popped::Empty => return Ok(Stop::Empty),
            }
            self.has_taken = true;
        }
        Ok(Stop::Spent)
    }

    /// Writes the chain's frame to the tap, straight from guest memory. The kernel checks the header
    /// against the frame and refuses what makes no sense. A frame to the metadata service goes there, and is
    /// not charged for.
    fn send(&mut self, net: &Common, port: BorrowedFd<'_>, detour: Option<&mut Detour>) -> Sent {
        let len = usize::try_from(self.chain.readable_len()).unwrap_or(usize::MAX);
        if !(SHORTEST..=LONGEST).contains(&len) {
            net.metrics.tx_malformed_frames.increment();
            net.metrics.tx_fails.increment();
            return Sent::Done;
        }
        if detour.is_some_and(|detour| detour.take(&net.ram, &self.chain)) {
            return Sent::Done;
        }
        self.vecs.clear();
        let listed =
            self.chain
                .readable_vecs(&net.ram, 0, self.chain.readable_len(), &mut self.vecs);
        let timing = self.sampler.begin();
        let written = match listed {
            Ok(()) => self.vecs.writev(port),
            Err(_) => Err(io::ErrorKind::InvalidInput.into()),
        };
        if let Some(timing) = timing {
            timing.end(&net.metrics.tap_write_agg);
        }
        match written {
            Ok(_) => {
                let bytes = u64::try_from(len.saturating_sub(HEADER)).unwrap_or(u64::MAX);
                self.limiter.charge(bytes, 1);
                net.metrics.tx_count.increment();
                net.metrics.tx_packets_count.increment();
                net.metrics.tx_bytes_count.add(bytes);
                Sent::Done
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Full,
            Err(_) => {
                net.metrics.tap_write_fails.increment();
                net.metrics.tx_fails.increment();
                Sent::Done
            }
        }
    }
}
