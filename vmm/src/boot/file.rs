//! Kernel and initrd files: opening them, reading headers, and placing ranges of them into guest memory.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use devices::outside;
use rustix::fs::OFlags;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryError};

use crate::memory::{GuestMemory, MapError, PAGE_SIZE, map_file};

/// A kernel or initrd, open for reading.
#[derive(Debug)]
pub struct ImageFile {
    path: PathBuf,
    file: File,
    size: u64,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// It is not there.
    #[error("the file does not exist (No such file or directory): check the path")]
    Missing,
    /// It may not be read.
    #[error(
        "the file cannot be read by this user (Permission denied): change its permissions or run as its owner"
    )]
    Denied,
    /// It is a directory, a device, a pipe.
    #[error("this is not a regular file: give the path of an image file")]
    NotRegular,
    /// It has no bytes.
    #[error("the file is empty: build or download it again")]
    Empty,
    /// It could not be opened or read for another reason.
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It got shorter while it was read.
    #[error("the file got shorter while it was read: let nobody write it, then start again")]
    Shrunk,
    /// Guest memory does not hold it.
    #[error("guest memory has no room for it: {0}; give the guest more memory")]
    Memory(#[source] GuestMemoryError),
}

impl ImageFile {
    /// Opens `path`.
    ///
    /// # Errors
    /// [`FileFault`], also for what is not a regular file and for an empty one.
    pub fn open(path: &Path) -> Result<Self, FileFault> {
        // Without NONBLOCK the open of a pipe would wait for its other end.
        let file = outside::open(path, OFlags::RDONLY | OFlags::NONBLOCK);
        let file = file.map_err(|error| match error.kind() {
            ErrorKind::NotFound => FileFault::Missing,
            ErrorKind::PermissionDenied => FileFault::Denied,
            _ => FileFault::Io(error),
        })?;
        Self::from_file(path, file)
    }

    /// Takes a file that is open already; `path` is what messages call it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_file(path: &Path, file: File) -> Result<Self, FileFault> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(FileFault::NotRegular);
        }
        if metadata.len() == 0 {
            return Err(FileFault::Empty);
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            size: metadata.len(),
        })
    }

    /// The same file once more.
    ///
    /// # Errors
    /// When the kernel grants no descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            path: self.path.clone(),
            file: self.file.try_clone()?,
            size: self.size,
        })
    }

    /// What messages call it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in bytes when it was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The first `N` bytes, or as many as there are.
    pub(super) fn head<const N: usize>(&self) -> Result<Vec<u8>, FileFault> {
        let length = usize::try_from(self.size).map_or(N, |size| size.min(N));
        let mut bytes = vec![0; length];
        self.read_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Fills `bytes` from `offset`. The caller has checked that the file reaches that far.
    pub(super) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), FileFault> {
        self.file
            .read_exact_at(bytes, offset)
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => FileFault::Shrunk,
                _ => FileFault::Io(error),
            })
    }

    /// Places `length` bytes from `offset` at guest address `at`: whole pages are mapped where address
    /// and offset are alike within their pages, everything else is copied. The caller has checked that
    /// file and guest memory hold the range.
    pub(super) fn place(
        &self,
        memory: &GuestMemory,
        at: GuestAddress,
        offset: u64,
        length: u64,
    ) -> Result<(), FileFault> {
        let mut range = Range { at, offset, length };
        if at.raw_value() % PAGE_SIZE == offset % PAGE_SIZE {
            let head = (PAGE_SIZE - offset % PAGE_SIZE) % PAGE_SIZE;
            let first = range.take(head.min(length));
            self.copy(memory, first)?;
            let pages = range.take(range.length / PAGE_SIZE * PAGE_SIZE);
            self.map(memory, pages)?;
        }
        self.copy(memory, range)
    }

    fn map(&self, memory: &GuestMemory, range: Range) -> Result<(), FileFault> {
        let Range { at, offset, length } = range;
        match map_file(memory, at, &self.file, offset, length) {
            Ok(()) => Ok(()),
            Err(MapError::PastEnd { .. }) => Err(FileFault::Shrunk),
            // A file system that cannot map (ENODEV) can still be read.
            Err(_) => self.copy(memory, range),
        }
    }

    fn copy(&self, memory: &GuestMemory, range: Range) -> Result<(), FileFault> {
        if range.length == 0 {
            return Ok(());
        }
        let length = usize::try_from(range.length)
            .map_err(|_| FileFault::Memory(GuestMemoryError::GuestAddressOverflow))?;
        (&self.file).seek(SeekFrom::Start(range.offset))?;
        memory
            .read_exact_volatile_from(range.at, &mut &self.file, length)
            .map_err(|error| self.copy_fault(range, error))
    }

    /// A copy ends early when the file does or when guest memory does: the file's size tells which.
    fn copy_fault(&self, range: Range, error: GuestMemoryError) -> FileFault {
        let shrunk = self
            .file
            .metadata()
            .is_ok_and(|now| now.len() < range.offset.saturating_add(range.length));
        match error {
            _ if shrunk => FileFault::Shrunk,
            GuestMemoryError::IOError(error) => FileFault::Io(error),
            other => FileFault::Memory(other),
        }
    }
}

