//! The socket between guest and host (virtio 1.2 §5.10). See the README beside this file.

mod backlog;
mod config;
mod connection;
mod device;
mod dial;
mod down;
mod greeting;
mod hub;
mod metrics;
mod packet;
mod rx;
mod socket;
pub mod syscalls;
mod timer;
mod up;
mod worker;

#[cfg(test)]
mod tests;

pub use config::{Config, Error, SocketError};
pub use device::Vsock;
pub use dial::{Dial, Operator};
pub use metrics::Metrics;
pub use socket::{Bound, Host, bind_at};
