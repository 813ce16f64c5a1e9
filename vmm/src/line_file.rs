//! A file or named pipe that takes whole lines and never makes its writer wait: for metrics and the log.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use devices::outside;
use rustix::fs::OFlags;

/// Why lines cannot go where they were to go.
#[derive(Debug, thiserror::Error)]
pub enum LineFileError {
    /// It cannot be opened.
    #[error("cannot open {path} for lines: {source}")]
    Open {
        /// What was to be opened.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// It is a folder, a socket or a disk.
    #[error(
        "{path} is {found} and a file or a named pipe was expected: name one of these, or a new file"
    )]
    Kind {
        /// What was named.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
}

/// A file or named pipe that takes whole lines.
///
/// **No line is torn**: of a line that a full pipe has taken in part, the rest goes first the next time.
#[derive(Debug)]
pub struct LineFile {
    file: File,
    rest: Vec<u8>,
}

impl LineFile {
    /// Opens the path for appending, and makes a file where nothing is.
    ///
    /// A pipe needs no reader: it is opened for reading too, which Linux does without waiting
    /// (`fifo(7)`), and which keeps what was written when a reader goes and another comes.
    ///
    /// # Errors
    /// [`LineFileError`].
    pub fn open(path: &Path) -> Result<Self, LineFileError> {
        let fault = |source| LineFileError::Open {
            path: path.to_owned(),
            source,
        };
        let wrong = |found| LineFileError::Kind {
            path: path.to_owned(),
            found,
        };
        let how = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
        let opened = outside::open(path, how | OFlags::NONBLOCK | OFlags::NOCTTY);
        let file = opened.map_err(|source| match source.kind() {
            io::ErrorKind::IsADirectory => wrong("a folder"),
            _ => fault(source),
        })?;
        let kind = file.metadata().map_err(fault)?.file_type();
        if kind.is_block_device() {
            return Err(wrong("a disk"));
        }
        Ok(Self {
            file,
            rest: Vec::new(),
        })
    }

    /// Lines into a file that was opened, as [`Self::open`] would.
    pub fn over(file: File) -> Self {
        Self {
            file,
            rest: Vec::new(),
        }
    }

    /// Writes a line, which ends with `\n`, whole or not at all.
    ///
    /// # Errors
    /// What the kernel answered, `WouldBlock` for a pipe that is full: the line is lost.
    pub fn write(&mut self, line: &[u8]) -> io::Result<()> {
        self.write_rest()?;
        let taken = put(&mut self.file, line)?;
        if let Some(rest) = line.get(taken..) {
            self.rest.extend_from_slice(rest);
        }
        Ok(())
    }

    fn write_rest(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            let taken = put(&mut self.file, &self.rest)?;
            self.rest.drain(..taken);
        }
        Ok(())
    }
}

/// Writes some of `bytes`, and at least one.
fn put(file: &mut File, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn fifo(folder: &tempfile::TempDir) -> PathBuf {
        let path = folder.path().join("fifo");
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
        path
    }

    fn drain(path: &Path) -> Vec<u8> {
        let mut reader = outside::open(path, OFlags::RDONLY | OFlags::NONBLOCK).unwrap();
        let (mut all, mut some) = (Vec::new(), [0; 4096]);
        while let Ok(n @ 1..) = reader.read(&mut some) {
            all.extend_from_slice(&some[..n]);
        }
        all
    }

    #[test]
    fn a_new_file_is_made_and_an_old_one_is_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        LineFile::open(&path).unwrap().write(b"one\n").unwrap();
        LineFile::open(&path).unwrap().write(b"two\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn a_pipe_needs_no_reader() {
        let folder = tempfile::tempdir().unwrap();
        let path = fifo(&folder);
        let mut lines = LineFile::open(&path).unwrap();
        lines.write(b"kept\n").unwrap();
        assert_eq!(drain(&path), b"kept\n");
        lines.write(b"and after a reader that went\n").unwrap();
        assert_eq!(drain(&path), b"and after a reader that went\n");
    }

    #[test]
    fn a_full_pipe_loses_lines_and_tears_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = fifo(&folder);
        let mut lines = LineFile::open(&path).unwrap();
        let line = |n: u32| {
            let mut line = vec![b'x'; 9_000];
            line.extend(format!("{n}\n").into_bytes());
            line
        };
        let mut taken = 0;
        let error = loop {
            match lines.write(&line(taken)) {
                Ok(()) => taken += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let mut all = drain(&path);
        lines.write(&line(taken)).unwrap();
        all.extend(drain(&path));
        let expected: Vec<u8> = (0..=taken).flat_map(line).collect();
        assert!(all == expected, "{} of {}", all.len(), expected.len());
    }

    #[test]
    fn what_takes_no_lines_is_refused_by_a_sentence() {
        let error = LineFile::open(Path::new("/tmp")).unwrap_err().to_string();
        assert!(error.starts_with("/tmp is a folder and a file"), "{error}");
        let error = LineFile::open(Path::new("/no/such")).unwrap_err();
        assert!(error.to_string().contains("No such file or directory"));
    }
}