/// A range of the file and where it goes.
#[derive(Clone, Copy)]
struct Range {
    at: GuestAddress,
    offset: u64,
    length: u64,
}

impl Range {
    /// Cuts the first `length` bytes off; `length` is at most the range's.
    fn take(&mut self, length: u64) -> Self {
        let first = Self {
            at: self.at,
            offset: self.offset,
            length,
        };
        self.at = self.at.unchecked_add(length);
        self.offset += length;
        self.length -= length;
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{HugePages, MemorySize, create};
    use std::io::Write;

    fn image(bytes: &[u8]) -> ImageFile {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        ImageFile::from_file(Path::new("image"), file).unwrap()
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length)
            .map(|at| u8::try_from(at % 251).unwrap() + 1)
            .collect()
    }

    #[test]
    fn any_alignment_of_address_offset_and_length_gives_the_files_bytes() {
        let content = bytes(5 * 4096 + 100);
        let image = image(&content);
        for (at, offset, length) in [
            (0x3000, 0, 4 * 4096),
            (0x3000, 4096, 2 * 4096 + 7),
            (0x3010, 0x10, 3 * 4096),
            (0x3010, 0x1010, 20),
            (0x3ff0, 0xff0, 0x20),
            (0x3001, 0, 3 * 4096),
            (0x3000, 0x1001, 2 * 4096),
            (0x3000, 0, 5 * 4096 + 100),
            (0x3000, 0, 0),
        ] {
            let size = MemorySize::new(16, 1024).unwrap();
            let memory = create(size, HugePages::HostDefault).unwrap();
            let place = GuestAddress(at);
            image
                .place(&memory, place, offset, u64::try_from(length).unwrap())
                .unwrap();
            let mut read = vec![0; length + 2];
            memory
                .read_slice(&mut read, place.unchecked_sub(1))
                .unwrap();
            let start = usize::try_from(offset).unwrap();
            let mut expected = vec![0];
            expected.extend(&content[start..start + length]);
            expected.push(0);
            assert_eq!(read, expected, "{at:#x} {offset:#x} {length:#x}");
        }
    }

    #[test]
    fn files_that_cannot_be_images_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let fault = |path: &Path| ImageFile::open(path).unwrap_err();
        assert!(matches!(fault(directory.path()), FileFault::NotRegular));
        assert!(matches!(
            fault(Path::new("/dev/null")),
            FileFault::NotRegular
        ));
        let missing = directory.path().join("missing");
        assert!(matches!(fault(&missing), FileFault::Missing));
        let empty = directory.path().join("empty");
        File::create(&empty).unwrap();
        assert!(matches!(fault(&empty), FileFault::Empty));
    }

    #[test]
    fn a_file_that_shrank_is_a_fault_and_not_a_signal() {
        let image = image(&bytes(3 * 4096));
        image.file.set_len(4096).unwrap();
        let size = MemorySize::new(16, 1024).unwrap();
        let memory = create(size, HugePages::HostDefault).unwrap();
        for at in [0x3000, 0x3001] {
            let fault = image.place(&memory, GuestAddress(at), 0, 3 * 4096);
            assert!(matches!(fault, Err(FileFault::Shrunk)), "{at:#x}");
        }
    }
}
