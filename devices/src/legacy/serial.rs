//! The serial port COM1: vm-superio's 16550 between the guest and a console.

use std::io::{self, Write};
use std::sync::Arc;

use vm_superio::serial::SerialEvents;
use vm_superio::{Serial as Uart, Trigger};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::bus::{BusDevice, Range};
use crate::legacy::console::Output;
use crate::legacy::metrics::SerialMetrics;
use crate::limiter::{Allowance, TokenBucket};

/// The ports of COM1.
pub const PORTS: Range = Range {
    base: 0x3f8,
    len: 8,
};

/// The interrupt line of the port.
#[derive(Debug)]
struct Line(EventFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// Counts bytes, and tells the host that the guest has read all its input, so that more may follow.
#[derive(Debug)]
struct Traffic {
    input_room: Arc<EventFd>,
    metrics: Arc<SerialMetrics>,
}

impl SerialEvents for Traffic {
    fn buffer_read(&self) {
        self.metrics.read_count.increment();
    }
    fn out_byte(&self) {
        self.metrics.write_count.increment();
    }
    fn tx_lost_byte(&self) {
        self.metrics.error_count.increment();
    }
    fn in_buffer_empty(&self) {
        let _ = self.input_room.write(1);
    }
}

/// Where the port speaks, up to a limit: a guest that says more is not held up, what it says is dropped.
#[derive(Debug)]
struct Limited {
    output: Output,
    allowance: Allowance,
    metrics: Arc<SerialMetrics>,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.allowance.take(count) {
            return self.output.write(bytes);
        }
        self.metrics.rate_limiter_dropped_bytes.add(count);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// A serial port.
#[derive(Debug)]
pub struct Serial {
    uart: Uart<Line, Traffic, Limited>,
    input_room: Arc<EventFd>,
    metrics: Arc<SerialMetrics>,
}

impl Serial {
    /// A port that interrupts by `line` and speaks into `output`, as many bytes as `limit` lets pass.
    ///
    /// # Errors
    /// When the kernel grants no eventfd.
    pub fn new(line: EventFd, output: Output, limit: Option<TokenBucket>) -> io::Result<Self> {
        let input_room = Arc::new(EventFd::new(EFD_NONBLOCK | libc::EFD_CLOEXEC)?);
        let metrics = Arc::<SerialMetrics>::default();
        let events = Traffic {
            input_room: Arc::clone(&input_room),
            metrics: Arc::clone(&metrics),
        };
        let output = Limited {
            output,
            allowance: Allowance::new(limit),
            metrics: Arc::clone(&metrics),
        };
        Ok(Self {
            uart: Uart::with_events(Line(line), events, output),
            input_room,
            metrics,
        })
    }

    /// The counters of this port.
    pub fn metrics(&self) -> Arc<SerialMetrics> {
        Arc::clone(&self.metrics)
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
        match (u8::try_from(offset), data) {
            (Ok(offset), [value]) => *value = self.uart.read(offset),
            _ => self.metrics.missed_read_count.increment(),
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        match (u8::try_from(offset), data) {
            (Ok(offset), [value]) => {
                // The output never refuses; the line's eventfd only when it is raised already.
                if self.uart.write(offset, *value).is_err() {
                    self.metrics.error_count.increment();
                }
            }
            _ => self.metrics.missed_write_count.increment(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port() -> (Serial, Output, EventFd) {
        port_with(None)
    }

    fn port_with(limit: Option<TokenBucket>) -> (Serial, Output, EventFd) {
        let line = EventFd::new(EFD_NONBLOCK).unwrap();
        let output = Output::new().unwrap();
        let serial = Serial::new(line.try_clone().unwrap(), output.clone(), limit).unwrap();
        (serial, output, line)
    }

    #[test]
    fn what_is_over_the_limit_is_dropped_and_counted() {
        let (mut serial, output, _) = port_with(Some(TokenBucket {
            size: 3,
            refill_time: 3_600_000,
            one_time_burst: None,
        }));
        for byte in b"hello" {
            serial.write(0, &[*byte]);
        }
        assert_eq!(output.take(10), b"hel");
        let metrics = serial.metrics();
        assert_eq!(metrics.rate_limiter_dropped_bytes.get(), 2);
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
        serial.read(0, &mut [0; 2]);
        assert_eq!(output.take(10), b"");
        let metrics = serial.metrics();
        assert_eq!(metrics.missed_write_count.get(), 1);
        assert_eq!(metrics.missed_read_count.get(), 1);
    }

    #[test]
    fn bytes_are_counted_each_way() {
        let (mut serial, _, _) = port();
        for byte in b"abc" {
            serial.write(0, &[*byte]);
        }
        serial.input(b"xy");
        serial.read(0, &mut [0]);
        let metrics = serial.metrics();
        assert_eq!(metrics.write_count.get(), 3);
        assert_eq!(metrics.read_count.get(), 1);
        assert_eq!(metrics.error_count.get(), 0);
    }
}
