//! The negotiation state machine of a virtio device (virtio 1.2 §2.1, §2.2, §3.1).
//!
//! The transports decode registers and call this; the rules are here, once. **A queue's settings and
//! the features are frozen once the driver has said DRIVER_OK and FEATURES_OK.**

mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::catalog::{Update, UpdateError};
use crate::host::{GuestRam, Interrupt};
use crate::io_thread::{Attached, IoHandle};
use crate::metrics::Group;
use crate::virtio::device::{AnyDevice, Device, DeviceType, Lent};
use crate::virtio::queue::VirtQueue;

pub use state::{CoreState, RestoreError};

/// The device status bits (virtio 1.2 §2.1).
pub mod status {
    /// The guest has seen the device.
    pub const ACKNOWLEDGE: u8 = 1;
    /// The guest has a driver for it.
    pub const DRIVER: u8 = 2;
    /// The driver is set up and the device may work.
    pub const DRIVER_OK: u8 = 4;
    /// The features are agreed.
    pub const FEATURES_OK: u8 = 8;
    /// The device has met an error from which only a reset recovers.
    pub const NEEDS_RESET: u8 = 64;
    /// The driver has given up.
    pub const FAILED: u8 = 128;
}
use status::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FAILED, FEATURES_OK, NEEDS_RESET};

/// The order in which a driver sets its status bits (virtio 1.2 §3.1.1).
const STEPS: [u8; 4] = [ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK];

/// Features of the ring and the standard, offered for every device.
const COMMON_FEATURES: u64 =
    (1 << VIRTIO_F_VERSION_1) | (1 << VIRTIO_RING_F_EVENT_IDX) | (1 << VIRTIO_RING_F_INDIRECT_DESC);

/// Which half of a 64-bit register a transport writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Bits 0 to 31.
    Low,
    /// Bits 32 to 63.
    High,
}

/// Which area of a queue a transport sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// The descriptor table.
    Descriptors,
    /// The available ring.
    Available,
    /// The used ring.
    Used,
}

/// A virtio device and where it stands with its driver.
pub struct Core {
    device: Box<dyn AnyDevice>,
    ram: GuestRam,
    io: IoHandle,
    interrupt: Interrupt,
    doorbells: Vec<Arc<EventFd>>,
    status: u8,
    driver_features: u64,
    generation: u32,
    serving: Serving,
}

/// Where the queues are.
enum Serving {
    /// Here: the driver is setting them up, or the device is paused.
    Stopped(Vec<VirtQueue>),
    /// Lent to a worker; which of them the driver has set up.
    Running {
        attached: Attached,
        ready: Vec<bool>,
    },
    /// Lost with an io thread that died: the device is broken for good.
    Lost,
}

