//! The config space of a disk (virtio 1.2 §5.2.4), little-endian.
//!
//! | offset | field | | offset | field |
//! | --- | --- | --- | --- | --- |
//! | 0 | capacity in sectors, u64 | | 32 | writeback, u8 (not offered) |
//! | 8 | size_max, u32 (not offered) | | 34 | num_queues, u16 (not offered) |
//! | 12 | seg_max, u32 | | 36 | max_discard_sectors, u32 |
//! | 16 | geometry (not offered) | | 40 | max_discard_seg, u32 |
//! | 20 | blk_size, u32 | | 44 | discard_sector_alignment, u32 |
//! | 24 | physical_block_exp, u8 | | 48 | max_write_zeroes_sectors, u32 |
//! | 25 | alignment_offset, u8 | | 52 | max_write_zeroes_seg, u32 |
//! | 26 | min_io_size, u16 | | 56 | write_zeroes_may_unmap, u8 |
//! | 28 | opt_io_size, u32 | | 57 | 3 bytes of padding |

use crate::virtio::block::{MAX_DISCARD, MAX_SEGMENTS, MAX_ZEROES, SECTOR};

/// The bytes of the config space up to what is offered.
pub(super) const LEN: usize = 60;

/// The bytes of the smallest request.
const LOGICAL_BLOCK: u32 = 512;
/// What the guest aligns to for speed: 8 sectors, the page of the host's cache. 2^3 = 8.
const PHYSICAL_BLOCK_EXPONENT: u8 = 3;
const PHYSICAL_BLOCK_SECTORS: u16 = 1 << PHYSICAL_BLOCK_EXPONENT;

/// The config space of a disk of `capacity` sectors.
pub(super) fn layout(capacity: u64) -> [u8; LEN] {
    let mut space = [0; LEN];
    let sectors = |bytes: u64| u32::try_from(bytes / SECTOR).unwrap_or(u32::MAX);
    let block = PHYSICAL_BLOCK_SECTORS;
    put(&mut space, 0, &capacity.to_le_bytes());
    put(&mut space, 12, &MAX_SEGMENTS.to_le_bytes());
    put(&mut space, 20, &LOGICAL_BLOCK.to_le_bytes());
    put(&mut space, 24, &[PHYSICAL_BLOCK_EXPONENT]);
    put(&mut space, 26, &block.to_le_bytes());
    put(&mut space, 36, &sectors(MAX_DISCARD).to_le_bytes());
    put(&mut space, 40, &1u32.to_le_bytes());
    put(&mut space, 44, &u32::from(block).to_le_bytes());
    put(&mut space, 48, &sectors(MAX_ZEROES).to_le_bytes());
    put(&mut space, 52, &1u32.to_le_bytes());
    put(&mut space, 56, &[1]);
    space
}

fn put(space: &mut [u8; LEN], at: usize, bytes: &[u8]) {
    for (to, from) in space.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}
