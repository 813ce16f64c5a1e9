//! The bound of a monitor's address space: the one limit of memory that every user has (getrlimit(2), `RLIMIT_AS`).
//!
//! It is set when everything that a VM needs is mapped, and before the main thread's filter, which lets no limit be
//! changed. What comes after is heap: a request's body, a document of the metadata service, a device's new limits.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const MIB: u64 = 1 << 20;
/// What a monitor maps beside its guest's memory, in MiB: its program, heap, the main and the queues' thread, rings. It
/// was 10 with a disk and a socket; the rest is for what comes while the guest runs.
const OVERHEAD_MIB: u64 = 192;
/// What a vCPU takes, in MiB: its thread's stack of 2, KVM's pages, and as much again.
const VCPU_MIB: u64 = 4;

/// Bounds what this process may map from now on, and for good; no limit becomes higher than it was.
///
/// # Errors
/// That of `setrlimit(2)`.
pub(super) fn bound(memory_mib: u64, vcpus: u64) -> Result<(), Errno> {
    let now = getrlimit(Resource::As);
    let most = |limit: Option<u64>| Some(limit.unwrap_or(u64::MAX).min(bytes(memory_mib, vcpus)));
    let limit = Rlimit {
        current: most(now.current),
        maximum: most(now.maximum),
    };
    setrlimit(Resource::As, limit)
}

/// The bound of a VM's size.
fn bytes(memory_mib: u64, vcpus: u64) -> u64 {
    let beside = OVERHEAD_MIB.saturating_add(vcpus.saturating_mul(VCPU_MIB));
    memory_mib.saturating_add(beside).saturating_mul(MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_grows_with_the_vm_and_never_wraps() {
        assert_eq!(bytes(128, 1), 324 << 20);
        assert_eq!(bytes(0, 32), 320 << 20);
        assert_eq!(bytes(u64::MAX, u64::MAX), u64::MAX);
    }
}
