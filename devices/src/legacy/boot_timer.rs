//! The boot timer: a register to which a guest's init writes when the boot is over.
//!
//! Firecracker's `--boot-timer` and its guests' inits know it: the byte 123 at the first byte of the page of
//! devices. The guest is heard once; what it writes later says nothing.

use std::fmt;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::bus::BusDevice;

/// How many bytes of addresses the register has.
pub const SIZE: u64 = 0x1000;
/// What the guest writes.
const BOOTED: u8 = 123;

/// A moment, by the clock on the wall and by what the process has used of its processors.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    wall: Instant,
    processors: Duration,
}

impl Moment {
    /// This one.
    pub fn now() -> Self {
        Self {
            wall: Instant::now(),
            // The kernel's answer is never negative.
            processors: Duration::try_from(clock_gettime(ClockId::ProcessCPUTime))
                .unwrap_or_default(),
        }
    }

    /// How long ago it was.
    pub fn elapsed(&self) -> BootTime {
        let now = Self::now();
        BootTime {
            wall: now.wall.saturating_duration_since(self.wall),
            processors: now.processors.saturating_sub(self.processors),
        }
    }
}

/// How long a boot took. Shown as the line that Firecracker logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootTime {
    /// By the clock on the wall.
    pub wall: Duration,
    /// What the process has used of its processors.
    pub processors: Duration,
}

impl fmt::Display for BootTime {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wall, processors } = self;
        write!(
            to,
            "Guest-boot-time = {:>6} us {} ms, {:>6} CPU us {} CPU ms",
            wall.as_micros(),
            wall.as_millis(),
            processors.as_micros(),
            processors.as_millis()
        )
    }
}

type Report = Box<dyn FnOnce(BootTime) + Send>;

/// A boot timer.
pub struct BootTimer {
    begun: Moment,
    report: Option<Report>,
}

impl BootTimer {
    /// A timer of a boot that began at `begun`. `report` is called once, on a vCPU's thread.
    pub fn new(begun: Moment, report: impl FnOnce(BootTime) + Send + 'static) -> Self {
        Self {
            begun,
            report: Some(Box::new(report)),
        }
    }
}

impl fmt::Debug for BootTimer {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("BootTimer")
    }
}

impl BusDevice for BootTimer {
    fn read(&mut self, _: u64, _: &mut [u8]) {}

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let (0, [BOOTED]) = (offset, data)
            && let Some(report) = self.report.take()
        {
            report(self.begun.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn the_guest_is_heard_once_and_only_when_it_writes_the_number() {
        let (sender, times) = channel();
        let mut timer = BootTimer::new(Moment::now(), move |time| sender.send(time).unwrap());
        timer.write(0, &[122]);
        timer.write(1, &[123]);
        timer.write(0, &[123, 0]);
        timer.write(0, &[]);
        assert!(times.try_recv().is_err());
        timer.write(0, &[123]);
        timer.write(0, &[123]);
        assert_eq!(times.try_iter().count(), 1);
    }

    #[test]
    fn a_boot_time_is_shown_as_firecracker_logs_it() {
        let time = BootTime {
            wall: Duration::from_micros(123_456),
            processors: Duration::from_micros(7_890),
        };
        assert_eq!(
            time.to_string(),
            "Guest-boot-time = 123456 us 123 ms,   7890 CPU us 7 CPU ms"
        );
    }
}
