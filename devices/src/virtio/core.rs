//! The negotiation state machine of a virtio device (virtio 1.2 §2.1, §2.2, §3.1).
//!
//! The transports decode registers and call this; the rules are here, once. **A queue's settings and
//! the features are frozen once the driver has said DRIVER_OK and FEATURES_OK.**

use std::sync::Arc;

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::catalog::{Update, UpdateError};
use crate::host::{GuestRam, Interrupt};
use crate::io_thread::{Attached, IoHandle};
use crate::virtio::device::{AnyDevice, Device, DeviceType, Lent};
use crate::virtio::queue::{SavedQueue, VirtQueue};

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

/// Why saved state was refused.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The state is of another kind of device.
    #[error("the saved state is of a {saved:?} device and this is a {present:?} device")]
    DeviceType {
        /// What was saved.
        saved: DeviceType,
        /// What is here.
        present: DeviceType,
    },
    /// Bits that the state machine cannot have.
    #[error("the saved status {0:#x} is none that a device can have")]
    Status(u8),
    /// Features that the device does not offer.
    #[error("the saved features {0:#x} are not all offered by this device")]
    Features(u64),
    /// A queue with settings that the driver could not have made.
    #[error("the saved queue {0} has settings that no driver could have made")]
    Queue(usize),
}

/// A device's saved negotiation and queues: version 1 of the format.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoreState {
    /// The kind of device.
    pub device_type: DeviceType,
    /// The status bits, without NEEDS_RESET.
    pub status: u8,
    /// Whether the device waits for a reset.
    pub needs_reset: bool,
    /// The features that the driver accepted.
    pub driver_features: u64,
    /// The config space's generation.
    pub generation: u32,
    /// The interrupt causes not yet acknowledged.
    pub causes: u32,
    /// The queues, in order.
    pub queues: Vec<SavedQueue>,
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

    /// Gives the device a new setting: stop, update, start, config interrupt, whatever the device.
    ///
    /// # Errors
    /// When the device refuses the setting; it then runs on as before.
    pub fn update(&mut self, update: Update) -> Result<(), UpdateError> {
        self.pause();
        let outcome = self.device.update(update);
        if outcome.is_ok() {
            self.generation = self.generation.wrapping_add(1);
        }
        self.resume();
        if outcome.is_ok() && self.status & DRIVER_OK != 0 {
            self.interrupt.signal_config();
        }
        outcome
    }

    /// The state to save, while paused. `None` while the queues are lent.
    pub fn save(&self) -> Option<CoreState> {
        let Serving::Stopped(queues) = &self.serving else {
            return None;
        };
        Some(CoreState {
            device_type: self.device_type(),
            status: self.status,
            needs_reset: self.interrupt.needs_reset(),
            driver_features: self.driver_features,
            generation: self.generation,
            causes: self.interrupt.causes(),
            queues: queues.iter().map(VirtQueue::save).collect(),
        })
    }

    /// Takes up saved state on a device after power-on; `resume` then starts it. The state passes the
    /// same checks as a driver's own writes: a snapshot is no more trusted than a guest.
    ///
    /// # Errors
    /// When the state is none that this device could have had.
    pub fn restore(&mut self, saved: &CoreState) -> Result<(), RestoreError> {
        if saved.device_type != self.device_type() {
            return Err(RestoreError::DeviceType {
                saved: saved.device_type,
                present: self.device_type(),
            });
        }
        if !is_reachable(saved.status) {
            return Err(RestoreError::Status(saved.status));
        }
        let agreed = saved.status & FEATURES_OK != 0;
        if agreed && !self.is_acceptable(saved.driver_features) {
            return Err(RestoreError::Features(saved.driver_features));
        }
        self.restore_queues(saved)?;
        self.status = saved.status;
        self.driver_features = saved.driver_features;
        self.generation = saved.generation;
        self.interrupt.restore(saved.causes);
        if saved.needs_reset {
            self.interrupt.fail();
        }
        Ok(())
    }

    fn restore_queues(&mut self, saved: &CoreState) -> Result<(), RestoreError> {
        let Serving::Stopped(queues) = &mut self.serving else {
            return Err(RestoreError::Queue(0));
        };
        if queues.len() != saved.queues.len() {
            return Err(RestoreError::Queue(saved.queues.len()));
        }
        let event_idx = saved.driver_features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        for (index, (queue, state)) in queues.iter_mut().zip(&saved.queues).enumerate() {
            queue
                .restore(state, event_idx)
                .map_err(|_| RestoreError::Queue(index))?;
            if state.ready && !queue.is_sound(&self.ram) {
                return Err(RestoreError::Queue(index));
            }
        }
        Ok(())
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
            None => self.interrupt.fail(),
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
            self.interrupt.fail();
        }
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

