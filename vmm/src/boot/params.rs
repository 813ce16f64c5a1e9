//! The zero page: Linux's `struct boot_params` (Linux `Documentation/arch/x86/zero-page.rst`).
//!
//! Offsets come from `linux-loader`'s copy of the structure.

use std::mem::{offset_of, size_of};

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use vm_memory::{Address, Bytes, GuestMemoryError};

use super::bzimage::HEADER_START;
use super::{Facts, MapEntry, memory_map};
use crate::arch::x86_64::layout;

/// `type_of_loader`: one without a number of its own.
const UNKNOWN_LOADER: u8 = 0xff;
const BOOT_FLAG: u16 = 0xaa55;
const MAGIC: &[u8; 4] = b"HdrS";
/// The boot protocol that an ELF kernel is told, which has no setup header of its own: 2.15.
const VERSION: u16 = 0x020f;
const KERNEL_ALIGNMENT: u32 = 0x100_0000;

/// Writes the zero page, with `setup_header` where the kernel has one.
///
/// # Errors
/// Guest memory that does not hold it.
pub fn write(facts: &Facts<'_>, setup_header: Option<&[u8]>) -> Result<(), GuestMemoryError> {
    facts
        .memory
        .write_slice(&page(facts, setup_header).0, layout::ZERO_PAGE)
}

/// The page under construction, by field offset.
struct Page([u8; size_of::<boot_params>()]);

impl Page {
    fn put(&mut self, offset: usize, field: &[u8]) {
        self.0[offset..offset + field.len()].copy_from_slice(field);
    }
}

fn page(facts: &Facts<'_>, setup_header: Option<&[u8]>) -> Page {
    let mut page = Page([0; size_of::<boot_params>()]);
    match setup_header {
        Some(header) => page.put(HEADER_START, header),
        None => put_own_header(&mut page),
    }
    page.put(
        offset_of!(boot_params, hdr.type_of_loader),
        &[UNKNOWN_LOADER],
    );
    page.put(
        offset_of!(boot_params, hdr.cmd_line_ptr),
        &low(layout::COMMAND_LINE.raw_value()),
    );
    if let Some(initrd) = facts.initrd {
        page.put(
            offset_of!(boot_params, hdr.ramdisk_image),
            &low(initrd.address.raw_value()),
        );
        page.put(offset_of!(boot_params, hdr.ramdisk_size), &low(initrd.size));
    }
    if let Some(rsdp) = facts.rsdp {
        page.put(
            offset_of!(boot_params, acpi_rsdp_addr),
            &rsdp.raw_value().to_le_bytes(),
        );
    }
    put_memory_map(&mut page, &memory_map(facts.memory));
    page
}

/// An ELF kernel reads only a few fields of the header, but checks that it is one.
fn put_own_header(page: &mut Page) {
    page.put(
        offset_of!(boot_params, hdr.boot_flag),
        &BOOT_FLAG.to_le_bytes(),
    );
    page.put(offset_of!(boot_params, hdr.header), MAGIC);
    page.put(offset_of!(boot_params, hdr.version), &VERSION.to_le_bytes());
    page.put(
        offset_of!(boot_params, hdr.kernel_alignment),
        &KERNEL_ALIGNMENT.to_le_bytes(),
    );
    page.put(
        offset_of!(boot_params, hdr.cmdline_size),
        &low(layout::COMMAND_LINE_SIZE as u64 - 1),
    );
}

fn put_memory_map(page: &mut Page, map: &[MapEntry]) {
    let table = offset_of!(boot_params, e820_table);
    let count = u8::try_from(map.len()).expect("a machine has a handful of memory ranges");
    page.put(offset_of!(boot_params, e820_entries), &[count]);
    for (index, entry) in map.iter().enumerate() {
        let at = table + index * size_of::<boot_e820_entry>();
        page.put(
            at + offset_of!(boot_e820_entry, addr),
            &entry.start.to_le_bytes(),
        );
        page.put(
            at + offset_of!(boot_e820_entry, size),
            &entry.size.to_le_bytes(),
        );
        page.put(
            at + offset_of!(boot_e820_entry, r#type),
            &(entry.kind as u32).to_le_bytes(),
        );
    }
}

/// The four bytes of an address or size in low memory.
fn low(value: u64) -> [u8; 4] {
    u32::try_from(value)
        .expect("low memory ends below 4 GiB")
        .to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::Initrd;
    use super::*;
    use crate::memory::{HugePages, MemorySize, create};
    use vm_memory::GuestAddress;

    fn memory(mib: u64) -> crate::memory::GuestMemory {
        create(
            MemorySize::new(mib, 1 << 20).unwrap(),
            HugePages::HostDefault,
        )
        .unwrap()
    }

    fn u32_at(page: &Page, offset: usize) -> u32 {
        u32::from_le_bytes(page.0[offset..offset + 4].try_into().unwrap())
    }

    fn u64_at(page: &Page, offset: usize) -> u64 {
        u64::from_le_bytes(page.0[offset..offset + 8].try_into().unwrap())
    }

    #[test]
    fn the_page_has_the_offsets_of_the_boot_protocol() {
        let memory = memory(5120);
        let facts = Facts {
            memory: &memory,
            initrd: Some(Initrd {
                address: GuestAddress(0x7000_0000),
                size: 0x1234,
            }),
            rsdp: Some(GuestAddress(0xe_0000)),
        };
        let page = page(&facts, None);
        assert_eq!(page.0.len(), 4096);
        assert_eq!(&page.0[0x202..0x206], b"HdrS");
        assert_eq!(page.0[0x210], 0xff);
        assert_eq!(u32_at(&page, 0x218), 0x7000_0000);
        assert_eq!(u32_at(&page, 0x21c), 0x1234);
        assert_eq!(u32_at(&page, 0x228), 0x2_0000);
        assert_eq!(u64_at(&page, 0x70), 0xe_0000);
        assert_eq!(page.0[0x1e8], 4);
        let entry = |index: usize| {
            let at = 0x2d0 + index * 20;
            (
                u64_at(&page, at),
                u64_at(&page, at + 8),
                u32_at(&page, at + 16),
            )
        };
        assert_eq!(entry(0), (0, 0x9_fc00, 1));
        assert_eq!(entry(1), (0x9_fc00, 0x6_0400, 2));
        assert_eq!(entry(2), (0x10_0000, 0xbff0_0000, 1));
        assert_eq!(entry(3), (0x1_0000_0000, 2 << 30, 1));
    }

    #[test]
    fn a_kernels_own_header_is_kept_and_completed() {
        let memory = memory(16);
        let facts = Facts {
            memory: &memory,
            initrd: None,
            rsdp: None,
        };
        let header = super::super::bzimage::tests::sample(100)[0x1f1..0x26c].to_vec();
        let page = page(&facts, Some(&header));
        assert_eq!(u32_at(&page, 0x22c), 0x7fff_ffff);
        assert_eq!(page.0[0x210], 0xff);
        assert_eq!(u32_at(&page, 0x218), 0);
        assert_eq!(u64_at(&page, 0x70), 0);
    }
}
