//! What a vsock device counts.

use crate::metrics::{Counter, Never};

crate::group! {
    /// The counters of a vsock device, from its build on. Bytes are those of data, without headers.
    pub struct Metrics {
        /// Times the driver set the device up in a way in which it cannot work.
        pub activate_fails: Counter,
        /// Accesses of the configuration space that failed: none can.
        pub cfg_fails: Never,
        /// Times the receive queue was found broken, or could not be watched.
        pub rx_queue_event_fails: Counter,
        /// Times the transmit queue was found broken, or could not be watched.
        pub tx_queue_event_fails: Counter,
        /// Times the event queue was found broken, or could not be watched.
        pub ev_queue_event_fails: Counter,
        /// Times connections could not be accepted, and times nobody connects for the guest any more.
        pub muxer_event_fails: Counter,
        /// Processes of the host that said something else than a port first, and connections that could not be watched.
        pub conn_event_fails: Counter,
        /// Times the receive queue's doorbell rang, by the driver or to go on after a turn.
        pub rx_queue_event_count: Counter,
        /// Times the transmit queue's doorbell rang, by the driver or to go on after a turn.
        pub tx_queue_event_count: Counter,
        /// Bytes given to the guest.
        pub rx_bytes_count: Counter,
        /// Bytes taken from the guest.
        pub tx_bytes_count: Counter,
        /// Packets given to the guest.
        pub rx_packets_count: Counter,
        /// Packets taken from the guest.
        pub tx_packets_count: Counter,
        /// Connections begun, by either side.
        pub conns_added: Counter,
        /// Connections ended at once: refused, broken by the guest, or not answered in time.
        pub conns_killed: Counter,
        /// Connections that are gone.
        pub conns_removed: Counter,
        /// Times a list of connections to end was made anew: there is none.
        pub killq_resync: Never,
        /// Times what had waited for the host's side could not be written to it.
        pub tx_flush_fails: Counter,
        /// Times the host's side did not take data, other than for want of room.
        pub tx_write_fails: Counter,
        /// Times the host's side could not be read.
        pub rx_read_fails: Counter,
    } and {
        /// Packets that are too short, say more than they hold, or carry more than the guest may send.
        pub malformed: Counter,
        /// Packets from or to somebody else than this guest and its host.
        pub strays: Counter,
        /// Times something waited for the guest and there was no buffer.
        pub starved: Counter,
    }
}
