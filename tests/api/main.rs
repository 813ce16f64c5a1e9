//! The REST socket as a client meets it: `ravelin firecracker` and `ravelin api`, with guests of the bare-metal
//! payload of `tools/payload` behind them.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod bad_input;
#[path = "../support/build.rs"]
mod build;
mod client;
mod coverage;
mod ends;
mod floods;
mod machine;
mod model;
mod round_trip;
mod transcript;
mod vm;
mod vsock;
