//! What a network card counts.

use crate::metrics::Counter;

/// The counters of one card, from its build on. Bytes are those of frames, without virtio's header.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Frames given to the guest.
    pub rx_frames: Counter,
    /// Their bytes.
    pub rx_bytes: Counter,
    /// Frames lost because the guest's buffers cannot hold them, or on the way through a pause.
    pub rx_dropped: Counter,
    /// Frames that began in the guest's buffers and waited for more of them.
    pub rx_split: Counter,
    /// Times the guest had no buffer left.
    pub rx_starved: Counter,
    /// Frames taken from the guest and given to the tap.
    pub tx_frames: Counter,
    /// Their bytes.
    pub tx_bytes: Counter,
    /// Times the next frame came while the worker lingered for it: a kick and a wake-up saved.
    pub tx_lingered: Counter,
    /// Frames that the tap refused: too long, a header that makes no sense, an interface that is down.
    pub tx_dropped: Counter,
    /// Times the tap was full.
    pub tx_stalled: Counter,
    /// Chains that break a rule.
    pub malformed: Counter,
    /// Times the limits held frames back.
    pub throttled: Counter,
    /// Commands on the control queue.
    pub commands: Counter,
    /// Those of them that were refused.
    pub commands_refused: Counter,
}
