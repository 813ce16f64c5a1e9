//! What the entropy source asks of the kernel.

use crate::syscalls::{Allowance, Call};

/// The worker.
pub const WORKER: &[Allowance] = &[
    Allowance::any(Call::getrandom, "rng: bytes of the host's generator"),
    Allowance::any(
        Call::timerfd_settime,
        "rng: a request that waits for its limits",
    ),
];
