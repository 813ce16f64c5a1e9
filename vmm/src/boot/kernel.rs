//! Which kind of kernel a file holds, and the one face that both kinds have.

use vm_memory::{Address, GuestAddress};

use super::BootProtocol;
use super::bzimage::BzImage;
use super::elf::ElfKernel;
use super::file::{FileFault, ImageFile};
use crate::arch::x86_64::{Protocol, Start, layout};
use crate::memory::{GuestMemory, low_end};

/// What is wrong with a kernel file.
#[derive(Debug, thiserror::Error)]
pub enum KernelFault {
    /// The file itself.
    #[error(transparent)]
    File(#[from] FileFault),
    /// No kernel format that x86-64 boots from.
    #[error(
        "this is neither an ELF vmlinux nor a bzImage: give the kernel of an x86-64 Linux, \
         for instance /boot/vmlinuz-..."
    )]
    Unrecognised,
    /// A compressed file where the kernel itself is needed.
    #[error("this is a file compressed with {0}, not a kernel: decompress it first")]
    Compressed(&'static str),
    /// A kernel for other processors.
    #[error("this is {0}, and this machine is x86-64: give an x86-64 kernel")]
    WrongArchitecture(String),
    /// The file ends early.
    #[error(
        "the file is truncated: its headers speak of {needed} bytes and it has {has}; build or \
         download it again"
    )]
    Truncated {
        /// Bytes the headers speak of.
        needed: u64,
        /// Bytes there are.
        has: u64,
    },
    /// Headers that contradict themselves.
    #[error("the kernel's headers make no sense ({0}): build or download it again")]
    Malformed(&'static str),
    /// Guest memory is too small.
    #[error(
        "the kernel needs memory up to {needed_mib} MiB and the guest has {has_mib} MiB there: give the \
         guest more memory"
    )]
    NoRoom {
        /// Where the kernel's memory ends, in MiB, rounded up.
        needed_mib: u64,
        /// Where low memory ends, in MiB.
        has_mib: u64,
    },
    /// The 64-bit entry lies outside what the boot page tables map.
    #[error(
        "the kernel's entry point {0:#x} lies above the first GiB, which is all that the 64-bit boot \
         protocol maps: boot it by PVH"
    )]
    EntryTooHigh(u64),
    /// PVH was asked for and the kernel does not offer it.
    #[error(
        "the kernel has no PVH entry (its configuration lacks CONFIG_PVH, or it is a bzImage): boot it \
         by the 64-bit protocol"
    )]
    NoPvh,
    /// A bzImage too old or without 64-bit entry.
    #[error(
        "the bzImage has no 64-bit entry (boot protocol {major}.{minor:02}): use an x86-64 kernel, \
         Linux 3.8 or newer",
        major = version >> 8,
        minor = version & 0xff
    )]
    Not64Bit {
        /// Boot protocol version, as in the header.
        version: u16,
    },
}

/// Where an initrd may lie beside a loaded kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InitrdRoom {
    /// The first address that is free.
    pub(super) start: GuestAddress,
    /// The end of what may be used, exclusive.
    pub(super) end: GuestAddress,
}

/// A kernel whose headers were read and checked.
#[derive(Debug)]
pub(super) enum Kernel {
    Elf(ElfKernel),
    BzImage(BzImage),
}

impl Kernel {
    /// Recognises the kernel by its first bytes and reads its headers.
    pub(super) fn read(file: &ImageFile) -> Result<Self, KernelFault> {
        let head = file.head::<{ bzimage_head() }>()?;
        if head.starts_with(b"\x7fELF") {
            return ElfKernel::read(file, &head).map(Self::Elf);
        }
        if BzImage::has_magic(&head) {
            return BzImage::read(&head, file.size()).map(Self::BzImage);
        }
        Err(not_a_kernel(&head))
    }

