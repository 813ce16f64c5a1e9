//! Tests of the ELF loader, on files made here.

use super::super::BootProtocol;
use super::super::kernel::Kernel;
use super::*;
use crate::arch::x86_64::Protocol;
use crate::memory::{HugePages, MemorySize, create};
use std::io::Write;
use std::path::Path;
use vm_memory::Bytes;

/// One program header: type, offset, address, file size, memory size.
pub(in super::super) type Header = (u32, u64, u64, u64, u64);

/// An ELF executable with `headers` and, after them, file bytes that tell their offset.
pub(in super::super) fn sample(entry: u64, headers: &[Header], size: usize) -> Vec<u8> {
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    bytes.resize(16, 0);
    bytes.extend(2_u16.to_le_bytes());
    bytes.extend(62_u16.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    for field in [entry, 64, 0] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(0_u32.to_le_bytes());
    let count = u16::try_from(headers.len()).unwrap();
    for field in [64, 56, count, 0, 0, 0] {
        bytes.extend(field.to_le_bytes());
    }
    for (kind, offset, address, file_size, memory_size) in headers {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(5_u32.to_le_bytes());
        for field in [offset, address, address, file_size, memory_size, &0x1000] {
            bytes.extend(field.to_le_bytes());
        }
    }
    while bytes.len() < size {
        bytes.push(u8::try_from(bytes.len() % 251).unwrap() + 1);
    }
    bytes
}

pub(in super::super) fn pvh_note_bytes(entry: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A note of another kind first, as Linux has.
    for (kind, description) in [
        (6_u32, b"2.6\0linux\0\0\0".to_vec()),
        (18, entry.to_le_bytes().to_vec()),
    ] {
        bytes.extend(4_u32.to_le_bytes());
        bytes.extend(u32::try_from(description.len()).unwrap().to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(NOTE_OWNER);
        bytes.extend(description);
    }
    bytes
}

fn image(bytes: &[u8]) -> ImageFile {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    ImageFile::from_file(Path::new("vmlinux"), file).unwrap()
}

fn read(bytes: &[u8]) -> Result<Kernel, KernelFault> {
    Kernel::read(&image(bytes))
}

fn sentence(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

const M1: u64 = 0x10_0000;
const LOAD: u32 = abi::PT_LOAD;

fn one_segment() -> Vec<u8> {
    sample(M1, &[(LOAD, 0x1000, M1, 0x1000, 0x1000)], 0x2000)
}

fn load(bytes: &[u8]) -> crate::memory::GuestMemory {
    let file = image(bytes);
    let kernel = Kernel::read(&file).unwrap();
    let size = MemorySize::new(16, 1024).unwrap();
    let memory = create(size, HugePages::HostDefault).unwrap();
    kernel.load(&memory, &file).unwrap();
    memory
}

#[test]
fn memory_after_a_segments_file_bytes_is_zero() {
    // The last file page goes on with bytes that are not the segment's.
    let bytes = sample(M1, &[(LOAD, 0x1000, M1, 0x1234, 0x4000)], 0x4000);
    let memory = load(&bytes);
    let mut read = vec![0; 0x4000];
    memory.read_slice(&mut read, GuestAddress(M1)).unwrap();
    assert_eq!(read[..0x1234], bytes[0x1000..0x2234]);
    assert!(read[0x1234..].iter().all(|byte| *byte == 0));
}

#[test]
fn segments_that_share_a_page_keep_each_its_bytes() {
    let second = M1 + 0x1800;
    let bytes = sample(
        M1,
        &[
            (LOAD, 0x1000, M1, 0x1800, 0x1800),
            (LOAD, 0x3800, second, 0x1800, 0x1800),
        ],
        0x5000,
    );
    let memory = load(&bytes);
    let mut read = vec![0; 0x3000];
    memory.read_slice(&mut read, GuestAddress(M1)).unwrap();
    assert_eq!(read[..0x1800], bytes[0x1000..0x2800]);
    assert_eq!(read[0x1800..], bytes[0x3800..0x5000]);
}

#[test]
fn segments_whose_offset_does_not_match_their_address_are_copied() {
    let bytes = sample(M1, &[(LOAD, 0x1010, M1, 0x2000, 0x2000)], 0x4000);
    let memory = load(&bytes);
    let mut read = vec![0; 0x2000];
    memory.read_slice(&mut read, GuestAddress(M1)).unwrap();
    assert_eq!(read[..], bytes[0x1010..0x3010]);
}

#[test]
fn the_entry_follows_the_protocol_and_the_note() {
    let without = read(&one_segment()).unwrap();
    let start = without.start(BootProtocol::Auto).unwrap();
    assert_eq!((start.protocol, start.entry.0), (Protocol::Linux64, M1));
    assert!(matches!(
        without.start(BootProtocol::Pvh),
        Err(KernelFault::NoPvh)
    ));

    let entry = u32::try_from(M1).unwrap() + 0x10;
    let note = pvh_note_bytes(entry);
    let length = u64::try_from(note.len()).unwrap();
    let headers = [
        (LOAD, 0x1000, M1, 0x1000, 0x1000),
        (abi::PT_NOTE, 0x1000, 0, length, length),
    ];
    let mut bytes = sample(M1, &headers, 0x2000);
    bytes[0x1000..0x1000 + note.len()].copy_from_slice(&note);
    let with = read(&bytes).unwrap();
    for protocol in [BootProtocol::Auto, BootProtocol::Pvh] {
        let start = with.start(protocol).unwrap();
        assert_eq!(
            (start.protocol, start.entry.0),
            (Protocol::Pvh, u64::from(entry))
        );
    }
    let start = with.start(BootProtocol::Linux64).unwrap();
    assert_eq!((start.protocol, start.entry.0), (Protocol::Linux64, M1));
}

#[test]
fn kernels_for_other_machines_are_named() {
    let table: [(usize, &[u8], &str); 4] = [
        (18, &[183, 0], "an ELF file for arm64"),
        (18, &[243, 0], "an ELF file for RISC-V"),
        (4, &[1], "a 32-bit ELF file"),
        (5, &[2], "a big-endian ELF file"),
    ];
    for (offset, field, what) in table {
        let mut bytes = one_segment();
        bytes[offset..offset + field.len()].copy_from_slice(field);
        let sentence = sentence(&bytes);
        assert!(sentence.contains(what), "{sentence}");
    }
}

#[test]
fn headers_that_make_no_sense_are_refused() {
    let table: [(u64, &[Header], &str); 8] = [
        (M1, &[], "no program headers"),
        (M1, &[(abi::PT_NOTE, 0, 0, 0, 0)], "nothing to load"),
        (
            0,
            &[(LOAD, 0x1000, M1, 8, 8)],
            "entry point lies in no segment",
        ),
        (M1, &[(LOAD, 0x1000, M1, 9, 8)], "larger in the file"),
        (M1, &[(LOAD, 0x1000, 0x8000, 8, 8)], "below 1 MiB"),
        (M1, &[(LOAD, 0x1000, M1, 8, u64::MAX)], "overflows"),
        (M1, &[(LOAD, u64::MAX, M1, 8, 8)], "overflows"),
        (
            M1,
            &[
                (LOAD, 0x1000, M1, 8, 0x1001),
                (LOAD, 0x1000, M1 + 0x1000, 8, 8),
            ],
            "overlap",
        ),
    ];
    for (entry, headers, what) in table {
        let sentence = sentence(&sample(entry, headers, 0x2000));
        assert!(sentence.contains(what), "{sentence}");
    }
}

#[test]
fn every_truncation_is_refused() {
    let bytes = one_segment();
    for length in (4..200).chain([0x1000, 0x1fff]) {
        assert!(read(&bytes[..length]).is_err(), "{length:#x}");
    }
}

#[test]
fn a_kernel_larger_than_low_memory_says_how_much_it_needs() {
    let bytes = sample(M1, &[(LOAD, 0x1000, M1, 8, 32 << 20)], 0x2000);
    let file = image(&bytes);
    let size = MemorySize::new(16, 1024).unwrap();
    let memory = create(size, HugePages::HostDefault).unwrap();
    let fault = Kernel::read(&file).unwrap().load(&memory, &file);
    let sentence = fault.unwrap_err().to_string();
    assert!(
        sentence.contains("33 MiB and the guest has 16"),
        "{sentence}"
    );
}

#[test]
fn an_entry_above_the_boot_page_tables_is_refused_for_the_64_bit_protocol() {
    let high = 1 << 30;
    let bytes = sample(high, &[(LOAD, 0x1000, high, 8, 8)], 0x2000);
    let start = read(&bytes).unwrap().start(BootProtocol::Linux64);
    assert!(matches!(start, Err(KernelFault::EntryTooHigh(_))));
}
