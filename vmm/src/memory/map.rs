//! Files mapped into guest memory, and advice about it: the unsafe corner of this room.
#![expect(
    unsafe_code,
    reason = "a mapping inside a region that vm-memory owns can only be replaced by address"
)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use vm_memory::{
    Address, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestRegionMmap,
    MemoryRegionAddress,
};

use super::GuestMemory;

/// The size of a page of the host, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// Why a file could not be mapped into guest memory.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// Address, offset or length is not a multiple of [`PAGE_SIZE`].
    #[error("{0:#x} is not a multiple of the page size")]
    Unaligned(u64),
    /// The range is not inside one region of guest memory.
    #[error("guest memory has no {length:#x} bytes at {start:#x}")]
    NoSuchMemory {
        /// First guest physical address.
        start: u64,
        /// Length in bytes.
        length: u64,
    },
    /// The file ends before the range does.
    #[error("the file ends before its byte {end:#x}")]
    PastEnd {
        /// End of the range in the file, exclusive.
        end: u64,
    },
    /// The error of `fstat(2)` or `mmap(2)`.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Maps `length` bytes of `file` from `offset` over guest memory at `start`: private, so the guest's
/// writes stay its own, and shared with every other guest as long as nobody writes.
///
/// **The file must not shrink while the guest lives**: a page of it that is gone is a bus error for
/// whoever touches it.
///
/// # Errors
/// [`MapError`]; guest memory is unchanged then.
pub fn map_file(
    memory: &GuestMemory,
    start: GuestAddress,
    file: &File,
    offset: u64,
    length: u64,
) -> Result<(), MapError> {
    for value in [start.raw_value(), offset, length] {
        if value % PAGE_SIZE != 0 {
            return Err(MapError::Unaligned(value));
        }
    }
    if length == 0 {
        return Ok(());
    }
    let no_such_memory = || MapError::NoSuchMemory {
        start: start.raw_value(),
        length,
    };
    let region = memory.find_region(start).ok_or_else(no_such_memory)?;
    let inside = start.raw_value() - region.start_addr().raw_value();
    if length > region.len() - inside {
        return Err(no_such_memory());
    }
    let end = offset
        .checked_add(length)
        .ok_or(MapError::PastEnd { end: u64::MAX })?;
    // Touching a mapped page wholly past the end of its file is a bus error.
    if end > file.metadata()?.len().next_multiple_of(PAGE_SIZE) {
        return Err(MapError::PastEnd { end });
    }
    let address = region
        .get_host_address(MemoryRegionAddress(inside))
        .map_err(|_| no_such_memory())?;
    let length = usize::try_from(length).map_err(|_| no_such_memory())?;
    let offset = i64::try_from(offset).map_err(|_| MapError::PastEnd { end })?;
    // SAFETY: `address` and `length` are page-aligned and lie wholly inside one live mapping that
    // `region` owns (checked above), so MAP_FIXED replaces nothing else; the protection is that of
    // the region, so every access that was valid stays valid, and `region` unmaps it in the end.
    let mapped = unsafe {
        libc::mmap(
            address.cast(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE,
            file.as_raw_fd(),
            offset,
        )
    };
    if mapped == libc::MAP_FAILED {
        return Err(MapError::Io(io::Error::last_os_error()));
    }
    Ok(())
}

/// Asks for transparent huge pages in `region`.
///
/// # Errors
/// The error of `madvise(2)`: `EINVAL` where the host's kernel has no transparent huge pages.
pub fn advise_huge_pages(region: &GuestRegionMmap<()>) -> io::Result<()> {
    // SAFETY: pointer and length are those of the live mapping that `region` owns, and the advice
    // changes neither its contents nor its protection.
    let result =
        unsafe { libc::madvise(region.as_ptr().cast(), region.size(), libc::MADV_HUGEPAGE) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HugePages, MemorySize, create};
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::FileExt;
    use vm_memory::Bytes;

    fn memory() -> GuestMemory {
        create(MemorySize::new(16, 1024).unwrap(), HugePages::HostDefault).unwrap()
    }

    fn file(pages: u8) -> File {
        let mut file = tempfile::tempfile().unwrap();
        for page in 0..pages {
            file.write_all(&[page + 1; 4096]).unwrap();
        }
        file
    }

    #[test]
    fn a_mapped_range_reads_as_the_file_and_its_neighbours_stay() {
        let memory = memory();
        map_file(&memory, GuestAddress(0x2000), &file(3), 0x1000, 0x2000).unwrap();
        for (address, value) in [(0x1fff, 0), (0x2000, 2), (0x3fff, 3), (0x4000, 0)] {
            let byte: u8 = memory.read_obj(GuestAddress(address)).unwrap();
            assert_eq!(byte, value, "{address:#x}");
        }
    }

    #[test]
    fn writes_of_the_guest_do_not_reach_the_file() {
        let memory = memory();
        let file = file(1);
        map_file(&memory, GuestAddress(0), &file, 0, 0x1000).unwrap();
        memory.write_obj(0xff_u8, GuestAddress(0)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 0).unwrap();
        assert_eq!(byte, [1]);
    }

    #[test]
    fn ranges_that_do_not_fit_are_refused() {
        let memory = memory();
        let file = file(2);
        let end = 16 << 20;
        let table = [
            (0x800, 0, 0x1000),
            (0, 0x800, 0x1000),
            (0, 0, 0x800),
            (end, 0, 0x1000),
            (end - 0x1000, 0, 0x2000),
            (0, 0x1000, 0x2000),
            (0, u64::MAX - 0xfff, 0x1000),
            (0, 0, u64::MAX - 0xfff),
        ];
        for (start, offset, length) in table {
            let result = map_file(&memory, GuestAddress(start), &file, offset, length);
            assert!(result.is_err(), "{start:#x} {offset:#x} {length:#x}");
        }
    }
}
