//! Jails: what `ravelin jailer` leaves on disk, what runs in them and with which rights, what is refused.
//!
//! Each test runs itself again as root in mount, PID, network, IPC and UTS namespaces of its own, on a tmpfs that
//! vanishes with them: nothing that it makes or starts outlives it but cgroups, which it removes.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod boot;
mod cgroups;
#[expect(dead_code, reason = "its other users need more of it")]
#[path = "../run/guest.rs"]
mod guest;
#[path = "../support/isolated.rs"]
mod isolated;
mod kit;
mod layout;
mod processes;
mod refusals;
mod walls;
