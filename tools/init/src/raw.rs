//! The few calls that no library wraps safely: waiting for a signal, and x86 port output.

#![expect(
    unsafe_code,
    reason = "signal sets are C structures and port output is an instruction"
)]

use std::arch::asm;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

/// A set of signals, blocked or waited for.
pub struct SignalSet(libc::sigset_t);

impl SignalSet {
    /// The set of these signal numbers; panics on a number that is none.
    pub fn new(signals: &[libc::c_int]) -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: the pointer is to a local that sigemptyset initialises; it fails for no valid pointer.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: sigemptyset has initialised it.
        let mut set = unsafe { set.assume_init() };
        for &signal in signals {
            // SAFETY: `set` is an initialised local.
            let result = unsafe { libc::sigaddset(&raw mut set, signal) };
            assert_eq!(result, 0, "{signal} is a signal number");
        }
        Self(set)
    }

    /// Blocks these signals in the calling thread and in threads and programs that it starts later, so
    /// that they stay pending until waited for.
    pub fn block(&self) {
        // SAFETY: the set is initialised and the old mask is not asked for.
        let result =
            unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const self.0, ptr::null_mut()) };
        assert_eq!(result, 0, "SIG_BLOCK with a valid set cannot fail");
    }

    /// Unblocks these signals in the calling thread and in programs that it starts later.
    pub fn unblock(&self) {
        // SAFETY: the set is initialised and the old mask is not asked for.
        let result =
            unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const self.0, ptr::null_mut()) };
        assert_eq!(result, 0, "SIG_UNBLOCK with a valid set cannot fail");
    }

    /// Waits for one of these signals, which must be blocked, and takes it; `None` after `limit`.
    pub fn wait(&self, limit: Option<Duration>) -> Option<libc::c_int> {
        let limit = limit.map(|limit| libc::timespec {
            tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        loop {
            // SAFETY: the set is initialised, no details are asked for, and the limit is null or a local
            // that outlives the call.
            let signal = unsafe { libc::sigtimedwait(&raw const self.0, ptr::null_mut(), limit) };
            if signal > 0 {
                return Some(signal);
            }
            if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return None;
            }
        }
    }
}

/// Makes these signals do nothing in this process, and nothing special in programs that it starts: a
/// handler, unlike an ignored signal, does not survive exec.
pub fn disregard(signals: &[libc::c_int]) {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = nothing;
    for &signal in signals {
        // SAFETY: the handler is a function that touches nothing; signal(2) of glibc restarts system calls.
        let old = unsafe { libc::signal(signal, handler as libc::sighandler_t) };
        assert_ne!(
            old,
            libc::SIG_ERR,
            "{signal} is a signal that can be handled"
        );
    }
}

/// An I/O port that this process may write.
pub struct Port(u16);

impl Port {
    /// Asks the kernel for `number` (ioperm(2)). Errors: no privilege, or a kernel without ioperm.
    pub fn open(number: u16) -> io::Result<Self> {
        // SAFETY: permits one port to this process; memory is not touched.
        match unsafe { libc::ioperm(number.into(), 1, 1) } {
            0 => Ok(Self(number)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Writes one byte.
    pub fn write(&self, value: u8) {
        // SAFETY: the port was permitted in `open`; `out` touches neither memory, stack nor flags.
        unsafe {
            asm!("out dx, al", in("dx") self.0, in("al") value, options(nomem, nostack, preserves_flags));
        }
    }
}
