//! The serial port COM1: vm-superio's 16550 between the guest and a console.

use std::sync::Arc;

use vm_superio::serial::SerialEvents;
use vm_superio::{Serial as Uart, Trigger};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::bus::{BusDevice, Range};
use crate::legacy::console::Output;

/// The ports of COM1.
pub const PORTS: Range = Range {
    base: 0x3f8,
    len: 8,
};

/// The interrupt line of the port.
#[derive(Debug)]
struct Line(EventFd);

impl Trigger for Line {
    type E = std::io::Error;

    fn trigger(&self) -> std::io::Result<()> {
        self.0.write(1)
    }
}

/// Tells the host that the guest has read all its input, so that more may follow.
#[derive(Debug)]
struct InputRoom(Arc<EventFd>);

impl SerialEvents for InputRoom {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}
    fn in_buffer_empty(&self) {
        let _ = self.0.write(1);
    }
}

/// A serial port.
#[derive(Debug)]
pub struct Serial {
    uart: Uart<Line, InputRoom, Output>,
    input_room: Arc<EventFd>,
}

impl Serial {
    /// A port that interrupts by `line` and speaks into `output`.
    ///
    /// # Errors
    /// When the kernel grants no eventfd.
    pub fn new(line: EventFd, output: Output) -> std::io::Result<Self> {
        let input_room = Arc::new(EventFd::new(EFD_NONBLOCK | libc::EFD_CLOEXEC)?);
        let events = InputRoom(Arc::clone(&input_room));
        Ok(Self {
            uart: Uart::with_events(Line(line), events, output),
            input_room,
        })
    }

    /// Readable when the guest has read all its input.
    pub fn input_room(&self) -> Arc<EventFd> {
        Arc::clone(&self.input_room)
    }

    /// Offers input to the guest; how many bytes of it the port's buffer took.
    pub fn input(&mut self, bytes: &[u8]) -> usize {
        self.uart.enqueue_raw_bytes(bytes).unwrap_or_default()
    }
}

impl BusDevice for Serial {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if let (Ok(offset), [value]) = (u8::try_from(offset), data) {
            *value = self.uart.read(offset);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let (Ok(offset), [value]) = (u8::try_from(offset), data) {
            // The output never refuses; the line's eventfd only when it is raised already.
            let _ = self.uart.write(offset, *value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port() -> (Serial, Output, EventFd) {
        let line = EventFd::new(EFD_NONBLOCK).unwrap();
        let output = Output::new().unwrap();
        let serial = Serial::new(line.try_clone().unwrap(), output.clone()).unwrap();
        (serial, output, line)
    }

    #[test]
    fn what_the_guest_writes_reaches_the_console() {
        let (mut serial, output, _) = port();
        for byte in b"ok\n" {
            serial.write(0, &[*byte]);
        }
        assert_eq!(output.take(10), b"ok\n");
    }

    #[test]
    fn input_beyond_the_buffer_waits_for_the_guest_to_read() {
        let (mut serial, _, _) = port();
        let taken = serial.input(&[b'a'; 100]);
        assert_eq!(taken, 64);
        assert_eq!(serial.input(b"b"), 0);
        let mut byte = [0];
        for _ in 0..64 {
            serial.read(0, &mut byte);
        }
        assert_eq!(serial.input_room().read().unwrap(), 1);
        assert_eq!(serial.input(b"b"), 1);
    }

    #[test]
    fn input_interrupts_a_guest_that_asked_for_it() {
        let (mut serial, _, line) = port();
        serial.write(1, &[1]);
        let _ = line.read();
        serial.input(b"x");
        assert_eq!(line.read().unwrap(), 1);
    }

    #[test]
    fn wide_accesses_do_nothing() {
        let (mut serial, output, _) = port();
        serial.write(0, b"ab");
        assert_eq!(output.take(10), b"");
    }
}
