//! I/O ports: the serial line that results are printed on, and the ways to end.

#![expect(unsafe_code, reason = "port instructions have no safe form")]

use core::arch::asm;
use core::fmt;

use crate::clock::{Deadline, STALL};

const SERIAL: u16 = 0x3f8;
const KEYBOARD_COMMAND: u16 = 0x64;
const KEYBOARD_RESET: u8 = 0xfe;
const SLEEP_CONTROL: u16 = 0x600;
const EXIT_STATUS: u16 = 0x603;
/// SLP_EN with sleep type 5 in bits 2 to 4 (ACPI 6.5 §4.8.3.7, SLEEP_CONTROL_REG).
const SLEEP_POWER_OFF: u8 = 0x20 | 5 << 2;

/// COM1, written without waiting: a virtual 16550 takes a byte whenever it is given one.
pub struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| out(SERIAL, byte));
        Ok(())
    }
}

/// Prints one line on COM1.
#[macro_export]
macro_rules! line {
    ($($argument:tt)*) => {{
        use core::fmt::Write;
        // Serial never fails.
        let _ = writeln!($crate::port::Serial, $($argument)*);
    }};
}

/// Resets the machine through the keyboard controller; where there is none, by a triple fault.
pub fn reset() -> ! {
    out(KEYBOARD_COMMAND, KEYBOARD_RESET);
    let deadline = Deadline::after(STALL);
    while !deadline.passed() {
        core::hint::spin_loop();
    }
    triple_fault()
}

/// Hands `status` to the monitor's exit register, then turns the machine off (ACPI, hardware-reduced).
pub fn power_off(status: u8) -> ! {
    out(EXIT_STATUS, status);
    out(SLEEP_CONTROL, SLEEP_POWER_OFF);
    stop()
}

/// Ends in a triple fault: `lidt` is itself a fault at level 3, and no fault has a handler there; at
/// level 0 it leaves the next fault without one.
pub fn triple_fault() -> ! {
    // SAFETY: the machine is meant to end here.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) &[0_u16; 8], options(noreturn)) }
}

/// Waits for ever without giving the processor back: level 3 may not halt.
pub fn stop() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

fn out(port: u16, value: u8) {
    // SAFETY: the monitor's ports have no effect on this program's memory.
    unsafe {
        asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags));
    }
}
