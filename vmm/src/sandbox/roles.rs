//! What the threads of each role ask of the kernel, besides the base.

use devices::syscalls::{Allowance, Call, Condition, Test};

/// The main thread: the session's loop, pause and resume, figures, the end.
pub(super) const VMM: &[Allowance] = &[
    Allowance::when(
        Call::tgkill,
        &[THIS_PROCESS, Condition::is(2, KICK, "signal `SIGRTMIN`")],
        "an order makes a vCPU leave the guest",
    ),
    Allowance::when(
        Call::statx,
        &[Condition::is(
            2,
            0x1000,
            "flags `AT_EMPTY_PATH`: of a descriptor",
        )],
        "whether a file that is closed is the one that was locked",
    ),
    Allowance::any(Call::getpid, "an order, and what is let go after the start"),
    Allowance::any(
        Call::gettid,
        "what is let go after the start: only the first thread does it",
    ),
    Allowance::any(Call::exit_group, "the process ends"),
];

/// The main thread of a VM with a terminal.
pub(super) const CONSOLE: &[Allowance] = &[Allowance::when(
    Call::ioctl,
    &[Condition::is(1, TCGETS2, "request `TCGETS2`")],
    "the terminal's settings from before",
)];

/// Every thread of a VM with a terminal.
pub(super) const TERMINAL: &[Allowance] = &[
    Allowance::when(
        Call::ioctl,
        &[Condition::is(1, TCGETS, "request `TCGETS`")],
        "whether a line of the log goes to a terminal that is raw",
    ),
    Allowance::when(
        Call::ioctl,
        &[Condition::is(1, TCSETS2, "request `TCSETS2`")],
        "the terminal is put back at the end, and before a panic speaks",
    ),
];

/// The main thread of a VM in a cell.
pub(super) const CELL: &[Allowance] = &[
    Allowance::any(
        Call::sendmsg,
        "who stands outside of the cell is asked: whether the guest may run, for a file",
    ),
    Allowance::any(
        Call::recvmsg,
        "the answer, and the descriptor that comes with it",
    ),
];

/// The main thread of a VM with a socket that is in no cell: there is nobody outside to look after its names.
pub(super) const ALONE: &[Allowance] = &[
    Allowance::any(
        Call::statx,
        "whether the file of the socket, or of the VM's name, is the one that was made",
    ),
    Allowance::any(
        Call::unlink,
        "the file of the socket, and of the VM's name, goes with the VM",
    ),
    Allowance::when(
        Call::tgkill,
        &[THIS_PROCESS, Condition::is(2, 15, "signal `SIGTERM`")],
        "called `firecracker`, the process dies of the signal that ended the VM",
    ),
    Allowance::when(
        Call::tgkill,
        &[THIS_PROCESS, Condition::is(2, 2, "signal `SIGINT`")],
        "called `firecracker`, the process dies of the signal that ended the VM",
    ),
];

/// The socket's thread.
pub(super) const API: &[Allowance] = &[
    Allowance::when(
        Call::epoll_pwait,
        &[Condition::long(4, Test::Is(0), "no signal mask")],
        "waiting for clients and the VM's answers",
    ),
    Allowance::any(Call::epoll_ctl, "a client comes or goes"),
    Allowance::any(Call::accept4, "a client comes"),
    Allowance::when(
        Call::getsockopt,
        &[
            Condition::is(1, 1, "level `SOL_SOCKET`"),
            Condition::is(2, 17, "option `SO_PEERCRED`"),
        ],
        "who the client is",
    ),
    Allowance::any(
        Call::recvmsg,
        "a request, and the descriptors that come with it",
    ),
    Allowance::when(Call::sendto, &[NO_ADDRESS], "an answer"),
    Allowance::when(
        Call::shutdown,
        &[Condition::is(1, 1, "how `SHUT_WR`")],
        "a client that was refused is told that no more comes",
    ),
];

/// A vCPU's thread.
pub(super) const VCPU: &[Allowance] = &[
    Allowance::when(
        Call::ioctl,
        &[Condition::is(1, KVM_RUN, "request `KVM_RUN`")],
        "the guest runs",
    ),
    Allowance::any(Call::rt_sigreturn, "an order has made the guest stop"),
    Allowance::when(
        Call::ioctl,
        &[Condition::is(1, KVM_GET_REGS, "request `KVM_GET_REGS`")],
        "the log tells where a guest has crashed",
    ),
    Allowance::when(
        Call::ioctl,
        &[Condition::is(1, KVM_GET_SREGS, "request `KVM_GET_SREGS`")],
        "the log tells where a guest has crashed",
    ),
    Allowance::when(
        Call::ioctl,
        &[Condition::is(
            1,
            KVM_GET_VCPU_EVENTS,
            "request `KVM_GET_VCPU_EVENTS`",
        )],
        "the log tells where a guest has crashed",
    ),
];

/// An io thread's loop.
pub(super) const IO: &[Allowance] = &[
    Allowance::any(Call::epoll_wait, "waiting for kicks, timers and the host"),
    Allowance::any(Call::epoll_ctl, "a worker comes or goes"),
];

const THIS_PROCESS: Condition = Condition::int(0, Test::ThisProcess, "to this process");
const NO_ADDRESS: Condition = Condition::long(4, Test::Is(0), "no address");
/// `SIGRTMIN` of the C library, which keeps two for itself.
const KICK: u64 = 34;
const TCGETS: u64 = 0x5401;
/// `_IOR('T', 0x2A, struct termios2)`.
const TCGETS2: u64 = 0x802c_542a;
/// `_IOW('T', 0x2B, struct termios2)`.
const TCSETS2: u64 = 0x402c_542b;
const KVM_RUN: u64 = 0xae80;
const KVM_GET_REGS: u64 = 0x8090_ae81;
const KVM_GET_SREGS: u64 = 0x8138_ae83;
const KVM_GET_VCPU_EVENTS: u64 = 0x8040_ae9f;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signal_that_may_be_sent_is_the_one_that_kicks() {
        assert_eq!(i32::try_from(KICK), Ok(crate::kvm::kick_signal()));
    }
}
