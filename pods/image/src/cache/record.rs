//! Images by the names under which they were asked for.
//!
//! `DIR/images/HEX.json`, where HEX is the SHA-256 of the name: what the name meant when it was last looked up, and what
//! its disk is made of.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use super::{Cache, CacheError, wrap};
use crate::digest::Digest;
use crate::manifest::Image;

/// An image that was taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The name by which it was asked for: a reference, or a path.
    pub name: String,
    /// What that meant.
    pub digest: String,
    /// What its disk is made of.
    pub chain: String,
    /// How it wants to be run.
    pub config: ImageConfiguration,
    /// When it was taken, in seconds since 1970.
    pub taken_at: u64,
}

impl Record {
    /// Of an image that was taken just now.
    pub fn new(name: &str, image: &Image) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            name: name.to_owned(),
            digest: image.digest.to_string(),
            chain: image.chain(),
            config: image.config.clone(),
            taken_at: now.unwrap_or_default().as_secs(),
        }
    }
}

impl Cache {
    /// What a name meant; `None` if it was never asked for, or what was written of it cannot be understood any more.
    pub fn record(&self, name: &str) -> Option<Record> {
        let bytes = fs::read(self.record_path(name)).ok()?;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        (record.name == name).then_some(record)
    }

    /// Remembers what a name means.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn remember(&self, record: &Record) -> Result<(), CacheError> {
        let path = self.record_path(&record.name);
        let folder = self.directory.join("images");
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(&folder)?;
            file.write_all(&serde_json::to_vec(record)?)?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(wrap(&path, "written"))
    }

    /// All names, in their order.
    ///
    /// # Errors
    /// If the cache cannot be read.
    pub fn records(&self) -> Result<Vec<Record>, CacheError> {
        let folder = self.directory.join("images");
        let mut records = Vec::new();
        for entry in fs::read_dir(&folder).map_err(wrap(&folder, "read"))? {
            let path = entry.map_err(wrap(&folder, "read"))?.path();
            let record = fs::read(path)
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok());
            records.extend(record);
        }
        records.sort_by(|a: &Record, b| a.name.cmp(&b.name));
        Ok(records)
    }

    /// Forgets a name; `false` if it was not known.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn forget(&self, name: &str) -> Result<bool, CacheError> {
        let path = self.record_path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true).map_err(wrap(&path, "removed")),
        }
    }

    fn record_path(&self, name: &str) -> PathBuf {
        let name = Digest::of(name.as_bytes()).hex();
        self.directory.join("images").join(format!("{name}.json"))
    }
}
