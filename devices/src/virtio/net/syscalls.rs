//! What network cards ask of the kernel.

use crate::syscalls::{Allowance, Call, Condition, Test};

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
    Allowance::when(
        Call::mmap,
        &[
            Condition::long(2, Test::Without(PROT_EXEC), "without `PROT_EXEC`"),
            Condition::is(3, PRIVATE_ANONYMOUS, "flags `MAP_PRIVATE | MAP_ANONYMOUS`"),
        ],
        "net: a large document of the metadata service",
    ),
    Allowance::when(
        Call::mremap,
        &[Condition::is(3, MAYMOVE, "flags `MREMAP_MAYMOVE`")],
        "net: a large document of the metadata service grows",
    ),
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

const PROT_EXEC: u64 = 4;
const PRIVATE_ANONYMOUS: u64 = 0x22;
const MAYMOVE: u64 = 1;
