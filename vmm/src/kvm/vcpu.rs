//! One vCPU: registers in and out, and running it.
#![expect(
    unsafe_code,
    reason = "details of an exit stand in unions of the shared kvm_run page"
)]

use std::io;
use std::ptr::{NonNull, addr_of, addr_of_mut};
use std::sync::atomic::{Ordering, compiler_fence};

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_fpu, kvm_lapic_state, kvm_msr_entry, kvm_regs, kvm_run,
    kvm_sregs, kvm_vcpu_events,
};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::kick;
use crate::end::GuestEnd;

/// A call on a vCPU that failed.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refused {call} for vCPU {index}: {source}")]
pub struct VcpuError {
    /// Which vCPU.
    pub index: u8,
    /// The call's name in KVM's documentation.
    pub call: &'static str,
    /// What the kernel answered.
    #[source]
    pub source: io::Error,
}

impl VcpuError {
    pub(super) fn new(index: u8, call: &'static str, error: kvm_ioctls::Error) -> Self {
        Self {
            index,
            call,
            source: error.into(),
        }
    }
}

/// Why [`Vcpu::run`] came back.
#[derive(Debug)]
pub enum Exit<'a> {
    /// The guest reads a port; `data` holds one or more accesses of `width` bytes each.
    PortRead {
        /// The port.
        port: u16,
        /// Bytes of one access: 1, 2 or 4.
        width: usize,
        /// What the guest will see; to be filled in.
        data: &'a mut [u8],
    },
    /// The guest writes a port; `data` holds one or more accesses of `width` bytes each.
    PortWrite {
        /// The port.
        port: u16,
        /// Bytes of one access: 1, 2 or 4.
        width: usize,
        /// What the guest wrote.
        data: &'a [u8],
    },
    /// The guest reads memory that no slot backs.
    MemoryRead {
        /// Guest physical address.
        address: u64,
        /// What the guest will see; to be filled in.
        data: &'a mut [u8],
    },
    /// The guest writes memory that no slot backs.
    MemoryWrite {
        /// Guest physical address.
        address: u64,
        /// What the guest wrote.
        data: &'a [u8],
    },
    /// A kick or another signal: look for orders, then run again.
    Interrupted,
    /// The guest cannot go on.
    End(GuestEnd),
}

/// A vCPU. Runs on one thread at a time.
#[derive(Debug)]
pub struct Vcpu {
    index: u8,
    fd: VcpuFd,
}

impl Vcpu {
    pub(super) fn new(index: u8, fd: VcpuFd) -> Self {
        Self { index, fd }
    }

    /// Its number, from 0; also its APIC id.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Sets what `CPUID` tells.
    ///
    /// # Errors
    /// The error of `KVM_SET_CPUID2`.
    pub fn set_cpuid(&self, cpuid: &CpuId) -> Result<(), VcpuError> {
        self.done("KVM_SET_CPUID2", self.fd.set_cpuid2(cpuid))
    }

    /// What `CPUID` tells.
    ///
    /// # Errors
    /// The error of `KVM_GET_CPUID2`.
    pub fn cpuid(&self) -> Result<CpuId, VcpuError> {
        self.done("KVM_GET_CPUID2", self.fd.get_cpuid2(KVM_MAX_CPUID_ENTRIES))
    }

    /// The model-specific register `index`; `None` when KVM does not have it.
    ///
    /// # Errors
    /// The error of `KVM_GET_MSRS`.
    pub fn msr(&self, index: u32) -> Result<Option<u64>, VcpuError> {
        let entry = kvm_msr_entry {
            index,
            ..Default::default()
        };
        let mut msrs = Msrs::from_entries(&[entry]).expect("one entry is less than the most");
        let read = self.done("KVM_GET_MSRS", self.fd.get_msrs(&mut msrs))?;
        let value = msrs.as_slice().first().map(|entry| entry.data);
        Ok(value.filter(|_| read == 1))
    }

