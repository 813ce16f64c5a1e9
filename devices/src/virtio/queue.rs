//! A queue as a worker holds it: virtio-queue's ring, its doorbell, and the rules that a hostile driver
//! must not break.

use std::num::Wrapping;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use virtio_queue::{Queue, QueueOwnedT, QueueState, QueueT};
use vm_memory::{Address, Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use crate::host::{GuestRam, Interrupt};
use crate::virtio::chain::{Chain, ChainError};

/// The available ring: flags and index, then entries of 2 bytes, then `used_event` (virtio 1.2 §2.7.6).
const AVAIL_HEADER: u64 = 4;
const AVAIL_ELEMENT: u64 = 2;
/// The used ring: flags, index, then entries of 8 bytes (virtio 1.2 §2.7.8).
const USED_INDEX: u64 = 2;
const USED_HEADER: u64 = 4;
const USED_ELEMENT: u64 = 8;
/// `VRING_AVAIL_F_NO_INTERRUPT` (virtio 1.2 §2.7.6).
const AVAIL_NO_INTERRUPT: u16 = 1;

/// A ring that can no longer be served: the driver must reset the device.
#[derive(Debug, thiserror::Error)]
#[error("the queue is broken: {0}")]
pub struct QueueError(#[from] virtio_queue::Error);

/// A chain that was taken from a queue and is owed back to it.
///
/// **Each head is completed exactly once**: [`VirtQueue::complete`] consumes it, and dropping one that
/// was not completed is a bug that every test build reports.
#[derive(Debug)]
#[must_use = "a head that is never completed is a buffer the guest never gets back"]
pub struct Head {
    index: u16,
    owed: bool,
}

impl Head {
    /// The index of the chain's first descriptor, below the queue's size.
    pub fn index(&self) -> u16 {
        self.index
    }
}

#[cfg(test)]
impl Head {
    /// A head that no queue waits for, until it is settled.
    pub(crate) fn for_tests() -> Self {
        Self {
            index: 0,
            owed: true,
        }
    }

    /// Gives up a head of `for_tests`.
    pub(crate) fn settle(&mut self) {
        self.owed = false;
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        debug_assert!(!self.owed, "descriptor {} was never completed", self.index);
    }
}

/// What `pop` found.
#[derive(Debug)]
pub enum Popped {
    /// The driver has put nothing more.
    Empty,
    /// A chain, now in the [`Chain`] that was passed.
    Chain(Head),
    /// A chain that breaks a rule; it still has to be completed.
    Malformed(Head, ChainError),
}

/// One queue of a device, lent to its worker.
#[derive(Debug)]
pub struct VirtQueue {
    ring: Queue,
    doorbell: Arc<EventFd>,
    /// The used index when the driver was last considered for an interrupt.
    announced: u16,
}

impl VirtQueue {
    pub(crate) fn new(ring: Queue, doorbell: Arc<EventFd>) -> Self {
        Self {
            ring,
            doorbell,
            announced: 0,
        }
    }

    /// The fd that becomes readable when the driver notifies the device of this queue.
    pub fn doorbell(&self) -> &EventFd {
        &self.doorbell
    }

    /// Takes the pending notification, so that the doorbell is quiet again.
    pub fn silence(&self) {
        // It may be quiet already: a host that kicks twice sends one notification.
        let _ = self.doorbell.read();
    }

    /// The queue's size in descriptors, as the driver chose it.
    pub fn size(&self) -> u16 {
        self.ring.size()
    }

    /// Takes the next chain into `chain`.
    ///
    /// # Errors
    /// When the ring itself is broken: an index that runs more than the queue's size ahead, or a ring
    /// outside guest memory. The worker stops then.
    pub fn pop(&mut self, ram: &GuestRam, chain: &mut Chain) -> Result<Popped, QueueError> {
        if !self.ring.ready() {
            return Ok(Popped::Empty);
        }
        let index = match self.ring.iter(ram)?.next() {
            Some(found) => found.head_index(),
            // The index is read once: what the driver puts meanwhile is found by the next call.
            None => return Ok(Popped::Empty),
        };
        if index >= self.ring.size() {
            // Not a head at all: it cannot even be given back.
            return Err(virtio_queue::Error::InvalidDescriptorIndex.into());
        }
        let head = Head { index, owed: true };
        let table = GuestAddress(self.ring.desc_table());
        match chain.read(ram, table, self.ring.size(), index) {
            Ok(()) => Ok(Popped::Chain(head)),
            Err(error) => Ok(Popped::Malformed(head, error)),
        }
    }

    /// Puts back the chain taken last, so that the next `pop` finds it again.
    pub fn undo_pop(&mut self, mut head: Head) {
        head.owed = false;
        self.ring.go_to_previous_position();
    }

    /// Gives a chain back to the driver with `written` bytes in its writable buffers.
    ///
    /// # Errors
    /// When the used ring is outside guest memory.
    pub fn complete(
        &mut self,
        ram: &GuestRam,
        mut head: Head,
        written: u32,
    ) -> Result<(), QueueError> {
        head.owed = false;
        Ok(self.ring.add_used(ram, head.index, written)?)
    }

    /// Gives several chains back at once, each with the bytes written into it: the driver sees all of them
    /// or none, as the buffers of one frame must be seen (virtio 1.2 §5.1.6.4.1).
    ///
    /// # Errors
    /// When the used ring is outside guest memory.
    pub fn complete_all(
        &mut self,
        ram: &GuestRam,
        chains: impl Iterator<Item = (Head, u32)>,
    ) -> Result<(), QueueError> {
        let mut next = self.ring.next_used();
        let mut outcome = Ok(());
        for (mut head, written) in chains {
            head.owed = false;
            let place = next.checked_rem(self.ring.size()).unwrap_or_default();
            let element = u64::from(head.index) | (u64::from(written) << 32);
            let offset = USED_HEADER.saturating_add(USED_ELEMENT.saturating_mul(place.into()));
            let address = self.ring.used_ring().saturating_add(offset);
            outcome = outcome.and(ram.write_obj(element.to_le(), GuestAddress(address)));
            next = next.wrapping_add(1);
        }
        let index = self.ring.used_ring().saturating_add(USED_INDEX);
        outcome
            .and_then(|()| ram.store(next.to_le(), GuestAddress(index), Ordering::Release))
            .map_err(virtio_queue::Error::GuestMemory)?;
        self.ring.set_next_used(next);
        Ok(())
    }

    /// Asks the driver to be quiet while the queue is being served.
    ///
    /// # Errors
    /// When the ring is outside guest memory.
    pub fn hush(&mut self, ram: &GuestRam) -> Result<(), QueueError> {
        if self.ring.ready() {
            self.ring.disable_notification(ram)?;
        }
        Ok(())
    }

    /// Asks for notifications again. True when the driver has put something meanwhile: then serve on,
    /// for no notification will come for it.
    ///
    /// # Errors
    /// When the ring is outside guest memory.
    pub fn listen(&mut self, ram: &GuestRam) -> Result<bool, QueueError> {
        if !self.ring.ready() {
            return Ok(false);
        }
        Ok(self.ring.enable_notification(ram)?)
    }

    /// Interrupts the guest if it wants to know of what was completed since the last call.
    ///
    /// # Errors
    /// When the ring is outside guest memory.
    pub fn notify(&mut self, ram: &GuestRam, interrupt: &Interrupt) -> Result<(), QueueError> {
        if !self.ring.ready() {
            return Ok(());
        }
        let wanted = if self.ring.event_idx_enabled() {
            self.passes_used_event(ram)?
        } else {
            fence(Ordering::SeqCst);
            let flags: u16 = ram
                .load(GuestAddress(self.ring.avail_ring()), Ordering::Relaxed)
                .map_err(virtio_queue::Error::GuestMemory)?;
            u16::from_le(flags) & AVAIL_NO_INTERRUPT == 0
        };
        if wanted {
            interrupt.signal_used();
        }
        Ok(())
    }

    /// Whether the used index has passed the driver's `used_event` since the last call (virtio 1.2
    /// §2.7.7.2). virtio-queue's own test counts only what its `add_used` has added.
    fn passes_used_event(&mut self, ram: &GuestRam) -> Result<bool, QueueError> {
        fence(Ordering::SeqCst);
        let entries = AVAIL_ELEMENT.saturating_mul(self.ring.size().into());
        let offset = AVAIL_HEADER.saturating_add(entries);
        let address = self.ring.avail_ring().saturating_add(offset);
        let event: u16 = ram
            .load(GuestAddress(address), Ordering::Relaxed)
            .map_err(virtio_queue::Error::GuestMemory)?;
        let new = self.ring.next_used();
        let old = std::mem::replace(&mut self.announced, new);
        let since_event = new.wrapping_sub(u16::from_le(event)).wrapping_sub(1);
        Ok(since_event < new.wrapping_sub(old))
    }

    /// Whether the driver has put nothing that was not yet taken.
    ///
    /// # Errors
    /// When the ring is outside guest memory.
    pub fn is_drained(&self, ram: &GuestRam) -> Result<bool, QueueError> {
        if !self.ring.ready() {
            return Ok(true);
        }
        let index = self.ring.avail_idx(ram, Ordering::Acquire)?;
        Ok(index == Wrapping(self.ring.next_avail()))
    }

    /// How many chains the driver has put that were not yet taken.
    ///
    /// # Errors
    /// When the ring is outside guest memory.
    pub fn waiting(&self, ram: &GuestRam) -> Result<u16, QueueError> {
        if !self.ring.ready() {
            return Ok(0);
        }
        let index = self.ring.avail_idx(ram, Ordering::Acquire)?;
        Ok((index - Wrapping(self.ring.next_avail())).0)
    }

    /// Back to the state after power-on.
    pub(crate) fn reset(&mut self) {
        self.ring.reset();
        self.announced = 0;
        self.silence();
    }

    pub(crate) fn ring(&self) -> &Queue {
        &self.ring
    }

    pub(crate) fn ring_mut(&mut self) -> &mut Queue {
        &mut self.ring
    }

    /// The one check of a queue before it is served, at DRIVER_OK and after a restore: each area inside
    /// one region of guest memory, aligned (virtio 1.2 §2.7), and not at address 0.
    pub(crate) fn is_sound(&self, ram: &GuestRam) -> bool {
        let areas = [
            (self.ring.desc_table(), 16),
            (self.ring.avail_ring(), 2),
            (self.ring.used_ring(), 4),
        ];
        let aligned = areas
            .iter()
            .all(|(address, align)| GuestAddress(*address).raw_value().is_multiple_of(*align));
        aligned && self.ring.avail_ring() != 0 && self.ring.is_valid(ram)
    }

    pub(crate) fn save(&self) -> SavedQueue {
        let state = self.ring.state();
        SavedQueue {
            size: state.size,
            ready: state.ready,
            desc_table: state.desc_table,
            avail_ring: state.avail_ring,
            used_ring: state.used_ring,
            next_avail: state.next_avail,
            next_used: state.next_used,
        }
    }

    pub(crate) fn restore(
        &mut self,
        saved: &SavedQueue,
        event_idx: bool,
    ) -> Result<(), virtio_queue::Error> {
        self.ring = Queue::try_from(QueueState {
            max_size: self.ring.max_size(),
            next_avail: saved.next_avail,
            next_used: saved.next_used,
            event_idx_enabled: event_idx,
            size: saved.size,
            ready: saved.ready,
            desc_table: saved.desc_table,
            avail_ring: saved.avail_ring,
            used_ring: saved.used_ring,
        })?;
        self.announced = saved.next_used;
        Ok(())
    }
}

/// A queue's saved state: version 1 of the format.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedQueue {
    /// The size the driver chose.
    pub size: u16,
    /// Whether the driver set it up.
    pub ready: bool,
    /// Guest address of the descriptor table.
    pub desc_table: u64,
    /// Guest address of the available ring.
    pub avail_ring: u64,
    /// Guest address of the used ring.
    pub used_ring: u64,
    /// The next available entry to take.
    pub next_avail: u16,
    /// The next used entry to write.
    pub next_used: u16,
}
