//! ELF kernels (`vmlinux`): which segments go where, and the PVH entry in the notes.
//!
//! Source: System V ABI, chapters 4 and 5; for the note, Xen `public/elfnote.h`. Only what boots is read:
//! the file header, the program headers and the note segments; section headers are not looked at.

use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::note::{Note, NoteIterator};
use elf::segment::{ProgramHeader, SegmentTable};
use vm_memory::{Address, GuestAddress};

use super::file::ImageFile;
use super::kernel::KernelFault;
use crate::arch::x86_64::layout;
use crate::memory::GuestMemory;

const FILE_HEADER: usize = 64;
const PROGRAM_HEADER: u16 = 56;
/// Linux has 5; more than this is not a kernel.
const MAX_SEGMENTS: u16 = 64;
/// Linux's notes take a few hundred bytes.
const MAX_NOTES: u64 = 1 << 16;
/// `XEN_ELFNOTE_PHYS32_ENTRY`.
const NOTE_PVH_ENTRY: u64 = 18;
const NOTE_OWNER: &[u8] = b"Xen\0";

/// An ELF kernel whose headers were checked.
#[derive(Debug)]
pub(super) struct ElfKernel {
    entry: GuestAddress,
    pvh_entry: Option<GuestAddress>,
    segments: Vec<Segment>,
}

/// A loadable segment: `memory_size` bytes at `at`, of which the file gives the first `file_size`
/// and zeroes the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    at: u64,
    offset: u64,
    file_size: u64,
    memory_size: u64,
}

impl Segment {
    fn end(&self) -> u64 {
        self.at + self.memory_size
    }

    fn holds(&self, address: u64) -> bool {
        (self.at..self.end()).contains(&address)
    }
}

impl ElfKernel {
    /// Reads the headers of `file`, whose first bytes are `head`.
    pub(super) fn read(file: &ImageFile, head: &[u8]) -> Result<Self, KernelFault> {
        let header = file_header(file, head)?;
        let table = program_headers(file, &header)?;
        let segments = loadable(&table, file.size())?;
        let within = |entry: u64| segments.iter().any(|segment| segment.holds(entry));
        if !within(header.e_entry) {
            return Err(KernelFault::Malformed("the entry point lies in no segment"));
        }
        let pvh_entry = pvh_entry(file, &table)?;
        if pvh_entry.is_some_and(|entry| !within(entry)) {
            return Err(KernelFault::Malformed(
                "the PVH entry point lies in no segment",
            ));
        }
        Ok(Self {
            entry: GuestAddress(header.e_entry),
            pvh_entry: pvh_entry.map(GuestAddress),
            segments,
        })
    }

    /// The entry of the 64-bit protocol.
    pub(super) fn entry(&self) -> GuestAddress {
        self.entry
    }

    /// The entry of PVH, if the kernel has the note.
    pub(super) fn pvh_entry(&self) -> Option<GuestAddress> {
        self.pvh_entry
    }

    /// The end of the highest segment, exclusive.
    pub(super) fn end(&self) -> GuestAddress {
        let end = self.segments.iter().map(Segment::end).max();
        GuestAddress(end.unwrap_or(layout::KERNEL_START.raw_value()))
    }

    /// Places the segments. What follows a segment's file bytes is left as it is: guest memory is
    /// zero when it is new, and only whole pages of the segment itself are mapped.
    pub(super) fn load(&self, memory: &GuestMemory, file: &ImageFile) -> Result<(), KernelFault> {
        for segment in &self.segments {
            file.place(
                memory,
                GuestAddress(segment.at),
                segment.offset,
                segment.file_size,
            )?;
        }
        Ok(())
    }
}

fn file_header(file: &ImageFile, head: &[u8]) -> Result<FileHeader<LittleEndian>, KernelFault> {
    let truncated = KernelFault::Truncated {
        needed: 64,
        has: file.size(),
    };
    let Some(head) = head.get(..FILE_HEADER) else {
        return Err(truncated);
    };
    match (head[abi::EI_CLASS], head[abi::EI_DATA]) {
        (abi::ELFCLASS64, abi::ELFDATA2LSB) => {}
        (abi::ELFCLASS32, _) => return Err(wrong_architecture("a 32-bit ELF file")),
        (_, abi::ELFDATA2MSB) => return Err(wrong_architecture("a big-endian ELF file")),
        _ => return Err(KernelFault::Malformed("unknown ELF class or byte order")),
    }
    let malformed = |_| KernelFault::Malformed("bad ELF identification");
    let identification = parse_ident(head).map_err(malformed)?;
    let header =
        FileHeader::parse_tail(identification, &head[abi::EI_NIDENT..]).map_err(malformed)?;
    if header.e_machine != abi::EM_X86_64 {
        return Err(wrong_architecture(&machine_name(header.e_machine)));
    }
    match header.e_type {
        abi::ET_EXEC | abi::ET_DYN => Ok(header),
        abi::ET_REL => Err(KernelFault::Malformed(
            "it is an object file or module, not a kernel",
        )),
        _ => Err(KernelFault::Malformed("it is not an executable")),
    }
}

