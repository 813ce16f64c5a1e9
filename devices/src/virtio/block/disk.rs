//! The file or block device behind a disk, and what its file system can do.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;

use rustix::fs::{
    FallocateFlags, FsWord, OFlags, SeekFrom, fallocate, fcntl_getfl, fdatasync, fstatfs, seek,
};
use rustix::io::{Errno, pwritev};

use crate::iovec::IoVecs;
use crate::virtio::block::config::Error;
use crate::virtio::block::{SECTOR, SERIAL_LEN};

/// What is written where zeros are asked for and the file system has no better way.
pub(super) static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// tmpfs and ramfs (Linux `uapi/linux/magic.h`).
const IN_MEMORY: [FsWord; 2] = [0x0102_1994, 0x8584_58f6];

/// A part of the disk in bytes, inside its capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// Where it starts.
    pub(super) offset: u64,
    /// How long it is.
    pub(super) len: u64,
}

/// How space is given back or zeroed: the two modes of `fallocate(2)` that a disk uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allocate {
    /// Free the blocks; they read as zeros.
    PunchHole,
    /// Zeros, with the blocks kept.
    ZeroRange,
}

impl Allocate {
    pub(super) fn flags(self) -> FallocateFlags {
        let mode = match self {
            Self::PunchHole => FallocateFlags::PUNCH_HOLE,
            Self::ZeroRange => FallocateFlags::ZERO_RANGE,
        };
        mode | FallocateFlags::KEEP_SIZE
    }
}

/// The backend of a disk.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) file: File,
    /// The id, for messages.
    pub(super) id: String,
    pub(super) serial: [u8; SERIAL_LEN],
    pub(super) read_only: bool,
    /// In sectors. **A file whose size is no multiple of 512 loses its tail to the guest**: rounded down.
    pub(super) capacity: u64,
    pub(super) abilities: Abilities,
}

/// What the file system was not yet found to lack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Abilities {
    punch_hole: bool,
    zero_range: bool,
}

impl Abilities {
    /// Nothing is known to be lacking.
    pub(super) fn all() -> Self {
        Self {
            punch_hole: true,
            zero_range: true,
        }
    }

    pub(super) fn has(self, way: Allocate) -> bool {
        match way {
            Allocate::PunchHole => self.punch_hole,
            Allocate::ZeroRange => self.zero_range,
        }
    }

    /// Remembers what the file system said it cannot do at all.
    pub(super) fn lacks(&mut self, way: Allocate) {
        match way {
            Allocate::PunchHole => self.punch_hole = false,
            Allocate::ZeroRange => self.zero_range = false,
        }
    }
}

impl Disk {
    pub(super) fn new(
        file: File,
        id: &str,
        serial: [u8; SERIAL_LEN],
        read_only: bool,
    ) -> Result<Self, Error> {
        let size = |source: io::Error| Error::Size {
            id: id.to_owned(),
            source,
        };
        let kind = file.metadata().map_err(size)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(Error::Kind(id.to_owned()));
        }
        let flags = fcntl_getfl(&file).map_err(|errno| size(errno.into()))?;
        if !read_only && !flags.contains(OFlags::RDWR) {
            return Err(Error::NotWritable(id.to_owned()));
        }
        let capacity = sectors(&file).map_err(size)?;
        Ok(Self {
            file,
            id: id.to_owned(),
            serial,
            read_only,
            capacity,
            abilities: Abilities::all(),
        })
    }

    /// The same disk over another file.
    pub(super) fn with_file(&self, file: File) -> Result<Self, Error> {
        Self::new(file, &self.id, self.serial, self.read_only)
    }

    /// Reads the size of the file again.
    pub(super) fn measure(&mut self) -> Result<(), Error> {
        self.capacity = sectors(&self.file).map_err(|source| Error::Size {
            id: self.id.clone(),
            source,
        })?;
        Ok(())
    }

    /// Whether the file is one of tmpfs (`memfd_create` too) or ramfs.
    pub(super) fn lives_in_memory(&self) -> bool {
        // The node of a block device may lie on such a file system (devtmpfs); its data does not.
        let is_file = self.file.metadata().is_ok_and(|meta| meta.is_file());
        let kind = fstatfs(&self.file).map(|system| system.f_type);
        is_file && kind.is_ok_and(|kind| IN_MEMORY.contains(&kind))
    }

    /// The bytes the guest may reach.
    pub(super) fn len(&self) -> u64 {
        self.capacity.saturating_mul(SECTOR)
    }

    pub(super) fn read(&self, vecs: &IoVecs, offset: u64) -> io::Result<usize> {
        vecs.preadv(self.file.as_fd(), offset)
    }

    pub(super) fn write(&self, vecs: &IoVecs, offset: u64) -> io::Result<usize> {
        vecs.pwritev(self.file.as_fd(), offset)
    }

    pub(super) fn sync(&self) -> io::Result<usize> {
        Ok(fdatasync(&self.file).map(|()| 0)?)
    }

    pub(super) fn allocate(&self, way: Allocate, extent: Extent) -> io::Result<usize> {
        let done: Result<(), Errno> = fallocate(&self.file, way.flags(), extent.offset, extent.len);
        Ok(done.map(|()| 0)?)
    }

    /// Writes zeros over the start of `extent`; how many.
    pub(super) fn write_zeros(&self, extent: Extent) -> io::Result<usize> {
        Ok(pwritev(
            &self.file,
            &[IoSlice::new(zeros(extent))],
            extent.offset,
        )?)
    }
}

/// As many zeros as one write takes for `extent`.
pub(super) fn zeros(extent: Extent) -> &'static [u8] {
    let len = usize::try_from(extent.len).unwrap_or(usize::MAX);
    ZEROS.get(..len).unwrap_or(&ZEROS)
}

/// The end of a file or of a block device, which has no size in its metadata.
fn sectors(file: &File) -> io::Result<u64> {
    Ok(seek(file, SeekFrom::End(0))? / SECTOR)
}
