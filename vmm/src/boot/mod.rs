//! From a kernel, an initrd and a command line to a guest that can start.
//!
//! | protocol | kernel | enters with | memory map, initrd, command line in |
//! | --- | --- | --- | --- |
//! | [`BootProtocol::Linux64`] | ELF vmlinux, bzImage | long mode | the zero page ([`params`]) |
//! | [`BootProtocol::Pvh`] | ELF vmlinux with the Xen note | protected mode | the start info ([`pvh`]) |
//!
//! **No file here is trusted.** Every header is read once into a bounded buffer and checked with checked
//! arithmetic; what is placed into guest memory is placed by guest address, so a hostile kernel can
//! only fill its own guest.

pub mod acpi;
mod bzimage;
pub mod cmdline;
mod elf;
mod file;
mod initrd;
mod kernel;
pub mod params;
pub mod pvh;

#[cfg(test)]
mod hostile_tests;

use std::path::PathBuf;

use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

pub use cmdline::{CommandLine, CommandLineError};
pub use file::{FileFault, ImageFile};
pub use initrd::InitrdFault;
pub use kernel::KernelFault;

use crate::arch::x86_64::{Protocol, Start, VcpuCount, layout, mptable};
use crate::memory::GuestMemory;
use kernel::Kernel;

/// How the kernel is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BootProtocol {
    /// PVH when the kernel offers it, else the 64-bit protocol.
    #[default]
    Auto,
    /// Linux's 64-bit boot protocol.
    Linux64,
    /// PVH: ELF kernels with the Xen note.
    Pvh,
}

/// What a guest boots from.
#[derive(Debug)]
pub struct Source {
    /// The kernel.
    pub kernel: ImageFile,
    /// The initial RAM disk, of any compression the kernel knows.
    pub initrd: Option<ImageFile>,
    /// The command line.
    pub command_line: CommandLine,
    /// How to enter.
    pub protocol: BootProtocol,
}

/// One virtio-mmio slot as the guest is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MmioSlot {
    /// Where its registers are; [`layout::MMIO_SLOT_SIZE`] bytes.
    pub address: GuestAddress,
    /// Its interrupt.
    pub gsi: u32,
}

/// Why a guest cannot boot.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The kernel file.
    #[error("kernel {}: {fault}", path.display())]
    Kernel {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        fault: KernelFault,
    },
    /// The initrd file.
    #[error("initrd {}: {fault}", path.display())]
    Initrd {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        fault: InitrdFault,
    },
    /// The command line.
    #[error(transparent)]
    CommandLine(#[from] CommandLineError),
    /// The tables that describe the machine do not fit guest memory.
    #[error("the machine's tables do not fit guest memory: {0}; give the guest more memory")]
    Tables(#[from] GuestMemoryError),
    /// More devices than the firmware tables have room for.
    #[error("the ACPI tables take {0} bytes, more than their room: attach fewer devices")]
    AcpiTooLarge(usize),
}

/// Loads `source` into `memory` and writes the tables that tell the guest about `vcpus` vCPUs and the
/// virtio devices in `slots`. Gives what the first vCPU starts with.
///
/// With `acpi=off` on the command line the guest gets an MP table and its devices on the command line
/// instead of ACPI tables.
///
/// # Errors
/// [`BootError`]; guest memory is then only good to be dropped.
pub fn load(
    memory: &GuestMemory,
    source: Source,
    vcpus: VcpuCount,
    slots: &[MmioSlot],
) -> Result<Start, BootError> {
    let Source {
        kernel: kernel_file,
        initrd: initrd_file,
        mut command_line,
        protocol,
    } = source;
    let kernel_fault = |fault| BootError::Kernel {
        path: kernel_file.path().to_owned(),
        fault,
    };
    let kernel = Kernel::read(&kernel_file).map_err(kernel_fault)?;
    let start = kernel.start(protocol).map_err(kernel_fault)?;
    let room = kernel.load(memory, &kernel_file).map_err(kernel_fault)?;
    let initrd = match &initrd_file {
        None => None,
        Some(file) => {
            Some(
                initrd::load(memory, file, &room).map_err(|fault| BootError::Initrd {
                    path: file.path().to_owned(),
                    fault,
                })?,
            )
        }
    };
    let rsdp = if command_line.turns_acpi_off() {
        command_line.add_mmio_devices(slots)?;
        mptable::write(memory, vcpus)?;
        None
    } else {
        Some(write_acpi(memory, vcpus, slots)?)
    };
    let text = command_line.terminated(kernel.command_line_size())?;
    memory.write_slice(&text, layout::COMMAND_LINE)?;
    let facts = Facts {
        memory,
        initrd,
        rsdp,
    };
    match start.protocol {
        Protocol::Linux64 => params::write(&facts, kernel.setup_header())?,
        Protocol::Pvh => pvh::write(&facts)?,
    }
    crate::arch::x86_64::write_tables(memory, start.protocol)?;
    Ok(start)
}

/// What both protocols tell the kernel.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Guest memory: its map is what the kernel is told.
    pub memory: &'a GuestMemory,
    /// Where the initrd lies, and its length in bytes.
    pub initrd: Option<Initrd>,
    /// Where the ACPI root pointer is, unless ACPI is off.
    pub rsdp: Option<GuestAddress>,
}

/// An initrd in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initrd {
    /// Its first byte, page-aligned.
    pub address: GuestAddress,
    /// Its length in bytes.
    pub size: u64,
}

/// What a stretch of the guest's physical addresses is, with the numbers e820 and PVH share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum MapKind {
    /// Usable memory.
    Ram = 1,
    /// Not to be used.
    Reserved = 2,
}

/// One entry of the memory map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapEntry {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// What it is.
    pub kind: MapKind,
}

/// The memory map of a guest: conventional memory, the firmware's hole up to 1 MiB, then the rest.
pub fn memory_map(memory: &GuestMemory) -> Vec<MapEntry> {
    use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};
    let entry = |start: u64, end: u64, kind| MapEntry {
        start,
        size: end.saturating_sub(start),
        kind,
    };
    let ebda = layout::EBDA.raw_value();
    let kernel = layout::KERNEL_START.raw_value();
    let mut map = vec![
        entry(0, ebda, MapKind::Ram),
        entry(ebda, kernel, MapKind::Reserved),
    ];
    for region in memory.iter() {
        let start = region.start_addr().raw_value();
        let end = start + region.len();
        map.push(entry(start.max(kernel), end, MapKind::Ram));
    }
    map
}

fn write_acpi(
    memory: &GuestMemory,
    vcpus: VcpuCount,
    slots: &[MmioSlot],
) -> Result<GuestAddress, BootError> {
    let tables = acpi::tables(vcpus, slots);
    if tables.len() > layout::ACPI_TABLES_SIZE {
        return Err(BootError::AcpiTooLarge(tables.len()));
    }
    memory.write_slice(&tables, layout::ACPI_TABLES)?;
    Ok(layout::ACPI_TABLES)
}
