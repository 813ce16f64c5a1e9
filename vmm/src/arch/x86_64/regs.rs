//! The first vCPU's registers at the kernel's first instruction.
//!
//! | | [`Protocol::Linux64`] | [`Protocol::Pvh`] |
//! | --- | --- | --- |
//! | source | Linux `Documentation/arch/x86/boot.rst`, "64-bit Boot Protocol" | Xen `docs/misc/pvh.pandoc` |
//! | mode | long, paging on ([`super::paging`]) | protected, paging off |
//! | code segment | `0x10`, 64-bit | `0x10`, 32-bit flat |
//! | data segments | `0x18` | `0x18`, flat |
//! | argument | `rsi` = zero page | `ebx` = start info |

use kvm_bindings::{kvm_dtable, kvm_fpu, kvm_regs, kvm_segment, kvm_sregs};
use vm_memory::Address;

use super::layout;
use super::{Protocol, Start};

/// Linux's `__BOOT_CS`.
const CODE_SELECTOR: u16 = 0x10;
/// Linux's `__BOOT_DS`.
const DATA_SELECTOR: u16 = 0x18;
const TASK_SELECTOR: u16 = 0x20;

// Segment types (Intel SDM 3A §3.4.5.1 and §3.5).
const CODE_READ_ACCESSED: u8 = 0xb;
const DATA_WRITE_ACCESSED: u8 = 0x3;
const TASK_BUSY: u8 = 0xb;

const CR0_PROTECTED: u64 = 1;
const CR0_EXTENSION_TYPE: u64 = 1 << 4;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LONG_MODE_ENABLE: u64 = 1 << 8;
const EFER_LONG_MODE_ACTIVE: u64 = 1 << 10;
/// Bit 1 of the flags register is always set.
const FLAGS_RESERVED: u64 = 2;

/// The x87 and SSE state after `FNINIT`, every exception masked.
pub fn fpu() -> kvm_fpu {
    kvm_fpu {
        fcw: 0x37f,
        mxcsr: 0x1f80,
        ..Default::default()
    }
}

/// General registers.
pub fn general(start: &Start) -> kvm_regs {
    let base = kvm_regs {
        rflags: FLAGS_RESERVED,
        rip: start.entry.raw_value(),
        ..Default::default()
    };
    match start.protocol {
        Protocol::Linux64 => kvm_regs {
            rsp: layout::BOOT_STACK.raw_value(),
            rbp: layout::BOOT_STACK.raw_value(),
            rsi: layout::ZERO_PAGE.raw_value(),
            ..base
        },
        Protocol::Pvh => kvm_regs {
            rbx: layout::PVH_START_INFO.raw_value(),
            ..base
        },
    }
}

/// Sets segments, tables and control registers; leaves the rest (APIC base) as it is.
pub fn set_segments(sregs: &mut kvm_sregs, protocol: Protocol) {
    let table = segments(protocol);
    sregs.cs = table.code;
    for segment in [
        &mut sregs.ds,
        &mut sregs.es,
        &mut sregs.fs,
        &mut sregs.gs,
        &mut sregs.ss,
    ] {
        *segment = table.data;
    }
    sregs.tr = table.task;
    sregs.gdt = kvm_dtable {
        base: layout::GDT.raw_value(),
        limit: GDT_LIMIT,
        ..Default::default()
    };
    sregs.idt = kvm_dtable {
        base: layout::IDT.raw_value(),
        limit: 7,
        ..Default::default()
    };
    match protocol {
        Protocol::Linux64 => {
            sregs.cr0 = CR0_PROTECTED | CR0_EXTENSION_TYPE | CR0_PAGING;
            sregs.cr3 = layout::PML4.raw_value();
            sregs.cr4 = CR4_PAE;
            sregs.efer = EFER_LONG_MODE_ENABLE | EFER_LONG_MODE_ACTIVE;
        }
        Protocol::Pvh => {
            sregs.cr0 = CR0_PROTECTED | CR0_EXTENSION_TYPE;
            sregs.cr4 = 0;
        }
    }
}

/// The descriptor table that [`set_segments`] points to: two unused entries, code, data, and a task
/// descriptor that takes two entries in long mode.
pub fn gdt_bytes(protocol: Protocol) -> Vec<u8> {
    let table = segments(protocol);
    [
        0,
        0,
        descriptor(&table.code),
        descriptor(&table.data),
        descriptor(&table.task),
        0,
    ]
    .into_iter()
    .flat_map(u64::to_le_bytes)
    .collect()
}

