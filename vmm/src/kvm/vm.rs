//! One virtual machine: memory slots, interrupt controllers, event registration.
#![expect(unsafe_code, reason = "KVM takes guest memory by address")]

use std::io;

use kvm_bindings::{
    KVM_MEM_LOG_DIRTY_PAGES, KVM_PIT_SPEAKER_DUMMY, kvm_pit_config, kvm_userspace_memory_region,
};
use kvm_ioctls::{IoEventAddress, NoDatamatch};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};
use vmm_sys_util::eventfd::EventFd;

use super::vcpu::Vcpu;
use super::{Kvm, VcpuError, kick};
use crate::arch::x86_64::VcpuCount;
use crate::arch::x86_64::layout;
use crate::memory::GuestMemory;

/// A call on the machine that failed.
#[derive(Debug, thiserror::Error)]
#[error("KVM refused {call}: {source}")]
pub struct VmError {
    /// The call's name in KVM's documentation.
    pub call: &'static str,
    /// What the kernel answered.
    #[source]
    pub source: io::Error,
}

/// What a machine has beyond memory and interrupt controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VmOptions {
    /// The interval timer (i8254). Only a guest without ACPI needs it, and closing a machine with
    /// one takes eight times as long (20 against 2.5 ms).
    pub interval_timer: bool,
    /// Whether KVM records which pages the guest writes (KVM `api.rst`, `KVM_MEM_LOG_DIRTY_PAGES`).
    pub track_dirty_pages: bool,
}

/// Where a guest's write rings an event instead of leaving the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doorbell {
    /// Guest physical address of the register.
    pub address: u64,
    /// Only writes of this 32-bit value ring; `None` for any write.
    pub value: Option<u32>,
}

/// A virtual machine.
#[derive(Debug)]
pub struct Vm {
    fd: kvm_ioctls::VmFd,
}

impl Vm {
    /// Makes a machine with `memory`, in-kernel interrupt controllers and what `options` ask for.
    ///
    /// # Errors
    /// The call that failed.
    pub fn create(kvm: &Kvm, memory: &GuestMemory, options: VmOptions) -> Result<Self, VmError> {
        let vm = Self {
            fd: create_vm(kvm)?,
        };
        vm.fd
            .set_tss_address(address_of(layout::KVM_TSS.raw_value()))
            .map_err(failed("KVM_SET_TSS_ADDR"))?;
        vm.fd
            .set_identity_map_address(layout::KVM_IDENTITY_MAP.raw_value())
            .map_err(failed("KVM_SET_IDENTITY_MAP_ADDR"))?;
        vm.set_memory(memory, options.track_dirty_pages)?;
        vm.fd
            .create_irq_chip()
            .map_err(failed("KVM_CREATE_IRQCHIP"))?;
        if options.interval_timer {
            let config = kvm_pit_config {
                flags: KVM_PIT_SPEAKER_DUMMY,
                ..Default::default()
            };
            vm.fd
                .create_pit2(config)
                .map_err(failed("KVM_CREATE_PIT2"))?;
        }
        Ok(vm)
    }

    /// Makes `count` vCPUs, and installs the handler of [`super::kick_signal`].
    ///
    /// # Errors
    /// The call that failed, for instance for want of file descriptors.
    pub fn create_vcpus(&self, count: VcpuCount) -> Result<Vec<Vcpu>, VcpuError> {
        kick::install().map_err(|source| VcpuError {
            index: 0,
            call: "sigaction",
            source,
        })?;
        (0..count.get())
            .map(|index| {
                let fd = self
                    .fd
                    .create_vcpu(u64::from(index))
                    .map_err(|error| VcpuError::new(index, "KVM_CREATE_VCPU", error))?;
                Ok(Vcpu::new(index, fd))
            })
            .collect()
    }

    /// Makes every write to `event` raise interrupt `gsi` once (edge-triggered).
    ///
    /// # Errors
    /// The error of `KVM_IRQFD`.
    pub fn register_interrupt(&self, event: &EventFd, gsi: u32) -> Result<(), VmError> {
        self.fd
            .register_irqfd(event, gsi)
            .map_err(failed("KVM_IRQFD"))
    }

    /// Undoes [`Self::register_interrupt`].
    ///
    /// # Errors
    /// The error of `KVM_IRQFD`.
    pub fn unregister_interrupt(&self, event: &EventFd, gsi: u32) -> Result<(), VmError> {
        self.fd
            .unregister_irqfd(event, gsi)
            .map_err(failed("KVM_IRQFD"))
    }

    /// Makes the guest's write to `doorbell` ring `event`.
    ///
    /// # Errors
    /// The error of `KVM_IOEVENTFD`.
    pub fn register_doorbell(&self, event: &EventFd, doorbell: Doorbell) -> Result<(), VmError> {
        let address = IoEventAddress::Mmio(doorbell.address);
        match doorbell.value {
            Some(value) => self.fd.register_ioevent(event, &address, value),
            None => self.fd.register_ioevent(event, &address, NoDatamatch),
        }
        .map_err(failed("KVM_IOEVENTFD"))
    }

    /// Undoes [`Self::register_doorbell`].
    ///
    /// # Errors
    /// The error of `KVM_IOEVENTFD`.
    pub fn unregister_doorbell(&self, event: &EventFd, doorbell: Doorbell) -> Result<(), VmError> {
        let address = IoEventAddress::Mmio(doorbell.address);
        match doorbell.value {
            Some(value) => self.fd.unregister_ioevent(event, &address, value),
            None => self.fd.unregister_ioevent(event, &address, NoDatamatch),
        }
        .map_err(failed("KVM_IOEVENTFD"))
    }

    fn set_memory(&self, memory: &GuestMemory, track_dirty_pages: bool) -> Result<(), VmError> {
        let flags = if track_dirty_pages {
            KVM_MEM_LOG_DIRTY_PAGES
        } else {
            0
        };
        for (slot, region) in (0_u32..).zip(memory.iter()) {
            let host = region
                .get_host_address(MemoryRegionAddress(0))
                .expect("a region begins with its first byte");
            let slot = kvm_userspace_memory_region {
                slot,
                flags,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: host as u64,
            };
            // SAFETY: address and size are those of one live mapping of `memory`. The machine above
            // keeps a clone of `memory` for as long as a vCPU of this VM can run.
            unsafe { self.fd.set_user_memory_region(slot) }
                .map_err(failed("KVM_SET_USER_MEMORY_REGION"))?;
        }
        Ok(())
    }
}

/// `KVM_CREATE_VM` gives up with EINTR when a signal is pending: try again.
pub(super) fn create_vm(kvm: &Kvm) -> Result<kvm_ioctls::VmFd, VmError> {
    const ATTEMPTS: u32 = 16;
    for _ in 1..ATTEMPTS {
        match kvm.fd.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            result => return result.map_err(failed("KVM_CREATE_VM")),
        }
    }
    kvm.fd.create_vm().map_err(failed("KVM_CREATE_VM"))
}

fn failed(call: &'static str) -> impl Fn(kvm_ioctls::Error) -> VmError {
    move |error| VmError {
        call,
        source: error.into(),
    }
}

fn address_of(address: u64) -> usize {
    usize::try_from(address).expect("addresses have 64 bits on x86-64")
}
