//! The page tables of the 64-bit boot protocol: the first GiB, mapped to itself in 2 MiB pages.

use vm_memory::{Address, Bytes};

use super::layout;
use crate::memory::GuestMemory;

const PRESENT_WRITABLE: u64 = 0b11;
const HUGE: u64 = 1 << 7;
const ENTRIES: u64 = 512;
const HUGE_PAGE_SHIFT: u32 = 21;

/// Writes the three tables.
///
/// # Errors
/// Guest memory that does not hold them.
pub fn write(memory: &GuestMemory) -> Result<(), vm_memory::GuestMemoryError> {
    memory.write_obj(layout::PDPT.raw_value() | PRESENT_WRITABLE, layout::PML4)?;
    memory.write_obj(
        layout::PAGE_DIRECTORY.raw_value() | PRESENT_WRITABLE,
        layout::PDPT,
    )?;
    memory.write_slice(&directory(), layout::PAGE_DIRECTORY)
}

fn directory() -> Vec<u8> {
    (0..ENTRIES)
        .flat_map(|page| ((page << HUGE_PAGE_SHIFT) | PRESENT_WRITABLE | HUGE).to_le_bytes())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_maps_the_first_gib_to_itself() {
        let bytes = directory();
        assert_eq!(bytes.len(), 4096);
        assert_eq!(bytes[..8], 0x83_u64.to_le_bytes());
        assert_eq!(bytes[8..16], 0x20_0083_u64.to_le_bytes());
        assert_eq!(bytes[4088..], 0x3fe0_0083_u64.to_le_bytes());
        assert_eq!(
            ENTRIES << HUGE_PAGE_SHIFT,
            layout::BOOT_MAPPED_END.raw_value()
        );
    }
}
