//! A system call as an attacker makes it: by number, past every library.
#![expect(unsafe_code, reason = "whatever a test wants to see refused")]

/// Makes a system call; its error is the kernel's number.
pub(super) fn call<const N: usize>(
    number: libc::c_long,
    arguments: [usize; N],
) -> Result<usize, i32> {
    let argument = |at: usize| arguments.get(at).copied().unwrap_or_default();
    // SAFETY: the attacks' own: what they point to lives on their stacks, and they undo what they have done.
    let result = unsafe {
        libc::syscall(
            number,
            argument(0),
            argument(1),
            argument(2),
            argument(3),
            argument(4),
            argument(5),
        )
    };
    usize::try_from(result).map_err(|_| errno())
}

/// The last error of this thread.
pub(super) fn errno() -> i32 {
    // SAFETY: the call takes nothing.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: it is the thread's own.
    unsafe { *place }
}

/// Puts back what whoever was interrupted may be about to read.
pub(super) fn set_errno(error: i32) {
    // SAFETY: the call takes nothing.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: it is the thread's own.
    unsafe { *place = error };
}

/// -1 as an argument.
pub(super) const MINUS_ONE: usize = usize::MAX;
/// `AT_FDCWD` as an argument.
pub(super) const HERE: usize = libc::AT_FDCWD as isize as usize;

/// A C string as an argument.
pub(super) fn text(text: &core::ffi::CStr) -> usize {
    text.as_ptr().expose_provenance()
}

/// Something that the kernel reads, as an argument.
pub(super) fn input<T>(value: &T) -> usize {
    std::ptr::from_ref(value).expose_provenance()
}

/// Something that the kernel writes, as an argument.
pub(super) fn output<T>(value: &mut T) -> usize {
    std::ptr::from_mut(value).expose_provenance()
}

/// A flag of the C library's as an argument.
pub(super) const fn flag(value: libc::c_int) -> usize {
    value as isize as usize
}

/// Writes to every page of a fresh mapping.
pub(super) fn fill(start: usize, size: usize) {
    for page in (start..start + size).step_by(4096) {
        let byte: *mut u8 = std::ptr::with_exposed_provenance_mut(page);
        // SAFETY: it lies in the mapping, which is the caller's own.
        unsafe { byte.write_volatile(1) };
    }
}

/// Closes what a call has opened; the same number.
pub(super) fn closed(fd: usize) -> Result<usize, i32> {
    call(libc::SYS_close, [fd])
}

/// A child that does nothing but what it is told, and then ends; its exit status, or what kept it from being.
pub(super) fn child(act: impl FnOnce() -> i32, flags: usize) -> Result<i32, i32> {
    let pid = call(libc::SYS_clone, [flag(libc::SIGCHLD) | flags, 0, 0, 0, 0])?;
    if pid == 0 {
        let status = act();
        let _ = call(libc::SYS_exit_group, [flag(status)]);
    }
    wait(pid)
}

/// Waits for a child's end; its exit status.
pub(super) fn wait(pid: usize) -> Result<i32, i32> {
    let mut status: libc::c_int = 0;
    while let Err(libc::EINTR) = call(libc::SYS_wait4, [pid, output(&mut status), 0, 0]) {}
    match libc::WIFEXITED(status) {
        true => Ok(libc::WEXITSTATUS(status)),
        false => Err(libc::EIO),
    }
}
