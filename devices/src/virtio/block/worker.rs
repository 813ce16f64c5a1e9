//! Serves a disk's requests on an io thread.

use std::fmt::Display;
use std::time::Instant;

use event_manager::{EventOps, Events, MutEventSubscriber};
use virtio_bindings::virtio_blk::VIRTIO_BLK_F_FLUSH;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::epoll::EventSet;

use crate::host::{GuestRam, Interrupt};
use crate::virtio::block::SERIAL_LEN;
use crate::virtio::block::budget::Budget;
use crate::virtio::block::config::Cache;
use crate::virtio::block::device::Backend;
use crate::virtio::block::job::{Finished, Order};
use crate::virtio::block::request::{HEADER_LEN, IO_ERROR, OK, Request, parse, status_address};
use crate::virtio::poll::Poll;
use crate::virtio::queue::Popped;
use crate::virtio::{Chain, Head, Lent, QueueError, VirtQueue, Worker};

/// Whose event it is.
const DOORBELL: u32 = 0;
const TIMER: u32 = 1;
const COMPLETIONS: u32 = 2;

/// A disk's queue in work. **Dropping it waits for what is in flight**, which writes to guest memory.
#[derive(Debug)]
pub struct BlockWorker(Option<Serving>);

#[derive(Debug)]
struct Serving {
    ram: GuestRam,
    interrupt: Interrupt,
    queue: VirtQueue,
    chain: Chain,
    backend: Backend,
    poll: Poll,
    /// Whether each write is made durable: the driver does not flush a cache that is there.
    durable: bool,
    /// Whether something was completed that the guest was not told of.
    completed: bool,
    /// Whether a chain was taken from the queue since the worker was woken.
    has_taken: bool,
    /// When the clock was read last: once a batch, and once for each batch of completions.
    now: Instant,
}

/// Why a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The queue has nothing more.
    Empty,
    /// The turn is over.
    Spent,
    /// Every request that may be in flight is.
    Full,
    /// The limits hold the next request back.
    Limited,
}

impl BlockWorker {
    pub(super) fn new(lent: Lent, backend: Backend) -> Self {
        let durable = backend.cache == Cache::Writeback && !lent.has(VIRTIO_BLK_F_FLUSH);
        let mut queues = lent.queues;
        let queue = queues.pop().expect("a disk is lent its one queue");
        Self(Some(Serving {
            ram: lent.ram,
            interrupt: lent.interrupt,
            chain: Chain::with_capacity(queue.size()),
            queue,
            backend,
            poll: Poll::default(),
            durable,
            completed: false,
            has_taken: false,
            now: Instant::now(),
        }))
    }

    pub(super) fn into_parts(mut self) -> (Backend, Vec<VirtQueue>) {
        let serving = self.0.take().expect("a worker is taken apart once");
        (serving.backend, vec![serving.queue])
    }
}

impl Serving {
    /// Serves the queue until it is empty or the turn is over: batches without notifications, and one
    /// interrupt for each.
    fn serve(&mut self) -> Result<(), QueueError> {
        let mut budget = Budget::new();
        loop {
            self.queue.hush(&self.ram)?;
            let stop = self.batch(&mut budget)?;
            self.reap()?;
            self.notify()?;
            match stop {
                Stop::Empty => {}
                Stop::Full if self.backend.engine.vacant().is_some() => continue,
                // The engine's event, or the timer's, leads back here.
                Stop::Full | Stop::Limited => return self.leave(stop),
                Stop::Spent => {
                    self.come_back();
                    return self.leave(stop);
                }
            }
            if !self.linger() && !self.queue.listen(&self.ram)? {
                return Ok(());
            }
            budget.spend(0);
        }
    }

    /// Ends a turn that leaves requests behind.
    fn leave(&mut self, why: Stop) -> Result<(), QueueError> {
        let metrics = &self.backend.metrics;
        if why == Stop::Full {
            metrics.io_engine_throttled_events.increment();
        }
        metrics
            .remaining_reqs_count
            .add(self.queue.waiting(&self.ram)?.into());
        Ok(())
    }

