//! `ravelin run`, as a user runs it, with guests of a few instructions that run on any KVM.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod again;
mod bad_input;
mod config;
mod console;
mod ends;
mod guest;
mod image;
mod jail;
mod messages;
#[path = "../support/monitor.rs"]
mod monitor;
mod process;
mod pty;
#[path = "../support/mod.rs"]
mod support;
mod taps;
mod terminal;
mod vsock;
