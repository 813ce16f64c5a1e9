//! Serves requests for entropy on an io thread.

use std::sync::Arc;

use event_manager::{EventOps, Events, MutEventSubscriber};
use rustix::rand::{GetRandomFlags, getrandom};
use vmm_sys_util::epoll::EventSet;

use crate::host::{GuestRam, Interrupt};
use crate::limiter::Limiter;
use crate::virtio::queue::Popped;
use crate::virtio::rng::Metrics;
use crate::virtio::{Chain, Lent, QueueError, VirtQueue, Worker};

/// The most bytes one request gets; the driver asks again for more. Linux asks for 64.
const BYTES_PER_REQUEST: u32 = 64 * 1024;
/// Bytes that are asked of the host at once.
const BYTES_PER_CALL: usize = 4096;
/// Requests served before other devices of the thread get their turn.
const REQUESTS_PER_TURN: u32 = 64;

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
    limiter: Limiter,
    chain: Chain,
    metrics: Arc<Metrics>,
}

impl RngWorker {
    pub(super) fn new(mut lent: Lent, limiter: Limiter, metrics: Arc<Metrics>) -> Self {
        let queue = lent.queues.pop().expect("the device is lent its one queue");
        Self {
            chain: Chain::with_capacity(queue.size()),
            ram: lent.ram,
            interrupt: lent.interrupt,
            queue,
            limiter,
            metrics,
        }
    }

    pub(super) fn into_parts(self) -> (Limiter, Vec<VirtQueue>) {
        (self.limiter, vec![self.queue])
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
        if !self.limiter.admit() {
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
        self.limiter.charge(written.into(), 1);
        self.queue.complete(&self.ram, head, written)?;
        Ok(Turn::Served)
    }

    /// Fills the chain's buffers; the bytes written. A host that has no entropy gives a short answer,
    /// and the driver asks again.
    fn fill(&mut self) -> u32 {
        let wanted = self.chain.writable_len().min(BYTES_PER_REQUEST);
        let mut written = 0;
        while let Some(more) = self.put(written, wanted) {
            written = more;
        }
        if wanted > 0 {
            self.metrics.requests.increment();
            self.metrics.entropy_bytes.add(written.into());
            self.metrics.host_rng_fails.add((written == 0).into());
        }
        written
    }

    /// Writes as much as one call gives, behind the bytes that are there; their number then, or `None` when there are no
    /// more to be had or wanted.
    fn put(&self, written: u32, wanted: u32) -> Option<u32> {
        let mut bytes = [0; BYTES_PER_CALL];
        let left = usize::try_from(wanted.checked_sub(written)?).ok()?;
        let asked = bytes.get_mut(..left.min(BYTES_PER_CALL))?;
        if asked.is_empty() {
            return None;
        }
        // The io thread waits for nobody, not even for a host that has just started.
        let got = getrandom(&mut *asked, GetRandomFlags::NONBLOCK).unwrap_or_default();
        let given = asked.get(..got).filter(|given| !given.is_empty())?;
        self.chain.write_at(&self.ram, written, given).ok()?;
        written.checked_add(u32::try_from(got).ok()?)
    }
}

impl MutEventSubscriber for RngWorker {
    fn init(&mut self, events: &mut EventOps<'_>) {
        let doorbell = Events::new(self.queue.doorbell(), EventSet::IN);
        let timer = self.limiter.timer();
        let timer = timer.map(|timer| Events::new(timer, EventSet::IN));
        for event in [Some(doorbell), timer].into_iter().flatten() {
            if let Err(error) = events.add(event) {
                log::error!("rng: cannot watch the queue: {error}");
                self.interrupt.fail();
            }
        }
    }

    fn process(&mut self, event: Events, events: &mut EventOps<'_>) {
        if self.limiter.is_timer(event.fd()) {
            self.limiter.fired();
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
