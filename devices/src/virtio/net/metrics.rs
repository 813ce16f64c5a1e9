//! What a network card counts.

use crate::metrics::{Counter, Latency, Never};

crate::group! {
    /// The counters of one card, from its build on. Bytes are those of frames, without virtio's header.
    pub struct Metrics {
        /// Times the driver set the card up in a way in which it cannot work.
        pub activate_fails: Counter,
        /// Accesses of the configuration space that failed: none can.
        pub cfg_fails: Never,
        /// Changes of the address through the configuration space: it is read-only.
        pub mac_address_updates: Never,
        /// Times the guest had no receive buffer left.
        pub no_rx_avail_buffer: Counter,
        /// Times the transmit queue's doorbell rang and there was no frame.
        pub no_tx_avail_buffer: Counter,
        /// Times a queue was found broken, or could not be watched.
        pub event_fails: Counter,
        /// Times the receive queue's doorbell rang, by the driver or to go on after a turn.
        pub rx_queue_event_count: Counter,
        /// Times the limits let frames to the guest pass again.
        pub rx_event_rate_limiter_count: Counter,
        /// Times the limits held frames to the guest back.
        pub rx_rate_limiter_throttled: Counter,
        /// Times the tap had something to say.
        pub rx_tap_event_count: Counter,
        /// Bytes given to the guest.
        pub rx_bytes_count: Counter,
        /// Frames given to the guest.
        pub rx_packets_count: Counter,
        /// Frames lost because the guest's buffers cannot hold them, or on the way through a pause.
        pub rx_fails: Counter,
        /// Frames read from the tap.
        pub rx_count: Counter,
        /// Times the tap could not be read.
        pub tap_read_fails: Counter,
        /// Frames that the tap refused: too long, a header that makes no sense, an interface that is down.
        pub tap_write_fails: Counter,
        /// Time that the tap took to take a frame; every 64th frame is timed and stands for the others.
        pub tap_write_agg: Latency,
        /// Bytes given to the tap.
        pub tx_bytes_count: Counter,
        /// Chains to send that break a rule.
        pub tx_malformed_frames: Counter,
        /// Frames from the guest that were lost.
        pub tx_fails: Counter,
        /// Writes to the tap that succeeded.
        pub tx_count: Counter,
        /// Frames taken from the guest and given to the tap.
        pub tx_packets_count: Counter,
        /// Times the transmit queue's doorbell rang, by the driver or to go on after a turn.
        pub tx_queue_event_count: Counter,
        /// Times the limits let frames from the guest pass again.
        pub tx_rate_limiter_event_count: Counter,
        /// Times the limits held frames from the guest back.
        pub tx_rate_limiter_throttled: Counter,
        /// Frames with another sender than the card: they are not looked for.
        pub tx_spoofed_mac_count: Never,
        /// Frames left in the transmit queue at the end of a turn, added up over the turns.
        pub tx_remaining_reqs_count: Counter,
    } and {
        /// Frames that began in the guest's buffers and waited for more of them.
        pub rx_split: Counter,
        /// Chains to receive into that break a rule.
        pub rx_malformed: Counter,
        /// Times the next frame came while the worker lingered for it: a kick and a wake-up saved.
        pub tx_lingered: Counter,
        /// Times the tap was full.
        pub tx_stalled: Counter,
        /// Commands on the control queue.
        pub commands: Counter,
        /// Those of them that were refused.
        pub commands_refused: Counter,
    }
}
