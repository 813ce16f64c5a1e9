//! A cpio archive for the kernel (`Documentation/driver-api/early-userspace/buffer-format.rst`, "newc"), as large as a
//! container's description and the files that go with it.

use std::io::{self, Read, Write};

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_000;

/// Writes one behind another.
pub(super) struct Archive<W> {
    out: W,
    at: u64,
    inode: u32,
}

impl<W: Write> Archive<W> {
    /// Behind `at` bytes of another archive, which are filled up to where an archive may begin.
    pub(super) fn behind(mut out: W, at: u64) -> io::Result<Self> {
        let padding = at.next_multiple_of(512) - at;
        io::copy(&mut io::repeat(0).take(padding), &mut out)?;
        let (at, inode) = (at + padding, 0);
        Ok(Self { out, at, inode })
    }

    /// A directory.
    pub(super) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, DIRECTORY, 0, io::empty())
    }

    /// A file of `size` bytes with these permissions.
    pub(super) fn file(
        &mut self,
        path: &str,
        mode: u32,
        size: u64,
        content: impl Read,
    ) -> io::Result<()> {
        self.entry(path, FILE | (mode & 0o777), size, content)
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &[u8]) -> io::Result<()> {
        self.entry(path, 0o120_777, target.len() as u64, target)
    }

    /// Ends the archive.
    pub(super) fn end(mut self) -> io::Result<()> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, 0, io::empty())?;
        self.out.flush()
    }

    fn entry(&mut self, path: &str, mode: u32, size: u64, content: impl Read) -> io::Result<()> {
        self.inode += 1;
        let size = u32::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let name = u32::try_from(path.len() + 1).map_err(|_| io::ErrorKind::InvalidInput)?;
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0];
        let fields: String = fields.iter().map(|field| format!("{field:08X}")).collect();
        self.write(format!("070701{fields}{path}\0").as_bytes())?;
        self.pad()?;
        let copied = io::copy(&mut content.take(u64::from(size)), &mut self.out)?;
        if copied != u64::from(size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += copied;
        self.pad()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn pad(&mut self) -> io::Result<()> {
        let zeros = usize::try_from(self.at.next_multiple_of(4) - self.at).unwrap_or(0);
        self.write(&[0; 3][..zeros])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_begins_at_a_multiple_of_four() {
        let mut bytes = vec![1; 510];
        let mut archive = Archive::behind(&mut bytes, 510).unwrap();
        archive.directory("a").unwrap();
        archive.file("a/b", 0o600, 5, &b"hello"[..]).unwrap();
        archive.end().unwrap();
        let starts: Vec<_> = (0..bytes.len())
            .filter(|at| bytes[*at..].starts_with(b"070701"))
            .collect();
        assert_eq!(starts.len(), 3);
        assert!(starts.iter().all(|at| at % 4 == 0) && starts[0] == 512);
    }

    #[test]
    fn a_file_that_has_become_shorter_is_an_error() {
        let mut archive = Archive::behind(Vec::new(), 0).unwrap();
        assert!(archive.file("a", 0, 5, &b"four"[..]).is_err());
    }
}
