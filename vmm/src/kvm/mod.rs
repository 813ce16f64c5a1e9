//! KVM: the only room that uses `kvm-ioctls`.
//!
//! The order of the calls matters more than their number: memory slots come before the interrupt
//! controllers, because registering an in-kernel device starts a grace period that a later memory slot
//! then waits for (5.9 against 1.2 ms for an empty machine). [`Vm::create`] keeps that order.

mod ahead;
mod kick;
mod own;
mod registers;
mod survey;
mod vcpu;
mod vm;

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use devices::outside;
use kvm_bindings::{CpuId, KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::Cap;
use rustix::fs::OFlags;

use crate::spec::KvmCapability;

pub use ahead::{CpuidRow, ask_ahead};
pub(crate) use kick::install as accept_kicks;
pub use registers::Registers;
pub use survey::{NEEDS, Need, Survey};
pub use vcpu::{BoundVcpu, Exit, Vcpu, VcpuError, kick_signal};
pub use vm::{Doorbell, Vm, VmError, VmOptions};

/// Where KVM's device stands.
pub const DEVICE: &CStr = c"/dev/kvm";

/// Why KVM cannot be used here. Each sentence says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// There is no `/dev/kvm`.
    #[error(
        "/dev/kvm does not exist: load the kernel module (modprobe kvm_intel or kvm_amd), switch on \
         virtualisation in the firmware, or, inside a virtual machine, enable nested virtualisation"
    )]
    Missing,
    /// The file is there, and the kernel has no driver for it.
    #[error(
        "/dev/kvm exists, but no KVM is loaded behind it: load the kernel module (modprobe kvm_intel or kvm_amd)"
    )]
    NoDriver,
    /// The mode of `/dev/kvm` keeps this user out.
    #[error(
        "/dev/kvm cannot be opened by this user: add the user to the group that owns it \
         (usermod -aG kvm USER, then log in again)"
    )]
    Denied,
    /// Something other than the mode of `/dev/kvm` refuses: a device cgroup, a security module, a mount without
    /// devices.
    #[error(
        "opening /dev/kvm is not permitted, whatever its mode says: let the device cgroup or the container pass it"
    )]
    Refused,
    /// `/dev/kvm` could not be opened for another reason.
    #[error("/dev/kvm cannot be opened: {0}")]
    Open(#[source] io::Error),
    /// What was opened does not answer as KVM.
    #[error(
        "/dev/kvm is not KVM: it does not answer KVM_GET_API_VERSION; check what was put there"
    )]
    NotKvm,
    /// KVM speaks another version of its interface.
    #[error(
        "this kernel's KVM interface has version {0}, and ravelin needs version 12: use Linux 5.10 or newer"
    )]
    Version(i32),
    /// A capability this machine cannot do without.
    #[error("this kernel's KVM lacks {0}, which ravelin needs: use Linux 5.10 or newer")]
    Lacks(&'static str),
    /// A capability that a user asked for.
    #[error(
        "this kernel's KVM lacks the capability {0}, which kvm_capabilities asks for: take it out, or use a newer \
         kernel"
    )]
    LacksWanted(u32),
    /// The supported CPUID could not be read.
    #[error("KVM does not tell which processor features it supports: {0}")]
    Cpuid(#[source] io::Error),
}

/// What this host's KVM can do, asked once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// The local APIC's timer can be armed with a time stamp.
    pub tsc_deadline: bool,
    /// The most vCPUs a machine may have.
    pub max_vcpus: usize,
}

/// An open KVM.
#[derive(Debug)]
pub struct Kvm {
    fd: kvm_ioctls::Kvm,
    capabilities: Capabilities,
    /// What was asked before, by somebody else.
    cpuid: Option<CpuId>,
}

impl Kvm {
    /// Opens `/dev/kvm` and asks what it can do.
    ///
    /// # Errors
    /// [`KvmError`], each with what to do.
    pub fn open() -> Result<Self, KvmError> {
        Self::open_at(DEVICE)
    }

    /// Opens `/dev/kvm`; what it must have is what this machine needs, changed as `wanted` says.
    ///
    /// # Errors
    /// As [`Self::open`], and a capability that is wanted and not there.
    pub fn open_with(wanted: &[KvmCapability]) -> Result<Self, KvmError> {
        let kvm = Self::open_whatever_it_lacks(DEVICE)?;
        require_capabilities(wanted, |number| kvm.fd.check_extension_raw(number) > 0)?;
        Ok(kvm)
    }

