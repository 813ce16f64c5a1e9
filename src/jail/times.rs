//! How much time the preparer took, which the program adds to its own.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// When the preparer started, and what it has cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// The monotonic clock at the start, in microseconds.
    pub(super) start_us: u64,
    /// Processor time of those processes that this one came from, in microseconds.
    spent_us: u64,
}

impl Times {
    /// The time of a preparer that starts now.
    pub(super) fn start() -> Self {
        Self {
            start_us: micros(clock_gettime(ClockId::Monotonic)),
            spent_us: 0,
        }
    }

    /// To be called before a fork: the child's own time starts at zero.
    pub(super) fn before_fork(&mut self) {
        self.spent_us += Self::process_us();
    }

    /// Processor time of the preparer in all of its processes until now, in microseconds.
    pub(super) fn preparer_us(&self) -> u64 {
        self.spent_us + Self::process_us()
    }

    /// Processor time of this process, in microseconds. It goes on over exec.
    pub(super) fn process_us() -> u64 {
        micros(clock_gettime(ClockId::ProcessCPUTime))
    }
}

/// Clocks do not run before zero.
fn micros(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000 + nanos / 1_000
}
