//! virtio 1.2: one negotiation state machine, the transports over it, and the devices.

pub mod block;
pub mod chain;
pub mod core;
pub mod device;
pub mod mmio;
pub mod net;
mod poll;
pub mod queue;
pub mod rng;
pub mod vsock;

#[cfg(test)]
pub(crate) mod contract;
#[cfg(test)]
pub(crate) mod driver;

pub use chain::Chain;
pub use core::{Core, CoreState, RestoreError};
pub use device::{Device, DeviceType, Lent, Worker};
pub use queue::{Head, QueueError, VirtQueue};
