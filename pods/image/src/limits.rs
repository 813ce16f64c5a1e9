//! What an image may ask of the host, in one place.

/// Bounds on an image. What goes beyond one is refused with a sentence that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries of all layers together. Large images have some 300,000; at 200 bytes each this bounds memory.
    pub entries: usize,
    /// Bytes of all layers, unpacked. Also what a compressed bomb can make the host write.
    pub bytes: u64,
    /// Bytes of names, link targets and extended attributes: what is kept in memory besides the entries.
    pub memory: usize,
    /// Bytes of a path (`PATH_MAX`).
    pub path: usize,
    /// Directories within directories.
    pub depth: usize,
    /// Layers. The overlay file system, by which others mount images, takes some 500; builders stop at 127.
    pub layers: usize,
    /// Bytes of a manifest, an index or a configuration.
    pub document: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 1_000_000,
            bytes: 32 << 30,
            memory: 256 << 20,
            path: 4096,
            depth: 256,
            layers: 512,
            document: 4 << 20,
        }
    }
}

/// Bytes of a name in a directory (`NAME_MAX`).
pub(crate) const NAME: usize = 255;
/// Bytes of the extended attributes of one file, names included.
pub(crate) const ATTRIBUTES: usize = 64 << 10;
