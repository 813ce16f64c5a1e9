//! What a thread may ask of the kernel: a system call, what its arguments must be, and why.
//!
//! Each device folder lists in its `syscalls.rs` what its worker needs on an io thread; the machine puts the
//! filters together from what a VM has. **What is not listed kills the process.**

/// A system call of this architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name, as in its manual page.
    pub name: &'static str,
    /// Its number.
    pub number: i64,
}

/// A call that is allowed if all of `conditions` hold. Several of one call are alternatives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The call.
    pub call: Call,
    /// What its arguments must be; nothing: whatever they are.
    pub conditions: &'static [Condition],
    /// What needs it.
    pub why: &'static str,
}

/// What one argument must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, from 0.
    pub argument: u8,
    /// How many of its bytes the kernel looks at.
    pub width: Width,
    /// What it is compared with.
    pub test: Test,
    /// The same in words, such as "request `KVM_RUN`".
    pub words: &'static str,
}

/// How many bytes of an argument the kernel looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// `int` and `unsigned int`: the kernel ignores what stands above.
    Four,
    /// `long`, and pointers.
    Eight,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// The argument is this.
    Is(u64),
    /// None of these bits is set.
    Without(u64),
    /// Of the bits `of`, exactly `is` are set.
    Masked {
        /// The bits that count.
        of: u64,
        /// How they are.
        is: u64,
    },
    /// The argument is this process's number.
    ThisProcess,
}

impl Allowance {
    /// The call, whatever its arguments.
    pub const fn any(call: Call, why: &'static str) -> Self {
        Self {
            call,
            conditions: &[],
            why,
        }
    }

    /// The call, if all of `conditions` hold.
    pub const fn when(call: Call, conditions: &'static [Condition], why: &'static str) -> Self {
        Self {
            call,
            conditions,
            why,
        }
    }
}

impl Allowance {
    /// Memory of its own is mapped, never to be run.
    pub const fn maps_memory(why: &'static str) -> Self {
        const CONDITIONS: &[Condition] = &[
            Condition::long(2, Test::Without(PROT_EXEC), "without `PROT_EXEC`"),
            Condition::is(3, PRIVATE_ANONYMOUS, "flags `MAP_PRIVATE | MAP_ANONYMOUS`"),
        ];
        Self::when(Call::mmap, CONDITIONS, why)
    }

    /// Memory that was mapped grows, wherever there is room.
    pub const fn grows_memory(why: &'static str) -> Self {
        const CONDITIONS: &[Condition] = &[Condition::is(3, MAYMOVE, "flags `MREMAP_MAYMOVE`")];
        Self::when(Call::mremap, CONDITIONS, why)
    }
}

const PROT_EXEC: u64 = 4;
/// `MAP_PRIVATE | MAP_ANONYMOUS`.
const PRIVATE_ANONYMOUS: u64 = 0x22;
const MAYMOVE: u64 = 1;

impl Condition {
    /// An argument of four bytes that must be `value`.
    pub const fn is(argument: u8, value: u64, words: &'static str) -> Self {
        Self::new(argument, Width::Four, Test::Is(value), words)
    }

    /// An argument of four bytes that must pass `test`.
    pub const fn int(argument: u8, test: Test, words: &'static str) -> Self {
        Self::new(argument, Width::Four, test, words)
    }

    /// An argument of eight bytes that must pass `test`.
    pub const fn long(argument: u8, test: Test, words: &'static str) -> Self {
        Self::new(argument, Width::Eight, test, words)
    }

    const fn new(argument: u8, width: Width, test: Test, words: &'static str) -> Self {
        Self {
            argument,
            width,
            test,
            words,
        }
    }
}

/// Names system calls, and lists them.
macro_rules! calls {
    ($($name:ident = $number:ident;)*) => {
        impl Call {
            $(
                #[doc = concat!("`", stringify!($name), "(2)`.")]
                #[expect(non_upper_case_globals, reason = "the name is the call's own")]
                pub const $name: Self = Self { name: stringify!($name), number: libc::$number };
            )*

            /// The call with this number, if it is one of those named here.
            pub fn numbered(number: i64) -> Option<Self> {
                [$(Self::$name),*].into_iter().find(|call| call.number == number)
            }
        }
    };
}

calls! {
    accept4 = SYS_accept4;
    brk = SYS_brk;
    clock_gettime = SYS_clock_gettime;
    clone = SYS_clone;
    clone3 = SYS_clone3;
    close = SYS_close;
    connect = SYS_connect;
    epoll_ctl = SYS_epoll_ctl;
    epoll_wait = SYS_epoll_wait;
    epoll_pwait = SYS_epoll_pwait;
    execve = SYS_execve;
    exit = SYS_exit;
    exit_group = SYS_exit_group;
    fallocate = SYS_fallocate;
    fcntl = SYS_fcntl;
    fdatasync = SYS_fdatasync;
    flock = SYS_flock;
    fstatfs = SYS_fstatfs;
    fsync = SYS_fsync;
    futex = SYS_futex;
    geteuid = SYS_geteuid;
    getpid = SYS_getpid;
    getrandom = SYS_getrandom;
    getsockopt = SYS_getsockopt;
    gettid = SYS_gettid;
    io_uring_enter = SYS_io_uring_enter;
    io_uring_register = SYS_io_uring_register;
    io_uring_setup = SYS_io_uring_setup;
    ioctl = SYS_ioctl;
    lseek = SYS_lseek;
    madvise = SYS_madvise;
    mmap = SYS_mmap;
    mprotect = SYS_mprotect;
    mremap = SYS_mremap;
    munmap = SYS_munmap;
    newfstatat = SYS_newfstatat;
    open = SYS_open;
    openat = SYS_openat;
    poll = SYS_poll;
    ppoll = SYS_ppoll;
    prctl = SYS_prctl;
    pread64 = SYS_pread64;
    preadv = SYS_preadv;
    ptrace = SYS_ptrace;
    pwrite64 = SYS_pwrite64;
    pwritev = SYS_pwritev;
    read = SYS_read;
    readlink = SYS_readlink;
    readv = SYS_readv;
    recvfrom = SYS_recvfrom;
    recvmsg = SYS_recvmsg;
    restart_syscall = SYS_restart_syscall;
    rt_sigaction = SYS_rt_sigaction;
    rt_sigprocmask = SYS_rt_sigprocmask;
    rt_sigreturn = SYS_rt_sigreturn;
    sched_yield = SYS_sched_yield;
    seccomp = SYS_seccomp;
    sendmsg = SYS_sendmsg;
    sendto = SYS_sendto;
    set_robust_list = SYS_set_robust_list;
    shutdown = SYS_shutdown;
    sigaltstack = SYS_sigaltstack;
    socket = SYS_socket;
    statx = SYS_statx;
    tgkill = SYS_tgkill;
    timerfd_create = SYS_timerfd_create;
    timerfd_settime = SYS_timerfd_settime;
    unlink = SYS_unlink;
    write = SYS_write;
    writev = SYS_writev;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_found_by_its_number() {
        assert_eq!(Call::numbered(libc::SYS_ioctl), Some(Call::ioctl));
        assert_eq!(Call::numbered(libc::SYS_reboot), None);
        assert_eq!(Call::ioctl.name, "ioctl");
    }
}
