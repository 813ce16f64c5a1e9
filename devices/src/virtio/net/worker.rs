//! A card's queues in work, on an io thread.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use event_manager::{EventOps, Events, MutEventSubscriber};
use vmm_sys_util::epoll::EventSet;

use crate::host::{GuestRam, Interrupt};
use crate::virtio::net::Metrics;
use crate::virtio::net::control::Control;
use crate::virtio::net::detour::Detour;
use crate::virtio::net::device::Backend;
use crate::virtio::net::offloads::Offloads;
use crate::virtio::net::rx::Rx;
use crate::virtio::net::tap::{Port, Tap};
use crate::virtio::net::tx::Tx;
use crate::virtio::{Lent, QueueError, VirtQueue, Worker};

/// What an event is about.
const RX_KICK: u32 = 0;
const TX_KICK: u32 = 1;
const COMMAND: u32 = 2;
const PORT: u32 = 3;
const RX_TIMER: u32 = 4;
const TX_TIMER: u32 = 5;
const MMDS_TIMER: u32 = 6;

/// What the three queues have in common.
pub(super) struct Common {
    pub(super) ram: GuestRam,
    pub(super) interrupt: Interrupt,
    pub(super) features: u64,
    /// What the guest takes at present.
    pub(super) offloads: Offloads,
    pub(super) metrics: Arc<Metrics>,
}

impl Common {
    /// Whether both sides agreed on feature bit `bit`.
    pub(super) fn has(&self, bit: u32) -> bool {
        1u64.checked_shl(bit)
            .is_some_and(|mask| self.features & mask != 0)
    }
}

/// A card's queues in work.
///
/// Doorbells and tap are watched for edges, so that a kick costs no read of its doorbell and a full tap
/// with no buffers to read into costs nothing.
pub struct NetWorker<P: Port = Tap> {
    common: Common,
    port: P,
    /// Whether the guest has asked for the present offloads by a command.
    is_chosen: bool,
    rx: Rx,
    tx: Tx,
    control: Control,
    detour: Option<Detour>,
}

impl<P: Port> NetWorker<P> {
    /// Queues over a backend whose port has the offloads that it says.
    pub(super) fn new(lent: Lent, backend: Backend<P>) -> Self {
        let mut queues = lent.queues.into_iter();
        let mut next = || queues.next().expect("a card has three queues");
        let (rx, tx, control) = (next(), next(), next());
        let common = Common {
            ram: lent.ram,
            interrupt: lent.interrupt,
            features: lent.features,
            offloads: backend.offloads,
            metrics: backend.metrics,
        };
        Self {
            rx: Rx::new(rx, backend.rx_limiter, backend.window, &common),
            tx: Tx::new(tx, backend.tx_limiter),
            control: Control::new(control),
            common,
            port: backend.port,
            is_chosen: backend.is_chosen,
            detour: backend.detour,
        }
    }

    pub(super) fn into_parts(self) -> (Backend<P>, Vec<VirtQueue>) {
        let (rx, rx_limiter, window) = self.rx.into_parts(&self.common);
        let (tx, tx_limiter) = self.tx.into_parts();
        let backend = Backend {
            port: self.port,
            offloads: self.common.offloads,
            is_chosen: self.is_chosen,
            rx_limiter,
            tx_limiter,
            window,
            detour: self.detour,
            metrics: self.common.metrics,
        };
        (backend, vec![rx, tx, self.control.queue])
    }

    /// Everything that wakes the worker.
    fn sources(&self) -> impl Iterator<Item = Events> {
        let edge = EventSet::IN | EventSet::EDGE_TRIGGERED;
        let doorbells = [
            (&self.rx.queue, RX_KICK),
            (&self.tx.queue, TX_KICK),
            (&self.control.queue, COMMAND),
        ];
        let timers = [
            (self.rx.limiter.timer(), RX_TIMER),
            (self.tx.limiter.timer(), TX_TIMER),
            (self.detour.as_ref().map(Detour::timer), MMDS_TIMER),
        ];
        doorbells
            .map(|(queue, what)| Events::with_data(queue.doorbell(), what, edge))
            .into_iter()
            .chain([self.port_events(edge)])
            .chain(timers.into_iter().filter_map(|(timer, what)| {
                timer.map(|timer| Events::with_data(timer, what, EventSet::IN))
            }))
    }

