//! Power: the sleep registers of a hardware-reduced ACPI machine (ACPI 6.4 §4.8.3.7), the events that a
//! Generic Event Device reads (§5.6.9), and the byte in which a guest leaves its exit status.
//!
//! | port | read | write |
//! | --- | --- | --- |
//! | 0x600 | 0 | sleep control: type in bits 2-4, enable in bit 5 |
//! | 0x601 | sleep status, 0 | |
//! | 0x602 | pending events, cleared by the read: bit 0 the power button | |
//! | 0x603 | 0 | exit status, 0 to 255 |
//!
//! A guest that has left its exit status has nothing more to say: the console is sealed, so that the kernel's
//! farewell does not stand behind the output of the command that ran in it.

use vmm_sys_util::eventfd::EventFd;

use crate::bus::{BusDevice, Range};
use crate::host::{End, EndSignal};
use crate::legacy::console::Output;

/// The ports of the power block.
pub const PORTS: Range = Range {
    base: 0x600,
    len: 4,
};
/// Event bit: the power button was pressed.
pub const POWER_BUTTON: u8 = 1;
/// The sleep type that the tables name for S5, off.
pub const SLEEP_TYPE_OFF: u8 = 5;

const SLEEP_ENABLE: u8 = 1 << 5;
const SLEEP_TYPE_SHIFT: u8 = 2;
const SLEEP_TYPE_MASK: u8 = 0b111 << SLEEP_TYPE_SHIFT;

/// The power block.
#[derive(Debug)]
pub struct Power {
    end: EndSignal,
    line: EventFd,
    console: Output,
    events: u8,
    exit_status: Option<u8>,
}

impl Power {
    /// A power block that announces events by `line`, ends the guest through `end`, and seals `console` when
    /// the guest leaves its exit status.
    pub fn new(end: EndSignal, line: EventFd, console: Output) -> Self {
        Self {
            end,
            line,
            console,
            events: 0,
            exit_status: None,
        }
    }

    /// Presses the power button: a guest that listens shuts itself down.
    pub fn press_button(&mut self) {
        self.events |= POWER_BUTTON;
        let _ = self.line.write(1);
    }

    /// The exit status that the guest has left, if it has.
    pub fn exit_status(&self) -> Option<u8> {
        self.exit_status
    }
}

impl BusDevice for Power {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if let (2, [value]) = (offset, data) {
            *value = std::mem::take(&mut self.events);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let off = (SLEEP_TYPE_OFF << SLEEP_TYPE_SHIFT) | SLEEP_ENABLE;
        match (offset, data) {
            (0, [value]) if value & (SLEEP_TYPE_MASK | SLEEP_ENABLE) == off => {
                self.end.send(End::PowerOff);
            }
            (3, [value]) => {
                self.exit_status = Some(*value);
                self.console.seal();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc::{Receiver, channel};

    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    fn power() -> (Power, Receiver<End>, EventFd) {
        let (sender, ends) = channel();
        let end = EndSignal::new(move |end| sender.send(end).unwrap());
        let line = EventFd::new(EFD_NONBLOCK).unwrap();
        let console = Output::new().unwrap();
        let power = Power::new(end, line.try_clone().unwrap(), console);
        (power, ends, line)
    }

    #[test]
    fn only_the_sleep_type_of_s5_with_enable_switches_off() {
        let (mut power, ends, _) = power();
        power.write(0, &[SLEEP_TYPE_OFF << 2]);
        power.write(0, &[(1 << 2) | SLEEP_ENABLE]);
        assert!(ends.try_recv().is_err());
        power.write(0, &[(SLEEP_TYPE_OFF << 2) | SLEEP_ENABLE]);
        assert_eq!(ends.try_recv(), Ok(End::PowerOff));
    }

    #[test]
    fn a_pressed_button_interrupts_once_and_reads_once() {
        let (mut power, _, line) = power();
        power.press_button();
        assert_eq!(line.read().unwrap(), 1);
        let mut value = [0];
        power.read(2, &mut value);
        assert_eq!(value, [POWER_BUTTON]);
        power.read(2, &mut value);
        assert_eq!(value, [0]);
    }

    #[test]
    fn an_exit_status_seals_the_console() {
        let (mut power, _, _) = power();
        let mut console = power.console.clone();
        console.write_all(b"before").unwrap();
        power.write(3, &[0]);
        console.write_all(b"after").unwrap();
        assert_eq!(console.take(100), b"before");
    }

    #[test]
    fn the_last_exit_status_stands() {
        let (mut power, _, _) = power();
        assert_eq!(power.exit_status(), None);
        power.write(3, &[7]);
        power.write(3, &[0, 0]);
        assert_eq!(power.exit_status(), Some(7));
    }
}
