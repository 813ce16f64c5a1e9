//! The PVH start info (Xen `public/arch-x86/hvm/start_info.h`), version 1.
//!
//! | at | what | bytes |
//! | --- | --- | --- |
//! | [`layout::PVH_START_INFO`] | `hvm_start_info` | 56 |
//! | [`layout::PVH_MODULES`] | one `hvm_modlist_entry`: the initrd | 32 |
//! | [`layout::PVH_MEMORY_MAP`] | `hvm_memmap_table_entry` each | 24 |

use vm_memory::{Address, Bytes, GuestMemoryError};

use super::{Facts, Initrd, MapEntry, memory_map};
use crate::arch::x86_64::layout;

const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;

/// Writes the start info and what it points to.
///
/// # Errors
/// Guest memory that does not hold it.
pub fn write(facts: &Facts<'_>) -> Result<(), GuestMemoryError> {
    let map = memory_map(facts.memory);
    let memory = facts.memory;
    memory.write_slice(&start_info(facts, map.len()), layout::PVH_START_INFO)?;
    if let Some(initrd) = facts.initrd {
        memory.write_slice(&module(initrd), layout::PVH_MODULES)?;
    }
    memory.write_slice(&memory_map_bytes(&map), layout::PVH_MEMORY_MAP)
}

fn start_info(facts: &Facts<'_>, map_entries: usize) -> Vec<u8> {
    let modules = u32::from(facts.initrd.is_some());
    let module_list = match facts.initrd {
        Some(_) => layout::PVH_MODULES.raw_value(),
        None => 0,
    };
    let rsdp = facts.rsdp.map_or(0, |rsdp| rsdp.raw_value());
    let map_entries = u32::try_from(map_entries).expect("a machine has a handful of memory ranges");
    let mut bytes = Vec::new();
    for field in [MAGIC, VERSION, 0, modules] {
        bytes.extend(field.to_le_bytes());
    }
    for field in [
        module_list,
        layout::COMMAND_LINE.raw_value(),
        rsdp,
        layout::PVH_MEMORY_MAP.raw_value(),
    ] {
        bytes.extend(field.to_le_bytes());
    }
    for field in [map_entries, 0] {
        bytes.extend(field.to_le_bytes());
    }
    bytes
}

fn module(initrd: Initrd) -> Vec<u8> {
    [initrd.address.raw_value(), initrd.size, 0, 0]
        .into_iter()
        .flat_map(u64::to_le_bytes)
        .collect()
}

fn memory_map_bytes(map: &[MapEntry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in map {
        bytes.extend(entry.start.to_le_bytes());
        bytes.extend(entry.size.to_le_bytes());
        bytes.extend((entry.kind as u32).to_le_bytes());
        bytes.extend([0; 4]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{HugePages, MemorySize, create};
    use vm_memory::GuestAddress;

    #[test]
    fn the_start_info_points_to_everything_the_kernel_needs() {
        let size = MemorySize::new(128, 1024).unwrap();
        let memory = create(size, HugePages::HostDefault).unwrap();
        let facts = Facts {
            memory: &memory,
            initrd: Some(Initrd {
                address: GuestAddress(0x700_0000),
                size: 99,
            }),
            rsdp: Some(GuestAddress(0xe_0000)),
        };
        write(&facts).unwrap();
        let u32_at = |at| memory.read_obj::<u32>(GuestAddress(at)).unwrap();
        let u64_at = |at| memory.read_obj::<u64>(GuestAddress(at)).unwrap();
        assert_eq!((u32_at(0x6000), u32_at(0x6004)), (0x336e_c578, 1));
        assert_eq!((u32_at(0x600c), u64_at(0x6010)), (1, 0x6040));
        assert_eq!((u64_at(0x6018), u64_at(0x6020)), (0x2_0000, 0xe_0000));
        assert_eq!((u64_at(0x6028), u32_at(0x6030)), (0x6080, 3));
        assert_eq!((u64_at(0x6040), u64_at(0x6048)), (0x700_0000, 99));
        let third = 0x6080 + 2 * 24;
        assert_eq!((u64_at(third), u64_at(third + 8)), (0x10_0000, 127 << 20));
        assert_eq!(u32_at(third + 16), 1);
        assert_eq!(start_info(&facts, 3).len(), 56);
    }
}
