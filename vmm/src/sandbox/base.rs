//! What every thread asks of the kernel.

use devices::syscalls::{Allowance, Call, Condition, Test};

/// Every role.
pub(super) const BASE: &[Allowance] = &[
    Allowance::any(Call::read, "an event, a timer, input"),
    Allowance::any(Call::write, "an event, output, a line of the log"),
    Allowance::any(
        Call::ppoll,
        "whether the log takes a line; the main thread's loop",
    ),
    Allowance::any(
        Call::restart_syscall,
        "a wait goes on after the process was stopped, by a signal or by who audits it",
    ),
    Allowance::when(
        Call::futex,
        &[futex(0, "operation `FUTEX_WAIT`")],
        "waiting for another thread (C library)",
    ),
    Allowance::when(
        Call::futex,
        &[futex(1, "operation `FUTEX_WAKE`")],
        "waking another thread",
    ),
    Allowance::when(
        Call::futex,
        &[futex(9, "operation `FUTEX_WAIT_BITSET`")],
        "waiting for another thread",
    ),
    Allowance::any(
        Call::sched_yield,
        "waiting a moment for another thread, at a queue",
    ),
    Allowance::any(
        Call::clock_gettime,
        "the time, where the host's clock cannot be read without a call",
    ),
    Allowance::any(Call::brk, "the heap grows or shrinks"),
];

/// The threads whose input has no small bound: the main one and the socket's.
pub(super) const LARGE: &[Allowance] = &[
    Allowance::maps_memory("a large block of the heap"),
    Allowance::grows_memory("a large block of the heap grows"),
];

/// The threads that end, or take what has ended apart: all but those that serve queues, which last until the
/// process ends.
pub(super) const ENDS: &[Allowance] = &[
    Allowance::any(Call::close, "what is no longer needed"),
    Allowance::any(Call::munmap, "a large block of the heap; a thread's stack"),
    Allowance::when(
        Call::madvise,
        &[Condition::is(2, DONTNEED, "advice `MADV_DONTNEED`")],
        "free memory is given back: the heap's, an ended thread's stack",
    ),
    Allowance::any(
        Call::rt_sigprocmask,
        "no signal comes while a thread ends or signals another",
    ),
    Allowance::any(
        Call::sigaltstack,
        "a thread ends: the stack for its signals",
    ),
];

/// The threads that end before their process does.
pub(super) const THREAD: &[Allowance] = &[Allowance::any(Call::exit, "the thread ends")];

/// What a build with debug assertions asks besides.
pub(super) const DEBUG: &[Allowance] = &[Allowance::when(
    Call::fcntl,
    &[Condition::is(1, 1, "command `F_GETFD`")],
    "debug builds: whether what is closed was open",
)];

/// `FUTEX_PRIVATE_FLAG` and `FUTEX_CLOCK_REALTIME` change nothing of an operation's meaning.
const fn futex(operation: u64, words: &'static str) -> Condition {
    let of = 0x7f;
    Condition::int(1, Test::Masked { of, is: operation }, words)
}

const DONTNEED: u64 = 4;