    /// Sets model-specific registers.
    ///
    /// # Errors
    /// The error of `KVM_SET_MSRS`, `EINVAL` when KVM knows one of them not.
    pub fn set_msrs(&self, entries: &[kvm_msr_entry]) -> Result<(), VcpuError> {
        const CALL: &str = "KVM_SET_MSRS";
        let msrs = Msrs::from_entries(entries)
            .map_err(|_| VcpuError::new(self.index, CALL, errno(libc::E2BIG)))?;
        let set = self.done(CALL, self.fd.set_msrs(&msrs))?;
        if set == entries.len() {
            Ok(())
        } else {
            Err(VcpuError::new(self.index, CALL, errno(libc::EINVAL)))
        }
    }

    /// The local APIC's registers.
    ///
    /// # Errors
    /// The error of `KVM_GET_LAPIC`.
    pub fn lapic(&self) -> Result<kvm_lapic_state, VcpuError> {
        self.done("KVM_GET_LAPIC", self.fd.get_lapic())
    }

    /// Sets the local APIC's registers.
    ///
    /// # Errors
    /// The error of `KVM_SET_LAPIC`.
    pub fn set_lapic(&self, state: &kvm_lapic_state) -> Result<(), VcpuError> {
        self.done("KVM_SET_LAPIC", self.fd.set_lapic(state))
    }

    /// Sets the floating point registers.
    ///
    /// # Errors
    /// The error of `KVM_SET_FPU`.
    pub fn set_fpu(&self, fpu: &kvm_fpu) -> Result<(), VcpuError> {
        self.done("KVM_SET_FPU", self.fd.set_fpu(fpu))
    }

    /// The general registers.
    ///
    /// # Errors
    /// The error of `KVM_GET_REGS`.
    pub fn regs(&self) -> Result<kvm_regs, VcpuError> {
        self.done("KVM_GET_REGS", self.fd.get_regs())
    }

    /// Sets the general registers.
    ///
    /// # Errors
    /// The error of `KVM_SET_REGS`.
    pub fn set_regs(&self, regs: &kvm_regs) -> Result<(), VcpuError> {
        self.done("KVM_SET_REGS", self.fd.set_regs(regs))
    }

    /// The segment and control registers.
    ///
    /// # Errors
    /// The error of `KVM_GET_SREGS`.
    pub fn sregs(&self) -> Result<kvm_sregs, VcpuError> {
        self.done("KVM_GET_SREGS", self.fd.get_sregs())
    }

    /// Sets the segment and control registers.
    ///
    /// # Errors
    /// The error of `KVM_SET_SREGS`.
    pub fn set_sregs(&self, sregs: &kvm_sregs) -> Result<(), VcpuError> {
        self.done("KVM_SET_SREGS", self.fd.set_sregs(sregs))
    }

    /// Exceptions and interrupts on their way to the guest.
    ///
    /// # Errors
    /// The error of `KVM_GET_VCPU_EVENTS`.
    pub fn events(&self) -> Result<kvm_vcpu_events, VcpuError> {
        self.done("KVM_GET_VCPU_EVENTS", self.fd.get_vcpu_events())
    }

    /// Binds the vCPU to the calling thread: from now on [`kick_signal`] makes it leave the guest.
    ///
    /// # Errors
    /// The error of `pthread_sigmask(3)`.
    pub fn bind(self) -> io::Result<BoundVcpu> {
        let mut vcpu = self;
        let run = NonNull::from(vcpu.fd.get_kvm_run());
        let listening = kick::listen(run)?;
        Ok(BoundVcpu {
            _listening: listening,
            vcpu,
            run,
        })
    }

    fn done<T>(
        &self,
        call: &'static str,
        result: std::result::Result<T, kvm_ioctls::Error>,
    ) -> Result<T, VcpuError> {
        result.map_err(|error| VcpuError::new(self.index, call, error))
    }
}

/// The signal that makes a thread's bound vCPU leave the guest.
pub fn kick_signal() -> libc::c_int {
    kick::signal()
}

/// A vCPU bound to the thread that runs it.
#[derive(Debug)]
pub struct BoundVcpu {
    // Dropped first: no kick may reach the page of a vCPU that is gone.
    _listening: kick::Listening,
    vcpu: Vcpu,
    run: NonNull<kvm_run>,
}

impl BoundVcpu {
    /// The vCPU, for its registers.
    pub fn vcpu(&self) -> &Vcpu {
        &self.vcpu
    }