    fn port_events(&self, set: EventSet) -> Events {
        Events::with_data_raw(self.port.as_fd().as_raw_fd(), PORT, set)
    }

    fn serve(&mut self, event: Events) -> Result<(), QueueError> {
        match event.data() {
            RX_KICK => {
                self.common.metrics.rx_queue_event_count.increment();
                self.receive()?;
            }
            TX_KICK => {
                let port = self.port.as_fd();
                self.tx.kicked(&self.common, port, &mut self.detour)?;
            }
            COMMAND => self.obey()?,
            PORT => {
                self.common.metrics.rx_tap_event_count.increment();
                self.rx.refilled();
                self.receive()?;
                if self.tx.is_stalled() {
                    self.tx.drained();
                    self.send()?;
                }
            }
            RX_TIMER => {
                let metrics = &self.common.metrics;
                metrics.rx_event_rate_limiter_count.increment();
                self.rx.limiter.fired();
                self.receive()?;
            }
            TX_TIMER => {
                let metrics = &self.common.metrics;
                metrics.tx_rate_limiter_event_count.increment();
                self.tx.limiter.fired();
                self.send()?;
            }
            MMDS_TIMER => self.detour.iter_mut().for_each(Detour::fired),
            _ => {}
        }
        self.answer()
    }

    fn receive(&mut self) -> Result<(), QueueError> {
        let port = self.port.as_fd();
        self.rx.serve(&self.common, port, &mut self.detour)
    }

    fn send(&mut self) -> Result<(), QueueError> {
        let port = self.port.as_fd();
        self.tx.serve(&self.common, port, &mut self.detour)
    }

    /// Gives the guest what the metadata service has for it by now, and sees to the rest in time.
    fn answer(&mut self) -> Result<(), QueueError> {
        if self.detour.as_ref().is_some_and(Detour::has_frame) {
            self.receive()?;
        }
        self.detour.iter_mut().for_each(Detour::arm);
        Ok(())
    }

    fn obey(&mut self) -> Result<(), QueueError> {
        let (port, is_chosen) = (&mut self.port, &mut self.is_chosen);
        self.control.serve(&mut self.common, |common, offloads| {
            let is_set = port.set_offloads(offloads.tap_flags()).is_ok();
            if is_set {
                common.offloads = offloads;
                *is_chosen = true;
            }
            is_set
        })
    }

    /// Watches the tap for room while a frame waits for it, and no longer: every frame that the tap takes
    /// makes an edge. Asking anew makes the kernel look again, so no edge is missed.
    fn watch_room(&self, was_stalled: bool, events: &EventOps<'_>) -> event_manager::Result<()> {
        let set = match (was_stalled, self.tx.is_stalled()) {
            (_, true) => EventSet::IN | EventSet::OUT | EventSet::EDGE_TRIGGERED,
            (true, false) => EventSet::IN | EventSet::EDGE_TRIGGERED,
            (false, false) => return Ok(()),
        };
        events.modify(self.port_events(set))
    }

    fn give_up(&mut self, events: &mut EventOps<'_>) {
        self.common.metrics.event_fails.increment();
        self.common.interrupt.fail();
        for source in self.sources() {
            let _ = events.remove(source);
        }
    }
}

impl<P: Port> MutEventSubscriber for NetWorker<P> {
    fn init(&mut self, events: &mut EventOps<'_>) {
        if self.common.interrupt.needs_reset() {
            return;
        }
        let watched = self.sources().try_for_each(|source| events.add(source));
        if let Err(error) = watched {
            log::error!("net: cannot watch a queue or the tap: {error}");
            self.give_up(events);
        }
    }

    fn process(&mut self, event: Events, events: &mut EventOps<'_>) {
        let was_stalled = self.tx.is_stalled();
        if let Err(error) = self.serve(event) {
            log::warn!("net: {error}");
            self.give_up(events);
        } else if let Err(error) = self.watch_room(was_stalled, events) {
            log::error!("net: cannot watch the tap: {error}");
            self.give_up(events);
        }
    }
}

impl<P: Port> Worker for NetWorker<P> {}
