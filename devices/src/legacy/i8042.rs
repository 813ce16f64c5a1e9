//! The keyboard controller, as far as a machine without a keyboard has one: the line that resets the
//! processor (`reboot=k`, and the reset register of the ACPI tables).

use std::sync::Arc;

use crate::bus::{BusDevice, Range};
use crate::host::{End, EndSignal};
use crate::legacy::metrics::I8042Metrics;

/// The ports of the controller: data at 0x60, status and command at 0x64.
pub const PORTS: Range = Range { base: 0x60, len: 5 };
/// The offset of the status and command port.
const COMMAND: u64 = 4;
/// Command: pulse the reset line.
const RESET: u8 = 0xfe;
/// Status: the output buffer holds a byte.
const OUTPUT_FULL: u8 = 1;

/// A keyboard controller with nothing attached.
#[derive(Debug)]
pub struct I8042 {
    end: EndSignal,
    metrics: Arc<I8042Metrics>,
}

impl I8042 {
    /// A controller whose reset line ends the guest.
    pub fn new(end: EndSignal) -> Self {
        Self {
            end,
            metrics: Arc::default(),
        }
    }

    /// The counters of this controller.
    pub fn metrics(&self) -> Arc<I8042Metrics> {
        Arc::clone(&self.metrics)
    }
}

impl BusDevice for I8042 {
    /// The input buffer is always free, so that Linux does not wait before it pulls the reset line; the
    /// output buffer is never empty, by which Linux sees after sixteen reads that no controller is there.
    /// With an empty one it would ask for the configuration, and wait half a second for the answer.
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if let (COMMAND, [status]) = (offset, data) {
            *status = OUTPUT_FULL;
            self.metrics.read_count.increment();
        } else {
            self.metrics.missed_read_count.increment();
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let metrics = &self.metrics;
        if let (COMMAND, [command]) = (offset, data) {
            metrics.write_count.increment();
            if *command == RESET {
                metrics.reset_count.increment();
                self.end.send(End::Reset);
            }
        } else {
            metrics.missed_write_count.increment();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn the_input_buffer_is_free_and_the_output_buffer_never_empty() {
        let mut controller = I8042::new(EndSignal::new(|_| ()));
        let mut byte = [0];
        controller.read(COMMAND, &mut byte);
        assert_eq!(byte, [OUTPUT_FULL]);
    }

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
        let metrics = controller.metrics();
        assert_eq!(metrics.reset_count.get(), 1);
        assert_eq!(metrics.write_count.get(), 2);
        assert_eq!(metrics.missed_write_count.get(), 2);
    }
}
