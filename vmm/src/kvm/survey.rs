//! What ravelin asks of KVM, and what KVM answers: the doctor's view.

use kvm_ioctls::Cap;

use super::{Kvm, VmError, vm};

/// A capability, and what ravelin does with it.
#[derive(Debug)]
pub struct Need {
    cap: Cap,
    /// Its name in KVM's documentation.
    pub name: &'static str,
    /// What it is for.
    pub why: &'static str,
    /// Whether a guest cannot run without it.
    pub required: bool,
}

const fn must(cap: Cap, name: &'static str, why: &'static str) -> Need {
    Need {
        cap,
        name,
        why,
        required: true,
    }
}

const fn may(cap: Cap, name: &'static str, why: &'static str) -> Need {
    Need {
        required: false,
        ..must(cap, name, why)
    }
}

/// Everything that ravelin asks of KVM (KVM api.rst names each).
pub const NEEDS: &[Need] = &[
    must(Cap::UserMemory, "KVM_CAP_USER_MEMORY", "guest memory"),
    must(
        Cap::Irqchip,
        "KVM_CAP_IRQCHIP",
        "interrupt controllers in the kernel",
    ),
    must(
        Cap::Ioeventfd,
        "KVM_CAP_IOEVENTFD",
        "a guest's notification wakes a device without an exit",
    ),
    must(
        Cap::Irqfd,
        "KVM_CAP_IRQFD",
        "a device interrupts the guest from any thread",
    ),
    must(
        Cap::ImmediateExit,
        "KVM_CAP_IMMEDIATE_EXIT",
        "a vCPU stops at once when asked",
    ),
    must(
        Cap::ExtCpuid,
        "KVM_CAP_EXT_CPUID",
        "the guest sees a chosen processor",
    ),
    must(
        Cap::MpState,
        "KVM_CAP_MP_STATE",
        "secondary processors wait for the first",
    ),
    must(
        Cap::SetTssAddr,
        "KVM_CAP_SET_TSS_ADDR",
        "Intel: where KVM's own task segment lies",
    ),
    must(
        Cap::SetIdentityMapAddr,
        "KVM_CAP_SET_IDENTITY_MAP_ADDR",
        "Intel: where KVM's own page table lies",
    ),
    may(
        Cap::TscDeadlineTimer,
        "KVM_CAP_TSC_DEADLINE_TIMER",
        "precise timers in the guest",
    ),
    may(
        Cap::Clocksource,
        "KVM_CAP_CLOCKSOURCE",
        "a clock in the guest that needs no exit",
    ),
    may(
        Cap::Pit2,
        "KVM_CAP_PIT2",
        "a timer for kernels that run with acpi=off",
    ),
];

/// What an open KVM showed.
#[derive(Debug)]
pub struct Survey {
    /// Whether it makes a virtual machine.
    pub machine: Result<(), VmError>,
    /// The most vCPUs that a machine may have.
    pub max_vcpus: usize,
    /// Each of [`NEEDS`], and whether it is there.
    pub capabilities: Vec<(&'static Need, bool)>,
}

impl Kvm {
    /// Asks for everything that ravelin needs or can use, and makes an empty machine. Takes some
    /// microseconds for each of [`NEEDS`]: for diagnosis, not for a start.
    pub fn survey(&self) -> Survey {
        Survey {
            machine: vm::create_vm(self).map(drop),
            max_vcpus: self.capabilities.max_vcpus,
            capabilities: NEEDS
                .iter()
                .map(|need| (need, self.fd.check_extension(need.cap)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_is_named_once() {
        let mut names: Vec<_> = NEEDS.iter().map(|need| need.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NEEDS.len());
    }
}
