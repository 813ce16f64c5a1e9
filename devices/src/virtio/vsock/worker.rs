//! The device's queues in work, on an io thread.

use event_manager::{EventOps, Events, MutEventSubscriber};
use vmm_sys_util::epoll::EventSet;

use super::device::Backend;
use super::down::Turn;
use super::hub::{EVENT_KICK, FIRST_STREAM, Hub, LINE, LISTENER, RX_KICK, TIMER, TX_KICK};
use super::rx::Rx;
use super::up::Data;
use crate::host::{GuestRam, Interrupt};
use crate::iovec::IoVecs;
use crate::virtio::queue::Popped;
use crate::virtio::{Chain, Lent, QueueError, VirtQueue, Worker};

/// Packets taken from the guest, and things given to it, before other devices of the thread have their turn.
const TAKEN_PER_TURN: u32 = 64;
const GIVEN_PER_TURN: u32 = 128;
/// `VIRTIO_VSOCK_EVENT_TRANSPORT_RESET` (virtio 1.2 §5.10.6.7): all connections are gone, and the guest's context id may
/// be another one.
const TRANSPORT_RESET: [u8; 4] = [0; 4];

/// A queue has failed: the one of these events.
struct Broken(u32, QueueError);

/// A vsock device's queues in work.
///
/// Everything is watched for edges, so that a kick costs no read of its doorbell; who has more to do than a turn allows
/// rings his own.
pub struct VsockWorker {
    ram: GuestRam,
    interrupt: Interrupt,
    rx: Rx,
    tx: VirtQueue,
    event: VirtQueue,
    chain: Chain,
    vecs: IoVecs,
    hub: Hub,
    /// Whether the guest is to hear that its connections are gone.
    is_moved: bool,
    /// Whether packets of the guest wait until it takes what it is owed.
    is_held: bool,
}

impl VsockWorker {
    pub(super) fn new(lent: Lent, backend: Backend) -> Self {
        let mut queues = lent.queues.into_iter();
        let mut next = || queues.next().expect("a vsock device has three queues");
        let (rx, tx, event) = (next(), next(), next());
        Self {
            chain: Chain::with_capacity(tx.size()),
            vecs: IoVecs::with_capacity(usize::from(tx.size())),
            ram: lent.ram,
            interrupt: lent.interrupt,
            rx: Rx::new(rx),
            tx,
            event,
            hub: backend.hub,
            is_moved: backend.is_moved,
            is_held: false,
        }
    }

    pub(super) fn into_parts(self) -> (Backend, Vec<VirtQueue>) {
        let backend = Backend {
            hub: self.hub,
            is_moved: self.is_moved,
        };
        (backend, vec![self.rx.into_queue(), self.tx, self.event])
    }

    /// Everything that wakes the worker.
    fn sources(&self) -> impl Iterator<Item = Events> {
        let edge = EventSet::IN | EventSet::EDGE_TRIGGERED;
        [
            (&self.rx.queue, RX_KICK),
            (&self.tx, TX_KICK),
            (&self.event, EVENT_KICK),
        ]
        .map(|(queue, what)| Events::with_data(queue.doorbell(), what, edge))
        .into_iter()
        .chain(self.hub.sources())
    }

    fn serve(&mut self, event: Events, events: &mut EventOps<'_>) -> Result<(), Broken> {
        let mut is_kicked = false;
        match event.data() {
            RX_KICK => self.hub.metrics.rx_queue_event_count.increment(),
            TX_KICK => {
                self.hub.metrics.tx_queue_event_count.increment();
                is_kicked = true;
            }
            EVENT_KICK => self.tell().map_err(|error| Broken(EVENT_KICK, error))?,
            LISTENER => self.hub.accept(events),
            LINE => self.hub.answered(events),
            TIMER => self.hub.tick(events),
            stream => {
                let slot = stream.saturating_sub(FIRST_STREAM);
                if let Ok(slot) = u16::try_from(slot) {
                    self.hub.stirred(slot, event.event_set(), events);
                }
            }
        }
        if is_kicked || (self.is_held && self.hub.has_room()) {
            self.take(events).map_err(|error| Broken(TX_KICK, error))?;
        }
        self.give().map_err(|error| Broken(RX_KICK, error))?;
        if self.is_held && self.hub.has_room() {
            let _ = self.tx.doorbell().write(1);
        }
        Ok(())
    }

