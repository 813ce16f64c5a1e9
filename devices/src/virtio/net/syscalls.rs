//! What network cards ask of the kernel.

use crate::syscalls::{Allowance, Call, Condition};

/// The worker of a network card.
pub const WORKER: &[Allowance] = &[
    Allowance::any(Call::readv, "net: a frame from the tap"),
    Allowance::any(Call::writev, "net: a frame to the tap"),
    SET_OFFLOADS,
    Allowance::any(
        Call::timerfd_settime,
        "net: frames that wait for their limits, answers of the metadata service",
    ),
];

/// Whoever gives a card other limits (`PATCH /network-interfaces`).
pub const UPDATE: &[Allowance] = &[Allowance::any(
    Call::timerfd_create,
    "net: a card that had no limits gets some",
)];

/// The worker of a network card with the metadata service, besides.
pub const MMDS: &[Allowance] = &[
    Allowance::maps_memory("net: a large document of the metadata service"),
    Allowance::grows_memory("net: a large document of the metadata service grows"),
    Allowance::any(
        Call::munmap,
        "net: a large document of the metadata service is no longer needed",
    ),
];

/// Whoever starts or resets a card: a vCPU thread when the driver does, the main thread for all devices.
pub const START: &[Allowance] = &[
    SET_OFFLOADS,
    Allowance::any(
        Call::read,
        "net: frames of before the start are thrown away",
    ),
];

const SET_OFFLOADS: Allowance = Allowance::when(
    Call::ioctl,
    &[Condition::is(
        1,
        libc::TUNSETOFFLOAD,
        "request `TUNSETOFFLOAD`",
    )],
    "net: the offloads that the driver has agreed to",
);
