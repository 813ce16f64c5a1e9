//! Model-specific registers at boot. Everything else keeps KVM's reset value.

use kvm_bindings::kvm_msr_entry;

/// Intel SDM 4, `IA32_MISC_ENABLE`: fast string operations.
const MISC_ENABLE: u32 = 0x1a0;
const MISC_ENABLE_FAST_STRING: u64 = 1;

/// Intel SDM 3A §12.11.2.1, `IA32_MTRR_DEF_TYPE`: enabled, default write-back. Without it Linux takes
/// the range registers for disabled by the firmware and gives up its page attribute table as well.
const MTRR_DEF_TYPE: u32 = 0x2ff;
const MTRR_ENABLE: u64 = 1 << 11;
const MTRR_WRITE_BACK: u64 = 6;

/// The registers every vCPU starts with.
pub fn at_boot() -> [kvm_msr_entry; 2] {
    [
        entry(MISC_ENABLE, MISC_ENABLE_FAST_STRING),
        entry(MTRR_DEF_TYPE, MTRR_ENABLE | MTRR_WRITE_BACK),
    ]
}

fn entry(index: u32, data: u64) -> kvm_msr_entry {
    kvm_msr_entry {
        index,
        data,
        ..Default::default()
    }
}
