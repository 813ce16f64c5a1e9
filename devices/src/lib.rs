//! ravelin's devices: no KVM, no HTTP, no global state.
//!
//! A device is three things: its **config** (plain data), its **device** (backend, features, config
//! space; lives until unplug) and its **worker** (owns the queues; exists only between DRIVER_OK and
//! stop). What a guest writes here is hostile: a mistake of the guest is counted, never a panic and
//! never an error up the stack.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::panic
    )
)]

pub mod acpi;
pub mod bus;
pub mod catalog;
pub mod host;
pub mod io_thread;
pub mod iovec;
pub mod legacy;
pub mod limiter;
pub mod metrics;
pub mod mmds;
pub mod outside;
pub mod syscalls;
pub mod virtio;
