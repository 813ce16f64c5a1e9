//! Block 0 of the file system.

use crate::store::BLOCK;

/// `EROFS_SUPER_MAGIC_V1`.
const MAGIC: u32 = 0xe0f5_e1e2;
/// Where it stands in its block.
const AT: usize = 1024;
/// The checksum is there (1); inodes have times of their own, of the last change of their content (2).
const COMPATIBLE: u32 = 1 | 2;
const BLOCK_BITS: u8 = 12;

/// What the superblock says.
pub(super) struct Superblock {
    pub(super) id: [u8; 16],
    pub(super) inodes: u64,
    pub(super) blocks: u32,
    pub(super) inodes_at: u32,
    pub(super) root: u16,
}

impl Superblock {
    /// The block (`struct erofs_super_block`).
    pub(super) fn block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| {
            block[AT + at..AT + at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &MAGIC.to_le_bytes());
        put(8, &COMPATIBLE.to_le_bytes());
        put(12, &[BLOCK_BITS]);
        put(14, &self.root.to_le_bytes());
        put(16, &self.inodes.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        put(40, &self.inodes_at.to_le_bytes());
        put(48, &self.id);
        let sum = crc32c(&block[AT..]);
        block[AT + 4..AT + 8].copy_from_slice(&sum.to_le_bytes());
        block
    }
}

/// CRC-32C as the kernel's `crc32c(~0, ...)`: not inverted at the end.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(!super::crc32c(b"123456789"), 0xe306_9283);
    }
}
