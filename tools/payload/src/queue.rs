//! A split virtqueue, driven by polling (virtio 1.2 §2.7).

use core::fmt::{self, Display};
use core::hint::spin_loop;
use core::sync::atomic::{Ordering, fence};

use crate::clock::{Deadline, STALL};
use crate::line;
use crate::memory::{Arena, Region};
use crate::virtio::Transport;

/// The descriptor continues in `next`.
pub const NEXT: u16 = 1;
/// The device writes this buffer.
pub const WRITE: u16 = 2;
/// The buffer is a table of descriptors.
pub const TABLE: u16 = 4;

/// Bytes of one descriptor.
pub const DESCRIPTOR: usize = 16;
/// In the available ring's flags: the device need not interrupt.
const NO_INTERRUPT: u16 = 1;
/// In the used ring's flags: the driver need not notify.
const NO_NOTIFY: u16 = 1;

/// A buffer as a device sees it.
#[derive(Clone, Copy)]
pub struct Descriptor {
    /// Guest physical address.
    pub address: u64,
    /// Bytes.
    pub len: u32,
    /// [`NEXT`], [`WRITE`], [`TABLE`].
    pub flags: u16,
    /// The descriptor that follows, with [`NEXT`].
    pub next: u16,
}

/// A buffer that the device has given back.
#[derive(Clone, Copy)]
pub struct Used {
    /// The chain's first descriptor.
    pub head: u16,
    /// Bytes that the device wrote.
    pub len: u32,
}

/// A queue of one device. Interrupts are never wanted: the used ring is polled.
pub struct Queue {
    transport: Transport,
    index: u32,
    size: u16,
    event_idx: bool,
    table: Region,
    available: Region,
    used: Region,
    /// Buffers put into the available ring so far, modulo 2^16.
    offered: u16,
    /// How many of them the device has been shown.
    published: u16,
    /// Buffers taken from the used ring so far, modulo 2^16.
    taken: u16,
    notifications: u32,
}

impl Queue {
    /// Rings of `size` entries, a power of two.
    pub fn new(
        transport: Transport,
        index: u32,
        size: u16,
        event_idx: bool,
        arena: &mut Arena,
    ) -> Self {
        let entries = usize::from(size);
        let queue = Self {
            transport,
            index,
            size,
            event_idx,
            table: arena.take(entries * DESCRIPTOR),
            available: arena.take(6 + 2 * entries),
            used: arena.take(6 + 8 * entries),
            offered: 0,
            published: 0,
            taken: 0,
            notifications: 0,
        };
        queue.available.write16(0, NO_INTERRUPT);
        queue.want_no_interrupt();
        queue
    }

    /// The descriptor table's address.
    pub fn descriptors(&self) -> u64 {
        self.table.address(0)
    }

    /// The available ring's address.
    pub fn available(&self) -> u64 {
        self.available.address(0)
    }

    /// The used ring's address.
    pub fn used(&self) -> u64 {
        self.used.address(0)
    }

    /// How often the device was notified.
    pub fn notifications(&self) -> u32 {
        self.notifications
    }

    /// Writes descriptor `index` of the queue's own table.
    pub fn describe(&self, index: u16, descriptor: Descriptor) {
        write_descriptor(self.table, index, descriptor);
    }

    /// Puts the chain at `head` into the available ring; [`Self::publish`] shows it to the device.
    pub fn offer(&mut self, head: u16) {
        let slot = usize::from(self.offered % self.size);
        self.available.write16(4 + 2 * slot, head);
        self.offered = self.offered.wrapping_add(1);
    }

    /// Shows the device what was offered and notifies it if it wants that.
    pub fn publish(&mut self) {
        let before = self.published;
        if before == self.offered {
            return;
        }
        fence(Ordering::Release);
        self.available.write16(2, self.offered);
        self.published = self.offered;
        fence(Ordering::SeqCst); // virtio 1.2 §2.7.13.4.1: index first, suppression read after
        if self.notification_wanted(before) {
            self.notifications += 1;
            self.transport.notify(self.index);
        }
    }

    /// The next buffer that the device is done with, if there is one.
    pub fn take(&mut self) -> Option<Used> {
        if self.used.read16(2) == self.taken {
            return None;
        }
        fence(Ordering::Acquire);
        let entry = 4 + 8 * usize::from(self.taken % self.size);
        // The head is the identifier's low half: this driver uses no other (virtio 1.2 §2.7.8).
        let used = Used {
            head: self.used.read16(entry),
            len: self.used.read32(entry + 4),
        };
        self.taken = self.taken.wrapping_add(1);
        Some(used)
    }

    /// Polls until the device is done with a buffer; none when it does nothing for [`STALL`] cycles, which
    /// is printed.
    pub fn wait(&mut self) -> Option<Used> {
        let used = self.wait_until_stall();
        if used.is_none() {
            self.report_stall();
        }
        used
    }

    fn wait_until_stall(&mut self) -> Option<Used> {
        let mut deadline = None;
        loop {
            if let Some(used) = self.take() {
                self.want_no_interrupt();
                return Some(used);
            }
            if deadline
                .get_or_insert_with(|| Deadline::after(STALL))
                .passed()
            {
                return None;
            }
            spin_loop();
        }
    }

    /// Prints what both sides say, and whether the device only missed a notification.
    fn report_stall(&mut self) {
        line!("stalled: {}", State(self));
        self.transport.notify(self.index);
        let helped = self.wait_until_stall().is_some();
        line!("stalled: another notification helped: {helped}");
    }

    /// Keeps the event index half a lap behind, where the device's index passes it last.
    fn want_no_interrupt(&self) {
        if self.event_idx {
            let slot = 4 + 2 * usize::from(self.size);
            self.available.write16(slot, self.taken.wrapping_sub(1));
        }
    }

    fn notification_wanted(&self, before: u16) -> bool {
        if self.event_idx {
            let event = self.used.read16(4 + 8 * usize::from(self.size));
            let passed = self.published.wrapping_sub(event).wrapping_sub(1);
            return passed < self.published.wrapping_sub(before);
        }
        self.used.read16(0) & NO_NOTIFY == 0
    }
}

/// What both sides say of a queue.
struct State<'a>(&'a Queue);

impl Display for State<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Queue {
            published,
            taken,
            notifications,
            ..
        } = self.0;
        let event = self.0.used.read16(4 + 8 * usize::from(self.0.size));
        let (flags, used) = (self.0.used.read16(0), self.0.used.read16(2));
        write!(
            f,
            "available {published} taken {taken} used {used} flags {flags} event {event} kicks {notifications}"
        )
    }
}

/// Writes descriptor `index` of a table, the queue's own or an indirect one.
pub fn write_descriptor(table: Region, index: u16, descriptor: Descriptor) {
    let at = DESCRIPTOR * usize::from(index);
    table.write64(at, descriptor.address);
    table.write32(at + 8, descriptor.len);
    table.write16(at + 12, descriptor.flags);
    table.write16(at + 14, descriptor.next);
}
