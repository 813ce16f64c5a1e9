//! What a user may say about a disk.

use std::fs::File;
use std::io;

use crate::limiter::RateLimiter;
use crate::virtio::block::SERIAL_LEN;

/// A disk, without the file behind it: whoever may open files passes that one open.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The name of the disk in messages, and its serial number when it has none of its own.
    pub id: String,
    /// What the guest finds under `/dev/disk/by-id/virtio-SERIAL`: up to 20 printable ASCII characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Whether the guest may only read.
    #[serde(default)]
    pub read_only: bool,
    /// What a guest's flush does.
    #[serde(default)]
    pub cache: Cache,
    /// How requests reach the host's kernel.
    #[serde(default)]
    pub engine: Engine,
    /// How much the guest may do: bytes and requests.
    #[serde(default)]
    pub limiter: RateLimiter,
}

/// What a guest's flush does. The names are Firecracker's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Cache {
    /// The guest may flush, and what it flushed survives a crash of the host. A driver that does not
    /// know how to flush has every write made durable.
    #[default]
    Writeback,
    /// No flush is offered: a crash of the host may lose or tear what the guest believes written.
    Unsafe,
}

/// How requests reach the host's kernel. The names are Firecracker's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Engine {
    /// One system call a request; the io thread waits for it.
    #[default]
    Sync,
    /// io_uring: requests are in flight together and the io thread waits for none of them.
    #[serde(rename = "Async")]
    Uring,
}

/// A new setting for a disk that may be in use. What is left out stays; the size of the file is always
/// read again, so an empty update tells the guest that its disk has grown.
#[derive(Debug, Default)]
pub struct Update {
    /// Another file.
    pub file: Option<File>,
    /// Other limits; a bucket left out stays as it is.
    pub limiter: Option<RateLimiter>,
}

/// Why a disk could not be built or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The serial number does not fit.
    #[error(
        "the serial number {serial:?} of disk {id:?} does not fit: up to {SERIAL_LEN} printable ASCII characters"
    )]
    Serial {
        /// The disk.
        id: String,
        /// Its serial number.
        serial: String,
    },
    /// Neither file nor block device.
    #[error("disk {0:?} is neither a regular file nor a block device")]
    Kind(String),
    /// A file that was opened for reading behind a disk that the guest may write.
    #[error("disk {0:?} is writable but its file was opened for reading only")]
    NotWritable(String),
    /// The size cannot be read.
    #[error("cannot read the size of disk {id:?}: {source}")]
    Size {
        /// The disk.
        id: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// No io_uring.
    #[error(
        "disk {id:?} cannot have engine=uring, for this host grants no io_uring ({source}); use engine=sync"
    )]
    Uring {
        /// The disk.
        id: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// No timer.
    #[error("cannot make a timer for the limits of disk {id:?}: {source}")]
    Timer {
        /// The disk.
        id: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Config {
    /// The serial number as the guest reads it, padded with zeros. Without one of its own, a disk shows
    /// the start of its id.
    pub(super) fn serial_bytes(&self) -> Result<[u8; SERIAL_LEN], Error> {
        let mut bytes = [0; SERIAL_LEN];
        let text = match &self.serial {
            Some(serial) if !serial_fits(serial) => {
                return Err(Error::Serial {
                    id: self.id.clone(),
                    serial: serial.clone(),
                });
            }
            Some(serial) => serial,
            None => &self.id,
        };
        for (to, from) in bytes.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        Ok(bytes)
    }
}

/// Whether a text can be a disk's serial number: up to 20 printable ASCII characters.
pub fn serial_fits(serial: &str) -> bool {
    serial.len() <= SERIAL_LEN && serial.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}