    /// Takes requests from the queue.
    fn batch(&mut self, budget: &mut Budget) -> Result<Stop, QueueError> {
        let mut has_time = false;
        loop {
            if budget.is_spent() {
                return Ok(Stop::Spent);
            }
            if self.backend.limiter.is_blocked() {
                return Ok(Stop::Limited);
            }
            if self.backend.engine.vacant().is_none() {
                return Ok(Stop::Full);
            }
            match self.queue.pop(&self.ram, &mut self.chain)? {
                Popped::Empty => return Ok(Stop::Empty),
                Popped::Malformed(head, error) => {
                    budget.spend(0);
                    self.has_taken = true;
                    self.refuse(head, None, &error)?;
                }
                Popped::Chain(head) => {
                    self.has_taken = true;
                    self.look_at_clock(&mut has_time);
                    if !self.take(head, budget)? {
                        return Ok(Stop::Limited);
                    }
                }
            }
        }
    }

    /// Takes up the chain just read. False: its limits hold it back and it is in the queue again.
    fn take(&mut self, head: Head, budget: &mut Budget) -> Result<bool, QueueError> {
        let Some(status_at) = status_address(&self.chain) else {
            budget.spend(0);
            let why = "no room for a status";
            return self.refuse(head, None, &why).map(|()| true);
        };
        let request = match parse(&self.chain, &self.ram, &self.backend.disk) {
            Ok(request) => request,
            Err(status) => {
                budget.spend(0);
                let (answer, why) = (Some((status_at, status)), "not for this disk");
                return self.refuse(head, answer, &why).map(|()| true);
            }
        };
        if !self.backend.limiter.consume(request.data_len(), 1) {
            let metrics = &self.backend.metrics;
            metrics.rate_limiter_throttled_events.increment();
            self.queue.undo_pop(head);
            return Ok(false);
        }
        budget.spend(request.data_len());
        match request {
            Request::GetId => self.give_id(head, status_at)?,
            Request::Flush if self.backend.cache == Cache::Unsafe => {
                self.backend.metrics.flush_count.increment();
                self.answer(head, status_at, OK, 0)?;
            }
            _ => self.start(Order {
                request,
                head,
                status_at,
                since: self.now,
            })?,
        }
        Ok(true)
    }

    fn start(&mut self, order: Order) -> Result<(), QueueError> {
        let backend = &mut self.backend;
        let Some(job) = backend.engine.vacant() else {
            return self.answer(order.head, order.status_at, IO_ERROR, 0);
        };
        let len = u32::try_from(order.request.data_len()).unwrap_or(u32::MAX);
        let listed = match order.request {
            Request::Read(_) => self.chain.writable_vecs(&self.ram, 0, len, &mut job.vecs),
            Request::Write(_) => {
                let vecs = &mut job.vecs;
                self.chain.readable_vecs(&self.ram, HEADER_LEN, len, vecs)
            }
            _ => Ok(()),
        };
        if listed.is_err() {
            job.vecs.clear();
            return self.answer(order.head, order.status_at, IO_ERROR, 0);
        }
        job.begin(order, self.durable);
        match backend.engine.start(&mut backend.disk) {
            Some(finished) => {
                self.now = Instant::now();
                self.finish(finished)
            }
            None => Ok(()),
        }
    }

    /// Passes on what was started and gives back what has finished.
    fn reap(&mut self) -> Result<(), QueueError> {
        // A job that has another step is passed on in the second round.
        for _ in 0..2 {
            self.backend.engine.submit();
            let mut has_time = false;
            while let Some(finished) = self.backend.engine.next_finished(&mut self.backend.disk) {
                self.look_at_clock(&mut has_time);
                self.finish(finished)?;
            }
            if !self.backend.engine.has_queued() {
                return Ok(());
            }
        }
        self.come_back();
        Ok(())
    }

    /// Reads the clock once for many.
    fn look_at_clock(&mut self, has_time: &mut bool) {
        if !std::mem::replace(has_time, true) {
            self.now = Instant::now();
        }
    }

    fn finish(&mut self, finished: Finished) -> Result<(), QueueError> {
        let backend = &self.backend;
        backend
            .metrics
            .finish(&backend.disk.id, &finished, self.now);
        let Finished {
            head,
            status_at,
            status,
            written,
            ..
        } = finished;
        self.answer(head, status_at, status, written)
    }

    /// Writes the status byte, once, and gives the chain back.
    fn answer(
        &mut self,
        head: Head,
        status_at: GuestAddress,
        status: u8,
        written: u32,
    ) -> Result<(), QueueError> {
        // The address was found inside guest memory when the chain was read.
        let _ = self.ram.write_obj(status, status_at);
        self.completed = true;
        self.queue
            .complete(&self.ram, head, written.saturating_add(1))
    }

