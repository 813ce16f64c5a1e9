//! Making a vCPU thread leave the guest.
//!
//! A signal ends a running `KVM_RUN`, but one that arrives between the last look at the thread's orders
//! and `KVM_RUN` would be lost. So the handler also sets `immediate_exit` in the thread's own
//! `kvm_run`, and the next `KVM_RUN` returns at once (KVM `api.rst`, "immediate_exit").
#![expect(
    unsafe_code,
    reason = "a signal handler reaches the thread's kvm_run page through a pointer"
)]

use std::cell::Cell;
use std::io;
use std::ptr::{self, NonNull, addr_of_mut};
use std::sync::OnceLock;

use kvm_bindings::kvm_run;
use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler, unblock_signal};

thread_local! {
    /// The `kvm_run` page of the vCPU that this thread runs, or null.
    static RUN_PAGE: Cell<*mut kvm_run> = const { Cell::new(ptr::null_mut()) };
}

/// The signal that kicks a vCPU thread.
pub(super) fn signal() -> c_int {
    SIGRTMIN()
}

/// Installs the handler, before any thread can be kicked: the signal's default is to end the process.
///
/// # Errors
/// The error of `sigaction(2)`.
pub(crate) fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    INSTALLED
        .get_or_init(|| register_signal_handler(signal(), on_kick).map_err(|error| error.errno()))
        .map_err(io::Error::from_raw_os_error)
}

/// Lets kicks reach this thread's vCPU, whose page is `run`, until the guard is dropped.
///
/// # Errors
/// The error of `pthread_sigmask(3)`.
pub(super) fn listen(run: NonNull<kvm_run>) -> io::Result<Listening> {
    RUN_PAGE.set(run.as_ptr());
    let listening = Listening {
        _stays_on_its_thread: std::marker::PhantomData,
    };
    unblock_signal(signal()).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(listening)
}

/// While it lives, kicks reach the vCPU.
#[derive(Debug)]
pub(super) struct Listening {
    _stays_on_its_thread: std::marker::PhantomData<*mut ()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        RUN_PAGE.set(ptr::null_mut());
    }
}

extern "C" fn on_kick(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    let run = RUN_PAGE.get();
    if run.is_null() {
        return;
    }
    // SAFETY: the pointer is the page of the vCPU that this very thread owns: it is set after the
    // page is mapped and cleared, on this thread, before the vCPU is dropped.
    let flag = unsafe { addr_of_mut!((*run).immediate_exit) };
    // SAFETY: `flag` points into that mapped page; the kernel reads it, and nothing else on this
    // thread runs while the handler does.
    unsafe { flag.write_volatile(1) };
}
