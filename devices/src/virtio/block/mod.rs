//! The block device (virtio 1.2 §5.2). See the README beside this file.

mod budget;
mod config;
mod device;
mod disk;
mod engine;
mod job;
mod metrics;
mod open;
mod request;
mod space;
pub mod syscalls;
mod worker;

#[cfg(test)]
mod tests;

pub use config::{Cache, Config, Engine, Error, Update, serial_fits};
pub use device::Block;
pub use metrics::Metrics;
pub use open::{OpenError, adopt, open};
pub use worker::BlockWorker;

/// The unit of capacity, of sector numbers and of data lengths, whatever the host's own block size
/// (virtio 1.2 §5.2.4).
const SECTOR: u64 = 512;
/// One queue of requests, of the size that QEMU and Linux use.
const QUEUE_SIZES: &[u16] = &[256];
/// The most buffers of data in one request: a whole queue without header and status.
const MAX_SEGMENTS: u32 = 254;
/// The most bytes of one discard: 2 GiB.
const MAX_DISCARD: u64 = 2 << 30;
/// The most bytes of one write-zeroes: 32 MiB, since a file system without support has them written.
const MAX_ZEROES: u64 = 32 << 20;
/// The bytes of a serial number (virtio 1.2 §5.2.6: `VIRTIO_BLK_T_GET_ID`).
const SERIAL_LEN: usize = 20;
