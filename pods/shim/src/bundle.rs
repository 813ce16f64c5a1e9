//! A container's directory, as containerd makes it, and what a shim notes for whoever clears up behind it.

use std::fs::{self, File};
use std::io::ErrorKind::{AlreadyExists, NotFound};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The longest `config.json`, bytes.
const LONGEST_SPEC: u64 = 8 << 20;
/// What is noted, in the shim's own directory.
const NOTE: &str = "note.json";

/// What a shim has begun and somebody must end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The warden of the VM, as a process id.
    pub(crate) warden: u32,
    /// When it was started, in the kernel's ticks: another process may have its number by now.
    pub(crate) warden_start: u64,
    /// The container's cgroup, below the mount of each hierarchy.
    pub(crate) cgroup: Option<PathBuf>,
    /// A disk that is the container's alone.
    pub(crate) disk: Option<PathBuf>,
}

impl Note {
    /// Writes it into `directory`, which is made, whole or not at all.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        make_directory(directory)?;
        let draft = directory.join(".note");
        let options = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft);
        options?.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(draft, directory.join(NOTE))
    }

    /// What was noted in `directory`; nothing where nothing was.
    pub(crate) fn read(directory: &Path) -> Option<Self> {
        serde_json::from_slice(&bounded(&directory.join(NOTE), 64 << 10).ok()?).ok()
    }
}

/// How often a directory is made whose parent another shim removes meanwhile, each for a container of its own.
const TRIES: u32 = 100;

/// A directory for its owner alone, with those above it.
///
/// # Errors
/// What the kernel refuses.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    let make = || {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path)
    };
    // The last that leaves removes the directory of all, and another one may be about to come: one above is not there any
    // more, or what is there is gone when it is looked at. Where a file is in the way, that stays the last word.
    let mut made = make();
    for _ in 1..TRIES {
        match &made {
            Err(error) if matches!(error.kind(), NotFound | AlreadyExists) => made = make(),
            _ => break,
        }
    }
    made
}

/// The container's `config.json`.
///
/// # Errors
/// When it is missing or longer than any.
pub(crate) fn spec(bundle: &Path) -> io::Result<Vec<u8>> {
    bounded(&bundle.join("config.json"), LONGEST_SPEC)
}

/// A whole file of at most `most` bytes.
///
/// # Errors
/// When it cannot be read or is longer.
pub(crate) fn bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it is longer than {most} bytes"),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_while_others_remove_the_one_above_it() {
        let root = tempfile::tempdir().unwrap();
        let above = root.path().join("pods");
        let come_and_go = |name: &str| {
            for _ in 0..1000 {
                make_directory(&above.join(name)).unwrap();
                fs::remove_dir(above.join(name)).unwrap();
                // It stays while the other one is in it.
                let _ = fs::remove_dir(&above);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| come_and_go("one"));
            scope.spawn(|| come_and_go("two"));
        });
    }

    #[test]
    fn a_note_reads_back_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let note = Note {
            warden: 7,
            warden_start: 9,
            cgroup: Some("a/b".into()),
            disk: None,
        };
        note.write(&directory.path().join("pod")).unwrap();
        assert_eq!(Note::read(&directory.path().join("pod")), Some(note));
        assert_eq!(Note::read(directory.path()), None);
    }

    #[test]
    fn a_file_that_is_too_long_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("config.json"), [b' '; 11]).unwrap();
        assert!(bounded(&directory.path().join("config.json"), 10).is_err());
        assert_eq!(spec(directory.path()).unwrap().len(), 11);
    }
}