/// Whether the state machine can arrive at these bits.
fn is_reachable(status: u8) -> bool {
    let steps = status & !FAILED;
    (0..=STEPS.len()).any(|n| STEPS.iter().take(n).fold(0, |bits, bit| bits | bit) == steps)
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

#[cfg(test)]
mod tests {
    use super::status::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK};
    use crate::catalog::Spec;
    use crate::host::{GuestRam, Interrupt};
    use crate::io_thread::IoHandle;
    use crate::virtio::driver::Driver;
    use crate::virtio::{Core, rng};

    fn build(ram: GuestRam, io: IoHandle, interrupt: Interrupt) -> Core {
        Spec::Rng(rng::Config::default())
            .build(ram, io, interrupt)
            .unwrap()
    }

    fn with_features_ok() -> Driver {
        let mut driver = Driver::new(build);
        driver.write(0x70, ACKNOWLEDGE.into());
        driver.write(0x70, (ACKNOWLEDGE | DRIVER).into());
        driver.write(0x24, 1);
        driver.write(0x20, 1);
        driver.write(0x70, (ACKNOWLEDGE | DRIVER | FEATURES_OK).into());
        assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK);
        driver
    }

    #[test]
    fn a_status_bit_out_of_order_is_not_taken() {
        let mut driver = Driver::new(build);
        driver.write(0x70, DRIVER_OK.into());
        driver.write(0x70, DRIVER.into());
        assert_eq!(driver.status(), 0);
    }

    #[test]
    fn a_status_bit_cannot_be_cleared_but_by_a_reset() {
        let mut driver = with_features_ok();
        driver.write(0x70, ACKNOWLEDGE.into());
        assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK);
        driver.write(0x70, 0);
        assert_eq!(driver.status(), 0);
    }

    #[test]
    fn a_driver_without_version_1_gets_no_features_ok() {
        let mut driver = Driver::new(build);
        driver.write(0x70, (ACKNOWLEDGE | DRIVER).into());
        driver.write(0x70, (ACKNOWLEDGE | DRIVER | FEATURES_OK).into());
        assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER);
    }

    #[test]
    fn a_feature_that_is_not_offered_is_refused() {
        let mut driver = Driver::new(build);
        driver.write(0x70, (ACKNOWLEDGE | DRIVER).into());
        driver.write(0x24, 1);
        driver.write(0x20, u32::MAX);
        driver.write(0x70, (ACKNOWLEDGE | DRIVER | FEATURES_OK).into());
        assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER);
    }

    #[test]
    fn features_are_frozen_after_features_ok() {
        let mut driver = with_features_ok();
        let before = driver.device.core().save().unwrap().driver_features;
        driver.write(0x20, 0);
        assert_eq!(driver.device.core().save().unwrap().driver_features, before);
    }

    #[test]
    fn a_queue_is_frozen_once_it_is_ready() {
        let mut driver = with_features_ok();
        driver.write(0x38, 64);
        driver.write(0x44, 1);
        driver.write(0x38, 128);
        driver.write(0x80, 0x5000);
        let queue = driver.device.core().save().unwrap().queues.remove(0);
        assert_eq!((queue.size, queue.desc_table), (64, 0));
    }

    #[test]
    fn a_queue_size_that_is_no_power_of_two_is_not_taken() {
        let mut driver = with_features_ok();
        for size in [0, 3, 512, 65_536 + 16] {
            driver.write(0x38, size);
            assert_eq!(driver.device.core().save().unwrap().queues[0].size, 256);
        }
    }

    #[test]
    fn a_queue_outside_guest_memory_breaks_the_device_at_driver_ok() {
        let mut driver = with_features_ok();
        driver.write(0x84, 0xffff);
        driver.write(0x90, 0x2000);
        driver.write(0xa0, 0x3000);
        driver.write(0x44, 1);
        driver.write(0x70, 15);
        assert!(driver.needs_reset());
        assert_eq!(
            driver.causes(),
            2,
            "the guest is told by a config interrupt"
        );
    }

    #[test]
    fn saved_state_with_an_impossible_queue_is_refused() {
        let mut driver = with_features_ok();
        let mut saved = driver.device.core().save().unwrap();
        saved.queues[0].ready = true;
        saved.queues[0].avail_ring = 0xffff_ffff_f000;
        assert!(Driver::new(build).device.core().restore(&saved).is_err());
    }

    #[test]
    fn saved_state_with_a_status_no_driver_can_reach_is_refused() {
        let mut driver = with_features_ok();
        let mut saved = driver.device.core().save().unwrap();
        saved.status = DRIVER_OK;
        assert!(Driver::new(build).device.core().restore(&saved).is_err());
    }

    #[test]
    fn registers_answer_only_to_aligned_32_bit_accesses() {
        use crate::bus::BusDevice;
        let mut driver = Driver::new(build);
        assert_eq!(driver.read(0), u32::from_le_bytes(*b"virt"));
        let mut wide = [0; 8];
        driver.device.read(0, &mut wide);
        assert_eq!(wide, [0; 8]);
        assert_eq!(driver.read(2), 0);
        driver.device.write(0x70, &[1]);
        assert_eq!(driver.status(), 0);
    }
}
