//! What the devices on ports count.

use crate::metrics::{Counter, Never};

crate::group! {
    /// The counters of a serial port, from its build on.
    pub struct SerialMetrics {
        /// Bytes that the guest wrote and that were lost, or register accesses that failed.
        pub error_count: Counter,
        /// Flushes of the port's output: it needs none.
        pub flush_count: Never,
        /// Reads that are not one byte wide.
        pub missed_read_count: Counter,
        /// Writes that are not one byte wide.
        pub missed_write_count: Counter,
        /// Bytes of input that the guest has read.
        pub read_count: Counter,
        /// Bytes that the guest has written.
        pub write_count: Counter,
        /// Bytes that the guest has written beyond a limit, and that were dropped.
        pub rate_limiter_dropped_bytes: Counter,
    }
}

crate::group! {
    /// The counters of the keyboard controller, from its build on.
    pub struct I8042Metrics {
        /// Accesses that failed: none can.
        pub error_count: Never,
        /// Reads that mean nothing here.
        pub missed_read_count: Counter,
        /// Writes that mean nothing here.
        pub missed_write_count: Counter,
        /// Reads of the status and of the data port.
        pub read_count: Counter,
        /// Times the reset line was pulled.
        pub reset_count: Counter,
        /// Commands and their arguments written.
        pub write_count: Counter,
    }
}
