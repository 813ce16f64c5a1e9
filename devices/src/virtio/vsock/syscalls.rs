//! What vsock devices ask of the kernel.

use crate::syscalls::{Allowance, Call, Condition, Test};

/// The worker of a vsock device.
pub const WORKER: &[Allowance] = &[
    Allowance::any(Call::accept4, "vsock: a process of the host comes"),
    Allowance::when(
        Call::recvfrom,
        &[NO_ADDRESS],
        "vsock: the port that a process of the host asks for",
    ),
    Allowance::any(
        Call::readv,
        "vsock: data for the guest, into its own buffers",
    ),
    Allowance::any(
        Call::sendmsg,
        "vsock: data of the guest's, from its own buffers",
    ),
    Allowance::when(
        Call::sendto,
        &[NO_ADDRESS],
        "vsock: data of the guest's that had to wait, and the answer to who has come",
    ),
    Allowance::any(Call::shutdown, "vsock: one direction of a connection ends"),
    Allowance::any(Call::close, "vsock: a connection ends"),
    TIMER,
];

/// The worker of one for which somebody outside connects, besides.
pub const LINE: &[Allowance] = &[Allowance::any(
    Call::recvmsg,
    "vsock: the socket that somebody outside has connected for the guest",
)];

/// The worker of one that connects itself, besides: outside of a cell.
pub const CONNECTS: &[Allowance] = &[
    Allowance::when(
        Call::socket,
        &[Condition::is(0, 1, "domain `AF_UNIX`")],
        "vsock, without a cell: the guest connects to a socket of the host",
    ),
    Allowance::any(
        Call::connect,
        "vsock, without a cell: the guest connects to a socket of the host",
    ),
];

/// Whoever resets a device.
pub const START: &[Allowance] = &[TIMER];

/// Who ends a VM outside of a cell: the main thread.
pub const END: &[Allowance] = &[
    Allowance::any(
        Call::statx,
        "vsock, without a cell: whether the socket's file is the one that was made",
    ),
    Allowance::any(
        Call::unlink,
        "vsock, without a cell: the socket's file goes with the VM",
    ),
];

const TIMER: Allowance = Allowance::any(
    Call::timerfd_settime,
    "vsock: who does not answer is not waited for for ever",
);
const NO_ADDRESS: Condition = Condition::long(4, Test::Is(0), "no address");
