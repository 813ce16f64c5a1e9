//! Descriptors that whoever started the process has left open for it.
#![expect(
    unsafe_code,
    reason = "a number on the command line becomes an owned descriptor in one place"
)]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

use rustix::io::{FdFlags, fcntl_setfd};

/// The numbers that were taken already.
static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes the descriptor that `flag` has named. A program that it starts later does not inherit it.
///
/// **Only while the command line is read**: until then the process has opened nothing, so that every open
/// descriptor from 3 on was left for it.
///
/// # Errors
/// A sentence: the number is one of stdin, stdout and stderr, is not open, or was named twice.
pub(super) fn take(flag: &str, number: RawFd) -> Result<OwnedFd, String> {
    if number < 3 {
        return Err(format!(
            "{flag} {number} was given: name a descriptor from 3 on, which whoever starts ravelin has opened"
        ));
    }
    let mut taken = TAKEN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if taken.contains(&number) {
        return Err(format!(
            "the descriptor {number} was named twice: give {flag} one of its own"
        ));
    }
    // SAFETY: the number is used for one fcntl, which answers EBADF when nothing is open there.
    let there = unsafe { BorrowedFd::borrow_raw(number) };
    if fcntl_setfd(there, FdFlags::CLOEXEC).is_err() {
        return Err(format!(
            "{flag} {number} was given and no descriptor with this number is open: whoever starts ravelin opens \
             it, without O_CLOEXEC"
        ));
    }
    taken.push(number);
    // SAFETY: it is open, nothing in this process has opened it, and `taken` keeps it from a second owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
