//! Serves requests for entropy on an io thread.

use std::fs::File;
use std::os::fd::AsFd;

use event_manager::{EventOps, Events, MutEventSubscriber};
use vmm_sys_util::epoll::EventSet;

use crate::iovec::IoVecs;
use crate::virtio::queue::Popped;
use crate::virtio::{Chain, Head, Lent, QueueError, VirtQueue, Worker};

/// The most bytes one request gets; the driver asks again for more. Linux asks for 64.
const BYTES_PER_REQUEST: u32 = 64 * 1024;
/// Requests served before other devices of the thread get their turn.
const REQUESTS_PER_TURN: u32 = 64;

/// The entropy source's queue in work.
pub struct RngWorker {
    lent: Lent,
    source: File,
    chain: Chain,
    vecs: IoVecs,
}

impl RngWorker {
    pub(super) fn new(lent: Lent, source: File) -> Self {
        let size = lent.queues.first().map_or(0, VirtQueue::size);
        Self {
            lent,
            source,
            chain: Chain::with_capacity(size),
            vecs: IoVecs::with_capacity(usize::from(size)),
        }
    }

    pub(super) fn into_parts(self) -> (File, Vec<VirtQueue>) {
        (self.source, self.lent.queues)
    }

    fn serve(&mut self) -> Result<(), QueueError> {
        for _ in 0..REQUESTS_PER_TURN {
            let Some(queue) = self.lent.queues.first_mut() else {
                return Ok(());
            };
            match queue.pop(&self.lent.ram, &mut self.chain)? {
                Popped::Empty => return self.notify(),
                Popped::Malformed(head, error) => {
                    log::debug!("rng: {error}");
                    self.complete(head, 0)?;
                }
                Popped::Chain(head) => {
                    let written = self.fill();
                    self.complete(head, written)?;
                }
            }
        }
        self.notify()?;
        // More may be waiting: come back after the thread's other devices.
        if let Some(queue) = self.lent.queues.first() {
            let _ = queue.doorbell().write(1);
        }
        Ok(())
    }

    /// Fills the chain's buffers; the bytes written. A host that has no entropy gives a short answer,
    /// and the driver asks again.
    fn fill(&mut self) -> u32 {
        let wanted = self.chain.writable_len().min(BYTES_PER_REQUEST);
        self.vecs.clear();
        let listed = self
            .chain
            .writable_vecs(&self.lent.ram, 0, wanted, &mut self.vecs);
        if listed.is_err() || self.vecs.is_empty() {
            return 0;
        }
        let read = self.vecs.readv(self.source.as_fd()).unwrap_or_default();
        u32::try_from(read).unwrap_or_default()
    }

    fn complete(&mut self, head: Head, written: u32) -> Result<(), QueueError> {
        match self.lent.queues.first_mut() {
            Some(queue) => queue.complete(&self.lent.ram, head, written),
            None => Ok(()),
        }
    }

    fn notify(&mut self) -> Result<(), QueueError> {
        match self.lent.queues.first_mut() {
            Some(queue) => queue.notify(&self.lent.ram, &self.lent.interrupt),
            None => Ok(()),
        }
    }
}

impl MutEventSubscriber for RngWorker {
    fn init(&mut self, events: &mut EventOps<'_>) {
        for queue in &self.lent.queues {
            if let Err(error) = events.add(Events::new(queue.doorbell(), EventSet::IN)) {
                log::error!("rng: cannot watch the queue: {error}");
                self.lent.interrupt.fail();
            }
        }
    }

    fn process(&mut self, event: Events, events: &mut EventOps<'_>) {
        if let Some(queue) = self.lent.queues.first() {
            queue.silence();
        }
        if let Err(error) = self.serve() {
            log::warn!("rng: {error}");
            self.lent.interrupt.fail();
            let _ = events.remove(event);
        }
    }
}

impl Worker for RngWorker {}
