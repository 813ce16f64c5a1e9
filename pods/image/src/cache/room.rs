//! How much room the cache takes, and what is removed to keep it small.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Cache, CacheError, Making, open, wrap};

/// A disk of the cache.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The SHA-256 of what it was made of, in hexadecimal digits.
    pub id: String,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes that it takes.
    pub bytes: u64,
    /// When it was last asked for.
    pub used: SystemTime,
    /// Whether somebody has it open, as a running VM does.
    pub is_held: bool,
}

/// What became of a wish to remove a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is gone.
    Removed,
    /// Somebody has it.
    Held,
    /// It was not there.
    Missing,
}

impl Cache {
    /// All disks, those first that were used last.
    ///
    /// # Errors
    /// If the cache cannot be read.
    pub fn list(&self) -> Result<Vec<Kept>, CacheError> {
        let folder = self.directory.join("disks");
        let mut kept = Vec::new();
        for entry in fs::read_dir(&folder).map_err(wrap(&folder, "read"))? {
            let entry = entry.map_err(wrap(&folder, "read"))?;
            let path = entry.path();
            let Some(id) = path
                .file_name()
                .and_then(|name| name.to_str()?.strip_suffix(".erofs"))
            else {
                continue;
            };
            // One that was removed meanwhile is not there.
            let Ok(stat) = entry.metadata() else { continue };
            kept.push(Kept {
                id: id.to_owned(),
                bytes: stat.blocks() * 512,
                used: stat.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                is_held: is_held(&path),
                path,
            });
        }
        kept.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.id.cmp(&b.id)));
        Ok(kept)
    }

    /// Removes a disk if nobody has it.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, id: &str) -> Result<Outcome, CacheError> {
        let path = self.disk_path(id);
        let Ok(file) = open(&path) else {
            return Ok(Outcome::Missing);
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(Outcome::Held);
        }
        // Whoever reads them has the disk's lock.
        let _ = fs::remove_file(self.accounts_path(id));
        match fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Outcome::Missing),
            other => other
                .map(|()| Outcome::Removed)
                .map_err(wrap(&path, "removed")),
        }
    }

    /// Removes what was not used for longest until the cache has the size that it may have, and what makers that were
    /// killed have left.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn shrink(&self) -> Result<(), CacheError> {
        self.sweep()?;
        let kept = self.list()?;
        let mut bytes: u64 = kept.iter().map(|disk| disk.bytes).sum();
        for disk in kept.iter().rev() {
            if bytes <= self.limit {
                break;
            }
            if self.remove(&disk.id)? == Outcome::Removed {
                bytes -= disk.bytes;
            }
        }
        Ok(())
    }

    fn sweep(&self) -> Result<(), CacheError> {
        let folder = self.directory.join("making");
        for entry in fs::read_dir(&folder).map_err(wrap(&folder, "read"))? {
            let part = entry.map_err(wrap(&folder, "read"))?.path();
            if part.extension().is_none_or(|end| end != "part") {
                continue;
            }
            // Dropping the right to make a disk removes what was written of it.
            drop(Making::try_lock(&part.with_extension(""))?);
        }
        Ok(())
    }
}

fn is_held(path: &std::path::Path) -> bool {
    let Ok(file) = open(path) else { return false };
    flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
}
