//! What a virtio device is: the contract every device folder keeps.

use std::any::Any;
use std::sync::Arc;

use event_manager::MutEventSubscriber;

use crate::catalog::{Update, UpdateError};
use crate::host::{GuestRam, Interrupt};
use crate::metrics::Group;
use crate::virtio::VirtQueue;

/// The device types of virtio 1.2 §5 that ravelin has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[repr(u32)]
pub enum DeviceType {
    /// Network card, §5.1.
    Net = 1,
    /// Block device, §5.2.
    Block = 2,
    /// Entropy source, §5.4.
    Rng = 4,
    /// Socket between guest and host, §5.10.
    Vsock = 19,
}

/// What a device lends to its worker for the time between DRIVER_OK and stop.
#[derive(Debug)]
pub struct Lent {
    /// The features both sides agreed on.
    pub features: u64,
    /// The guest's memory.
    pub ram: GuestRam,
    /// All the device's queues, in order; those the driver did not set up are not ready and yield
    /// nothing.
    pub queues: Vec<VirtQueue>,
    /// The way to get the guest's attention.
    pub interrupt: Interrupt,
}

impl Lent {
    /// Whether both sides agreed on feature bit `bit`.
    pub fn has(&self, bit: u32) -> bool {
        1u64.checked_shl(bit)
            .is_some_and(|mask| self.features & mask != 0)
    }
}

/// A virtio device: backend, features and config space.
///
/// The life of a device, which the contract test runs for every one:
///
/// ```text
/// build -> [ start -> stop ]* -> drop
/// ```
///
/// - `start` opens nothing and cannot fail: every fd and ring was made when the device was built. It
///   runs on a vCPU thread under a filter that cannot open.
/// - Between `start` and `stop` the backend is in the worker, and the device keeps only what its config
///   space needs.
/// - `stop` gets the worker back, drained, and takes the backend and the queues out of it.
pub trait Device: Send + 'static {
    /// Who serves the queues of this device.
    type Worker: Worker;

    /// The device's type.
    const TYPE: DeviceType;

    /// The features offered, without those of the ring and VIRTIO_F_VERSION_1, which the core adds.
    fn features(&self) -> u64;

    /// The largest size of each queue, a power of two each.
    fn queue_sizes(&self) -> &'static [u16];

    /// The config space as the guest sees it now, little-endian.
    fn config(&self) -> &[u8];

    /// The driver writes to the config space. Most devices have nothing writable.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    /// What the device counts; the same object at every call.
    fn figures(&self) -> Arc<dyn Group>;

    /// The driver has set the device up in a way in which it cannot work. To be counted.
    fn activation_failed(&self) {}

    /// Hands the backend and the queues to a worker.
    fn start(&mut self, lent: Lent) -> Self::Worker;

    /// Takes the backend out of a drained worker and returns the queues.
    fn stop(&mut self, worker: Self::Worker) -> Vec<VirtQueue>;

    /// The driver has reset the device: what it set by requests is forgotten. Called while stopped.
    fn reset(&mut self) {}

    /// Takes a new setting while stopped. The core stops the worker before, starts it after and tells
    /// the guest.
    ///
    /// # Errors
    /// When this device has no such setting, or the setting does not fit. The device is unchanged then.
    fn update(&mut self, _update: Update) -> Result<(), UpdateError> {
        Err(UpdateError::NotSupported)
    }
}

/// Who owns the queues between start and stop, on an io thread.
///
/// Its `init` registers the doorbells of its queues and the fds of its backend. A worker that meets a
/// broken queue calls [`Interrupt::fail`] and removes its events; it is then idle until it is stopped.
pub trait Worker: MutEventSubscriber + Any + Send {
    /// Waits for every request in flight and completes it. Called once, on the io thread, after the
    /// last event.
    fn drain(&mut self) {}
}

/// A device with its worker type forgotten: what the core holds.
pub(crate) trait AnyDevice: Send {
    fn device_type(&self) -> DeviceType;
    fn features(&self) -> u64;
    fn queue_sizes(&self) -> &'static [u16];
    fn config(&self) -> &[u8];
    fn write_config(&mut self, offset: u64, data: &[u8]);
    fn figures(&self) -> Arc<dyn Group>;
    fn activation_failed(&self);
    fn start(&mut self, lent: Lent) -> Box<dyn Worker>;
    fn stop(&mut self, worker: Box<dyn Worker>) -> Vec<VirtQueue>;
    fn reset(&mut self);
    fn update(&mut self, update: Update) -> Result<(), UpdateError>;
}

impl<D: Device> AnyDevice for D {
    fn device_type(&self) -> DeviceType {
        D::TYPE
    }
    fn features(&self) -> u64 {
        Device::features(self)
    }
    fn queue_sizes(&self) -> &'static [u16] {
        Device::queue_sizes(self)
    }
    fn config(&self) -> &[u8] {
        Device::config(self)
    }
    fn write_config(&mut self, offset: u64, data: &[u8]) {
        Device::write_config(self, offset, data);
    }
    fn figures(&self) -> Arc<dyn Group> {
        Device::figures(self)
    }
    fn activation_failed(&self) {
        Device::activation_failed(self);
    }
    fn start(&mut self, lent: Lent) -> Box<dyn Worker> {
        Box::new(Device::start(self, lent))
    }
    fn stop(&mut self, worker: Box<dyn Worker>) -> Vec<VirtQueue> {
        let worker: Box<dyn Any> = worker;
        let worker: Box<D::Worker> = worker
            .downcast()
            .expect("the core hands a device the worker that its own start made");
        Device::stop(self, *worker)
    }
    fn reset(&mut self) {
        Device::reset(self);
    }
    fn update(&mut self, update: Update) -> Result<(), UpdateError> {
        Device::update(self, update)
    }
}
