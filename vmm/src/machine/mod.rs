//! The machine: how its parts are put together, and the threads that run its vCPUs.
//!
//! 1. [`Chassis::build`]: KVM, guest memory, the VM and its vCPUs. Nothing is on the buses yet, so
//!    devices can take memory, interrupts and doorbells from it.
//! 2. [`Chassis::assemble`]: vCPU threads on the buses, the kernel loaded, every vCPU in its first
//!    state, all of them parked.
//! 3. [`Guest::resume`] lets it run.

mod chassis;
mod devices;
pub mod places;
mod vcpu_thread;

pub use chassis::{BuildError, Chassis, ChassisPlan, Guest};
pub use devices::{Backend, Console, DeviceError, Devices, Fixtures};
pub use vcpu_thread::{Buses, VcpuThread, VcpuThreadError};
