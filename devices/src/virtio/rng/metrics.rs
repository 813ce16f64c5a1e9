//! What the entropy source counts.

use crate::metrics::Counter;

crate::group! {
    /// The counters of the entropy source, from its build on.
    pub struct Metrics {
        /// Times the driver set the source up in a way in which it cannot work.
        pub activate_fails: Counter,
        /// Times the queue was found broken, and chains that break a rule.
        pub entropy_event_fails: Counter,
        /// Times the queue's doorbell rang, by the driver or to go on after a turn.
        pub entropy_event_count: Counter,
        /// Bytes given to the guest.
        pub entropy_bytes: Counter,
        /// Times the host's source gave nothing.
        pub host_rng_fails: Counter,
        /// Times limits held requests back.
        pub entropy_rate_limiter_throttled: Counter,
        /// Times limits let requests pass again.
        pub rate_limiter_event_count: Counter,
    } and {
        /// Requests served.
        pub requests: Counter,
    }
}
