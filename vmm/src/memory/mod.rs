//! Guest memory: anonymous private mappings around the hole below 4 GiB.
//!
//! | guest physical | what |
//! | --- | --- |
//! | `0` up to 3 GiB | low memory |
//! | 3 GiB up to 4 GiB | devices ([`crate::arch::x86_64::layout`]) |
//! | from 4 GiB | high memory, what did not fit below |
//!
//! Pages are allocated at first touch (`MAP_NORESERVE`, never `MAP_POPULATE`): a guest costs what it
//! uses, and the boot path does not pay for memory the guest has not asked for.

mod map;

use vm_memory::mmap::MmapRegionError;
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap, MmapRegion};

pub use map::{MapError, PAGE_SIZE, advise_huge_pages, map_file};

use crate::arch::x86_64::layout::{HIGH_MEMORY_START, LOW_MEMORY_END};

/// Guest memory, cheap to clone: the clones share the mappings.
pub type GuestMemory = GuestMemoryMmap<()>;

const MIB: u64 = 1 << 20;
/// Bytes of a huge page.
const HUGE_PAGE: u64 = 2 * MIB;

/// A guest memory size that fits this machine, in whole MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize {
    mib: u64,
}

/// What is wrong with a guest memory size, or with making the memory.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Less than [`MemorySize::MIN_MIB`].
    #[error(
        "a guest memory of {0} MiB is too small to boot a kernel: give at least {min} MiB",
        min = MemorySize::MIN_MIB
    )]
    TooSmall(u64),
    /// More than the host has.
    #[error(
        "a guest memory of {wanted_mib} MiB is more than this host has ({host_mib} MiB): give less"
    )]
    TooLarge {
        /// What was asked for, in MiB.
        wanted_mib: u64,
        /// What the host has, in MiB.
        host_mib: u64,
    },
    /// The host has set aside too few huge pages.
    #[error(
        "guest memory in huge pages of 2 MiB takes {wanted} of them and this host has {free} free: set more aside \
         (/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages), or ask for another kind of pages"
    )]
    NoHugePages {
        /// How many the guest takes.
        wanted: u64,
        /// How many there are for it.
        free: u64,
    },
    /// The kernel refused the mapping.
    #[error("guest memory could not be mapped: {0}; give less memory, or lift the limit on it")]
    Map(#[source] MmapRegionError),
    /// The regions could not be put together.
    #[error("guest memory could not be arranged: {0}")]
    Arrange(#[source] vm_memory::GuestRegionCollectionError),
    /// The kernel refused the advice.
    #[error("huge pages could not be advised for guest memory: {0}")]
    Advise(#[source] std::io::Error),
}

/// What kind of pages guest memory has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HugePages {
    /// As the host is set up for everybody.
    #[default]
    HostDefault,
    /// `MADV_HUGEPAGE`: first touches get cheaper, resident memory grows.
    Advised,
    /// Pages of 2 MiB that the host has set aside (hugetlbfs); the guest's are reserved at once.
    TwoMiB,
}

impl MemorySize {
    /// The smallest guest memory, in MiB.
    pub const MIN_MIB: u64 = 16;

    /// A size of `mib` MiB on a host that has `host_mib` MiB.
    ///
    /// # Errors
    /// [`MemoryError::TooSmall`] below [`Self::MIN_MIB`], [`MemoryError::TooLarge`] above `host_mib`.
    pub fn new(mib: u64, host_mib: u64) -> Result<Self, MemoryError> {
        // No host has this much; above it, bytes would not fit the arithmetic below.
        const ARITHMETIC_LIMIT_MIB: u64 = 1 << 32;
        if mib < Self::MIN_MIB {
            return Err(MemoryError::TooSmall(mib));
        }
        if mib > host_mib.min(ARITHMETIC_LIMIT_MIB) {
            return Err(MemoryError::TooLarge {
                wanted_mib: mib,
                host_mib,
            });
        }
        Ok(Self { mib })
    }

    /// A size of `mib` MiB, checked against what this host has in all.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn on_this_host(mib: u64) -> Result<Self, MemoryError> {
        let host = rustix::system::sysinfo();
        let bytes = u128::from(host.totalram) * u128::from(host.mem_unit);
        let host_mib = u64::try_from(bytes >> 20).unwrap_or(u64::MAX);
        Self::new(mib, host_mib)
    }

    /// The size in MiB.
    pub fn mib(self) -> u64 {
        self.mib
    }

    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        self.mib * MIB
    }

    /// Where the memory lies: start and length of each range, in ascending order.
    pub fn ranges(self) -> Vec<(GuestAddress, u64)> {
        let low = self.bytes().min(LOW_MEMORY_END.0);
        let high = self.bytes() - low;
        let mut ranges = vec![(GuestAddress(0), low)];
        if high > 0 {
            ranges.push((HIGH_MEMORY_START, high));
        }
        ranges
    }
}

/// Maps guest memory of `size`.
///
/// # Errors
/// [`MemoryError::Map`] when the host refuses the mapping, [`MemoryError::Advise`] when it refuses
/// the advice.
pub fn create(size: MemorySize, huge_pages: HugePages) -> Result<GuestMemory, MemoryError> {
    let regions = size
        .ranges()
        .into_iter()
        .map(|(start, length)| region(start, length, huge_pages))
        .collect::<Result<Vec<_>, _>>()?;
    if huge_pages == HugePages::Advised {
        for region in &regions {
            advise_huge_pages(region).map_err(MemoryError::Advise)?;
        }
    }
    GuestMemoryMmap::from_regions(regions).map_err(MemoryError::Arrange)
}

