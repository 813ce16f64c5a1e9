//! The time stamp counter.

#![expect(unsafe_code, reason = "reading the time stamp counter is an intrinsic")]

/// So long without any progress, some seconds, a device counts as stalled.
pub const STALL: u64 = 10_000_000_000;

/// The time stamp counter now.
pub fn cycles() -> u64 {
    // SAFETY: every 64-bit processor has the counter, and nothing disables it for level 3.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// A moment some cycles ahead.
#[derive(Clone, Copy)]
pub struct Deadline(u64);

impl Deadline {
    /// The moment `span` cycles from now.
    pub fn after(span: u64) -> Self {
        Self(cycles().saturating_add(span))
    }

    /// Whether it is over.
    pub fn passed(self) -> bool {
        cycles() >= self.0
    }
}
