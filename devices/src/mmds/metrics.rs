//! What the metadata service counts.

use crate::metrics::Counter;

crate::group! {
    /// The counters of one VM's service, over all its cards. The names are Firecracker's; `rx` is what the
    /// guest sends.
    pub struct Metrics {
        /// Frames to the service, taken off their way to the tap.
        pub rx_accepted: Counter,
        /// Those of them that were dropped: malformed, or too long for any request.
        pub rx_accepted_err: Counter,
        /// Those of them that are neither ARP nor TCP.
        pub rx_accepted_unusual: Counter,
        /// Frames that named the service when first looked at and something else, or nothing, when read.
        pub rx_bad_eth: Counter,
        /// Requests for data with a token that is not valid.
        pub rx_invalid_token: Counter,
        /// Requests for data without a token.
        pub rx_no_token: Counter,
        /// TCP segments taken.
        pub rx_count: Counter,
        /// Bytes of frames given to the guest.
        pub tx_bytes: Counter,
        /// Frames made for the guest.
        pub tx_count: Counter,
        /// Frames made for the guest that were lost, for nobody says at which address their reader is.
        pub tx_errors: Counter,
        /// Frames given to the guest.
        pub tx_frames: Counter,
        /// Connections begun.
        pub connections_created: Counter,
        /// Connections ended, by either side or for want of progress.
        pub connections_destroyed: Counter,
    }
}
