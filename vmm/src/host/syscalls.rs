//! Asking the kernel by calls that change nothing.
#![expect(
    unsafe_code,
    reason = "system calls without a wrapper, and a child process for a trial"
)]

use std::io;

use rustix::process::{WaitOptions, waitpid};

/// The newest Landlock interface (landlock(7)): `landlock_create_ruleset` with the version flag makes
/// nothing.
///
/// # Errors
/// `ENOSYS` where the kernel is built without it, `EOPNOTSUPP` where it is switched off.
pub(super) fn landlock_abi() -> io::Result<i64> {
    const VERSION_FLAG: u64 = 1;
    const NO_ATTRIBUTES: u64 = 0;
    // SAFETY: with the version flag the kernel demands a null pointer and the size 0, and touches no memory.
    answer(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            NO_ATTRIBUTES,
            0_u64,
            VERSION_FLAG,
        )
    })
}

/// Whether a filter may kill the process (seccomp(2), `SECCOMP_GET_ACTION_AVAIL`).
///
/// # Errors
/// `ENOSYS` or `EINVAL` where the kernel has no filters, `EOPNOTSUPP` where it lacks this action.
pub(super) fn seccomp_can_kill_process() -> io::Result<()> {
    let action = libc::SECCOMP_RET_KILL_PROCESS;
    // SAFETY: the kernel reads the four bytes of `action`, which outlives the call.
    answer(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0_u64,
            &raw const action,
        )
    })
    .map(drop)
}

/// Whether a ring may be made: `io_uring_setup` without parameters fails with `EFAULT` only after the
/// kernel has found that the caller may use io_uring.
///
/// # Errors
/// `ENOSYS` where the kernel has none, `EPERM` where the caller may not.
pub(super) fn io_uring_allowed() -> io::Result<()> {
    const ONE_ENTRY: u64 = 1;
    const NO_PARAMETERS: u64 = 0;
    // SAFETY: the kernel finds the parameters' address null and returns without having touched memory.
    let result =
        answer(unsafe { libc::syscall(libc::SYS_io_uring_setup, ONE_ENTRY, NO_PARAMETERS) });
    match result {
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::other("io_uring_setup took a null pointer")),
    }
}

/// The numbers of the active security modules, in order (Linux `uapi/linux/lsm.h`; since Linux 6.8).
///
/// # Errors
/// `ENOSYS` before Linux 6.8.
pub(super) fn security_modules() -> io::Result<Vec<u64>> {
    const SYS_LSM_LIST_MODULES: libc::c_long = 461;
    const NO_FLAGS: u64 = 0;
    let mut ids = [0_u64; 32];
    let mut bytes = u32::try_from(size_of_val(&ids)).expect("256 fits");
    // SAFETY: the kernel writes at most `bytes` bytes to `ids` and the length to `bytes`; both outlive the call.
    let count = answer(unsafe {
        libc::syscall(
            SYS_LSM_LIST_MODULES,
            ids.as_mut_ptr(),
            &raw mut bytes,
            NO_FLAGS,
        )
    })?;
    let count = usize::try_from(count).unwrap_or(0);
    Ok(ids.iter().copied().take(count).collect())
}

/// The status bits of the kernel's clock (adjtimex(2), `STA_UNSYNC` and others): nothing is adjusted.
///
/// # Errors
/// What the kernel or a seccomp filter answered.
pub(super) fn clock_status() -> io::Result<i32> {
    // SAFETY: a `timex` holds integers only, for which zero is a value.
    let mut clock: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: with `modes` 0 the kernel only writes to `clock`, which outlives the call.
    answer(unsafe { libc::adjtimex(&raw mut clock) }.into())?;
    Ok(clock.status)
}

/// Makes a user namespace in a child process that ends at once, and a mount namespace inside it: some
/// kernels give the first to everybody and no rights in it.
///
/// # Errors
/// What `unshare` answered in the child, or why there was no child.
pub(super) fn user_namespace() -> io::Result<()> {
    // SAFETY: the child makes three system calls that take no pointer and ends; it shares nothing
    // with the parent but copies.
    let child = unsafe { libc::fork() };
    if child == 0 {
        unshare_and_exit();
    }
    answer(child.into())?;
    let status = waitpid(rustix::process::Pid::from_raw(child), WaitOptions::empty())?
        .and_then(|(_, status)| status.exit_status());
    match status {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(io::Error::other("the child that tried was killed")),
    }
}

fn unshare_and_exit() -> ! {
    // SAFETY: the call has no pointer; it changes this child only.
    let mut result = unsafe { libc::unshare(libc::CLONE_NEWUSER) };
    if result == 0 {
        // SAFETY: as above.
        result = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    }
    let errno = if result == 0 {
        0
    } else {
        // Every error number of Linux fits the byte of an exit status.
        io::Error::last_os_error().raw_os_error().unwrap_or(255)
    };
    // SAFETY: ends the child without running what the parent registered for its own end.
    unsafe { libc::_exit(errno) }
}

fn answer(result: libc::c_long) -> io::Result<i64> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
