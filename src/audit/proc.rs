//! Reading a process's files in `/proc`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The longest file that is read: what is longer is refused, since half of it would prove nothing.
const LONGEST_BYTES: u64 = 16 << 20;
/// Most files are shorter.
const USUAL_BYTES: usize = 8 << 10;

/// A process, as a directory.
#[derive(Clone, Debug)]
pub(super) struct Process {
    number: u32,
    place: PathBuf,
}

impl Process {
    pub(super) fn new(pid: u32) -> Self {
        Self {
            number: pid,
            place: Path::new("/proc").join(pid.to_string()),
        }
    }

    /// Its number, which is its first thread's too.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// One of its threads.
    pub(super) fn thread(&self, tid: u32) -> Self {
        Self {
            number: tid,
            place: self.place.join("task").join(tid.to_string()),
        }
    }

    /// The path of a file.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    /// The content of a file.
    pub(super) fn bytes(&self, name: &str) -> io::Result<Vec<u8>> {
        bytes(&self.path(name))
    }

    /// The content of a file that is text.
    pub(super) fn text(&self, name: &str) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes(name)?).into_owned())
    }

    /// The number that a namespace is known by (namespaces(7)).
    pub(super) fn namespace(&self, name: &str) -> io::Result<u64> {
        let found = fs::metadata(self.path("ns").join(name))?;
        Ok(found.ino())
    }

    /// The entries of a directory that are numbers, in order.
    pub(super) fn numbers(&self, name: &str) -> io::Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(self.path(name))? {
            let name = entry?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// The content of a file.
pub(super) fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    // Most are shorter, and then read at once.
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    let read = File::open(path)?
        .take(LONGEST_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read > LONGEST_BYTES) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// The text of a file without the white space at its end.
pub(super) fn text(path: &Path) -> io::Result<String> {
    let bytes = bytes(path)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_itself_as_a_thread() {
        let pid = std::process::id();
        let process = Process::new(pid);
        assert!(process.numbers("task").unwrap().contains(&pid));
        let of_thread = process.thread(pid).namespace("net").unwrap();
        assert_eq!(process.namespace("net").unwrap(), of_thread);
    }

    #[test]
    fn a_file_without_an_end_is_refused() {
        let error = bytes(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
