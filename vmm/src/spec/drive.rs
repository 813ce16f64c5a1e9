//! A disk, as a user describes it.

use devices::limiter::RateLimiter;
use devices::virtio::block::{self, Cache, Engine};
use serde::{Deserialize, Serialize};

use super::{SpecError, null_is_default};

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Drive {
    /// Its name: letters, digits and underscores.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[A-Za-z0-9_]{1,64}$")))]
    pub drive_id: String,
    /// Whether the guest's root filesystem is on it.
    pub is_root_device: bool,
    /// The partition with the root filesystem, by its PARTUUID; without one, the whole disk.
    #[serde(default)]
    pub partuuid: Option<String>,
    /// What a guest's flush means; in a file, nothing unless it says so.
    #[serde(default = "unsafe_cache")]
    pub cache_type: Cache,
    /// Whether the guest may only read it.
    #[serde(default, deserialize_with = "null_is_default")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<bool>"))]
    pub is_read_only: bool,
    /// The image: a regular file or a block device.
    #[serde(default)]
    pub path_on_host: String,
    /// How requests reach the host.
    #[serde(default)]
    pub io_engine: Engine,
    /// How much the guest may do with it.
    #[serde(default)]
    pub rate_limiter: Option<RateLimiter>,
    /// What the guest reads as the disk's serial number, up to 20 bytes; without one, the id. ravelin's own:
    /// not a key of Firecracker's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Firecracker's vhost-user socket: none can be set.
    #[serde(default)]
    pub socket: Option<String>,
}

impl Drive {
    /// Checks what can be checked without opening the image; the id is checked with the others'.
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        let id = self.drive_id.clone();
        if self.socket.is_some() {
            return Err(SpecError::NoVhostUser(id));
        }
        if self.path_on_host.is_empty() {
            return Err(SpecError::NoPath(id));
        }
        match &self.serial {
            Some(serial) if !block::serial_fits(serial) => Err(SpecError::Serial {
                id,
                serial: serial.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// The disk for the device.
    pub(crate) fn config(&self) -> block::Config {
        block::Config {
            id: self.drive_id.clone(),
            serial: self.serial.clone(),
            read_only: self.is_read_only,
            cache: self.cache_type,
            engine: self.io_engine,
            limiter: self.rate_limiter.unwrap_or_default(),
        }
    }
}

fn unsafe_cache() -> Cache {
    Cache::Unsafe
}