    /// Gives back what breaks a rule, with a status where there is room for one.
    fn refuse(
        &mut self,
        head: Head,
        answer: Option<(GuestAddress, u8)>,
        why: &dyn Display,
    ) -> Result<(), QueueError> {
        let backend = &self.backend;
        backend.metrics.refuse(&backend.disk.id, why);
        match answer {
            Some((status_at, status)) => self.answer(head, status_at, status, 0),
            None => {
                self.completed = true;
                self.queue.complete(&self.ram, head, 0)
            }
        }
    }

    fn give_id(&mut self, head: Head, status_at: GuestAddress) -> Result<(), QueueError> {
        let serial = self.backend.disk.serial;
        match self.chain.write_at(&self.ram, 0, &serial) {
            Ok(()) => {
                let written = u32::try_from(SERIAL_LEN).unwrap_or_default();
                self.answer(head, status_at, OK, written)
            }
            Err(_) => self.answer(head, status_at, IO_ERROR, 0),
        }
    }

    fn notify(&mut self) -> Result<(), QueueError> {
        if std::mem::take(&mut self.completed) {
            self.queue.notify(&self.ram, &self.interrupt)?;
        }
        Ok(())
    }

    /// Stays awake for a moment. True: there is a request or a completion.
    fn linger(&mut self) -> bool {
        let (queue, ram, engine) = (&self.queue, &self.ram, &mut self.backend.engine);
        let found = self
            .poll
            .linger(|| engine.has_completion() || !queue.is_drained(ram).unwrap_or_default());
        if found {
            self.backend.metrics.lingered.increment();
        }
        found
    }

    /// Wakes this worker again, after the thread's other devices.
    fn come_back(&self) {
        let _ = self.queue.doorbell().write(1);
    }

    /// Makes the source of an event quiet, and counts the event.
    fn acknowledge(&mut self, source: u32) {
        self.has_taken = false;
        let metrics = &self.backend.metrics;
        metrics.wakes.increment();
        match source {
            DOORBELL => {
                metrics.queue_event_count.increment();
                self.queue.silence();
            }
            TIMER => {
                metrics.rate_limiter_event_count.increment();
                self.backend.limiter.fired();
            }
            _ => self.backend.engine.silence(),
        }
    }

    fn watch(&self, events: &mut EventOps<'_>) -> Result<(), event_manager::Error> {
        let ready = EventSet::IN;
        events.add(Events::with_data(self.queue.doorbell(), DOORBELL, ready))?;
        if let Some(timer) = self.backend.limiter.timer() {
            events.add(Events::with_data(timer, TIMER, ready))?;
        }
        if let Some(source) = self.backend.engine.completions() {
            events.add(Events::with_data(source, COMPLETIONS, ready))?;
        }
        Ok(())
    }

    fn unwatch(&self, events: &mut EventOps<'_>) {
        let _ = events.remove(Events::empty(self.queue.doorbell()));
        if let Some(timer) = self.backend.limiter.timer() {
            let _ = events.remove(Events::empty(timer));
        }
        if let Some(source) = self.backend.engine.completions() {
            let _ = events.remove(Events::empty(source));
        }
    }
}

impl MutEventSubscriber for BlockWorker {
    fn init(&mut self, events: &mut EventOps<'_>) {
        let Some(serving) = &mut self.0 else { return };
        serving.backend.engine.enter();
        if let Err(error) = serving.watch(events) {
            log::error!(
                "disk {:?}: cannot watch its events: {error}",
                serving.backend.disk.id
            );
            serving.interrupt.fail();
        }
    }

    fn process(&mut self, event: Events, events: &mut EventOps<'_>) {
        let Some(serving) = &mut self.0 else { return };
        serving.acknowledge(event.data());
        serving.poll.woken();
        serving.backend.engine.hush();
        let served = serving.serve();
        if serving.backend.engine.listen() {
            serving.come_back();
        }
        if event.data() == DOORBELL && !serving.has_taken {
            serving.backend.metrics.no_avail_buffer.increment();
        }
        if let Err(error) = served {
            let backend = &serving.backend;
            backend.metrics.break_down(&backend.disk.id, &error);
            serving.interrupt.fail();
            serving.unwatch(events);
        }
    }
}

impl Worker for BlockWorker {
    fn drain(&mut self) {
        let Some(serving) = &mut self.0 else { return };
        while serving.backend.engine.wait() {
            // A broken ring was reported when it was found; what is in flight is waited for all the same.
            let _ = serving.reap();
        }
        let _ = serving.notify();
    }
}

impl Drop for BlockWorker {
    fn drop(&mut self) {
        self.drain();
    }
}
