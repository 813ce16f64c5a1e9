//! The one list of virtio devices: what may be configured, what may change while the guest runs.

use std::fs::File;
use std::io;

use crate::host::{GuestRam, Interrupt};
use crate::io_thread::IoHandle;
use crate::mmds;
use crate::syscalls::Allowance;
use crate::virtio::DeviceType;
use crate::virtio::{Core, block, net, rng, vsock};

/// A device to build: its config, and what was opened for it.
#[derive(Debug)]
pub enum Spec {
    /// A disk and the file behind it.
    Block(block::Config, File),
    /// A network card, the tap behind it, and what it needs to reach the metadata service, if it does.
    Net(net::Config, net::Tap, Option<mmds::Attachment>),
    /// An entropy source.
    Rng(rng::Config),
    /// A socket between guest and host, and its sockets on the host.
    Vsock(vsock::Config, vsock::Host),
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
    /// The socket between guest and host.
    #[error(transparent)]
    Vsock(#[from] vsock::Error),
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

/// What a kind of device asks of the kernel, by who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Its worker, on an io thread.
    pub worker: &'static [Allowance],
    /// Its worker, for what not each of its kind has.
    pub option: &'static [Allowance],
    /// Who starts and resets it: a vCPU thread, and the main thread.
    pub start: &'static [Allowance],
    /// Who updates it: the main thread.
    pub update: &'static [Allowance],
    /// The same where nobody outside opens what it is given.
    pub open: &'static [Allowance],
    /// Who ends the VM, where nobody outside clears up: the main thread.
    pub end: &'static [Allowance],
}

/// What a disk asks for.
pub fn block_needs(engine: block::Engine) -> Needs {
    Needs {
        worker: match engine {
            block::Engine::Sync => block::syscalls::SYNC,
            block::Engine::Uring => block::syscalls::URING,
        },
        // A file in memory is served without the ring.
        option: match engine {
            block::Engine::Sync => &[],
            block::Engine::Uring => block::syscalls::SYNC,
        },
        update: block::syscalls::UPDATE,
        open: block::syscalls::OPEN,
        ..Needs::default()
    }
}

/// What a network card asks for.
pub fn net_needs(has_mmds: bool) -> Needs {
    Needs {
        worker: net::syscalls::WORKER,
        option: if has_mmds { net::syscalls::MMDS } else { &[] },
        start: net::syscalls::START,
        update: net::syscalls::UPDATE,
        ..Needs::default()
    }
}

/// What an entropy source asks for.
pub fn rng_needs() -> Needs {
    Needs {
        worker: rng::syscalls::WORKER,
        ..Needs::default()
    }
}

/// What a vsock device asks for that connects itself to the sockets that the guest calls, or has it done.
pub fn vsock_needs(connects: bool) -> Needs {
    Needs {
        worker: vsock::syscalls::WORKER,
        option: match connects {
            true => vsock::syscalls::CONNECTS,
            false => vsock::syscalls::LINE,
        },
        start: vsock::syscalls::START,
        end: vsock::syscalls::END,
        ..Needs::default()
    }
}

impl Spec {
    /// What the device will ask of the kernel.
    pub fn needs(&self) -> Needs {
        match self {
            Self::Block(config, _) => block_needs(config.engine),
            Self::Net(_, _, attachment) => net_needs(attachment.is_some()),
            Self::Rng(_) => rng_needs(),
            Self::Vsock(_, host) => vsock_needs(host.connects()),
        }
    }

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
            Self::Vsock(config, host) => {
                Core::new(vsock::Vsock::new(&config, host)?, ram, io, interrupt)
            }
        }
        .map_err(BuildError::EventFd)
    }
}