fn wrong_architecture(what: &str) -> KernelFault {
    KernelFault::WrongArchitecture(what.to_owned())
}

fn machine_name(machine: u16) -> String {
    match machine {
        abi::EM_AARCH64 => "an ELF file for arm64".to_owned(),
        abi::EM_386 => "an ELF file for 32-bit x86".to_owned(),
        abi::EM_RISCV => "an ELF file for RISC-V".to_owned(),
        abi::EM_PPC64 => "an ELF file for POWER".to_owned(),
        abi::EM_S390 => "an ELF file for s390".to_owned(),
        other => format!("an ELF file for machine number {other}"),
    }
}

fn program_headers(
    file: &ImageFile,
    header: &FileHeader<LittleEndian>,
) -> Result<Vec<ProgramHeader>, KernelFault> {
    if header.e_phnum == 0 {
        return Err(KernelFault::Malformed("it has no program headers"));
    }
    if header.e_phnum > MAX_SEGMENTS {
        return Err(KernelFault::Malformed("it has too many program headers"));
    }
    if header.e_phentsize != PROGRAM_HEADER {
        return Err(KernelFault::Malformed("bad size of program headers"));
    }
    let size = u64::from(header.e_phnum) * u64::from(PROGRAM_HEADER);
    within_file(file.size(), header.e_phoff, size)?;
    let mut bytes = vec![0; usize::from(header.e_phnum) * usize::from(PROGRAM_HEADER)];
    file.read_at(&mut bytes, header.e_phoff)?;
    Ok(SegmentTable::new(LittleEndian, Class::ELF64, &bytes)
        .iter()
        .collect())
}

fn within_file(has: u64, offset: u64, size: u64) -> Result<(), KernelFault> {
    let needed = offset
        .checked_add(size)
        .ok_or(KernelFault::Malformed("an offset overflows"))?;
    if needed > has {
        return Err(KernelFault::Truncated { needed, has });
    }
    Ok(())
}

/// The loadable segments in ascending order, none of which overlap.
fn loadable(table: &[ProgramHeader], file_size: u64) -> Result<Vec<Segment>, KernelFault> {
    let mut segments = table
        .iter()
        .filter(|header| header.p_type == abi::PT_LOAD && header.p_memsz > 0)
        .map(|header| segment(header, file_size))
        .collect::<Result<Vec<_>, _>>()?;
    if segments.is_empty() {
        return Err(KernelFault::Malformed("it has nothing to load"));
    }
    segments.sort_by_key(|segment| segment.at);
    let overlap = segments
        .iter()
        .zip(segments.iter().skip(1))
        .any(|(first, second)| first.end() > second.at);
    if overlap {
        return Err(KernelFault::Malformed("two segments overlap"));
    }
    Ok(segments)
}

fn segment(header: &ProgramHeader, file_size: u64) -> Result<Segment, KernelFault> {
    if header.p_filesz > header.p_memsz {
        return Err(KernelFault::Malformed(
            "a segment is larger in the file than in memory",
        ));
    }
    if header.p_paddr.checked_add(header.p_memsz).is_none() {
        return Err(KernelFault::Malformed("a segment's address overflows"));
    }
    if header.p_paddr < layout::KERNEL_START.raw_value() {
        return Err(KernelFault::Malformed("a segment lies below 1 MiB"));
    }
    within_file(file_size, header.p_offset, header.p_filesz)?;
    Ok(Segment {
        at: header.p_paddr,
        offset: header.p_offset,
        file_size: header.p_filesz,
        memory_size: header.p_memsz,
    })
}

fn pvh_entry(file: &ImageFile, table: &[ProgramHeader]) -> Result<Option<u64>, KernelFault> {
    for header in table.iter().filter(|header| header.p_type == abi::PT_NOTE) {
        if header.p_filesz > MAX_NOTES {
            return Err(KernelFault::Malformed("its notes are too large"));
        }
        within_file(file.size(), header.p_offset, header.p_filesz)?;
        let size = usize::try_from(header.p_filesz)
            .map_err(|_| KernelFault::Malformed("its notes are too large"))?;
        let mut bytes = vec![0; size];
        file.read_at(&mut bytes, header.p_offset)?;
        if let Some(entry) = pvh_note(&bytes, header.p_align) {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// The PVH entry in a note segment; a malformed note ends the search, as it does in the kernel.
fn pvh_note(bytes: &[u8], align: u64) -> Option<u64> {
    // gABI: notes are aligned to 4 bytes, or to 8 where the segment says so.
    let align = if align == 8 { 8 } else { 4 };
    NoteIterator::new(LittleEndian, Class::ELF64, align, bytes).find_map(|note| match note {
        Note::Unknown(note) if note.name == NOTE_OWNER && note.n_type == NOTE_PVH_ENTRY => {
            // Linux writes 8 bytes, other kernels 4; the entry is a 32-bit address.
            let entry = note.desc.get(..4)?.try_into().ok()?;
            Some(u64::from(u32::from_le_bytes(entry)))
        }
        _ => None,
    })
}

#[cfg(test)]
#[path = "elf_tests.rs"]
pub(super) mod tests;
