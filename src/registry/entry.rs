//! One running VM's file, `NAME.json`, and whether it tells the truth.
//!
//! **A live VM holds a lock (`flock`) on its own file**: whoever gets the lock has found a file that was left
//! behind, whatever process has the number in it today.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// What a file's name ends with.
pub(super) const SUFFIX: &str = ".json";
/// The longest file that is read, in bytes.
const LONGEST: u64 = 64 << 10;

/// A running VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Vm {
    /// Its name, which no other running VM of this user has.
    pub(crate) name: String,
    /// The process that runs it.
    pub(crate) pid: u32,
    /// When the kernel started that process, in clock ticks since the host's boot (`proc_pid_stat(5)`, field
    /// 22): another process with the same number started at another time.
    pub(crate) pid_start: u64,
    /// The process outside of its jail, which clears up when that one has ended, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warden: Option<u32>,
    /// Its API's socket, as an absolute path, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) socket: Option<PathBuf>,
    /// Its kernel, if that was known when it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kernel: Option<String>,
    /// The container image that it runs, if it runs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<VmImage>,
    /// When it was started, in seconds since 1970.
    pub(crate) started_at: u64,
}

/// A container image, as it was when a VM was started with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VmImage {
    /// The name by which it was asked for.
    pub(crate) name: String,
    /// What that meant then.
    pub(crate) digest: String,
}

/// What an entry's file turned out to be.
#[derive(Debug)]
pub(super) enum Found {
    /// A VM that runs; for a moment also what was left behind, while somebody else looks at it.
    Live(Vm),
    /// What a VM has left behind.
    Stale(Stale),
    /// No file of ours, and why.
    Foreign(&'static str),
    /// Nothing: it went away meanwhile.
    Nothing,
}

/// A file that was left behind, locked: until it is dropped, nobody else takes or removes it.
#[derive(Debug)]
pub(super) struct Stale {
    #[expect(dead_code, reason = "holds the lock")]
    file: File,
    path: PathBuf,
    /// What stands in it; nothing in one that was being written.
    vm: Option<Vm>,
}

impl Stale {
    /// The VM that it was of.
    pub(super) fn vm(&self) -> Option<&Vm> {
        self.vm.as_ref()
    }

    /// Removes the file, once: from then on its name may be another's.
    pub(super) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// Looks at the file at `path`.
pub(super) fn look(path: &Path) -> io::Result<Found> {
    let file = match open(path) {
        Ok(file) => file,
        Err(error) => return missing(error),
    };
    match file.try_lock() {
        // Somebody else has removed it, and the path may lead to a running VM's by now.
        Ok(()) if !is_at(&file, path) => Ok(Found::Nothing),
        // A file that somebody has put here is not ours to remove.
        Ok(()) => Ok(read(&file, path).map_or(
            Found::Foreign("it is no entry of a VM of its name"),
            |vm| {
                Found::Stale(Stale {
                    file,
                    path: path.to_owned(),
                    vm: Some(vm),
                })
            },
        )),
        Err(TryLockError::WouldBlock) => Ok(read(&file, path).map_or(Found::Nothing, Found::Live)),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Looks at a file that an entry is, or was, written in before it has its name.
pub(super) fn look_at_draft(path: &Path) -> io::Result<Found> {
    let file = match open(path) {
        Ok(file) => file,
        Err(error) => return missing(error),
    };
    match file.try_lock() {
        Ok(()) if !is_at(&file, path) => Ok(Found::Nothing),
        Ok(()) if !file.metadata()?.is_file() => Ok(Found::Foreign("it is no file")),
        Ok(()) => Ok(Found::Stale(Stale {
            file,
            path: path.to_owned(),
            vm: None,
        })),
        // It is being written.
        Err(TryLockError::WouldBlock) => Ok(Found::Nothing),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn missing(error: io::Error) -> io::Result<Found> {
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => Ok(Found::Nothing),
        Some(Errno::LOOP) => Ok(Found::Foreign("it is a symbolic link")),
        _ => Err(error),
    }
}

/// Whether the path still leads to the open file.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), fs::symlink_metadata(path)) else {
        return false;
    };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// What stands in the file, if it is an entry and has its name.
fn read(file: &File, path: &Path) -> Option<Vm> {
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).ok()?;
    let vm: Vm = serde_json::from_slice(&text).ok()?;
    let expected = format!("{}{SUFFIX}", vm.name);
    (path.file_name()? == expected.as_str()).then_some(vm)
}