    /// Where and how the first vCPU enters.
    pub(super) fn start(&self, protocol: BootProtocol) -> Result<Start, KernelFault> {
        let pvh = match self {
            Self::Elf(elf) => elf.pvh_entry(),
            Self::BzImage(_) => None,
        };
        match (protocol, pvh) {
            (BootProtocol::Pvh, None) => Err(KernelFault::NoPvh),
            (BootProtocol::Auto | BootProtocol::Pvh, Some(entry)) => Ok(Start {
                entry,
                protocol: Protocol::Pvh,
            }),
            (BootProtocol::Auto | BootProtocol::Linux64, _) => self.linux_start(),
        }
    }

    fn linux_start(&self) -> Result<Start, KernelFault> {
        let entry = match self {
            Self::Elf(elf) => elf.entry(),
            Self::BzImage(image) => image.entry(),
        };
        if entry >= layout::BOOT_MAPPED_END {
            return Err(KernelFault::EntryTooHigh(entry.raw_value()));
        }
        Ok(Start {
            entry,
            protocol: Protocol::Linux64,
        })
    }

    /// Places the kernel into guest memory.
    pub(super) fn load(
        &self,
        memory: &GuestMemory,
        file: &ImageFile,
    ) -> Result<InitrdRoom, KernelFault> {
        let low_end = low_end(memory);
        let (end, initrd_end) = match self {
            Self::Elf(elf) => (elf.end(), low_end),
            Self::BzImage(image) => (image.end(), low_end.min(image.initrd_end())),
        };
        if end > low_end {
            return Err(KernelFault::NoRoom {
                needed_mib: end.raw_value().div_ceil(1 << 20),
                has_mib: low_end.raw_value() >> 20,
            });
        }
        match self {
            Self::Elf(elf) => elf.load(memory, file)?,
            Self::BzImage(image) => image.load(memory, file)?,
        }
        Ok(InitrdRoom {
            start: end,
            end: initrd_end,
        })
    }

    /// Most bytes of the command line, its terminating zero included.
    pub(super) fn command_line_size(&self) -> usize {
        match self {
            Self::Elf(_) => layout::COMMAND_LINE_SIZE,
            Self::BzImage(image) => image.command_line_size(),
        }
    }

    /// A bzImage's setup header as it stands in the file, from offset `0x1f1`.
    pub(super) fn setup_header(&self) -> Option<&[u8]> {
        match self {
            Self::Elf(_) => None,
            Self::BzImage(image) => Some(image.setup_header()),
        }
    }
}

const fn bzimage_head() -> usize {
    super::bzimage::HEAD_SIZE
}

/// Says what a file is that is no kernel for this machine.
fn not_a_kernel(head: &[u8]) -> KernelFault {
    const COMPRESSIONS: [(&[u8], &str); 6] = [
        (b"\x1f\x8b", "gzip"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"BZh", "bzip2"),
        (b"\x02\x21\x4c\x18", "lz4"),
        (b"\x04\x22\x4d\x18", "lz4"),
    ];
    /// Offset of the magic in the headers of flat kernel images.
    const FLAT_MAGIC: usize = 0x38;
    if let Some((_, name)) = COMPRESSIONS
        .iter()
        .find(|(magic, _)| head.starts_with(magic))
    {
        return KernelFault::Compressed(name);
    }
    let flat = head.get(FLAT_MAGIC..FLAT_MAGIC + 4);
    let architecture = match flat {
        Some(b"ARM\x64") => "an arm64 Image",
        Some(b"RSC\x05") => "a RISC-V Image",
        _ => return KernelFault::Unrecognised,
    };
    KernelFault::WrongArchitecture(architecture.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(head: &[u8]) -> String {
        not_a_kernel(head).to_string()
    }

    #[test]
    fn what_is_no_kernel_is_named() {
        let mut arm = vec![0; 64];
        arm[0x38..0x3c].copy_from_slice(b"ARM\x64");
        let table: [(&[u8], &str); 5] = [
            (b"\x1f\x8b\x08rest", "compressed with gzip"),
            (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
            (&arm, "an arm64 Image"),
            (b"#!/bin/sh\n", "neither an ELF vmlinux nor a bzImage"),
            (b"M", "neither"),
        ];
        for (head, sentence) in table {
            assert!(fault(head).contains(sentence), "{sentence}");
        }
    }
}
