//! Disks that were made once, by what they were made of.
//!
//! ```text
//! DIR/disks/HEX.erofs   a disk; HEX is the SHA-256 of what it was made of. Its time is that of its last use
//! DIR/disks/HEX.json    the accounts of its image
//! DIR/images/...        what names of images meant (`record.rs`)
//! DIR/making/HEX        empty, and locked by whoever makes that disk
//! DIR/making/HEX.part   what he has written of it
//! ```
//!
//! **A disk is complete when it has its name**: it is written under another one, synchronised, then renamed. **A disk that
//! somebody has open is locked by him** (`flock`, shared), and only disks that nobody has locked are removed.

mod record;
mod room;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::accounts::Accounts;
use crate::config::Config;
use crate::directory::{self, DirectoryError};
use crate::erofs;
use crate::limits::Limits;
use crate::manifest::{Image, ImageError, Progress};
use crate::source::Source;
use crate::store::Store;
use crate::tree::Tree;

pub use record::Record;
pub use room::{Kept, Outcome};

/// What the bytes of a disk depend on besides its image: another number when they change.
const VERSION: &str = "1";

/// Why the cache could not give a disk.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file of the cache could not be used.
    #[error("the cache's {path:?} could not be {act}")]
    File {
        /// Its path.
        path: PathBuf,
        /// What was tried.
        act: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The directory was not taken.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The disk could not be written.
    #[error("the disk could not be written to the cache")]
    Write(#[source] io::Error),
}

/// A directory of disks.
#[derive(Debug, Clone)]
pub struct Cache {
    directory: PathBuf,
    limit: u64,
    /// What an image may ask for.
    pub limits: Limits,
}

/// A disk that stays in the cache while this is alive: it holds a shared lock.
#[derive(Debug)]
pub struct Disk {
    /// Where it is.
    pub path: PathBuf,
    /// It, open for reading. A copy of the descriptor holds the lock as well.
    pub file: File,
    /// Whether it was there before.
    pub was_there: bool,
}

/// Why an image's disk could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl Disk {
    /// The users and groups of its image.
    pub fn accounts(&self) -> Accounts {
        let text = fs::read(self.path.with_extension("json")).ok();
        let accounts = text.and_then(|text| serde_json::from_slice(&text).ok());
        accounts.unwrap_or_default()
    }
}

