//! The MP table (Intel MultiProcessor Specification 1.4, chapter 4), for kernels without ACPI.
//!
//! | offset | what |
//! | --- | --- |
//! | 0 | floating pointer, 16 bytes |
//! | 16 | configuration header, 44 bytes |
//! | 60 | one processor entry per vCPU, 20 bytes each |
//! | then | the ISA bus, the I/O APIC, 24 interrupts to its pins, two local interrupts: 8 bytes each |

use vm_memory::{Address, Bytes};

use super::VcpuCount;
use super::layout;
use crate::memory::GuestMemory;

const PROCESSOR_ENABLED: u8 = 1;
const PROCESSOR_BOOT: u8 = 2;
const APIC_VERSION: u8 = 0x14;
const IO_APIC_ENABLED: u8 = 1;
const ISA_BUS: u8 = 0;
const ALL_LOCAL_APICS: u8 = 0xff;
const ENTRY_PROCESSOR: u8 = 0;
const ENTRY_BUS: u8 = 1;
const ENTRY_IO_APIC: u8 = 2;
const ENTRY_INTERRUPT: u8 = 3;
const ENTRY_LOCAL_INTERRUPT: u8 = 4;
const INTERRUPT_VECTORED: u8 = 0;
const INTERRUPT_NMI: u8 = 1;
const INTERRUPT_EXTERNAL: u8 = 3;

/// Writes the table for `count` vCPUs.
///
/// # Errors
/// Guest memory that does not hold it.
pub fn write(memory: &GuestMemory, count: VcpuCount) -> Result<(), vm_memory::GuestMemoryError> {
    memory.write_slice(&bytes(count), layout::MP_TABLE)
}

fn bytes(count: VcpuCount) -> Vec<u8> {
    let entries = entries(count);
    let mut table = floating_pointer();
    table.extend(header(&entries));
    table.extend(entries.concat());
    table
}

fn floating_pointer() -> Vec<u8> {
    let configuration = u32::try_from(layout::MP_TABLE.raw_value() + 16)
        .expect("the MP table lies in conventional memory");
    let mut bytes = b"_MP_".to_vec();
    bytes.extend(configuration.to_le_bytes());
    // One paragraph long, revision 1.4, then checksum and five feature bytes.
    bytes.extend([1, 4, 0, 0, 0, 0, 0, 0]);
    bytes[10] = checksum(&bytes);
    bytes
}

fn header(entries: &[Vec<u8>]) -> Vec<u8> {
    const HEADER: usize = 44;
    let length = HEADER + entries.iter().map(Vec::len).sum::<usize>();
    let length = u16::try_from(length).expect("32 processors fit a table of 16-bit length");
    let count = u16::try_from(entries.len()).expect("32 processors fit a 16-bit entry count");
    let mut bytes = b"PCMP".to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend([4, 0]);
    bytes.extend(b"RAVELIN MICROVM     ");
    bytes.extend([0; 6]);
    bytes.extend(count.to_le_bytes());
    bytes.extend(layout::LOCAL_APIC.to_le_bytes());
    bytes.extend([0; 4]);
    bytes[7] = checksum(&[&bytes[..], &entries.concat()[..]].concat());
    bytes
}

fn entries(count: VcpuCount) -> Vec<Vec<u8>> {
    let count = count.get();
    // The I/O APIC's id follows those of the processors.
    let io_apic = count;
    let mut entries: Vec<Vec<u8>> = (0..count).map(processor).collect();
    entries.push([&[ENTRY_BUS, ISA_BUS], &b"ISA   "[..]].concat());
    entries.push(
        [
            &[ENTRY_IO_APIC, io_apic, APIC_VERSION, IO_APIC_ENABLED],
            &layout::IO_APIC.to_le_bytes()[..],
        ]
        .concat(),
    );
    entries.extend((0..24).map(|line| {
        vec![
            ENTRY_INTERRUPT,
            INTERRUPT_VECTORED,
            0,
            0,
            ISA_BUS,
            line,
            io_apic,
            line,
        ]
    }));
    for (kind, apic, pin) in [
        (INTERRUPT_EXTERNAL, 0, 0),
        (INTERRUPT_NMI, ALL_LOCAL_APICS, 1),
    ] {
        entries.push(vec![
            ENTRY_LOCAL_INTERRUPT,
            kind,
            0,
            0,
            ISA_BUS,
            0,
            apic,
            pin,
        ]);
    }
    entries
}

fn processor(index: u8) -> Vec<u8> {
    const SIGNATURE: u32 = 0x600;
    const ON_CHIP_APIC: u32 = 1 << 9;
    const FPU: u32 = 1;
    let boot = if index == 0 { PROCESSOR_BOOT } else { 0 };
    let mut bytes = vec![
        ENTRY_PROCESSOR,
        index,
        APIC_VERSION,
        PROCESSOR_ENABLED | boot,
    ];
    bytes.extend(SIGNATURE.to_le_bytes());
    bytes.extend((ON_CHIP_APIC | FPU).to_le_bytes());
    bytes.extend([0; 8]);
    bytes
}

/// The byte that makes the sum of all bytes zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(count: u64) -> Vec<u8> {
        bytes(VcpuCount::new(count).unwrap())
    }

    #[test]
    fn both_checksums_add_up_to_zero() {
        for count in [1, 2, 32] {
            let table = table(count);
            assert_eq!(checksum(&table[..16]), 0);
            assert_eq!(checksum(&table[16..]), 0);
        }
    }

    #[test]
    fn the_largest_table_fits_its_room() {
        assert!(table(32).len() <= layout::MP_TABLE_SIZE);
    }

    #[test]
    fn the_header_counts_its_entries_and_bytes() {
        let table = table(4);
        assert_eq!(&table[..8], b"_MP_\x10\xfc\x09\x00");
        assert_eq!(&table[16..20], b"PCMP");
        let length = u16::from_le_bytes([table[20], table[21]]);
        assert_eq!(usize::from(length), table.len() - 16);
        let entries = u16::from_le_bytes([table[16 + 34], table[16 + 35]]);
        assert_eq!(entries, 4 + 1 + 1 + 24 + 2);
        assert_eq!(table[16 + 36..16 + 40], 0xfee0_0000_u32.to_le_bytes());
    }

    #[test]
    fn only_the_first_processor_boots() {
        let table = table(3);
        let flags: Vec<u8> = (0..3).map(|index| table[60 + index * 20 + 3]).collect();
        assert_eq!(flags, [3, 1, 1]);
    }
}
