//! Mutated kernels: whatever a header says, reading and loading it ends in a result.

use std::io::Write;
use std::path::Path;

use super::kernel::Kernel;
use super::{BootProtocol, ImageFile, bzimage, elf};
use crate::memory::{GuestMemory, HugePages, MemorySize, create};

const CASES: u32 = 4000;

/// xorshift64*: the same cases in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }
}

/// Changes one to four fields among the first `header` bytes, and sometimes cuts the file.
fn mutate(bytes: &[u8], header: usize, random: &mut Random) -> Vec<u8> {
    const INTERESTING: [u64; 8] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let value = match random.below(3) {
            0 => random.next(),
            1 => INTERESTING[random.below(INTERESTING.len())],
            _ => random.next() & 0xfff,
        };
        let width = [1, 2, 4, 8][random.below(4)];
        let at = random.below(header - width);
        bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }
    if random.below(8) == 0 {
        bytes.truncate(1 + random.below(bytes.len() - 1));
    }
    bytes
}

/// Reads and loads one image; gives whether it was taken for a kernel.
fn boots(bytes: &[u8], memory: &GuestMemory) -> bool {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let file = ImageFile::from_file(Path::new("mutant"), file).unwrap();
    let Ok(kernel) = Kernel::read(&file) else {
        return false;
    };
    let started =
        [BootProtocol::Linux64, BootProtocol::Pvh].map(|protocol| kernel.start(protocol).is_ok());
    kernel.load(memory, &file).is_ok() && started.contains(&true)
}

fn hunt(seed: u64, original: &[u8], header: usize) {
    let memory = create(MemorySize::new(64, 1024).unwrap(), HugePages::HostDefault).unwrap();
    assert!(boots(original, &memory), "the original is a kernel");
    let mut random = Random(seed);
    let taken = (0..CASES)
        .filter(|_| boots(&mutate(original, header, &mut random), &memory))
        .count();
    // Some mutants are harmless and some are not: both kinds were met.
    assert!(taken > 0 && taken < usize::try_from(CASES).unwrap());
}

#[test]
fn mutated_elf_kernels_end_in_a_result() {
    const M1: u64 = 0x10_0000;
    let note = elf::tests::pvh_note_bytes(0x10_0010);
    let length = u64::try_from(note.len()).unwrap();
    let headers = [
        (1, 0x1000, M1, 0x1800, 0x1800),
        (1, 0x3000, M1 + 0x2000, 0x1000, 0x9000),
        (4, 0x130, 0, length, length),
    ];
    let mut bytes = elf::tests::sample(M1, &headers, 0x4000);
    bytes[0x130..0x130 + note.len()].copy_from_slice(&note);
    hunt(1, &bytes, 0x130 + note.len());
}

#[test]
fn mutated_bzimages_end_in_a_result() {
    hunt(2, &bzimage::tests::sample(300), 0x290);
}