/// The end of low memory, exclusive: firmware tables aside, everything that boots lies below it.
pub fn low_end(memory: &GuestMemory) -> GuestAddress {
    use vm_memory::GuestMemoryBackend;
    let end = memory
        .find_region(GuestAddress(0))
        .map_or(0, GuestMemoryRegion::len);
    GuestAddress(end)
}

/// Checks that the host has enough free huge pages for a guest of `size`, before anything is made. The mapping
/// then takes them, or finds that another was faster.
///
/// # Errors
/// [`MemoryError::NoHugePages`].
pub fn check_huge_pages(size: MemorySize) -> Result<(), MemoryError> {
    let count = |name: &str| -> u64 {
        let path = format!("/sys/kernel/mm/hugepages/hugepages-2048kB/{name}");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    let wanted = size.bytes().div_ceil(HUGE_PAGE);
    let free = count("free_hugepages").saturating_sub(count("resv_hugepages"));
    if wanted > free {
        return Err(MemoryError::NoHugePages { wanted, free });
    }
    Ok(())
}

fn region(
    start: GuestAddress,
    length: u64,
    huge_pages: HugePages,
) -> Result<GuestRegionMmap<()>, MemoryError> {
    let length = usize::try_from(length)
        .map_err(|_| MemoryError::Map(MmapRegionError::InvalidOffsetLength))?;
    let mapping = if huge_pages == HugePages::TwoMiB {
        // Reserved, unlike other memory: a huge page that is missing later is a bus error.
        let flags =
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        MmapRegion::build(None, length, access, flags)
    } else {
        // Private, anonymous and without reservation.
        MmapRegion::new(length)
    };
    let mapping = mapping.map_err(MemoryError::Map)?;
    GuestRegionMmap::new(mapping, start)
        .ok_or(MemoryError::Map(MmapRegionError::InvalidOffsetLength))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::{Bytes, GuestMemoryBackend};

    const GIB: u64 = 1 << 30;

    #[test]
    fn sizes_out_of_range_are_refused() {
        for mib in [0, 1, MemorySize::MIN_MIB - 1] {
            assert!(matches!(
                MemorySize::new(mib, 4096),
                Err(MemoryError::TooSmall(_))
            ));
        }
        for mib in [4097, u64::MAX, u64::MAX / MIB + 1] {
            assert!(matches!(
                MemorySize::new(mib, 4096),
                Err(MemoryError::TooLarge { .. })
            ));
        }
        assert!(MemorySize::new(u64::MAX / MIB + 2, u64::MAX).is_err());
        assert!(MemorySize::on_this_host(u64::MAX).is_err());
    }

    #[test]
    fn ranges_leave_the_hole_below_4_gib_free() {
        let table = [
            (128, vec![(0, 128 * MIB)]),
            (3072, vec![(0, 3 * GIB)]),
            (3073, vec![(0, 3 * GIB), (4 * GIB, MIB)]),
            (5120, vec![(0, 3 * GIB), (4 * GIB, 2 * GIB)]),
        ];
        for (mib, expected) in table {
            let ranges: Vec<_> = MemorySize::new(mib, 1 << 20)
                .unwrap()
                .ranges()
                .into_iter()
                .map(|(start, length)| (start.0, length))
                .collect();
            assert_eq!(ranges, expected, "{mib} MiB");
        }
    }

    #[test]
    fn memory_beyond_the_hole_is_usable_and_the_hole_is_not() {
        let memory = create(
            MemorySize::new(3073, 1 << 20).unwrap(),
            HugePages::HostDefault,
        )
        .unwrap();
        assert_eq!(low_end(&memory), GuestAddress(3 * GIB));
        memory.write_obj(7_u64, GuestAddress(4 * GIB)).unwrap();
        assert_eq!(memory.read_obj::<u64>(GuestAddress(4 * GIB)).unwrap(), 7);
        assert!(memory.write_obj(7_u64, GuestAddress(3 * GIB)).is_err());
        assert!(memory.find_region(GuestAddress(4 * GIB + MIB)).is_none());
    }

    #[test]
    fn huge_pages_that_are_set_aside_hold_memory_and_missing_ones_are_counted() {
        let size = MemorySize::new(16, 1 << 20).unwrap();
        match check_huge_pages(size) {
            Ok(()) => {
                let memory = create(size, HugePages::TwoMiB).unwrap();
                memory.write_obj(7_u64, GuestAddress(16 * MIB - 8)).unwrap();
                drop(memory);
            }
            Err(error) => {
                let few = matches!(
                    error,
                    MemoryError::NoHugePages {
                        wanted: 8,
                        free: 0..8
                    }
                );
                assert!(few, "{error}");
                assert!(create(size, HugePages::TwoMiB).is_err());
            }
        }
        let most = MemorySize::new(1 << 30, 1 << 31).unwrap();
        assert!(check_huge_pages(most).is_err());
    }

    #[test]
    fn huge_pages_can_be_advised() {
        let size = MemorySize::new(16, 1 << 20).unwrap();
        let memory = create(size, HugePages::Advised).unwrap();
        memory.write_obj(1_u8, GuestAddress(0)).unwrap();
    }
}
