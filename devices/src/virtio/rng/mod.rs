//! The entropy source (virtio 1.2 §5.4). See the README beside this file.

mod config;
mod device;
mod metrics;
pub mod syscalls;
mod worker;

#[cfg(test)]
mod tests;

pub use config::{Config, Error};
pub use device::Rng;
pub use metrics::Metrics;
