//! The keyboard controller, as far as a machine without a keyboard has one: the line that resets the
//! processor (`reboot=k`, and the reset register of the ACPI tables).

use crate::bus::{BusDevice, Range};
use crate::host::{End, EndSignal};

/// The ports of the controller: data at 0x60, status and command at 0x64.
pub const PORTS: Range = Range { base: 0x60, len: 5 };
/// The offset of the status and command port.
const COMMAND: u64 = 4;
/// Command: pulse the reset line.
const RESET: u8 = 0xfe;

/// A keyboard controller with nothing attached.
#[derive(Debug)]
pub struct I8042(EndSignal);

impl I8042 {
    /// A controller whose reset line ends the guest.
    pub fn new(end: EndSignal) -> Self {
        Self(end)
    }
}

impl BusDevice for I8042 {
    /// Both buffers are always empty: every bit of the status port is 0.
    fn read(&mut self, _offset: u64, _data: &mut [u8]) {}

    fn write(&mut self, offset: u64, data: &[u8]) {
        if offset == COMMAND && data == [RESET] {
            self.0.send(End::Reset);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn the_reset_command_ends_the_guest_and_nothing_else_does() {
        let (sender, ends) = channel();
        let mut controller = I8042::new(EndSignal::new(move |end| sender.send(end).unwrap()));
        controller.write(0, &[RESET]);
        controller.write(COMMAND, &[0xd1]);
        controller.write(COMMAND, &[RESET, RESET]);
        assert!(ends.try_recv().is_err());
        controller.write(COMMAND, &[RESET]);
        assert_eq!(ends.try_recv(), Ok(End::Reset));
    }
}
