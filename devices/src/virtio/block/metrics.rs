//! What a disk counts, and how often it speaks of it.

use std::fmt::Display;
use std::time::Instant;

use rustix::io::Errno;

use crate::metrics::{Counter, Latency, Never};
use crate::virtio::block::job::Finished;
use crate::virtio::block::request::Request;

crate::group! {
    /// The counters of one disk, from its build on.
    pub struct Metrics {
        /// Times the driver set the disk up in a way in which it cannot work.
        pub activate_fails: Counter,
        /// Accesses of the configuration space that failed: none can.
        pub cfg_fails: Never,
        /// Times the queue's doorbell rang and there was no request.
        pub no_avail_buffer: Counter,
        /// Times the queue was found broken.
        pub event_fails: Counter,
        /// Requests that the host's kernel failed.
        pub execute_fails: Counter,
        /// Requests that break a rule or that this disk does not know.
        pub invalid_reqs_count: Counter,
        /// Flushes done.
        pub flush_count: Counter,
        /// Times the queue's doorbell rang, by the driver or to go on after a turn.
        pub queue_event_count: Counter,
        /// Times the limits let requests pass again.
        pub rate_limiter_event_count: Counter,
        /// Changes of the running disk.
        pub update_count: Counter,
        /// Changes that were refused.
        pub update_fails: Counter,
        /// Bytes read.
        pub read_bytes: Counter,
        /// Bytes written.
        pub write_bytes: Counter,
        /// Reads done.
        pub read_count: Counter,
        /// Writes done.
        pub write_count: Counter,
        /// Time from the batch in which a read was taken up until it was seen to be done.
        pub read_agg: Latency,
        /// Time from the batch in which a write was taken up until it was seen to be done.
        pub write_agg: Latency,
        /// Times the limits held requests back.
        pub rate_limiter_throttled_events: Counter,
        /// Times as many requests were in flight as may be.
        pub io_engine_throttled_events: Counter,
        /// Requests left in the queue at the end of a turn, added up over the turns.
        pub remaining_reqs_count: Counter,
    } and {
        /// Discards and write-zeroes done.
        pub discards: Counter,
        /// Times the worker was woken.
        pub wakes: Counter,
        /// Times the next request came while the worker lingered.
        pub lingered: Counter,
    }
}

/// **What a guest can cause is logged ever more seldom**: the first, second, fourth, eighth time...
impl Metrics {
    /// Counts what has been done. `now` is when that was seen.
    pub(super) fn finish(&self, id: &str, finished: &Finished, now: Instant) {
        if let Some(errno) = finished.error {
            self.fail(id, errno);
            return;
        }
        let took = now.saturating_duration_since(finished.since);
        match finished.request {
            Request::Read(extent) => {
                self.read_count.increment();
                self.read_bytes.add(extent.len);
                self.read_agg.record(took, 1);
            }
            Request::Write(extent) => {
                self.write_count.increment();
                self.write_bytes.add(extent.len);
                self.write_agg.record(took, 1);
            }
            Request::Flush => self.flush_count.increment(),
            Request::Discard(_) | Request::Zero { .. } => self.discards.increment(),
            Request::GetId => {}
        }
    }

    fn fail(&self, id: &str, errno: Errno) {
        if let Some(times) = worth_saying(&self.execute_fails) {
            log::warn!("disk {id:?}: a request failed: {errno} ({times} so far)");
        }
    }

    pub(super) fn refuse(&self, id: &str, why: &dyn Display) {
        if let Some(times) = worth_saying(&self.invalid_reqs_count) {
            log::debug!("disk {id:?}: a request was refused: {why} ({times} so far)");
        }
    }

    pub(super) fn break_down(&self, id: &str, why: &dyn Display) {
        if let Some(times) = worth_saying(&self.event_fails) {
            log::warn!("disk {id:?}: {why} ({times} times so far)");
        }
    }
}

fn worth_saying(counter: &Counter) -> Option<u64> {
    counter.increment();
    Some(counter.get()).filter(|times| times.is_power_of_two())
}
