//! What a disk counts.

use crate::metrics::Counter;

/// The counters of one disk, from its build on.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Reads asked for.
    pub reads: Counter,
    /// Bytes asked for by reads.
    pub read_bytes: Counter,
    /// Writes asked for.
    pub writes: Counter,
    /// Bytes asked for by writes.
    pub write_bytes: Counter,
    /// Flushes asked for.
    pub flushes: Counter,
    /// Discards and write-zeroes asked for.
    pub discards: Counter,
    /// Requests that the host's kernel failed.
    pub failed: Counter,
    /// Requests that break a rule or that this disk does not know.
    pub refused: Counter,
    /// Times the limits held requests back.
    pub throttled: Counter,
    /// Times the worker was woken.
    pub wakes: Counter,
    /// Times the next request came while the worker lingered.
    pub lingered: Counter,
}
