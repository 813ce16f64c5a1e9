//! The machine: guest memory, KVM, boot and the threads that run the vCPUs.
//!
//! | room | what it holds |
//! | --- | --- |
//! | [`spec`] | the whole VM as plain data, and its validation |
//! | [`controller`], [`command`] | before the boot and after it, and what may be asked |
//! | [`open`] | what a description names, opened |
//! | [`events`] | what happens to a VM, for whoever watches |
//! | [`line_file`] | files and pipes that take whole lines |
//! | [`metrics`] | what a VM counts, for its operator |
//! | [`memory`] | guest memory, and files mapped into it |
//! | [`kvm`] | the only user of the KVM interface |
//! | [`arch`] | what differs between processor architectures |
//! | [`boot`] | kernel, initrd, command line and firmware tables |
//! | [`machine`] | vCPU threads and how a machine is put together |
//! | [`end`] | the ways a guest ends |
//! | [`sandbox`] | what the process does to itself before the guest runs |
//! | [`host`] | what this host offers to guests, and what stands in their way |

pub mod arch;
pub mod boot;
pub mod command;
pub mod controller;
pub mod end;
mod event;
pub mod events;
pub mod host;
pub mod kvm;
pub mod line_file;
pub mod machine;
pub mod memory;
pub mod metrics;
pub mod open;
pub mod sandbox;
pub mod spec;

/// The stack of every thread of a monitor.
pub use devices::io_thread::STACK as THREAD_STACK;
/// What lies outside of a jail.
pub use devices::outside;

/// The metadata service.
pub use devices::mmds;

/// The socket between guest and host.
pub use devices::virtio::vsock;
