//! An open `/dev/kvm` becomes the library's.
#![expect(
    unsafe_code,
    reason = "the library takes an open KVM by its number only"
)]

use std::fs::File;
use std::os::fd::{FromRawFd, IntoRawFd};

/// The library's KVM over a device that was opened, by this process or for it.
pub(super) fn kvm(device: File) -> kvm_ioctls::Kvm {
    // SAFETY: the number is an open descriptor's, and nobody else owns it any more.
    unsafe { kvm_ioctls::Kvm::from_raw_fd(device.into_raw_fd()) }
}