impl Core {
    /// A device after power-on, whose worker will run on `io`.
    ///
    /// # Errors
    /// When the kernel grants no eventfd for a doorbell.
    pub fn new<D: Device>(
        device: D,
        ram: GuestRam,
        io: IoHandle,
        interrupt: Interrupt,
    ) -> std::io::Result<Self> {
        let sizes = device.queue_sizes();
        let doorbells = sizes
            .iter()
            .map(|_| EventFd::new(EFD_NONBLOCK | libc::EFD_CLOEXEC).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let queues = sizes
            .iter()
            .zip(&doorbells)
            .map(|(size, doorbell)| {
                let ring = Queue::new(*size).expect("queue sizes are powers of two up to 32768");
                VirtQueue::new(ring, Arc::clone(doorbell))
            })
            .collect();
        Ok(Self {
            device: Box::new(device),
            ram,
            io,
            interrupt,
            doorbells,
            status: 0,
            driver_features: 0,
            generation: 0,
            serving: Serving::Stopped(queues),
        })
    }

    /// The kind of device.
    pub fn device_type(&self) -> DeviceType {
        self.device.device_type()
    }

    /// What the device counts, and goes on counting.
    pub fn figures(&self) -> Arc<dyn Group> {
        self.device.figures()
    }

    /// One doorbell a queue, for the VM to bind to the guest's notifications.
    pub fn doorbells(&self) -> &[Arc<EventFd>] {
        &self.doorbells
    }

    /// The interrupt, for the VM to bind to a line and the transport to show and acknowledge.
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// The status bits as the driver reads them.
    pub fn status(&self) -> u8 {
        if self.interrupt.needs_reset() {
            self.status | NEEDS_RESET
        } else {
            self.status
        }
    }

    /// The driver writes the status. 0 resets; a bit that is out of order, or a write that clears one,
    /// changes nothing (§2.1.1: the driver MUST NOT clear a bit).
    pub fn set_status(&mut self, value: u8) {
        if value == 0 {
            self.reset();
            return;
        }
        let value = value & !NEEDS_RESET;
        if value & FAILED != 0 {
            self.pause();
            self.status |= FAILED;
            return;
        }
        if self.status & FAILED != 0 || value & self.status != self.status {
            return;
        }
        for (place, step) in STEPS.iter().enumerate() {
            let before = STEPS.iter().take(place).fold(0, |bits, bit| bits | bit);
            let is_new = value & step != 0 && self.status & step == 0;
            if is_new && self.status & before == before {
                self.enter(*step);
            }
        }
    }

    /// Half of the features offered.
    pub fn device_features(&self, half: Half) -> u32 {
        take_half(self.offered(), half)
    }

    /// The driver writes half of the features it accepts; heeded between DRIVER and FEATURES_OK only.
    pub fn set_driver_features(&mut self, half: Half, value: u32) {
        if self.status & (DRIVER | FEATURES_OK) == DRIVER {
            self.driver_features = put_half(self.driver_features, half, value);
        }
    }

    /// The largest size of queue `index`, 0 when there is no such queue.
    pub fn queue_max_size(&self, index: u32) -> u16 {
        let sizes = self.device.queue_sizes();
        let size = usize::try_from(index)
            .ok()
            .and_then(|index| sizes.get(index));
        size.copied().unwrap_or(0)
    }

    /// Whether the driver has set up queue `index`.
    pub fn queue_ready(&self, index: u32) -> bool {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        match &self.serving {
            Serving::Running { ready, .. } => ready.get(index).copied().unwrap_or(false),
            Serving::Stopped(queues) => queues.get(index).is_some_and(|queue| queue.ring().ready()),
            Serving::Lost => false,
        }
    }

    /// The driver chooses the size of queue `index`; a size that the standard forbids is not taken.
    pub fn set_queue_size(&mut self, index: u32, size: u32) {
        if let (Some(queue), Ok(size)) = (self.configurable(index), u16::try_from(size)) {
            let _ = queue.ring_mut().try_set_size(size);
        }
    }

    /// The driver says where an area of queue `index` is.
    pub fn set_queue_area(&mut self, index: u32, area: Area, half: Half, value: u32) {
        let Some(queue) = self.configurable(index) else {
            return;
        };
        let (low, high) = match half {
            Half::Low => (Some(value), None),
            Half::High => (None, Some(value)),
        };
        match area {
            Area::Descriptors => queue.ring_mut().set_desc_table_address(low, high),
            Area::Available => queue.ring_mut().set_avail_ring_address(low, high),
            Area::Used => queue.ring_mut().set_used_ring_address(low, high),
        }
    }

    /// The driver has set up queue `index`, or (before DRIVER_OK) takes that back.
    pub fn set_queue_ready(&mut self, index: u32, ready: bool) {
        if self.status & (FEATURES_OK | DRIVER_OK | FAILED) != FEATURES_OK {
            return;
        }
        if let Some(queue) = self.queue_mut(index) {
            queue.ring_mut().set_ready(ready);
        }
    }

    /// The driver notifies the device of queue `index` by a register, where the VM has not bound the
    /// register to the doorbell.
    pub fn notify(&self, index: u32) {
        let doorbell = usize::try_from(index)
            .ok()
            .and_then(|index| self.doorbells.get(index));
        if let Some(doorbell) = doorbell {
            let _ = doorbell.write(1);
        }
    }

    /// Reads the config space; bytes past its end read as they stand in `data`.
    pub fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = self.device.config();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = config.get(start..).unwrap_or_default();
        for (to, from) in data.iter_mut().zip(rest) {
            *to = *from;
        }
    }

    /// The driver writes to the config space.
    pub fn write_config(&mut self, offset: u64, data: &[u8]) {
        if self.status & DRIVER != 0 {
            self.device.write_config(offset, data);
        }
    }

    /// Changes whenever the config space does (§2.5.1).
    pub fn config_generation(&self) -> u32 {
        self.generation
    }

    /// Takes the queues back from the worker, with everything in flight completed. Guest and status see
    /// nothing of it.
    pub fn pause(&mut self) {
        match std::mem::replace(&mut self.serving, Serving::Lost) {
            Serving::Running { attached, .. } => match self.io.detach(attached) {
                Some(worker) => self.serving = Serving::Stopped(self.device.stop(worker)),
                None => self.interrupt.fail(),
            },
            other => self.serving = other,
        }
    }