    /// Takes the guest's packets. With EVENT_IDX a driver sends no notification that was not asked for (virtio 1.2
    /// §2.7.10), so it is asked for at the end.
    fn take(&mut self, events: &mut EventOps<'_>) -> Result<(), QueueError> {
        let mut taken = 0_u32;
        self.is_held = false;
        self.tx.hush(&self.ram)?;
        loop {
            if !self.hub.has_room() {
                self.is_held = true;
                break;
            }
            if taken >= TAKEN_PER_TURN {
                let _ = self.tx.doorbell().write(1);
                break;
            }
            let head = match self.tx.pop(&self.ram, &mut self.chain)? {
                Popped::Empty => match self.tx.listen(&self.ram)? {
                    true => {
                        self.tx.hush(&self.ram)?;
                        continue;
                    }
                    false => break,
                },
                Popped::Malformed(head, error) => {
                    log::debug!("vsock: {error}");
                    self.hub.metrics.malformed.increment();
                    head
                }
                Popped::Chain(head) => {
                    let mut data = Data {
                        ram: &self.ram,
                        chain: &self.chain,
                        vecs: &mut self.vecs,
                    };
                    self.hub.take(&mut data, events);
                    head
                }
            };
            self.tx.complete(&self.ram, head, 0)?;
            taken = taken.saturating_add(1);
        }
        self.tx.notify(&self.ram, &self.interrupt)
    }

    /// Gives the guest what there is for it.
    fn give(&mut self) -> Result<(), QueueError> {
        let mut given = 0_u32;
        loop {
            match self.hub.speak(&self.ram, &mut self.rx)? {
                Turn::Idle => break,
                Turn::Starved => {
                    self.hub.metrics.starved.increment();
                    break;
                }
                Turn::Done => given = given.saturating_add(1),
            }
            if given >= GIVEN_PER_TURN {
                let _ = self.rx.queue.doorbell().write(1);
                break;
            }
        }
        match given {
            0 => Ok(()),
            _ => self.rx.queue.notify(&self.ram, &self.interrupt),
        }
    }

    /// Tells the guest that its connections are gone, once it has a buffer for the news.
    fn tell(&mut self) -> Result<(), QueueError> {
        while self.is_moved {
            match self.event.pop(&self.ram, &mut self.chain)? {
                Popped::Empty if self.event.listen(&self.ram)? => {}
                Popped::Empty => break,
                Popped::Malformed(head, _) => self.event.complete(&self.ram, head, 0)?,
                Popped::Chain(head) => {
                    let told = self.chain.write_at(&self.ram, 0, &TRANSPORT_RESET).is_ok();
                    self.is_moved = !told;
                    let written = if told { 4 } else { 0 };
                    self.event.complete(&self.ram, head, written)?;
                }
            }
        }
        self.event.notify(&self.ram, &self.interrupt)
    }

    fn give_up(&mut self, broken: u32, events: &mut EventOps<'_>) {
        let metrics = &self.hub.metrics;
        match broken {
            RX_KICK => metrics.rx_queue_event_fails.increment(),
            TX_KICK => metrics.tx_queue_event_fails.increment(),
            _ => metrics.ev_queue_event_fails.increment(),
        }
        self.interrupt.fail();
        for source in self.sources() {
            let _ = events.remove(source);
        }
    }
}

impl MutEventSubscriber for VsockWorker {
    fn init(&mut self, events: &mut EventOps<'_>) {
        let watched = self.sources().try_for_each(|source| events.add(source));
        if let Err(error) = watched {
            log::error!("vsock: cannot watch a queue or a socket: {error}");
            self.give_up(RX_KICK, events);
        }
    }

    fn process(&mut self, event: Events, events: &mut EventOps<'_>) {
        if let Err(Broken(what, error)) = self.serve(event, events) {
            log::warn!("vsock: {error}");
            self.give_up(what, events);
        }
    }
}

impl Worker for VsockWorker {}