const GDT_LIMIT: u16 = 6 * 8 - 1;

struct Segments {
    code: kvm_segment,
    data: kvm_segment,
    task: kvm_segment,
}

fn segments(protocol: Protocol) -> Segments {
    let long = u8::from(protocol == Protocol::Linux64);
    let flat = kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        present: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    Segments {
        code: kvm_segment {
            selector: CODE_SELECTOR,
            type_: CODE_READ_ACCESSED,
            l: long,
            db: 1 - long,
            ..flat
        },
        data: kvm_segment {
            selector: DATA_SELECTOR,
            type_: DATA_WRITE_ACCESSED,
            db: 1,
            ..flat
        },
        task: kvm_segment {
            selector: TASK_SELECTOR,
            type_: TASK_BUSY,
            limit: 0x67,
            s: 0,
            g: 0,
            ..flat
        },
    }
}

/// The eight bytes of a descriptor (Intel SDM 3A §3.4.5, figure 3-8); bases here are zero.
fn descriptor(segment: &kvm_segment) -> u64 {
    // With the granularity bit the descriptor counts 4 KiB units.
    let limit = u64::from(if segment.g == 1 {
        segment.limit >> 12
    } else {
        segment.limit
    });
    let bit = |value: u8, at: u32| u64::from(value) << at;
    (limit & 0xffff)
        | ((limit >> 16) & 0xf) << 48
        | bit(segment.type_, 40)
        | bit(segment.s, 44)
        | bit(segment.dpl, 45)
        | bit(segment.present, 47)
        | bit(segment.avl, 52)
        | bit(segment.l, 53)
        | bit(segment.db, 54)
        | bit(segment.g, 55)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestAddress;

    #[test]
    fn descriptors_have_the_bytes_linux_expects() {
        let table = [
            (
                Protocol::Linux64,
                [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff],
            ),
            (
                Protocol::Pvh,
                [0, 0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff],
            ),
        ];
        for (protocol, expected) in table {
            let bytes = gdt_bytes(protocol);
            assert_eq!(bytes.len(), usize::from(GDT_LIMIT) + 1);
            let expected: Vec<u8> = expected.into_iter().flat_map(u64::to_le_bytes).collect();
            assert_eq!(bytes[..32], expected, "{protocol:?}");
            assert_eq!(bytes[32..40], 0x0000_8b00_0000_0067_u64.to_le_bytes());
        }
    }

    #[test]
    fn the_64_bit_start_is_in_long_mode_with_the_zero_page_in_rsi() {
        let start = Start {
            entry: GuestAddress(0x100_0000),
            protocol: Protocol::Linux64,
        };
        let regs = general(&start);
        assert_eq!((regs.rip, regs.rsi), (0x100_0000, 0x7000));
        let mut sregs = kvm_sregs {
            apic_base: 7,
            ..Default::default()
        };
        set_segments(&mut sregs, start.protocol);
        assert_eq!(sregs.efer, 0x500);
        assert_eq!(sregs.cr0, 0x8000_0011);
        assert_eq!((sregs.cs.selector, sregs.ss.selector), (0x10, 0x18));
        assert_eq!((sregs.cs.l, sregs.cs.db), (1, 0));
        assert_eq!(sregs.apic_base, 7);
    }

    #[test]
    fn the_pvh_start_is_in_flat_protected_mode_with_the_start_info_in_ebx() {
        let start = Start {
            entry: GuestAddress(0x100_0000),
            protocol: Protocol::Pvh,
        };
        assert_eq!(general(&start).rbx, 0x6000);
        let mut sregs = kvm_sregs::default();
        set_segments(&mut sregs, start.protocol);
        assert_eq!(sregs.cr0 & (CR0_PROTECTED | CR0_PAGING), CR0_PROTECTED);
        assert_eq!((sregs.efer, sregs.cr4), (0, 0));
        assert_eq!((sregs.cs.l, sregs.cs.db, sregs.cs.limit), (0, 1, u32::MAX));
        assert_eq!((sregs.tr.limit, sregs.tr.type_), (0x67, 0xb));
    }
}
