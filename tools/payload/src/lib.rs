//! A bare-metal guest that drives virtio-mmio devices by polling, for benchmarks and device tests.
//!
//! It enters by the 64-bit Linux protocol or by PVH, marks its first instruction with a `#` on COM1,
//! leaves for privilege level 3 (see `main.rs` and `entry.s`), does what its command line says (see [`cmdline`]),
//! prints a line for each result and ends the machine.

#![cfg_attr(not(test), no_std)]

mod blk;
mod clock;
pub mod cmdline;
pub mod memory;
mod net;
pub mod port;
mod queue;
mod rng;
mod virtio;
mod vsock;

use clock::{Deadline, cycles};
use cmdline::{CommandLine, Work};
use memory::Arena;

/// Does the work that the command line asks for with memory from `arena`, and ends.
pub fn run(command_line: CommandLine<'_>, arena: &mut Arena) -> ! {
    let result = match command_line.work() {
        Work::Reset => port::reset(),
        Work::PowerOff(status) => port::power_off(status),
        Work::Crash => port::triple_fault(),
        Work::Idle => idle(),
        Work::Spin(span) => spin(span),
        Work::List => list(command_line),
        Work::Blk(requests) => blk::bench(command_line, requests, arena),
        Work::BlkZero => blk::zero(command_line, arena),
        Work::BlkVerify(count) => blk::verify(command_line, count, arena),
        Work::NetTx(requests) => net::send(command_line, requests, arena),
        Work::NetRx(count) => net::receive(command_line, count, arena),
        Work::VsockTx(requests) => vsock::send(command_line, requests, arena),
        Work::VsockRx(mib) => vsock::receive(command_line, mib, arena),
        Work::Rng(bytes) => rng::read(command_line, bytes, arena),
        Work::Unknown => {
            line!("error: unknown payload= in: {}", command_line.0);
            Ok(())
        }
    };
    if let Err(error) = result {
        line!("error: {error}");
    }
    if command_line.powers_off() {
        port::power_off(0)
    } else {
        port::reset()
    }
}

fn idle() -> ! {
    line!("idle");
    port::stop()
}

/// Two lines whose first bytes leave `span` cycles apart: how fast the counter runs.
fn spin(span: u64) -> Result<(), virtio::Error> {
    let start = cycles();
    line!("spin start");
    let deadline = Deadline::after(span.saturating_sub(cycles() - start));
    while !deadline.passed() {
        core::hint::spin_loop();
    }
    line!("spin end {}", cycles() - start);
    Ok(())
}

fn list(command_line: CommandLine<'_>) -> Result<(), virtio::Error> {
    for device in virtio::devices(command_line) {
        line!("virtio {} at {:#x}", device.id(), device.address());
    }
    Ok(())
}
