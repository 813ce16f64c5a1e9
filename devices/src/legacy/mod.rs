//! The few parts of a PC that a stock kernel expects: serial port, keyboard controller, clock.

pub mod boot_timer;
pub mod cmos;
pub mod console;
pub mod i8042;
mod keyboard;
pub mod metrics;
pub mod serial;
