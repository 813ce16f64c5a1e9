//! Serves requests for entropy on an io thread.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use event_manager::{EventOps, Events, MutEventSubscriber};
use vmm_sys_util::epoll::EventSet;

use crate::host::{GuestRam, Interrupt};
use crate::iovec::IoVecs;
use crate::limiter::Limiter;
use crate::virtio::queue::Popped;
use crate::virtio::rng::Metrics;
use crate::virtio::{Chain, Lent, QueueError, VirtQueue, Worker};

/// The most bytes one request gets; the driver asks again for more. Linux asks for 64.
const BYTES_PER_REQUEST: u32 = 64 * 1024;
/// Requests served before other devices of the thread get their turn.
const REQUESTS_PER_TURN: u32 = 64;

/// What a request is served from.
#[derive(Debug)]
pub(super) struct Source {
    /// The host's randomness.
    pub(super) file: File,
    pub(super) limiter: Limiter,
}

/// What became of the next request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Served,
    /// There is none.
    Empty,
    /// The limits hold it back, and the timer is set.
    Held,
}

/// The entropy source's queue in work.
pub struct RngWorker {
    ram: GuestRam,
    interrupt: Interrupt,
    queue: VirtQueue,
    source: Source,
    chain: Chain,
    vecs: IoVecs,
    metrics: Arc<Metrics>,
}

impl RngWorker {
    pub(super) fn new(mut lent: Lent, source: Source, metrics: Arc<Metrics>) -> Self {
        let queue = lent.queues.pop().expect("the device is lent its one queue");
        Self {
            chain: Chain::with_capacity(queue.size()),
            vecs: IoVecs::with_capacity(usize::from(queue.size())),
            ram: lent.ram,
            interrupt: lent.interrupt,
            queue,
            source,
            metrics,
        }
    }

    pub(super) fn into_parts(self) -> (Source, Vec<VirtQueue>) {
        (self.source, vec![self.queue])
    }

    /// Serves the queue until it is empty, and then asks for notifications again: with EVENT_IDX a driver
    /// sends none that was not asked for (virtio 1.2 §2.7.10). Of a request that the limits hold back the
    /// timer reminds, and no notification is needed.
    fn serve(&mut self) -> Result<(), QueueError> {
        let mut served = 0;
        loop {
            self.queue.hush(&self.ram)?;
            let mut turn = Turn::Served;
            while served < REQUESTS_PER_TURN && turn == Turn::Served {
                turn = self.serve_one()?;
                served = u32::saturating_add(served, 1);
            }
            self.queue.notify(&self.ram, &self.interrupt)?;
            if turn == Turn::Held {
                return Ok(());
            }
            if served >= REQUESTS_PER_TURN {
                // More may be waiting: come back after the thread's other devices.
                let _ = self.queue.doorbell().write(1);
                return Ok(());
            }
            if !self.queue.listen(&self.ram)? {
                return Ok(());
            }
        }
    }

    /// Serves the next request, if there is one and the limits let it pass.
    fn serve_one(&mut self) -> Result<Turn, QueueError> {
        if !self.source.limiter.admit() {
            self.metrics.entropy_rate_limiter_throttled.increment();
            return Ok(Turn::Held);
        }
        let (head, written) = match self.queue.pop(&self.ram, &mut self.chain)? {
            Popped::Empty => return Ok(Turn::Empty),
            Popped::Malformed(head, error) => {
                self.metrics.entropy_event_fails.increment();
                log::debug!("rng: {error}");
                (head, 0)
            }
            Popped::Chain(head) => (head, self.fill()),
        };
        self.source.limiter.charge(written.into(), 1);
        self.queue.complete(&self.ram, head, written)?;
        Ok(Turn::Served)
    }

    /// Fills the chain's buffers; the bytes written. A host that has no entropy gives a short answer,
    /// and the driver asks again.
    fn fill(&mut self) -> u32 {
        let wanted = self.chain.writable_len().min(BYTES_PER_REQUEST);
        self.vecs.clear();
        let listed = self
            .chain
            .writable_vecs(&self.ram, 0, wanted, &mut self.vecs);
        if listed.is_err() || self.vecs.is_empty() {
            return 0;
        }
        let read = self
            .vecs
            .readv(self.source.file.as_fd())
            .unwrap_or_default();
        let metrics = &self.metrics;
        metrics.requests.increment();
        metrics
            .entropy_bytes
            .add(u64::try_from(read).unwrap_or_default());
        metrics.host_rng_fails.add((read == 0).into());
        u32::try_from(read).unwrap_or_default()
    }
}

impl MutEventSubscriber for RngWorker {
    fn init(&mut self, events: &mut EventOps<'_>) {
        let doorbell = Events::new(self.queue.doorbell(), EventSet::IN);
        let timer = self.source.limiter.timer();
        let timer = timer.map(|timer| Events::new(timer, EventSet::IN));
        for event in [Some(doorbell), timer].into_iter().flatten() {
            if let Err(error) = events.add(event) {
                log::error!("rng: cannot watch the queue: {error}");
                self.interrupt.fail();
            }
        }
    }

    fn process(&mut self, event: Events, events: &mut EventOps<'_>) {
        if self.source.limiter.is_timer(event.fd()) {
            self.source.limiter.fired();
            self.metrics.rate_limiter_event_count.increment();
        } else {
            self.queue.silence();
            self.metrics.entropy_event_count.increment();
        }
        if let Err(error) = self.serve() {
            log::warn!("rng: {error}");
            self.metrics.entropy_event_fails.increment();
            self.interrupt.fail();
            let _ = events.remove(event);
        }
    }
}

impl Worker for RngWorker {}
