//! The one list of virtio devices: what may be configured, what may change while the guest runs.

use std::fs::File;
use std::io;

use crate::host::{GuestRam, Interrupt};
use crate::io_thread::IoHandle;
use crate::mmds;
use crate::virtio::DeviceType;
use crate::virtio::{Core, block, net, rng};

/// A device to build: its config, and what was opened for it.
#[derive(Debug)]
pub enum Spec {
    /// A disk and the file behind it.
    Block(block::Config, File),
    /// A network card, the tap behind it, and what it needs to reach the metadata service, if it does.
    Net(net::Config, net::Tap, Option<mmds::Attachment>),
    /// An entropy source.
    Rng(rng::Config),
}

/// A new setting for a device that may be running.
#[derive(Debug)]
pub enum Update {
    /// For a disk.
    Block(block::Update),
    /// For a network card.
    Net(net::Update),
}

impl Update {
    /// The kind of device that it is for: a disk and a card may have the same id.
    pub fn device_type(&self) -> DeviceType {
        match self {
            Self::Block(_) => DeviceType::Block,
            Self::Net(_) => DeviceType::Net,
        }
    }
}

/// Why a device could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A disk.
    #[error(transparent)]
    Block(#[from] block::Error),
    /// A network card.
    #[error(transparent)]
    Net(#[from] net::Error),
    /// The entropy source.
    #[error(transparent)]
    Rng(#[from] rng::Error),
    /// The kernel grants no eventfd.
    #[error("cannot make an eventfd: {0}")]
    EventFd(io::Error),
}

/// Why a setting was refused; the device is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// This kind of device has no such setting.
    #[error("this kind of device has no such setting")]
    NotSupported,
    /// A disk cannot have it.
    #[error(transparent)]
    Block(#[from] block::Error),
    /// A network card cannot have it.
    #[error(transparent)]
    Net(#[from] net::Error),
}

impl Spec {
    /// Builds the device: everything it will ever open is opened now.
    ///
    /// # Errors
    /// When the backend cannot be had.
    pub fn build(
        self,
        ram: GuestRam,
        io: IoHandle,
        interrupt: Interrupt,
    ) -> Result<Core, BuildError> {
        match self {
            Self::Block(config, file) => {
                Core::new(block::Block::new(&config, file)?, ram, io, interrupt)
            }
            Self::Net(config, tap, None) => {
                Core::new(net::Net::new(config, tap)?, ram, io, interrupt)
            }
            Self::Net(config, tap, Some(attachment)) => {
                let net = net::Net::with_mmds(config, tap, attachment)?;
                Core::new(net, ram, io, interrupt)
            }
            Self::Rng(config) => Core::new(rng::Rng::new(&config)?, ram, io, interrupt),
        }
        .map_err(BuildError::EventFd)
    }
}
