//! Where the contents of files go while an image is read: straight to their places on the disk that is made of it.
//!
//! Whole blocks are written one after the other from block 1 on. What is left of a file, if it is short, goes into a
//! file of its own without a name, until the inode is written that it stands behind.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

/// Bytes of a block on the disk.
pub const BLOCK: usize = 4096;
/// The longest rest of a file that stands behind its inode. Longer ones get a block: they would rarely fit.
const REST: usize = BLOCK / 2;
const PIECE: usize = 32 * BLOCK;

/// The content of a file, by where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Content {
    /// Bytes of the file.
    pub size: u64,
    /// The first of its whole blocks.
    pub block: u32,
    /// Where its last bytes lie among the rests, if they stand behind the inode.
    pub rest: Option<u64>,
}

impl Content {
    /// How many bytes stand behind the inode.
    pub fn rest_len(&self) -> usize {
        match self.rest {
            Some(_) => usize::try_from(self.size % BLOCK as u64).expect("less than a block"),
            None => 0,
        }
    }

    /// How many blocks of the disk it has.
    pub fn blocks(&self) -> u64 {
        let whole = self.size / BLOCK as u64;
        whole + u64::from(self.rest.is_none() && !self.size.is_multiple_of(BLOCK as u64))
    }
}

/// A disk whose contents are being written.
#[derive(Debug)]
pub struct Store {
    pub(crate) disk: File,
    pub(crate) next: u32,
    pub(crate) rests: File,
    rests_len: u64,
    piece: Box<[u8]>,
}

impl Store {
    /// Writes to the file `disk`, which is empty, and keeps rests in `rests`.
    ///
    /// # Errors
    /// If the disk cannot be written to.
    pub fn new(mut disk: File, rests: File) -> io::Result<Self> {
        disk.seek(SeekFrom::Start(BLOCK as u64))?;
        Ok(Self {
            disk,
            next: 1,
            rests,
            rests_len: 0,
            piece: vec![0; PIECE].into_boxed_slice(),
        })
    }

    /// Takes `size` bytes from `reader` as the content of a file. `short` says whether its last bytes may stand behind
    /// the inode.
    ///
    /// # Errors
    /// `UnexpectedEof` if the reader has fewer; what reading and writing say.
    pub fn take(&mut self, reader: &mut dyn Read, size: u64, short: bool) -> io::Result<Content> {
        let (content, whole, rest) = self.place(size, short)?;
        let mut left = whole;
        while left > 0 {
            let len = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            reader.read_exact(&mut self.piece[..len])?;
            self.disk.write_all(&self.piece[..len])?;
            left -= len as u64;
        }
        reader.read_exact(&mut self.piece[..rest])?;
        self.end(content, rest)
    }

    /// As [`Store::take`], of a file: the kernel copies the blocks, or shares them where the file system can.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file has become shorter; what reading and writing say.
    pub fn take_file(&mut self, file: &File, size: u64, short: bool) -> io::Result<Content> {
        if size < PIECE as u64 {
            return self.take(&mut &*file, size, short);
        }
        let (content, whole, rest) = self.place(size, short)?;
        if io::copy(&mut file.take(whole), &mut self.disk)? != whole {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (&*file).read_exact(&mut self.piece[..rest])?;
        self.end(content, rest)
    }

    /// A whole content, which must be small.
    ///
    /// # Errors
    /// What reading says.
    pub fn read(&self, content: &Content) -> io::Result<Vec<u8>> {
        let len = usize::try_from(content.size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut bytes = vec![0; len];
        let (blocks, rest) = bytes.split_at_mut(len - content.rest_len());
        self.disk
            .read_exact_at(blocks, u64::from(content.block) * BLOCK as u64)?;
        if let Some(at) = content.rest {
            self.rests.read_exact_at(rest, at)?;
        }
        Ok(bytes)
    }

    /// The place of a file, its bytes in whole blocks and those after them.
    fn place(&mut self, size: u64, short: bool) -> io::Result<(Content, u64, usize)> {
        let rest = usize::try_from(size % BLOCK as u64).expect("less than a block");
        let content = Content {
            size,
            block: self.next,
            rest: (short && rest > 0 && rest <= REST).then_some(self.rests_len),
        };
        let next = u64::from(self.next) + content.blocks();
        self.next = u32::try_from(next).map_err(|_| io::ErrorKind::FileTooLarge)?;
        Ok((content, size - rest as u64, rest))
    }

    /// Writes the last bytes, which stand at the start of the piece.
    fn end(&mut self, content: Content, rest: usize) -> io::Result<Content> {
        if content.rest.is_some() {
            self.rests.write_all(&self.piece[..rest])?;
            self.rests_len += rest as u64;
        } else if rest > 0 {
            self.piece[rest..BLOCK].fill(0);
            self.disk.write_all(&self.piece[..BLOCK])?;
        }
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Store {
        Store::new(tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()).unwrap()
    }

    #[test]
    fn a_short_rest_takes_no_block() {
        let mut store = store();
        let content = store.take(&mut io::repeat(7), 5000, true).unwrap();
        assert_eq!(
            (content.blocks(), content.rest_len(), store.next),
            (1, 904, 2)
        );
    }

    #[test]
    fn a_long_rest_takes_a_block() {
        let mut store = store();
        let content = store.take(&mut io::repeat(7), 8000, true).unwrap();
        assert_eq!(
            (content.blocks(), content.rest_len(), store.next),
            (2, 0, 3)
        );
        assert_eq!(store.disk.metadata().unwrap().len(), 3 * 4096);
    }

    #[test]
    fn content_that_ends_early_is_no_content() {
        let error = store().take(&mut &[0u8; 10][..], 11, true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
