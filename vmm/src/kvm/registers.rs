//! A vCPU's registers for whoever asks why its guest died.

use std::fmt;

use kvm_bindings::{kvm_regs, kvm_sregs, kvm_vcpu_events};

use super::{Vcpu, VcpuError};

/// Where a vCPU stands: what tells a wild jump from a lost page table or a missing handler.
///
/// **After a triple fault on AMD it is of no use**: the processor leaves nothing defined, and KVM resets the
/// vCPU before it tells of the fault (Linux `arch/x86/kvm/svm/svm.c`, `shutdown_interception`). The text says so.
#[derive(Debug)]
pub struct Registers {
    general: kvm_regs,
    special: kvm_sregs,
    events: kvm_vcpu_events,
}

impl Registers {
    /// Reads them. The vCPU is not in the guest.
    ///
    /// # Errors
    /// The first call that KVM refuses.
    pub fn read(vcpu: &Vcpu) -> Result<Self, VcpuError> {
        Ok(Self {
            general: vcpu.regs()?,
            special: vcpu.sregs()?,
            events: vcpu.events()?,
        })
    }

    /// Whether this is the state after a reset (Intel SDM 3A §10.1.1, table 10-1).
    fn are_of_a_reset(&self) -> bool {
        self.general.rip == 0xfff0 && self.special.cs.base == 0xffff_0000
    }
}

impl fmt::Display for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.are_of_a_reset() {
            return f.write_str("already reset, its last state is lost");
        }
        let (general, special) = (&self.general, &self.special);
        write!(
            f,
            "rip {:#x}, rsp {:#x}, rflags {:#x}, cs {:#x} at {:#x}, ",
            general.rip, general.rsp, general.rflags, special.cs.selector, special.cs.base
        )?;
        write!(
            f,
            "cr0 {:#x}, cr2 {:#x}, cr3 {:#x}, cr4 {:#x}, efer {:#x}, ",
            special.cr0, special.cr2, special.cr3, special.cr4, special.efer
        )?;
        let (gdt, idt) = (&special.gdt, &special.idt);
        write!(
            f,
            "gdt {:#x} limit {:#x}, idt {:#x} limit {:#x}",
            gdt.base, gdt.limit, idt.base, idt.limit
        )?;
        let exception = &self.events.exception;
        if exception.injected != 0 || exception.pending != 0 {
            let code = exception.error_code;
            write!(f, ", exception {} with code {code:#x}", exception.nr)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(rip: u64, code_base: u64) -> Registers {
        let mut registers = Registers {
            general: kvm_regs::default(),
            special: kvm_sregs::default(),
            events: kvm_vcpu_events::default(),
        };
        registers.general.rip = rip;
        registers.special.cs.base = code_base;
        registers.special.cr2 = 0xdead_b000;
        registers.special.idt.limit = 0xfff;
        registers
    }

    #[test]
    fn the_text_says_where_the_processor_stood() {
        let text = registers(0x1_0020, 0).to_string();
        for part in ["rip 0x10020,", "cr2 0xdeadb000,", "idt 0x0 limit 0xfff"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("exception"), "{text}");
    }

    #[test]
    fn an_exception_on_its_way_is_named() {
        let mut registers = registers(0x1_0020, 0);
        registers.events.exception.injected = 1;
        registers.events.exception.nr = 14;
        registers.events.exception.error_code = 2;
        let text = registers.to_string();
        assert!(text.ends_with(", exception 14 with code 0x2"), "{text}");
    }

    #[test]
    fn what_a_reset_left_is_not_shown_as_the_last_state() {
        let text = registers(0xfff0, 0xffff_0000).to_string();
        assert_eq!(text, "already reset, its last state is lost");
        assert!(registers(0xfff0, 0).to_string().starts_with("rip 0xfff0"));
    }
}
