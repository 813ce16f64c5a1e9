//! The command line of a VM with a socket: Firecracker's flags, `ravelin api`, `ps`, `ctl`.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod api;
mod audit;
#[expect(dead_code, reason = "this test only leaves descriptors with it")]
#[path = "../guests/api/client.rs"]
mod client;
mod completions;
mod ctl;
mod fake;
mod firecracker;
mod gc;
#[expect(dead_code, reason = "its other users need more of it")]
#[path = "../run/guest.rs"]
mod guest;
mod misbehaviour;
#[path = "../support/monitor.rs"]
mod monitor;
mod ps;
mod real;
mod running;
mod stop;
