//! Event descriptors as borrowed ones, for event loops that take no raw numbers.
#![expect(
    unsafe_code,
    reason = "vmm-sys-util's EventFd lends its descriptor only as a number"
)]

use std::os::fd::{AsRawFd, BorrowedFd};

use vmm_sys_util::eventfd::EventFd;

/// The descriptor of `event`, for as long as the event lives.
pub(crate) fn borrow(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open as long as `event` is, and the result borrows `event`.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}
