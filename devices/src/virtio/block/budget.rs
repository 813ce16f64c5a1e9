//! How much a worker does before the thread's other devices get their turn.

/// Requests, and looks at the queue, before the thread's other devices get their turn.
const STEPS_PER_TURN: u32 = 128;
/// Bytes moved before the thread's other devices get their turn.
const BYTES_PER_TURN: u64 = 4 << 20;

/// What is left of a turn.
pub(super) struct Budget {
    steps: u32,
    bytes: u64,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self {
            steps: STEPS_PER_TURN,
            bytes: BYTES_PER_TURN,
        }
    }

    pub(super) fn spend(&mut self, bytes: u64) {
        self.steps = self.steps.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub(super) fn is_spent(&self) -> bool {
        self.steps == 0 || self.bytes == 0
    }
}