impl Cache {
    /// The cache in `directory`, which is made if it is not there. `limit`: bytes beyond which disks that nobody uses
    /// are removed, those first that were not used for longest.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(directory: &Path, limit: u64) -> Result<Self, CacheError> {
        let cache = Self {
            directory: directory.to_owned(),
            limit,
            limits: Limits::default(),
        };
        for part in ["disks", "images", "making"] {
            let path = directory.join(part);
            let made = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path);
            made.map_err(wrap(&path, "made"))?;
        }
        Ok(cache)
    }

    /// The place for caches of whoever calls: `images` in `$RAVELIN_CACHE`, or the configuration's for root, or
    /// `ravelin/images` in the user's own cache directory.
    pub fn place(config: &Config) -> PathBuf {
        if let Some(place) = std::env::var_os("RAVELIN_CACHE").filter(|place| !place.is_empty()) {
            return Path::new(&place).join("images");
        }
        if rustix::process::geteuid().is_root() {
            return config.cache.clone();
        }
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
        let cache = cache.filter(|path| path.is_absolute()).or_else(home);
        cache
            .unwrap_or_else(|| "/tmp".into())
            .join("ravelin/images")
    }

    /// The disk of a mounted directory. `key` says what is in it, such as the chain of its layers: the directory is read
    /// only if no disk was made of that key before.
    ///
    /// # Errors
    /// If the directory is refused, or the cache cannot be used.
    pub fn directory(&self, key: &str, path: &Path) -> Result<Disk, CacheError> {
        let limits = self.limits;
        self.disk(&format!("directory {key}"), |store| {
            Ok::<_, CacheError>(directory::read(path, store, limits, &mut |_| {})?)
        })
    }

    /// The disk that was made of `what`, or else of the tree that `make` returns. Of several that ask at once one makes it.
    ///
    /// # Errors
    /// What `make` says, and if the cache cannot be used.
    pub fn disk<E: From<CacheError>>(
        &self,
        what: &str,
        make: impl FnOnce(&mut Store) -> Result<Tree, E>,
    ) -> Result<Disk, E> {
        let id = Self::id(what);
        let hex = crate::hex(&id);
        if let Some(disk) = self.find(&hex)? {
            return Ok(disk);
        }
        let making = Making::lock(&self.directory.join("making").join(&hex))?;
        if let Some(disk) = self.find(&hex)? {
            return Ok(disk);
        }
        let mut id16 = [0; 16];
        id16.copy_from_slice(&id[..16]);
        let disk = self.make(&making, &hex, id16, make)?;
        self.shrink()?;
        Ok(disk)
    }

    fn make<E: From<CacheError>>(
        &self,
        making: &Making,
        hex: &str,
        id: [u8; 16],
        make: impl FnOnce(&mut Store) -> Result<Tree, E>,
    ) -> Result<Disk, E> {
        let rests = self.unnamed()?;
        let part = making.part();
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc_nofollow())
            .open(&part);
        let file = file.map_err(wrap(&part, "made"))?;
        let mut store = Store::new(file, rests).map_err(CacheError::Write)?;
        let tree = make(&mut store)?;
        let accounts = self.accounts_path(hex);
        let text = serde_json::to_vec(&Accounts::read(&tree, &store)).map_err(io::Error::from);
        let wrote = text.and_then(|text| fs::write(&accounts, text));
        wrote.map_err(wrap(&accounts, "written"))?;
        let written = erofs::write(&tree, store, id).map_err(CacheError::Write)?;
        written.sync_data().map_err(CacheError::Write)?;
        let path = self.disk_path(hex);
        // Locked before it has its name: nobody can have removed it in between.
        let file = open(&part).map_err(wrap(&part, "opened"))?;
        flock(&file, FlockOperation::LockShared)
            .map_err(|errno| wrap(&part, "locked")(errno.into()))?;
        fs::rename(&part, &path).map_err(wrap(&path, "named"))?;
        Ok(Disk {
            path,
            file,
            was_there: false,
        })
    }

    /// The disk of an image, from its source unless it is there.
    ///
    /// # Errors
    /// If the image is refused, or the cache cannot be used.
    pub fn image(
        &self,
        image: &Image,
        source: &dyn Source,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Disk, PrepareError> {
        self.disk(&image.chain(), |store| {
            Ok(image.build(source, store, &self.limits, progress)?)
        })
    }

    /// The disk that was made of `what`, if it is there.
    ///
    /// # Errors
    /// If the cache cannot be used.
    pub fn kept(&self, what: &str) -> Result<Option<Disk>, CacheError> {
        self.find(&crate::hex(&Self::id(what)))
    }

    /// The number of the disk that is made of `what`, in hexadecimal digits.
    pub fn id_of(what: &str) -> String {
        crate::hex(&Self::id(what))
    }

    fn id(what: &str) -> [u8; 32] {
        Sha256::digest(format!("ravelin disk {VERSION}\n{what}")).into()
    }

    /// A directory for files without names: on the file system that the cache is on.
    pub fn room(&self) -> &Path {
        &self.directory
    }

    /// A disk that is there, locked.
    fn find(&self, hex: &str) -> Result<Option<Disk>, CacheError> {
        let path = self.disk_path(hex);
        let file = match open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(wrap(&path, "opened"))?,
        };
        flock(&file, FlockOperation::LockShared)
            .map_err(|errno| wrap(&path, "locked")(errno.into()))?;
        let stat = file.metadata().map_err(wrap(&path, "looked at"))?;
        // Removed between the two calls: as if it had never been there.
        if stat.nlink() == 0 {
            return Ok(None);
        }
        // The time of the last use. A cache that only root may write to is used without it.
        let _ = file.set_modified(std::time::SystemTime::now());
        Ok(Some(Disk {
            path,
            file,
            was_there: true,
        }))
    }

    fn accounts_path(&self, hex: &str) -> PathBuf {
        self.directory.join("disks").join(format!("{hex}.json"))
    }

    fn disk_path(&self, hex: &str) -> PathBuf {
        self.directory.join("disks").join(format!("{hex}.erofs"))
    }

    /// A file without a name in the cache.
    fn unnamed(&self) -> Result<File, CacheError> {
        tempfile::tempfile_in(&self.directory).map_err(wrap(&self.directory, "written to"))
    }
}

fn open(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc_nofollow())
        .open(path)
}

fn libc_nofollow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).expect("a flag of open")
}

fn wrap(path: &Path, act: &'static str) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError::File { path, act, source }
}

/// A disk that is being made: the right to do so.
struct Making {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl Making {
    fn part(&self) -> PathBuf {
        self.path.with_extension("part")
    }

    /// Waits for whoever makes the same disk.
    fn lock(path: &Path) -> Result<Self, CacheError> {
        loop {
            if let Some(making) = Self::attempt(path, FlockOperation::LockExclusive)? {
                return Ok(making);
            }
        }
    }

    /// `None` if somebody else makes it.
    fn try_lock(path: &Path) -> Result<Option<Self>, CacheError> {
        Self::attempt(path, FlockOperation::NonBlockingLockExclusive)
    }

    fn attempt(path: &Path, operation: FlockOperation) -> Result<Option<Self>, CacheError> {
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc_nofollow())
            .open(path);
        let file = file.map_err(wrap(path, "made"))?;
        match flock(&file, operation) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            other => other.map_err(|errno| wrap(path, "locked")(errno.into()))?,
        }
        // Who had the lock before has removed the file: then this is a lock on nothing.
        let ours = file.metadata().map_err(wrap(path, "looked at"))?;
        let is_named = fs::symlink_metadata(path).is_ok_and(|named| named.ino() == ours.ino());
        Ok(is_named.then(|| Self {
            path: path.to_owned(),
            _file: file,
        }))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        // The part is not there any more if it has become a disk. The lock's file goes last, while it is still locked.
        let _ = fs::remove_file(self.part());
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests;
