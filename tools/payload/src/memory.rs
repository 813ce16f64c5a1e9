//! Guest memory: bounded regions behind the image, shared with devices.

#![expect(
    unsafe_code,
    reason = "memory that devices share is reached by address"
)]

use core::ptr;

/// The end of the memory that is handed out, so a guest of 128 MiB always has it.
const LIMIT: usize = 112 << 20;

/// A piece of guest memory that this program and a device share. Addresses are physical.
#[derive(Clone, Copy)]
pub struct Region {
    start: usize,
    len: usize,
}

impl Region {
    /// A region at a fixed address: device registers, or what the monitor left in memory.
    ///
    /// The caller names addresses below 1 GiB or between 3 and 4 GiB, which the page tables map.
    pub const fn at(start: usize, len: usize) -> Self {
        Self { start, len }
    }

    /// The guest physical address of byte `offset`.
    pub fn address(self, offset: usize) -> u64 {
        self.check(offset, 0) as u64
    }

    /// The part of `len` bytes from `offset` on.
    pub fn part(self, offset: usize, len: usize) -> Self {
        Self {
            start: self.check(offset, len),
            len,
        }
    }

    /// Fills the region, which also makes every page of it present.
    pub fn fill(self, value: u8) {
        // SAFETY: the region is mapped, and no Rust reference points into it.
        unsafe { ptr::write_bytes(self.start as *mut u8, value, self.len) }
    }

    fn check(self, offset: usize, size: usize) -> usize {
        assert!(
            offset <= self.len && size <= self.len - offset,
            "access outside a region"
        );
        self.start + offset
    }
}

/// Accessors: volatile, because a device reads and writes the same bytes.
macro_rules! reads {
    ($($name:ident $type:ty;)*) => { impl Region { $(
        /// Reads the value at `offset`.
        pub fn $name(self, offset: usize) -> $type {
            let address = self.check(offset, size_of::<$type>());
            // SAFETY: check() keeps the access inside mapped memory; callers keep it aligned.
            unsafe { ptr::read_volatile(address as *const $type) }
        }
    )* } };
}

/// As above.
macro_rules! writes {
    ($($name:ident $type:ty;)*) => { impl Region { $(
        /// Writes the value at `offset`.
        pub fn $name(self, offset: usize, value: $type) {
            let address = self.check(offset, size_of::<$type>());
            // SAFETY: check() keeps the access inside mapped memory; callers keep it aligned.
            unsafe { ptr::write_volatile(address as *mut $type, value) }
        }
    )* } };
}

reads! { read8 u8; read16 u16; read32 u32; }
writes! { write8 u8; write16 u16; write32 u32; write64 u64; }

/// Hands out memory behind the image, page by page; nothing is ever given back.
pub struct Arena {
    next: usize,
}

impl Arena {
    /// All memory from `image_end` to the limit.
    pub fn new(image_end: usize) -> Self {
        Self {
            next: image_end.next_multiple_of(0x20_0000),
        }
    }

    /// `len` zeroed bytes on a page boundary.
    pub fn take(&mut self, len: usize) -> Region {
        let region = Region::at(self.next, len);
        assert!(
            len < LIMIT - self.next,
            "the work asked for needs more than 112 MiB of guest memory"
        );
        self.next = (self.next + len).next_multiple_of(0x1000);
        region.fill(0);
        region
    }
}