    /// Runs the guest until it needs something or a kick arrives.
    pub fn run(&mut self) -> Exit<'_> {
        let run = self.run;
        match self.vcpu.fd.run() {
            Ok(VcpuExit::IoIn(port, data)) => Exit::PortRead {
                port,
                width: port_width(run),
                data,
            },
            Ok(VcpuExit::IoOut(port, data)) => Exit::PortWrite {
                port,
                width: port_width(run),
                data,
            },
            Ok(VcpuExit::MmioRead(address, data)) => Exit::MemoryRead { address, data },
            Ok(VcpuExit::MmioWrite(address, data)) => Exit::MemoryWrite { address, data },
            Ok(VcpuExit::Intr | VcpuExit::IrqWindowOpen) => Exit::Interrupted,
            Ok(VcpuExit::Shutdown) => Exit::End(GuestEnd::TripleFault),
            Ok(VcpuExit::InternalError) => Exit::End(GuestEnd::InternalError(suberror(run))),
            Ok(VcpuExit::FailEntry(reason, _)) => Exit::End(GuestEnd::EntryFailed(reason)),
            Ok(_) => Exit::End(GuestEnd::UnexpectedExit(exit_reason(run))),
            Err(error) => match error.errno() {
                // EAGAIN: the vCPU waits for its INIT or SIPI and was woken for something else.
                libc::EINTR | libc::EAGAIN => {
                    allow_entry(run);
                    Exit::Interrupted
                }
                other => Exit::End(GuestEnd::RunFailed(other)),
            },
        }
    }

    /// Completes the access of the last exit without entering the guest, so that the registers are
    /// those after it (KVM `api.rst`, `KVM_RUN`: pending operations complete at the next entry).
    pub fn complete_access(&mut self) {
        self.vcpu.fd.set_kvm_immediate_exit(1);
        // The call does nothing but complete, and then returns EINTR.
        if let Err(error) = self.vcpu.fd.run() {
            log::trace!("vCPU {} completed: {error}", self.vcpu.index);
        }
        allow_entry(self.run);
    }
}

/// Clears the flag that a kick left. The caller looks for orders *after* this, so that a kick that
/// arrives in between sets the flag again and is not lost.
fn allow_entry(run: NonNull<kvm_run>) {
    // SAFETY: `run` is the mapped page of the bound vCPU, which lives as long as its holder.
    let flag = unsafe { addr_of_mut!((*run.as_ptr()).immediate_exit) };
    // SAFETY: the flag lies in that page; only this thread and its signal handler write it.
    unsafe { flag.write_volatile(0) };
    compiler_fence(Ordering::SeqCst);
}

fn exit_reason(run: NonNull<kvm_run>) -> u32 {
    // SAFETY: `run` is the mapped page of the bound vCPU, which lives as long as its holder.
    let reason = unsafe { addr_of!((*run.as_ptr()).exit_reason) };
    // SAFETY: the field lies in that page, which the kernel writes only during KVM_RUN.
    unsafe { reason.read() }
}

/// Bytes of one access of a port exit: the exit's data may hold several (`rep outsb`).
fn port_width(run: NonNull<kvm_run>) -> usize {
    // SAFETY: `run` is the mapped page of the bound vCPU; the exit reason says that the union holds
    // `io`, and every bit pattern is valid for its integers.
    let size = unsafe { addr_of!((*run.as_ptr()).__bindgen_anon_1.io.size) };
    // SAFETY: the field lies in that page, which the kernel writes only during KVM_RUN.
    usize::from(unsafe { size.read() }).max(1)
}

fn suberror(run: NonNull<kvm_run>) -> u32 {
    // SAFETY: `run` is the mapped page of the bound vCPU; the exit reason says that the union holds
    // `internal`, and every bit pattern is valid for its integers.
    let suberror = unsafe { addr_of!((*run.as_ptr()).__bindgen_anon_1.internal.suberror) };
    // SAFETY: the field lies in that page, which the kernel writes only during KVM_RUN.
    unsafe { suberror.read() }
}

fn errno(number: i32) -> kvm_ioctls::Error {
    kvm_ioctls::Error::new(number)
}
