//! The network card (virtio 1.2 §5.1) on a tap. See the README beside this file.

mod config;
mod control;
mod detour;
mod device;
mod ioctl;
mod metrics;
mod offloads;
mod rx;
pub mod syscalls;
mod tap;
mod tx;
mod window;
mod worker;

#[cfg(test)]
mod tests;

pub use config::{
    Config, Error, MacAddr, MacAddrError, Mtu, MtuError, TapName, TapNameError, Update,
};
pub use device::Net;
pub use metrics::Metrics;
pub use tap::{Port, Tap, TapError};
pub use worker::NetWorker;

/// The bytes of `struct virtio_net_hdr` before each frame (virtio 1.2 §5.1.6).
const HEADER: usize = 12;
/// The shortest frame with its header: two addresses and a type.
const SHORTEST: usize = HEADER + 14;
/// The longest frame with its header: a packet of 64 KiB, which TCP's segmentation makes, behind an
/// Ethernet header with a VLAN tag.
const LONGEST: usize = HEADER + 65_536 + 18;
/// Receive, transmit and control queue. 256 is what QEMU and Firecracker have.
const QUEUE_SIZES: &[u16] = &[256, 256, 64];
