//! What disks ask of the kernel.

use crate::syscalls::{Allowance, Call, Condition, Test};

/// The worker of a disk with the engine `sync`.
pub const SYNC: &[Allowance] = &[
    Allowance::any(Call::preadv, "block: a read request"),
    Allowance::any(Call::pwritev, "block: a write request, zeroes for one"),
    Allowance::any(Call::fdatasync, "block: a flush"),
    SET_TIMER,
    Allowance::when(
        Call::fallocate,
        &[Condition::is(
            1,
            PUNCH_HOLE,
            "mode `FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE`",
        )],
        "block: a discard",
    ),
    Allowance::when(
        Call::fallocate,
        &[Condition::is(
            1,
            ZERO_RANGE,
            "mode `FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE`",
        )],
        "block: a write of zeroes",
    ),
];

/// The worker of a disk with the engine `uring`. What the ring may do was restricted before.
pub const URING: &[Allowance] = &[
    Allowance::any(
        Call::io_uring_enter,
        "block: requests go to the ring and are waited for",
    ),
    Allowance::when(
        Call::io_uring_register,
        &[Condition::is(
            1,
            ENABLE_RINGS,
            "operation `IORING_REGISTER_ENABLE_RINGS`",
        )],
        "block: the first start of a disk enables its ring",
    ),
    SET_TIMER,
];

/// When the limits let requests through again.
const SET_TIMER: Allowance = Allowance::any(
    Call::timerfd_settime,
    "block: a request that waits for its limits",
);

/// Whoever gives a disk another file (`PATCH /drives`), where nobody else opens it.
pub const OPEN: &[Allowance] = &[Allowance::when(
    Call::openat,
    &[Condition::int(
        2,
        Test::Without(MAKES_FILES),
        "without `O_CREAT`, `O_TRUNC`, `O_APPEND`, `O_TMPFILE`",
    )],
    "block: a new file for a disk",
)];

/// Whoever gives a disk another file, and limits.
pub const UPDATE: &[Allowance] = &[
    Allowance::any(Call::statx, "block: what kind of file it is"),
    Allowance::any(
        Call::timerfd_create,
        "block: a disk that had no limits gets some",
    ),
    Allowance::any(Call::flock, "block: locking it"),
    Allowance::any(Call::lseek, "block: its size"),
    Allowance::any(Call::fstatfs, "block: whether it lies in memory"),
    Allowance::when(
        Call::fcntl,
        &[Condition::is(1, GETFL, "command `F_GETFL`")],
        "block: whether it may be written",
    ),
    Allowance::when(
        Call::fcntl,
        &[Condition::is(1, SETFL, "command `F_SETFL`")],
        "block: a read may wait again",
    ),
    Allowance::when(
        Call::fcntl,
        &[Condition::is(1, DUPFD_CLOEXEC, "command `F_DUPFD_CLOEXEC`")],
        "block: a descriptor that was passed stays until its copy is in use",
    ),
];

const PUNCH_HOLE: u64 = 0x02 | KEEP_SIZE;
const ZERO_RANGE: u64 = 0x10 | KEEP_SIZE;
const KEEP_SIZE: u64 = 0x01;
/// Linux `uapi/linux/io_uring.h`.
const ENABLE_RINGS: u64 = 12;
const GETFL: u64 = 3;
const SETFL: u64 = 4;
const DUPFD_CLOEXEC: u64 = 1030;
/// `O_CREAT | O_TRUNC | O_APPEND`, and the bit that tells `O_TMPFILE` from `O_DIRECTORY`.
const MAKES_FILES: u64 = 0o100 | 0o1000 | 0o2000 | 0o20_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_kernels() {
        let bits = |bits: i32| u64::try_from(bits).unwrap();
        let keep = libc::FALLOC_FL_KEEP_SIZE;
        assert_eq!(PUNCH_HOLE, bits(libc::FALLOC_FL_PUNCH_HOLE | keep));
        assert_eq!(ZERO_RANGE, bits(libc::FALLOC_FL_ZERO_RANGE | keep));
        assert_eq!(GETFL, bits(libc::F_GETFL));
        assert_eq!(SETFL, bits(libc::F_SETFL));
        assert_eq!(DUPFD_CLOEXEC, bits(libc::F_DUPFD_CLOEXEC));
        let temporary = libc::O_TMPFILE & !libc::O_DIRECTORY;
        let made = libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND | temporary;
        assert_eq!(MAKES_FILES, bits(made));
    }
}
