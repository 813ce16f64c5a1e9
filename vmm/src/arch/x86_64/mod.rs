//! Intel and AMD processors in 64-bit mode.

pub mod cpuid;
pub mod lapic;
pub mod layout;
pub mod mptable;
pub mod msrs;
pub mod paging;
pub mod regs;
mod template;

use kvm_bindings::CpuId;
use vm_memory::{Bytes, GuestAddress};

use crate::kvm::{Capabilities, Vcpu, VcpuError};
use crate::memory::GuestMemory;
use crate::spec::{CpuConfig, CpuFeatures, CpuTemplate};

/// How many vCPUs a machine has: 1 to 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VcpuCount(u8);

/// A vCPU count out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} vCPUs are not possible: give 1 to {max}", max = VcpuCount::MAX)]
pub struct BadVcpuCount(pub u64);

impl VcpuCount {
    /// The most vCPUs: what the MP table's one KiB holds.
    pub const MAX: u8 = 32;

    /// Checks `count`.
    ///
    /// # Errors
    /// [`BadVcpuCount`] for 0 and above [`Self::MAX`].
    pub fn new(count: u64) -> Result<Self, BadVcpuCount> {
        match u8::try_from(count) {
            Ok(small) if (1..=Self::MAX).contains(&small) => Ok(Self(small)),
            _ => Err(BadVcpuCount(count)),
        }
    }

    /// The count.
    pub fn get(self) -> u8 {
        self.0
    }
}

/// How the first vCPU enters the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Linux's 64-bit boot protocol: long mode, `rsi` holds the zero page's address.
    Linux64,
    /// PVH: protected mode without paging, `ebx` holds the start info's address.
    Pvh,
}

/// What the first vCPU begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The address of the first instruction.
    pub entry: GuestAddress,
    /// The state of the processor at that instruction.
    pub protocol: Protocol,
}

/// How the vCPUs are arranged: one package, with one or two threads a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    /// How many vCPUs there are.
    pub vcpus: VcpuCount,
    /// Whether each two of them are threads of one core, as the guest sees it.
    pub smt: bool,
}

/// Why the processors cannot be as they were asked for.
#[derive(Debug, thiserror::Error)]
pub enum ProcessorError {
    /// A named template for processors of another maker.
    #[error(
        "the cpu_template {0} is for processors of the vendor {1} and this host's are another's: leave it out, or \
         choose one for this host"
    )]
    OtherVendor(CpuTemplate, String),
    /// A named template for later processors.
    #[error(
        "the cpu_template {0} is for processors from Cascade Lake on and this host's are older: choose T2 or T2S"
    )]
    TooOld(CpuTemplate),
    /// A leaf that KVM does not support here.
    #[error(
        "the processor template changes the leaf {0:#x}, subleaf {1:#x}, of CPUID, which this host's KVM does not \
         support: take it out of the template"
    )]
    NoLeaf(u32, u32),
    /// A register that KVM does not have here.
    #[error(
        "the processor template changes the register {0:#x} (MSR), which this host's KVM does not have: take it out \
         of the template"
    )]
    NoMsr(u32),
    /// A value that KVM does not take for a register.
    #[error(
        "the processor template gives the register {0:#x} (MSR) the value {1:#x}, which this host's KVM refuses: \
         change fewer of its bits"
    )]
    MsrRefused(u32, u64),
    /// A call on a vCPU.
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
}

/// The processors of one machine: the CPUID of all vCPUs, made once.
#[derive(Debug)]
pub struct Processors {
    base: CpuId,
    cores: Cores,
    config: CpuConfig,
    features: cpuid::Features,
}

impl Processors {
    /// Takes `supported`, what this host's KVM can give a guest (`KVM_GET_SUPPORTED_CPUID`), and changes it
    /// as `wanted` asks for.
    ///
    /// # Errors
    /// A template that is not for this host.
    pub fn new(
        supported: CpuId,
        capabilities: &Capabilities,
        cores: Cores,
        wanted: &CpuFeatures,
    ) -> Result<Self, ProcessorError> {
        let config = template::config(wanted, supported.as_slice())?;
        let mut base = supported;
        template::change_leaves(&config, base.as_mut_slice())?;
        Ok(Self {
            base,
            cores,
            config,
            features: cpuid::Features {
                tsc_deadline: capabilities.tsc_deadline,
            },
        })
    }

    /// How many there are.
    pub fn count(&self) -> VcpuCount {
        self.cores.vcpus
    }

    /// Puts `vcpu` into its first state: `start` for the first vCPU, waiting for INIT and SIPI for
    /// the others.
    ///
    /// # Errors
    /// The KVM call that failed, or a register of the template that KVM does not have.
    pub fn configure(&self, vcpu: &Vcpu, start: &Start) -> Result<(), ProcessorError> {
        let cpuid = cpuid::for_vcpu(&self.base, vcpu.index(), self.cores, self.features);
        vcpu.set_cpuid(&cpuid)?;
        template::change_msrs(&self.config, vcpu)?;
        vcpu.set_msrs(&msrs::at_boot())?;
        let mut apic = vcpu.lapic()?;
        lapic::wire_local_interrupts(&mut apic);
        vcpu.set_lapic(&apic)?;
        if vcpu.index() == 0 {
            vcpu.set_fpu(&regs::fpu())?;
            let mut sregs = vcpu.sregs()?;
            regs::set_segments(&mut sregs, start.protocol);
            vcpu.set_sregs(&sregs)?;
            vcpu.set_regs(&regs::general(start))?;
        }
        Ok(())
    }
}

/// Writes the tables that `protocol`'s processor state points to.
///
/// # Errors
/// Guest memory that does not reach up to the tables, which a valid memory size excludes.
pub fn write_tables(
    memory: &GuestMemory,
    protocol: Protocol,
) -> Result<(), vm_memory::GuestMemoryError> {
    memory.write_slice(&regs::gdt_bytes(protocol), layout::GDT)?;
    if protocol == Protocol::Linux64 {
        paging::write(memory)?;
    }
    Ok(())
}

/// Whether the guest's last reset came from a panic.
///
/// With `reboot=...,panic_warm` Linux leaves the warm reset flag of the BIOS data area behind when a
/// panic reboots, and zero when anything else does.
pub fn reset_by_panic(memory: &GuestMemory) -> bool {
    memory
        .read_obj::<u16>(layout::WARM_RESET_FLAG)
        .is_ok_and(|flag| flag == layout::WARM_RESET_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{HugePages, MemorySize, create};

    #[test]
    fn vcpu_counts_run_from_1_to_32() {
        for count in [0, 33, 255, 256, 257, 1000, u64::MAX] {
            assert_eq!(VcpuCount::new(count), Err(BadVcpuCount(count)));
        }
        for count in [1, 2, 32] {
            assert_eq!(u64::from(VcpuCount::new(count).unwrap().get()), count);
        }
    }

    #[test]
    fn a_panic_is_told_from_a_reboot_by_the_warm_reset_flag() {
        let memory = create(MemorySize::new(16, 1024).unwrap(), HugePages::HostDefault).unwrap();
        assert!(!reset_by_panic(&memory));
        memory.write_obj(0x1234_u16, GuestAddress(0x472)).unwrap();
        assert!(reset_by_panic(&memory));
    }
}