    /// Opens KVM at `path`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(path: &CStr) -> Result<Self, KvmError> {
        let kvm = Self::open_whatever_it_lacks(path)?;
        require_capabilities(&[], |number| kvm.fd.check_extension_raw(number) > 0)?;
        Ok(kvm)
    }

    /// Opens KVM at `path`; what it lacks, [`Self::survey`] tells.
    pub(crate) fn open_whatever_it_lacks(path: &CStr) -> Result<Self, KvmError> {
        let ahead = (path == DEVICE).then(Self::asked_ahead).flatten();
        let (fd, cpuid) = match ahead {
            Some((fd, cpuid)) => (fd.into(), cpuid),
            None => {
                let path = Path::new(OsStr::from_bytes(path.to_bytes()));
                (outside::open(path, OFlags::RDWR).map_err(refusal)?, None)
            }
        };
        let fd = own::kvm(fd);
        let version = fd.get_api_version();
        if version < 0 {
            return Err(KvmError::NotKvm);
        }
        if u32::try_from(version) != Ok(KVM_API_VERSION) {
            return Err(KvmError::Version(version));
        }
        let capabilities = Capabilities {
            tsc_deadline: fd.check_extension(Cap::TscDeadlineTimer),
            max_vcpus: fd.get_max_vcpus(),
        };
        Ok(Self {
            fd,
            capabilities,
            cpuid,
        })
    }

    /// What it can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The processor features that a guest can have here (`KVM_GET_SUPPORTED_CPUID`, a quarter of a
    /// millisecond: call it once a machine).
    ///
    /// # Errors
    /// [`KvmError::Cpuid`].
    pub fn supported_cpuid(&self) -> Result<CpuId, KvmError> {
        if let Some(cpuid) = &self.cpuid {
            return Ok(cpuid.clone());
        }
        self.fd
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(|error| KvmError::Cpuid(error.into()))
    }
}

fn refusal(error: io::Error) -> KvmError {
    match error.raw_os_error().unwrap_or_default() {
        libc::ENOENT | libc::ENOTDIR => KvmError::Missing,
        libc::ENODEV | libc::ENXIO => KvmError::NoDriver,
        libc::EACCES => KvmError::Denied,
        libc::EPERM => KvmError::Refused,
        _ => KvmError::Open(error),
    }
}

/// Checks what the machine needs and `wanted` does not excuse, and what `wanted` adds.
fn require_capabilities(
    wanted: &[KvmCapability],
    has: impl Fn(u64) -> bool,
) -> Result<(), KvmError> {
    // Everything older has stood beside these since long before them: irqchip, ioeventfd, irqfd,
    // user memory, TSS and identity map addresses.
    let needed = [
        (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
        (Cap::Irqfd, "KVM_CAP_IRQFD"),
        (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
        (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    ];
    for (capability, name) in needed {
        let number = capability as u32;
        let excused = wanted.contains(&KvmCapability::NotRequired(number));
        if !excused && !has(number.into()) {
            return Err(KvmError::Lacks(name));
        }
    }
    wanted.iter().try_for_each(|capability| match capability {
        KvmCapability::Required(number) if !has((*number).into()) => {
            Err(KvmError::LacksWanted(*number))
        }
        KvmCapability::Required(_) | KvmCapability::NotRequired(_) => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_missing_device_and_a_file_that_is_not_kvm_are_told_apart() {
        let missing = Kvm::open_at(c"/nonexistent/kvm").unwrap_err();
        assert!(matches!(missing, KvmError::Missing), "{missing}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = CString::new(file.path().as_os_str().as_bytes()).unwrap();
        let error = Kvm::open_at(&path).unwrap_err();
        assert!(matches!(error, KvmError::NotKvm), "{error}");
    }

    #[test]
    fn each_error_number_has_its_cause() {
        let cause = |errno| refusal(io::Error::from_raw_os_error(errno));
        assert!(matches!(cause(libc::ENXIO), KvmError::NoDriver));
        assert!(matches!(cause(libc::EACCES), KvmError::Denied));
        assert!(matches!(cause(libc::EPERM), KvmError::Refused));
        assert!(matches!(cause(libc::EMFILE), KvmError::Open(_)));
    }

    #[test]
    fn a_user_may_excuse_capabilities_and_ask_for_more() {
        let irqfd = Cap::Irqfd as u32;
        let without_irqfd = |number| number != u64::from(irqfd) && number < 1000;
        let check = |wanted: &[KvmCapability]| require_capabilities(wanted, without_irqfd);
        assert!(matches!(check(&[]), Err(KvmError::Lacks("KVM_CAP_IRQFD"))));
        let excused = KvmCapability::NotRequired(irqfd);
        assert!(check(&[excused, KvmCapability::Required(171)]).is_ok());
        assert!(matches!(
            check(&[excused, KvmCapability::Required(2000)]),
            Err(KvmError::LacksWanted(2000))
        ));
    }

    #[test]
    fn a_directory_is_not_kvm() {
        let error = Kvm::open_at(c"/").unwrap_err();
        assert!(matches!(error, KvmError::Open(_)), "{error}");
    }
}
