//! A driver for tests: it negotiates and exchanges buffers through the registers, as a guest would.
#![expect(
    unsafe_code,
    reason = "guest memory for tests lies between guard pages"
)]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::mmap::MmapRegion;
use vm_memory::{Bytes, GuestAddress, GuestRegionCollection, GuestRegionMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::bus::BusDevice;
use crate::host::{GuestRam, Interrupt};
use crate::io_thread::{IoHandle, IoThread};
use crate::virtio::Core;
use crate::virtio::core::status::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET};
use crate::virtio::mmio::Mmio;

/// Guest memory: 0 to 4 MiB, with unreadable pages on both sides.
pub(crate) const RAM_SIZE: usize = 4 << 20;
/// Where tests keep their buffers; the rings lie below.
pub(crate) const DATA: u64 = 0x10_0000;
/// A device that does not answer in this time has lost a request.
const PATIENCE: Duration = Duration::from_secs(20);

/// A buffer of a chain.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Buffer {
    /// Guest address and length of what the device reads.
    Readable(u64, u32),
    /// Guest address and length of what the device writes.
    Writable(u64, u32),
}

/// One descriptor as it stands in the table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Descriptor {
    pub(crate) address: u64,
    pub(crate) len: u32,
    pub(crate) flags: u16,
    pub(crate) next: u16,
}

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;

/// The driver's side of one queue.
#[derive(Clone, Debug)]
struct Ring {
    size: u16,
    base: u64,
    next_descriptor: u16,
    available: u16,
    /// The available index at the last notification.
    notified: u16,
    seen: u16,
}

impl Ring {
    fn table(&self) -> u64 {
        self.base
    }
    fn avail(&self) -> u64 {
        self.base + 0x4000
    }
    fn used(&self) -> u64 {
        self.base + 0x8000
    }
}

/// A driver with its device, guest memory and io thread.
pub(crate) struct Driver {
    pub(crate) ram: GuestRam,
    pub(crate) device: Mmio,
    interrupt: Interrupt,
    event_idx: bool,
    rings: Vec<Ring>,
    _io: Arc<IoThread>,
}

/// Guest memory between guard pages: an access outside it ends the test.
pub(crate) fn guarded_ram() -> GuestRam {
    let whole = RAM_SIZE * 3;
    // SAFETY: a fresh anonymous mapping, leaked on purpose for the life of the test.
    let base = unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            whole,
            ProtFlags::empty(),
            MapFlags::PRIVATE,
        )
    }
    .unwrap();
    // SAFETY: the middle third lies inside the mapping just made.
    let middle = unsafe { base.cast::<u8>().add(RAM_SIZE) };
    // SAFETY: as above.
    unsafe {
        mprotect(
            middle.cast(),
            RAM_SIZE,
            MprotectFlags::READ | MprotectFlags::WRITE,
        )
    }
    .unwrap();
    // SAFETY: the region is mapped read-write and never unmapped.
    let region = unsafe {
        MmapRegion::build_raw(
            middle,
            RAM_SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        )
    }
    .unwrap();
    let region = GuestRegionMmap::new(region, GuestAddress(0)).unwrap();
    GuestRegionCollection::from_regions(vec![region]).unwrap()
}

impl Driver {
    /// Builds the device over fresh memory and an io thread of its own.
    pub(crate) fn new(build: impl FnOnce(GuestRam, IoHandle, Interrupt) -> Core) -> Self {
        let io = Arc::new(IoThread::start("test-io").unwrap());
        Self::with(guarded_ram(), io, build)
    }

    fn with(
        ram: GuestRam,
        io: Arc<IoThread>,
        build: impl FnOnce(GuestRam, IoHandle, Interrupt) -> Core,
    ) -> Self {
        let interrupt = Interrupt::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let core = build(ram.clone(), io.handle(), interrupt.clone());
        Self {
            ram,
            device: Mmio::new(core),
            interrupt,
            event_idx: false,
            rings: Vec::new(),
            _io: io,
        }
    }

    /// Another device in the place of this one, with the guest's memory and the driver's rings kept: what
    /// a restore does.
    pub(crate) fn replaced(
        self,
        build: impl FnOnce(GuestRam, IoHandle, Interrupt) -> Core,
    ) -> Self {
        let mut new = Self::with(self.ram, self._io, build);
        new.rings = self.rings;
        new.event_idx = self.event_idx;
        new
    }