    /// Lends the queues to a worker, if the driver has said DRIVER_OK, and kicks each one: a
    /// notification lost while nobody listened costs nothing.
    pub fn resume(&mut self) {
        if self.status & (DRIVER_OK | FAILED) != DRIVER_OK || self.interrupt.needs_reset() {
            return;
        }
        match std::mem::replace(&mut self.serving, Serving::Lost) {
            Serving::Stopped(queues) => self.lend(queues),
            other => self.serving = other,
        }
    }

    /// Gives the device a new setting: stop, update, start, config interrupt, whatever the device. **A device
    /// that is paused stays so**: nothing touches the memory of a guest that is paused.
    ///
    /// # Errors
    /// When the device refuses the setting; it then runs on as before.
    pub fn update(&mut self, update: Update) -> Result<(), UpdateError> {
        let was_running = matches!(self.serving, Serving::Running { .. });
        self.pause();
        let outcome = self.device.update(update);
        if outcome.is_ok() {
            self.generation = self.generation.wrapping_add(1);
        }
        if was_running {
            self.resume();
        }
        if outcome.is_ok() && self.status & DRIVER_OK != 0 {
            self.interrupt.signal_config();
        }
        outcome
    }

    /// Sets one status bit whose predecessors are set, and does what it means.
    fn enter(&mut self, step: u8) {
        match step {
            FEATURES_OK if !self.is_acceptable(self.driver_features) => {}
            DRIVER_OK => self.activate(),
            _ => self.status |= step,
        }
    }

    fn lend(&mut self, queues: Vec<VirtQueue>) {
        let ready = queues.iter().map(|queue| queue.ring().ready()).collect();
        let worker = self.device.start(Lent {
            features: self.driver_features,
            ram: self.ram.clone(),
            queues,
            interrupt: self.interrupt.clone(),
        });
        match self.io.attach(worker) {
            Some(attached) => self.serving = Serving::Running { attached, ready },
            None => self.fail_activation(),
        }
        for doorbell in &self.doorbells {
            let _ = doorbell.write(1);
        }
    }

    fn activate(&mut self) {
        self.status |= DRIVER_OK;
        let event_idx = self.driver_features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        let Serving::Stopped(queues) = &mut self.serving else {
            return;
        };
        for queue in queues.iter_mut() {
            queue.ring_mut().set_event_idx(event_idx);
        }
        let sound = queues
            .iter()
            .all(|queue| !queue.ring().ready() || queue.is_sound(&self.ram));
        if sound {
            self.resume();
        } else {
            self.fail_activation();
        }
    }

    fn fail_activation(&self) {
        self.device.activation_failed();
        self.interrupt.fail();
    }

    fn reset(&mut self) {
        self.pause();
        if let Serving::Stopped(queues) = &mut self.serving {
            for queue in queues {
                queue.reset();
            }
            self.device.reset();
        }
        self.status = 0;
        self.driver_features = 0;
        self.interrupt.reset();
        if matches!(self.serving, Serving::Lost) {
            self.interrupt.fail();
        }
    }

    fn offered(&self) -> u64 {
        self.device.features() | COMMON_FEATURES
    }

    /// The driver may accept only what is offered, and no legacy driver is served (§6.1).
    fn is_acceptable(&self, features: u64) -> bool {
        features & !self.offered() == 0 && features & (1 << VIRTIO_F_VERSION_1) != 0
    }

    /// A queue whose settings may be written: features agreed, the queue and the device not yet live.
    fn configurable(&mut self, index: u32) -> Option<&mut VirtQueue> {
        if self.status & (FEATURES_OK | DRIVER_OK | FAILED) != FEATURES_OK {
            return None;
        }
        self.queue_mut(index).filter(|queue| !queue.ring().ready())
    }

    fn queue_mut(&mut self, index: u32) -> Option<&mut VirtQueue> {
        match &mut self.serving {
            Serving::Stopped(queues) => queues.get_mut(usize::try_from(index).ok()?),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("type", &self.device_type())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

fn take_half(value: u64, half: Half) -> u32 {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    match half {
        Half::Low => u32::from_le_bytes([a, b, c, d]),
        Half::High => u32::from_le_bytes([e, f, g, h]),
    }
}

fn put_half(value: u64, half: Half, with: u32) -> u64 {
    match half {
        Half::Low => (value & 0xffff_ffff_0000_0000) | u64::from(with),
        Half::High => (value & 0xffff_ffff) | (u64::from(with) << 32),
    }
}
