//! What a disk counts, and how often it speaks of it.

use std::fmt::Display;

use rustix::io::Errno;

use crate::metrics::Counter;
use crate::virtio::block::request::Request;

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
    /// Times the queue was found broken.
    pub broken: Counter,
    /// Times the limits held requests back.
    pub throttled: Counter,
    /// Times the worker was woken.
    pub wakes: Counter,
    /// Times the next request came while the worker lingered.
    pub lingered: Counter,
}

/// **What a guest can cause is logged ever more seldom**: the first, second, fourth, eighth time...
impl Metrics {
    pub(super) fn take(&self, request: Request) {
        match request {
            Request::Read(extent) => {
                self.reads.increment();
                self.read_bytes.add(extent.len);
            }
            Request::Write(extent) => {
                self.writes.increment();
                self.write_bytes.add(extent.len);
            }
            Request::Flush => self.flushes.increment(),
            Request::Discard(_) | Request::Zero { .. } => self.discards.increment(),
            Request::GetId => {}
        }
    }

    pub(super) fn fail(&self, id: &str, errno: Errno) {
        if let Some(times) = worth_saying(&self.failed) {
            log::warn!("disk {id:?}: a request failed: {errno} ({times} so far)");
        }
    }

    pub(super) fn refuse(&self, id: &str, why: &dyn Display) {
        if let Some(times) = worth_saying(&self.refused) {
            log::debug!("disk {id:?}: a request was refused: {why} ({times} so far)");
        }
    }

    pub(super) fn break_down(&self, id: &str, why: &dyn Display) {
        if let Some(times) = worth_saying(&self.broken) {
            log::warn!("disk {id:?}: {why} ({times} times so far)");
        }
    }
}

fn worth_saying(counter: &Counter) -> Option<u64> {
    counter.increment();
    Some(counter.get()).filter(|times| times.is_power_of_two())
}