    pub(crate) fn read(&mut self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.device.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    pub(crate) fn write(&mut self, offset: u64, value: u32) {
        self.device.write(offset, &value.to_le_bytes());
    }

    pub(crate) fn status(&mut self) -> u8 {
        u8::try_from(self.read(0x70)).unwrap()
    }

    pub(crate) fn needs_reset(&mut self) -> bool {
        self.status() & NEEDS_RESET != 0
    }

    /// Features offered, all 64 bits.
    pub(crate) fn offered(&mut self) -> u64 {
        self.write(0x14, 0);
        let low = self.read(0x10);
        self.write(0x14, 1);
        u64::from(low) | (u64::from(self.read(0x10)) << 32)
    }

    /// Resets and negotiates as Linux does, accepting the offered bits of `features` and VERSION_1.
    pub(crate) fn negotiate(&mut self, features: u64) {
        self.write(0x70, 0);
        let accepted = self.offered() & (features | (1 << VIRTIO_F_VERSION_1));
        self.event_idx = accepted & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        let _ = self.interrupt.line().read();
        let mut status = ACKNOWLEDGE;
        self.write(0x70, status.into());
        status |= DRIVER;
        self.write(0x70, status.into());
        for (half, value) in [(0, accepted), (1, accepted >> 32)] {
            self.write(0x24, half);
            self.write(0x20, u32::try_from(value & 0xffff_ffff).unwrap());
        }
        status |= FEATURES_OK;
        self.write(0x70, status.into());
        assert_eq!(self.status(), status, "the features were not accepted");
        self.set_up_queues();
        self.write(0x70, (status | DRIVER_OK).into());
    }

    fn set_up_queues(&mut self) {
        self.rings.clear();
        for index in 0u32.. {
            self.write(0x30, index);
            let size = self.read(0x34);
            if size == 0 {
                break;
            }
            let ring = Ring {
                size: u16::try_from(size).unwrap().min(256),
                base: 0x1_0000 * u64::from(index + 1),
                next_descriptor: 0,
                available: 0,
                notified: 0,
                seen: 0,
            };
            self.ram
                .write_slice(&[0; 0xc000], GuestAddress(ring.base))
                .unwrap();
            self.write(0x38, ring.size.into());
            for (low, address) in [
                (0x80, ring.table()),
                (0x90, ring.avail()),
                (0xa0, ring.used()),
            ] {
                self.write(low, u32::try_from(address).unwrap());
                self.write(low + 4, 0);
            }
            self.write(0x44, 1);
            self.rings.push(ring);
        }
    }

    /// Puts a chain into a queue and does not notify; the chain's head.
    pub(crate) fn queue_chain(&mut self, queue: usize, buffers: &[Buffer]) -> u16 {
        let ring = &mut self.rings[queue];
        let head = ring.next_descriptor;
        let mut entries = Vec::new();
        for (place, buffer) in buffers.iter().enumerate() {
            let index = ring.next_descriptor;
            ring.next_descriptor = (ring.next_descriptor + 1) % ring.size;
            let (address, len, write) = match *buffer {
                Buffer::Readable(address, len) => (address, len, 0),
                Buffer::Writable(address, len) => (address, len, WRITE),
            };
            let next = if place + 1 < buffers.len() { NEXT } else { 0 };
            let descriptor = Descriptor {
                address,
                len,
                flags: write | next,
                next: ring.next_descriptor,
            };
            entries.push((index, descriptor));
        }
        for (index, descriptor) in entries {
            self.set_descriptor(queue, index, descriptor);
        }
        self.make_available(queue, head);
        head
    }

    /// The descriptor that the next chain of a queue begins with.
    pub(crate) fn next_descriptor(&self, queue: usize) -> u16 {
        self.rings[queue].next_descriptor
    }

    /// Writes one descriptor of a queue's own table.
    pub(crate) fn set_descriptor(&mut self, queue: usize, index: u16, descriptor: Descriptor) {
        let address = self.rings[queue].table() + 16 * u64::from(index);
        self.set_descriptor_at(address, descriptor);
    }

    /// Writes one descriptor anywhere: for indirect tables.
    pub(crate) fn set_descriptor_at(&mut self, address: u64, descriptor: Descriptor) {
        let mut bytes = Vec::new();
        bytes.extend(descriptor.address.to_le_bytes());
        bytes.extend(descriptor.len.to_le_bytes());
        bytes.extend(descriptor.flags.to_le_bytes());
        bytes.extend(descriptor.next.to_le_bytes());
        self.ram.write_slice(&bytes, GuestAddress(address)).unwrap();
    }

    /// Puts a head, whatever it is, into the available ring.
    pub(crate) fn make_available(&mut self, queue: usize, head: u16) {
        let ring = &mut self.rings[queue];
        let slot = ring.avail() + 4 + 2 * u64::from(ring.available % ring.size);
        ring.available = ring.available.wrapping_add(1);
        let (index_at, index) = (ring.avail() + 2, ring.available);
        self.ram.write_obj(head, GuestAddress(slot)).unwrap();
        self.ram.write_obj(index, GuestAddress(index_at)).unwrap();
    }

    /// Sets the available index to anything.
    pub(crate) fn set_available_index(&mut self, queue: usize, index: u16) {
        let at = self.rings[queue].avail() + 2;
        self.ram.write_obj(index, GuestAddress(at)).unwrap();
    }

    /// Notifies the device of a queue.
    pub(crate) fn kick(&mut self, queue: usize) {
        self.write(0x50, u32::try_from(queue).unwrap());
    }

    /// Notifies the device of a queue if the device wants to know, as Linux does (virtio 1.2 §2.7.10).
    pub(crate) fn notify(&mut self, queue: usize) {
        let ring = &mut self.rings[queue];
        let (new, old) = (ring.available, ring.notified);
        ring.notified = new;
        fence(Ordering::SeqCst);
        let wanted = if self.event_idx {
            let at = ring.used() + 4 + 8 * u64::from(ring.size);
            let event: u16 = self.ram.read_obj(GuestAddress(at)).unwrap();
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            let flags: u16 = self.ram.read_obj(GuestAddress(ring.used())).unwrap();
            flags & 1 == 0
        };
        if wanted {
            self.kick(queue);
        }
    }

    /// Puts a chain into a queue, notifies, and waits for it; the bytes written.
    pub(crate) fn request(&mut self, queue: usize, buffers: &[Buffer]) -> u32 {
        let head = self.queue_chain(queue, buffers);
        self.notify(queue);
        let (used, written) = self.wait_used(queue);
        assert_eq!(used, head, "another chain came back");
        written
    }

    /// How many entries the device has put into the used ring since negotiation.
    pub(crate) fn used_index(&self, queue: usize) -> u16 {
        let at = self.rings[queue].used() + 2;
        self.ram.read_obj(GuestAddress(at)).unwrap()
    }

    /// Waits for the next used entry: its head and the bytes written.
    pub(crate) fn wait_used(&mut self, queue: usize) -> (u16, u32) {
        // With EVENT_IDX the driver names the entry it wants to be told of (virtio 1.2 §2.7.10).
        let ring = &self.rings[queue];
        let used_event = ring.avail() + 4 + 2 * u64::from(ring.size);
        self.ram
            .write_obj(ring.seen, GuestAddress(used_event))
            .unwrap();
        self.wait(|driver| driver.used_index(queue) != driver.rings[queue].seen);
        let ring = &mut self.rings[queue];
        let entry = ring.used() + 4 + 8 * u64::from(ring.seen % ring.size);
        ring.seen = ring.seen.wrapping_add(1);
        let id: u32 = self.ram.read_obj(GuestAddress(entry)).unwrap();
        let written = self.ram.read_obj(GuestAddress(entry + 4)).unwrap();
        (u16::try_from(id).unwrap(), written)
    }

    /// Waits, interrupt by interrupt, until `done`.
    pub(crate) fn wait(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        while !done(self) {
            let woken = self.wait_for_interrupt(PATIENCE);
            assert!(woken, "the device did not answer in {PATIENCE:?}");
        }
    }

    /// Waits until `done` without counting on interrupts: who has the device write over his own rings
    /// may have switched them off.
    pub(crate) fn watch(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            self.wait_for_interrupt(Duration::from_millis(2));
            assert!(
                start.elapsed() < PATIENCE,
                "the device did not answer in {PATIENCE:?}"
            );
        }
    }

    fn wait_for_interrupt(&self, patience: Duration) -> bool {
        let line = self.interrupt.line();
        // SAFETY: the line is open until the end of this function.
        let fd = unsafe { BorrowedFd::borrow_raw(line.as_raw_fd()) };
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        let patience = Timespec::try_from(patience).unwrap();
        let ready = poll(&mut fds, Some(&patience)).unwrap();
        let _ = line.read();
        ready > 0
    }

    /// The interrupt causes not yet acknowledged.
    pub(crate) fn causes(&mut self) -> u32 {
        self.read(0x60)
    }
}
